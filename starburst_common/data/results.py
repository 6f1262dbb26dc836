"""A pattern such as `out/*.jsonl` in; the manifest that says which of the files that it matches count, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starburst_common.buckets import Buckets, HasBuckets
from starburst_common.data.parquet import can_be_had
from starburst_common.data.where import S3, create, find, placed, put, read, remove
from starburst_common.errors import BadInput, Exists
from starburst_common.model import Span, joined, spans_of, without

MANIFEST = "manifest.json"
PARQUET = ".parquet"


class Results(NamedTuple):
    """Where a run's values are written."""

    pattern: str  #: `*` stands for what tells a file from the others
    run: str
    first: str = ""  #: the run whose items it runs again, and whose manifest tells of its files too
    buckets: Buckets | None = None  #: as who looks there sees them

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
        if self.first:
            return
        try:
            create(self.manifest, _text(run=self.run, state="running"), self.buckets)
        except Exists:
            if (had := self._told().get("run")) != self.run:
                raise BadInput(
                    f"results_to={self.pattern}: {self.manifest} says that results of {had} are there: name another one"
                ) from None

    def unclaim(self) -> None:
        """The run never began."""
        if not self.first:
            remove(self.manifest, self.buckets)

    def stands(self) -> bool:
        """Whether its manifest is still there."""
        return any(find(self.manifest, self.buckets, nothing=True)) and self._told().get("run") == (
            self.first or self.run
        )

    def discard(self) -> None:
        """Remove its files, and its manifest, as far as they are there."""
        for each in find(self.files, self.buckets, nothing=True):
            remove(each.uri, self.buckets)
        if self.stands():
            for each in self._told().get("files", ()):
                remove(each["uri"], self.buckets)  # of its retries
            remove(self.manifest, self.buckets)

    def finish(self, files: Sequence[Written], **told: Any) -> None:
        """Say which files there are, and remove what else this run's workers have left.

        Where the folder has become another run's, that stays.
        """
        count = {written.uri for written in files}
        for each in find(self.files, self.buckets, nothing=True):
            if each.uri not in count:
                remove(each.uri, self.buckets)
        if self.stands() or not find(self.manifest, self.buckets, nothing=True):
            put(self.manifest, _text(run=self.run, **told, files=[written.fields for written in files]), self.buckets)

    def finish_again(self, files: Sequence[Written], state: str, failed: Sequence[int]) -> None:
        """The same for a run over items of the first one: its files are added to what is told of that, once."""
        if not self.stands():
            return
        before, names = self._told(), {written.uri for written in files}
        kept = [each for each in before["files"] if each["uri"] not in names]
        answered = joined(span for written in files for span in written.spans)
        left = [span for lo, hi in before["failed"] for span in without(Span(lo, hi), answered)]
        still = {index for span in left for index in range(*span)} | {*failed}
        whole = sorted([*kept, *(written.fields for written in files)], key=lambda each: each["items"])
        values = sum(each["rows"] for each in whole)
        told = {"state": "succeeded" if values == before["items"] else state, "values": values, "files": whole}
        put(
            self.manifest,
            _text(**{**before, **told, "failed": [[lo, hi] for lo, hi in spans_of(sorted(still))]}),
            self.buckets,
        )

    def uris(self) -> list[str]:
        """The files that its manifest names, in the order of the items."""
        return [each["uri"] for each in self._told()["files"]]

    def _told(self) -> dict[str, Any]:
        """What its manifest says."""
        (there,) = find(self.manifest, self.buckets)
        return manifest_of(bytes(read(there, 0, there.nbytes, self.buckets)))


class Written(NamedTuple):
    """A file of values."""

    uri: str
    nbytes: int
    spans: tuple[Span, ...]  #: items whose values it has, in their order, a row each
    types: Mapping[str, str]  #: of a Parquet file's columns

    @property
    def fields(self) -> dict[str, Any]:
        """As a manifest tells of it."""
        told: dict[str, Any] = {"uri": self.uri, "items": [self.spans[0].lo, self.spans[-1].hi]}
        if len(self.spans) > 1:
            told["parts"] = [[*span] for span in self.spans]
        told |= {"rows": sum(span.size for span in self.spans), "bytes": self.nbytes}
        return told | ({"columns": self.types} if self.types else {})


def discard_results(pattern: str, run: str, backend: HasBuckets) -> None:
    """Remove what a run wrote there, if it did: another one is to write there in its place."""
    Results(placed(pattern), run, buckets=backend.buckets).discard()


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
