"""Ranges of files in; their rows, by number, as a sequence that reads no more than it is asked for, out."""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol

from starburst_common.buckets import Buckets
from starburst_common.data.separators import SAID, separator
from starburst_common.data.where import Lying, read
from starburst_common.errors import BadInput
from starburst_common.phrases import visible

_FIELD = 64 << 20  #: characters of a CSV's field; Python's own limit is 131,072
_KEPT = 2  #: portions that a process keeps read, the latest


@dataclass(frozen=True, slots=True)
class Portion:
    """A range of a file that holds so many rows: bytes of a text, or a row group of a Parquet file."""

    lying: Lying
    format: str
    lo: int
    hi: int
    rows: int
    header: bytes = b""  #: of a CSV
    column: str = ""  #: of a Parquet file, where a row is what that alone has

    def __str__(self) -> str:
        if self.format == "parquet":
            return f"{self.lying.uri}, row group {self.lo}"
        return f"{self.lying.uri}, bytes {self.lo} to {self.hi - 1}"


class Stretch(Sequence[Any]):
    """Consecutive rows of portions. Pickled it is where they lie; they are read once they are asked for."""

    def __init__(self, pieces: Sequence[tuple[Portion, int, int]], buckets: Buckets | None = None) -> None:
        self._buckets = buckets
        self._pieces = tuple(pieces)  # a portion, its first row here, and that after its last
        self._ends = [*accumulate(hi - lo for _, lo, hi in self._pieces)]

    def seen_by(self, buckets: Buckets | None) -> Stretch:
        """The same, read so."""
        return Stretch(self._pieces, buckets)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, at: Any) -> Any:
        """A row, or a stretch of it. Raises `BadInput` for what is no row, `NotFound` where the file is another now."""
        if isinstance(at, slice):
            return self._cut(*at.indices(len(self)))
        which = bisect_right(self._ends, at)
        portion, _, hi = self._pieces[which]
        return _rows_of(portion, self._buckets)[at - self._ends[which] + hi]

    def _cut(self, lo: int, hi: int, _: int) -> Stretch:
        first, pieces = 0, []
        for portion, begin, end in self._pieces:
            there = max(lo, first), min(hi, first + end - begin)
            if there[0] < there[1]:
                pieces.append((portion, begin + there[0] - first, begin + there[1] - first))
            first += end - begin
        return Stretch(pieces, self._buckets)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stretch, (self._pieces,)


def stretches(portions: Sequence[Portion], size: int) -> Iterator[Stretch]:
    """All rows of these portions, so many at a time.

    >>> portions = [Portion(Lying("a", 9, ""), "jsonl", 0, 9, rows) for rows in (3, 0, 4)]
    >>> [[(lo, hi) for _, lo, hi in each._pieces] for each in stretches(portions, 5)]
    [[(0, 3), (0, 2)], [(2, 4)]]
    """
    gathered: list[tuple[Portion, int, int]] = []
    room = size
    for portion in portions:
        at = 0
        while at < portion.rows:
            taken = min(room, portion.rows - at)
            gathered.append((portion, at, at + taken))
            at, room = at + taken, room - taken
            if not room:
                yield Stretch(gathered)
                gathered, room = [], size
    if gathered:
        yield Stretch(gathered)


class _Rows(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, at: int, /) -> Any: ...


@lru_cache(maxsize=_KEPT)
def _rows_of(portion: Portion, buckets: Buckets | None) -> _Rows:
    """The rows of a portion, as they are kept. Raises `BadInput` where it has not as many as were counted."""
    if portion.format == "parquet":
        from starburst_common.data.parquet import row_group

        found: _Rows = row_group(portion.lying, portion.lo, portion.column, buckets)
    else:
        data = bytes(read(portion.lying, portion.lo, portion.hi, buckets))
        found = _Lines(portion, data) if portion.format == "jsonl" else _records(portion, data)
    if len(found) != portion.rows:
        what = " (a quote within a field that does not begin with one?)" if portion.format == "csv" else ""
        raise BadInput(f"{portion}: {len(found):,} rows, where {portion.rows:,} were counted{what}")
    return found


class _Lines:
    """Lines of JSON, each parsed when it is asked for."""

    def __init__(self, portion: Portion, data: bytes) -> None:
        self._part, self._data = portion, data
        self._at: list[tuple[int, int]] = []
        at = 0
        for line in data.split(b"\n"):
            if line.strip():
                self._at.append((at, at + len(line)))
            at += len(line) + 1

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, at: int) -> Any:
        lo, hi = self._at[at]
        line = self._data[lo:hi]
        try:
            return json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            shown = visible(line.strip()[:60].decode(errors="replace"))
            raise BadInput(f"{self._part.lying.uri}, byte {self._part.lo + lo}: not JSON: {what}: {shown}") from None


class _Records:
    """Records of a CSV, as dicts by its columns."""

    def __init__(self, portion: Portion, columns: list[str], records: list[list[str]]) -> None:
        self._part, self._columns, self._all = portion, columns, records

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, at: int) -> dict[str, str]:
        record = self._all[at]
        if len(record) != len(self._columns):
            had = f"{len(record)} of the header's {len(self._columns)} fields"
            raise BadInput(f"{self._part}, row {at + 1} of these: {had}")
        return dict(zip(self._columns, record, strict=True))


def _records(portion: Portion, data: bytes) -> _Records:
    columns, between = columns_of(portion.lying.uri, portion.header)
    try:
        return _Records(portion, columns, _parsed(data.decode(), between))
    except (ValueError, csv.Error) as error:
        raise BadInput(f"{portion}: not CSV: {error}") from None


def columns_of(uri: str, header: bytes) -> tuple[list[str], str]:
    """A CSV's columns, and what separates them. Raises `BadInput`.

    >>> columns_of("a.csv", b"a,b\\r\\n"), columns_of("a.csv", b"sep=;\\na;b\\n")
    ((['a', 'b'], ','), (['a', 'b'], ';'))
    """
    try:
        text = header.decode("utf-8-sig").strip("\r\n")
        if said := SAID.match(text):
            text = text[said.end() :].lstrip("\r\n")
        between = said[1] if said else separator(text, uri)
        columns = next(iter(_parsed(text, between)), [])
    except BadInput:
        raise
    except (ValueError, csv.Error) as error:
        raise BadInput(f"{uri}: its header is not CSV: {error}") from None
    if len({*columns}) < len(columns):
        twice = min(name for name in columns if columns.count(name) > 1)
        raise BadInput(f"{uri}: two columns are called {twice!r}")
    return columns, between


def _parsed(text: str, between: str) -> list[list[str]]:
    limit = csv.field_size_limit(_FIELD)  # the process's, which may be the user's own
    try:
        return [
            record for record in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=between) if record
        ]
    finally:
        csv.field_size_limit(limit)
