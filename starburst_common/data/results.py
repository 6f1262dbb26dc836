"""A pattern such as `out/*.jsonl` in; the manifest that says which of the files that it matches count, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starburst_common.data.parquet import can_be_had
from starburst_common.data.where import S3, create, find, put, read, remove
from starburst_common.errors import BadInput, Exists
from starburst_common.model import Span

MANIFEST = "manifest.json"
PARQUET = ".parquet"


class Results(NamedTuple):
    """Where a run's values are written."""

    pattern: str  #: `*` stands for what tells a file from the others
    run: str

    @property
    def manifest(self) -> str:
        """What says which files there are.

        >>> Results("s3://mine/out/*.jsonl", "run-1").manifest
        's3://mine/out/manifest.json'
        """
        return f"{self.pattern.rpartition('/')[0]}/{MANIFEST}"

    @property
    def files(self) -> str:
        """A pattern of this run's own files.

        >>> Results("s3://mine/out/*.jsonl", "run-1").files
        's3://mine/out/run-1-*.jsonl'
        """
        return self.pattern.replace("*", f"{self.run}-*")

    def check(self, *, shared: bool) -> None:
        """Raises `BadInput` where workers do not share this machine's files, and would write there."""
        if shared and self.pattern.endswith(PARQUET) and (why := can_be_had()):
            raise BadInput(f"results_to={self.pattern}: {why}")
        if not shared and not self.pattern.startswith(S3):
            raise BadInput(
                f"results_to={self.pattern}: workers on AWS cannot write to this machine: name a place on S3"
            )

    def claim(self) -> None:
        """Say that the folder is this run's. Raises `BadInput` where it is another's, `Denied` where we may not."""
        try:
            create(self.manifest, _text(run=self.run, state="running"))
        except Exists:
            (there,) = find(self.manifest)
            had = manifest_of(bytes(read(there, 0, there.nbytes))).get("run")
            if had != self.run:
                raise BadInput(
                    f"results_to={self.pattern}: {self.manifest} says that results of {had} are there: name another one"
                ) from None

    def unclaim(self) -> None:
        """The run never began."""
        remove(self.manifest)

    def finish(self, files: Sequence[Written], **told: Any) -> None:
        """Say which files there are, and remove what else this run's workers have left."""
        count = {written.uri for written in files}
        for each in find(self.files, nothing=True):
            if each.uri not in count:
                remove(each.uri)
        put(self.manifest, _text(run=self.run, **told, files=[written.fields for written in files]))

    def uris(self) -> list[str]:
        """The files that its manifest names, in the order of the items."""
        (there,) = find(self.manifest)
        return [each["uri"] for each in manifest_of(bytes(read(there, 0, there.nbytes)))["files"]]


class Written(NamedTuple):
    """A file of values."""

    uri: str
    nbytes: int
    span: Span  #: items whose values it has, in their order, a row each
    types: Mapping[str, str]  #: of a Parquet file's columns

    @property
    def fields(self) -> dict[str, Any]:
        """As a manifest tells of it."""
        told = {"uri": self.uri, "items": [*self.span], "rows": self.span.size, "bytes": self.nbytes}
        return told | ({"columns": self.types} if self.types else {})


def manifest_of(text: bytes) -> dict[str, Any]:
    """What a manifest says. Raises `BadInput`."""
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise BadInput(f"{MANIFEST} is no manifest: {text[:60]!r}")


def _text(**told: Any) -> bytes:
    return f"{json.dumps(told, indent=1)}\n".encode()
