"""A pattern such as `out/*.jsonl` in; values written as files that it matches, and what says which of them count, out.

A file is written by the slot that has its values, before these are said to be there; so a value is settled as where it
lies, and whoever reads a run's answers reads it there. Files of who came too late are in no manifest.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pickle import loads
from typing import Any, NamedTuple

from starburst_common.data.parquet import can_be_had, file_of
from starburst_common.data.plain import json_line, plain
from starburst_common.data.portions import Portion, Stretch
from starburst_common.data.where import S3, create, find, put, read, remove
from starburst_common.errors import BadInput, Exists
from starburst_common.model import Buffer, Span
from starburst_common.pickling.byvalue import dumps
from starburst_common.wire.stretches import StretchWriter

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


class ValuesWriter:
    """Values of consecutive items, gathered for a file that is written when the frame of them is asked for."""

    def __init__(self, files: str, first: int) -> None:
        self._files, self._first = files, first
        self._values: list[bytes] = []  # as they were when they came: who made one may alter it
        self._table = files.endswith(PARQUET)
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: Any) -> None:
        """One more. Raises what pickling raises."""
        taken = dumps(value) if self._table else json_line(value).encode(errors="backslashreplace") + b"\n"
        self._values.append(taken)
        self.nbytes += len(taken)

    def parts(self) -> list[Buffer]:
        """Write the file; a frame of where its rows are. Raises `BadInput`, `Denied` and `Unavailable`."""
        span, column = Span(self._first, self._first + len(self)), ""
        types: dict[str, str] = {}
        if self._table:
            body, column, types = _parquet([loads(value) for value in self._values])
        else:
            body = b"".join(self._values)
        lying = create(self._files.replace("*", f"{span}-{secrets.token_hex(4)}"), body)
        if self._table:
            portion = Portion(lying, "parquet", 0, 1, len(self), column=column)
        else:
            portion = Portion(lying, "jsonl", 0, lying.nbytes, len(self))
        told: list[Any] = [lying.uri, lying.nbytes, types]
        return StretchWriter(Stretch([(portion, 0, len(self))]), told).parts()


def _parquet(values: Sequence[Any]) -> tuple[bytes, str, dict[str, str]]:
    """A file of values, the column that they are in, if they are no rows, and its columns' types."""
    if why := can_be_had():
        raise BadInput(why)
    rows = all(isinstance(value, Mapping) and all(type(name) is str for name in value) for value in values)
    rows = rows and any(values)  # a file without columns has no rows either
    column = "" if rows else "value"
    table = [value if rows else {column: value} for value in values]
    try:
        body, types = file_of(table)
    except BadInput:  # it has what Parquet lacks, and JSON may say
        body, types = file_of([plain(row) for row in table])
    return body, column, types


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
