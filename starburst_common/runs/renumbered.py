"""Which items of its parent a retry runs: by their numbers there its user knows them, and they have their seeds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Self

from starburst_common.model import Buffer, RunId, Span
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import malformed


@dataclass(frozen=True)
class Numbers:
    """Which items of its parent a run is over.

    >>> numbers = Numbers((Span(3, 5), Span(9, 10)))
    >>> [numbers.of(at) for at in range(3)], numbers.at(9), numbers.at(5)
    ([3, 4, 9], 2, None)
    >>> numbers.spans_of(Span(1, 3))
    (Span(lo=4, hi=5), Span(lo=9, hi=10))
    """

    spans: tuple[Span, ...]

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, {"spans": self.spans})

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        fields, _ = open_document(key, about, blob)
        if not (spans := fields.spans("spans")):
            raise malformed(about, "its spans are none")
        return cls(tuple(spans))

    def of(self, at: int) -> int:
        """The parent's number of an item."""
        starts = self._starts
        found = bisect_right(starts, at) - 1
        return self.spans[found].lo + at - starts[found]

    def at(self, number: int) -> int | None:
        """The item with the parent's number, if there is one."""
        found = bisect_right(self.spans, number, key=lambda span: span.lo) - 1
        if found < 0 or number >= self.spans[found].hi:
            return None
        return self._starts[found] + number - self.spans[found].lo

    def spans_of(self, span: Span) -> tuple[Span, ...]:
        """The parent's numbers of consecutive items."""
        cut = [
            Span(max(lo, span.lo) - lo + whole.lo, min(lo + whole.size, span.hi) - lo + whole.lo)
            for lo, whole in zip(self._starts, self.spans, strict=True)
            if lo < span.hi and span.lo < lo + whole.size
        ]
        return tuple(cut)

    @cached_property
    def _starts(self) -> list[int]:
        return [*accumulate((span.size for span in self.spans[:-1]), initial=0)]


def numbers_of(backend: Backend, run: RunId) -> Numbers:
    """Of a retry. Raises `NotFound`, `Refused`."""
    key = RunNames(run).numbers
    return Numbers.read(backend.key, key, backend.store.get(key))
