"""What a user says lies somewhere: rows of files, or files as they are. Frozen values, and nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from starburst_common.buckets import Buckets, HasBuckets
from starburst_common.data.where import Lying, find, opened, read
from starburst_common.errors import BadInput
from starburst_common.phrases import told

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
FORMATS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of files, or of objects on S3, as the items of a map: `starburst_map(fn, Rows("s3://bucket/calls/*.jsonl"))`.

    Workers read them where they lie, in the order of the files' names and of the rows in each; they pass through no
    other process. A row is what a line of JSON says, or a dict of a CSV's or a Parquet's columns.

    Args:
        uri: `s3://BUCKET/KEY` or a path, in which `*` and `?` stand for characters of one name and `**` for folders.
        format: "jsonl", "csv" or "parquet"; None goes by each file's suffix.

    Raises:
        BadInput: the format is none of these, or the URI is not text.
    """

    uri: str
    format: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.uri, Path):
            object.__setattr__(self, "uri", str(self.uri))
        if not isinstance(self.uri, str) or not self.uri:
            raise BadInput(f"uri={told(self.uri)}: give s3://BUCKET/KEY, or a path")
        if self.format is not None and self.format not in FORMATS:
            raise BadInput(f'format={told(self.format)}: use "jsonl", "csv" or "parquet", or None to go by the suffix')

    def format_of(self, lying: Lying) -> str:
        """How a file is read. Raises `BadInput`.

        >>> Rows("calls/*").format_of(Lying("/data/calls/a.ndjson", 10, ""))
        'jsonl'
        """
        suffix = Path(lying.uri).suffix
        if self.format is not None:
            return self.format
        if suffix not in SUFFIXES:
            raise BadInput(
                f'{lying.uri}: {suffix or "no suffix"} tells no format: name files as in "*.jsonl", "*.csv" or '
                '"*.parquet", or say format="jsonl", "csv" or "parquet"'
            )
        return SUFFIXES[suffix]


@dataclass(frozen=True, slots=True)
class Object:
    """A file, or an object on S3, as an item: its name, and its bytes for who reads them.

    Made by `objects`. Whoever reads it must be allowed to; on AWS that is the role of the site's tasks.
    """

    uri: str  #: `s3://BUCKET/KEY`, or an absolute path
    size: int  #: bytes
    version: str = ""  #: another one once it is written anew
    _buckets: Buckets | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Object, (self.uri, self.size, self.version)  # on a worker its role is what reads

    @property
    def name(self) -> str:
        """The last part of its URI."""
        return self.uri.rpartition("/")[2]

    def read(self, lo: int = 0, hi: int | None = None) -> bytes:
        """Its bytes from `lo` to before `hi`, else all. Raises `NotFound` where it was written anew, or is gone."""
        return bytes(read(self._lying, lo, self.size if hi is None else min(hi, self.size), self._buckets))

    def open(self) -> BinaryIO:
        """As a file, open for reading bytes; with `seek`. Raises as `read`."""
        return opened(self._lying, self._buckets)

    @property
    def _lying(self) -> Lying:
        return Lying(self.uri, self.size, self.version)


def objects(uri: str | Path, *, backend: HasBuckets | None = None) -> list[Object]:
    """Files, or objects on S3, as items: `starburst_map(fn, objects("s3://bucket/scans/*.tif"))`.

    Only their names and sizes are looked at here, with the credentials of the `backend`, or those that this process has
    by default. `uri` is as for `Rows`. Raises `BadInput` where nothing is there, and `Denied` where that may not be
    seen.
    """
    buckets = None if backend is None else backend.buckets
    return [Object(*lying, buckets) for lying in find(Rows(str(uri)).uri, buckets)]
