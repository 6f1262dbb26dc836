"""`Rows` in; out what workers are to count, and then, by what they have counted, the rows as portions of files."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from starburst_common.buckets import Buckets
from starburst_common.data.given import Rows
from starburst_common.data.lines import LineCounts, count, ranges
from starburst_common.data.parquet import rows_in_groups
from starburst_common.data.portions import Portion, columns_of
from starburst_common.data.separators import SAID
from starburst_common.data.where import S3, Lying, find, read
from starburst_common.errors import BadInput, StarburstError, Unavailable
from starburst_common.model import RunStatus
from starburst_common.options import Options

PIECE_BYTES = 8 << 20  #: of a text, at once
_AGAIN = 3  #: a piece that could not be read is tried, so often


@dataclass(frozen=True, slots=True)
class ToCount:
    """A piece of a text, whose lines are to be counted."""

    lying: Lying
    format: str
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found in it."""

    piece: LineCounts
    header: bytes = b""  #: of a CSV, in its first piece


class Found:
    """The files that `Rows` names.

    Raises as `find`, and `BadInput` for one that cannot be read as rows, or where workers do not share this machine's.
    """

    def __init__(self, rows: Rows, buckets: Buckets | None, *, shared: bool = True) -> None:
        if not shared and not rows.uri.startswith(S3):
            raise BadInput(f"{rows.uri} lies on this machine, where workers on AWS cannot read it: copy it to S3")
        self.rows = rows
        self._files = [(lying, rows.format_of(lying)) for lying in find(rows.uri, buckets)]
        self._groups = {lying: _groups(lying, buckets) for lying, kind in self._files if kind == "parquet"}
        self.to_count = [
            ToCount(lying, kind, lo, min(lo + PIECE_BYTES, lying.nbytes))
            for lying, kind in self._files
            if kind != "parquet"
            for lo in range(0, lying.nbytes, PIECE_BYTES)
        ]
        if not self.to_count and not any(map(sum, self._groups.values())):
            raise BadInput(f"{rows.uri}: {len(self._files)} files, and no rows in them")

    def counted(self, counts: Sequence[Counted]) -> RowsCounted:
        """With what was counted of `to_count`. Raises `BadInput` where there are no rows."""
        of: dict[Lying, list[Counted]] = {}
        for piece, each in zip(self.to_count, counts, strict=True):
            of.setdefault(piece.lying, []).append(each)
        portions = []
        for lying, kind in self._files:
            if kind == "parquet":
                groups = enumerate(self._groups[lying])
                portions += [Portion(lying, kind, number, number + 1, rows) for number, rows in groups]
            elif lying in of:
                header = of[lying][0].header
                found = ranges([each.piece for each in of[lying]], lying.nbytes)
                portions += [Portion(lying, kind, lo, hi, rows, header) for lo, hi, rows in found]
        if not (portions := [portion for portion in portions if portion.rows]):
            raise BadInput(f"{self.rows.uri}: {len(self._files)} files, and no rows in them")
        return RowsCounted(portions)


class RowsCounted(Sized):
    """Rows whose number is known."""

    def __init__(self, portions: Sequence[Portion]) -> None:
        self.portions = portions

    def __len__(self) -> int:
        return sum(portion.rows for portion in self.portions)


class Counting(Protocol):
    """A run whose values are what was counted."""

    def status(self) -> RunStatus: ...
    def results(self) -> list[Any]: ...
    def cancel(self) -> None: ...
    def remove(self) -> None: ...


def count_rows(
    found: Found,
    begin: Callable[[Callable[[ToCount], Counted], Sequence[ToCount], str, Options], Counting],
    tell: Callable[[Callable[[], str]], None],
) -> RowsCounted:
    """Have workers count the rows of what they are to read, in a run that is gone then."""
    if not found.to_count:
        return found.counted(())
    uri, pieces = found.rows.uri, found.to_count
    asked = Options.of(label=f"counting the rows of {uri}", retries=_AGAIN, retry_on=Unavailable)
    run = begin(count_lines, pieces, "one", asked)
    tell(lambda: f"counting rows: {run.status().answered:,} of {len(pieces):,} pieces of {uri}")
    try:
        counts = run.results()
    except BaseException:
        run.cancel()
        raise
    finally:
        with suppress(StarburstError):
            run.remove()
    return found.counted(counts)


def count_lines(to: ToCount) -> Counted:
    """What a worker does. Raises `BadInput` for a CSV whose header is none, `NotFound` for what was written anew."""
    data = bytes(read(to.lying, to.lo, to.hi, None))
    if to.format != "csv" or to.lo:
        return Counted(count(data, to.lo, quotes=to.format == "csv"))
    end = _header_end(data)
    if end is None and to.hi < to.lying.nbytes:
        raise BadInput(f"{to.lying.uri}: no header within its first {to.hi:,} bytes")
    end = len(data) if end is None else end
    columns_of(to.lying.uri, data[:end])
    return Counted(count(data[end:], end, quotes=True), data[:end])


def _header_end(data: bytes) -> int | None:
    """Where a CSV's first line ends that is not empty; None if it does not. A line that says `sep=;` is none.

    >>> _header_end(b'\\n"a\\nb",c\\n1,2\\n'), _header_end(b"sep=;\\na;b\\n1;2\\n")
    (9, 10)
    """
    at, odd, full = 0, 0, False
    for line in data.split(b"\n")[:-1]:
        at += len(line) + 1
        odd ^= line.count(b'"') & 1
        bare = line.removeprefix(b"\xef\xbb\xbf").strip(b"\r")
        full = full or bool(bare.strip() and not SAID.fullmatch(bare.decode(errors="replace")))
        if full and not odd:
            return at
    return None


def _groups(lying: Lying, buckets: Buckets | None) -> list[int]:
    try:
        return rows_in_groups(lying, buckets)
    except ImportError as error:
        raise BadInput(f"{lying.uri}: {error}") from None
