"""Consecutive items, and several such: joined, taken apart, told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Consecutive items, first included, last not.

    >>> Span(2, 5).size, str(Span(2, 5))
    (3, '000000000002-000000000005')
    """

    lo: int
    hi: int

    @property
    def size(self) -> int:
        """How many items."""
        return self.hi - self.lo

    def within(self, other: Span) -> bool:
        """Whether the other holds all of these items."""
        return other.lo <= self.lo and self.hi <= other.hi

    def __str__(self) -> str:
        return f"{self.lo:012d}-{self.hi:012d}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """The inverse of `str`. Raises `ValueError` for what is none."""
        lo, hi = text.split("-")
        return cls(int(lo), int(hi))


def spans_of(indices: Iterable[int]) -> tuple[Span, ...]:
    """Sorted item indices as the fewest spans.

    >>> spans_of([1, 2, 3, 7])
    (Span(lo=1, hi=4), Span(lo=7, hi=8))
    """
    return tuple(joined(Span(index, index + 1) for index in indices))


def told_spans(spans: Sequence[Span], most: int = 5) -> str:
    """Items for people, the last included; not endlessly many.

    >>> told_spans([Span(0, 10), Span(12, 13)]), told_spans([Span(i, i + 1) for i in range(0, 20, 2)])
    ('0-9, 12', '0, 2, 4, 6, 8 and 5 more')
    """
    told = [f"{span.lo}-{span.hi - 1}" if span.size > 1 else f"{span.lo}" for span in spans[:most]]
    return ", ".join(told) + (f" and {more} more" if (more := sum(span.size for span in spans[most:])) else "")


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans that may overlap as the fewest that hold the same items, in their order.

    >>> joined([Span(4, 6), Span(1, 2), Span(4, 5), Span(6, 7)])
    [Span(lo=1, hi=2), Span(lo=4, hi=7)]
    """
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(found[-1].hi, span.hi))
        else:
            found.append(span)
    return found


def without(whole: Span, parts: Iterable[Span]) -> tuple[Span, ...]:
    """What is left of a span when others are taken out, which may lie beside it.

    >>> without(Span(0, 10), [Span(2, 4), Span(8, 12), Span(20, 30)])
    (Span(lo=0, hi=2), Span(lo=4, hi=8))
    """
    left, at = [], whole.lo
    for part in sorted(parts):
        if min(part.lo, whole.hi) > at:
            left.append(Span(at, min(part.lo, whole.hi)))
        at = max(at, part.hi)
    return (*left, Span(at, whole.hi)) if at < whole.hi else tuple(left)
