"""Bytes of a text file in; where its lines begin and how many have something in them, out, piece by piece. Pure.

A piece cannot know whether it begins within a quoted field of a CSV. So it is counted for both cases, and whoever puts
the pieces together, in their order, knows which one holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_MARK = b"\xef\xbb\xbf"


class Seen(NamedTuple):
    """What a piece has, if it begins within quotes, or if it does not. A line that quotes break is one."""

    first_break: int | None  #: where in the file the first line begins that begins in the piece
    whole: int  #: lines that begin and end in it, and are not empty
    first: bool  #: something is in it before that, or in all of it
    last: bool  #: something is in its last line, which need not end in it


class LineCounts(NamedTuple):
    """A piece of a file, as it was counted."""

    begin: int  #: where in the file its lines begin to count
    outside: Seen
    inside: Seen
    odd: bool  #: it has an odd number of quotes


class Range(NamedTuple):
    """Bytes of a file that hold so many whole rows."""

    lo: int
    hi: int
    rows: int


def count(data: bytes, at: int, *, quotes: bool) -> LineCounts:
    """A piece of a file, which begins at `at`; with `quotes`, a quoted field may have several lines.

    >>> count(b'a\\n\\n"b\\nc"\\nd', 100, quotes=False).outside
    Seen(first_break=102, whole=2, first=True, last=True)
    >>> count(b'a\\n\\n"b\\nc"\\nd', 100, quotes=True).outside
    Seen(first_break=102, whole=1, first=True, last=True)
    """
    skipped = len(_MARK) if at == 0 and data.startswith(_MARK) else 0
    lines = data[skipped:].split(b"\n")
    if not quotes:
        seen = _seen([bool(line.strip()) for line in lines], at + skipped + len(lines[0]) + 1)
        return LineCounts(at + skipped, seen, seen, odd=False)
    odd = 0
    there: tuple[list[bool], list[bool]] = ([False], [False])
    breaks: list[int | None] = [None, None]
    end = at + skipped
    for line in lines:
        odd ^= line.count(b'"') & 1
        end += len(line) + 1
        full = bool(line.strip(b"\r"))  # blanks and tabs are a record, as csv has it
        for case in (0, 1):
            there[case][-1] |= full
        case = odd  # begun outside, lines break where quotes are even; begun inside, where they are odd
        there[case].append(False)
        if breaks[case] is None:
            breaks[case] = end
    there[odd].pop()  # the last line does not end here
    if breaks[odd] == end:
        breaks[odd] = None
    outside, inside = (_seen(there[case], breaks[case]) for case in (0, 1))
    return LineCounts(at + skipped, outside, inside, bool(odd))


def _seen(full: Sequence[bool], first_break: int | None) -> Seen:
    alone = len(full) == 1
    return Seen(None if alone else first_break, sum(full[1:-1]), full[0], full[-1])


def ranges(pieces: Sequence[LineCounts], nbytes: int) -> list[Range]:
    """The rows of a file of so many bytes, by its pieces in their order: a range for each in which a row begins.

    >>> text = b'a,"x\\ny"\\n\\nb,"z\\n\\nz"\\nc,d\\n'
    >>> for size in (3, 7, 100):
    ...     pieces = [count(text[at : at + size], at, quotes=True) for at in range(0, len(text), size)]
    ...     print([(text[lo:hi], rows) for lo, hi, rows in ranges(pieces, len(text)) if rows])
    [(b'a,"x\\ny"\\n', 1), (b'\\nb,"z\\n\\nz"\\n', 1), (b'c,d\\n', 1)]
    [(b'a,"x\\ny"\\n', 1), (b'\\nb,"z\\n\\nz"\\n', 1), (b'c,d\\n', 1)]
    [(b'a,"x\\ny"\\n\\nb,"z\\n\\nz"\\nc,d\\n', 3)]
    """
    begins, rows = [pieces[0].begin], [0]
    quoted, full = False, False
    for piece in pieces:
        seen = piece.inside if quoted else piece.outside
        quoted ^= piece.odd
        if seen.first and not full:
            rows[-1], full = rows[-1] + 1, True
        if seen.first_break is not None:
            if piece is not pieces[0]:
                begins.append(seen.first_break)
                rows.append(0)
            rows[-1] += seen.whole + seen.last
            full = seen.last
    ends = [*begins[1:], nbytes]
    return [Range(lo, hi, found) for lo, hi, found in zip(begins, ends, rows, strict=True)]
