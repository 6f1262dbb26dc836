"""A chunk's answers in, as a slot gives them; parts to be settled out, and pieces to be sent where others may help."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from starburst_common.model import Chunk, Span, spans_of, without
from starburst_common.runs.failures import WITHDRAWN, Reason
from starburst_worker.deaths import CRASHES, Death
from starburst_worker.parts import Part, pieces
from starburst_worker.ties import Ties
from starburst_worker.work import Settle, Work

_LEAST_PIECES, _MOST_PIECES = 4, 20  #: of what is left of a planned chunk, and of any
_MOST_PARTS = 100  #: a chunk with more gaps in its answers, as where many items wait to be tried again, stays whole


@dataclass(slots=True, kw_only=True)
class Serving:
    """A chunk that is being run: its parts, each of which is settled once, and what its items have cost."""

    work: Work
    settle: Settle
    ties: Ties
    parts: list[Part]
    splittable: bool
    began: float = field(default_factory=time.monotonic)
    first_at: float | None = None  #: when its first item began; before that the slot loads what items need
    crashes: Counter[int] = field(default_factory=Counter)  #: of slots, by the item that was run
    timeouts: Counter[int] = field(default_factory=Counter)
    false_starts: int = 0  #: of slots that ended before they were ready
    memory_mib: float = 0.0  #: the most that the slot had taken when it last ended a chunk; 0 where nobody knows
    log_bytes: int = 0  #: that items have printed since a part was last settled
    _settled: int = 0  # items in front of the part that were settled before it, since they were large

    def part_of(self, index: int) -> Part | None:
        """The part an item belongs to; None if it is no longer ours."""
        return next((part for part in self.parts if part.chunk.span.lo <= index < part.chunk.span.hi), None)

    def open(self) -> list[Span]:
        """Items without an answer."""
        return [span for part in self.parts for span in part.open()]

    def in_turn(self) -> list[Span]:
        """Items without an answer, as they are to be run: the others are safe before one that has ended a slot."""
        todo = self.open()
        suspects = sorted({*self.crashes, *self.timeouts})
        safe = [part for span in todo for part in without(span, spans_of(suspects))]
        return [*safe, *(Span(i, i + 1) for i in suspects if any(span.lo <= i < span.hi for span in todo))]

    # --- answers ------------------------------------------------------------------------------------------------------

    def fail(self, index: int, why: Reason, exception: bytes | None = None) -> None:
        """An item has a failure, if it is ours."""
        if (part := self.part_of(index)) is not None:
            part.fail(why.of(index, worker=self.ties.worker, exception=exception))

    def fail_open(self, why: Reason) -> None:
        """All items without an answer have a failure."""
        for span in self.open():
            for index in range(span.lo, span.hi):
                self.fail(index, why)

    def blame(self, death: Death) -> None:
        """An item has cost a slot: the one that ran, or the first one without an answer; of a batch, any of its items.

        So these are run alone then.
        """
        todo = self.open()
        called = range(death.current, max(death.current, death.last) + 1)
        blamed = [index for index in called if any(span.lo <= index < span.hi for span in todo)]
        if not blamed and todo:
            blamed = [todo[0].lo]
        costs, forgiven = self.crashes, CRASHES - 1
        if death.timed_out:
            costs = self.timeouts
            forgiven = self.work.known.spec.terms.retries if self.work.function.stored.retry_timeouts else 0
        for index in blamed:
            costs[index] += 1
            if costs[index] > forgiven:
                self.fail(index, death.why)

    # --- settling -----------------------------------------------------------------------------------------------------

    def settle_rest(self) -> None:
        """Settle all that is left; what has no answer goes back to the queue."""
        chunk = self.work.chunk
        for part in self.parts:
            rest = [chunk.narrowed(span, deaths=chunk.deaths) for span in part.open()]
            part.seconds += time.monotonic() - self.began if part is self.parts[0] else 0.0
            self._settle(part, rest, [])

    def settle_large(self) -> None:
        """Settle what is answered where that is much."""
        self._settle_parts([part for part in self.parts if part.nbytes >= self.ties.part_bytes])

    def withdrawn(self, reached: int) -> list[Span]:
        """Items without an answer behind one that are not to begin any more."""
        return [
            Span(max(span.lo, gone.lo, reached + 1), min(span.hi, gone.hi))
            for gone in self.work.known.withdrawn
            for span in self.open()
            if max(span.lo, gone.lo, reached + 1) < min(span.hi, gone.hi)
        ]

    def withdraw(self, reached: int = -1) -> None:
        """Answer what is withdrawn and has not begun; with `reached`, the slot begins nothing beyond that."""
        for span in self.withdrawn(reached):
            for index in range(span.lo, span.hi):
                self.fail(index, WITHDRAWN)
        if reached >= 0:
            self._settle_parts([part for part in self.parts if part.failures])

    def is_long(self, now: float, reached: int) -> bool:
        """Whether others are to run what has not begun, if they are free: also where nothing more may begin here."""
        span, pace = self.work.chunk.span, self.ties.pace
        if reached + 1 >= span.hi or self.work.known.leaving:
            return reached + 1 < span.hi
        ran_s = 0.0 if self.first_at is None else now - self.first_at
        left_s = ran_s / max(reached + 1 - span.lo, 1) * (span.hi - reached - 1)
        return ran_s > pace.chunk_s or (self.work.planned and ran_s > pace.share_s < left_s)

    def split(self, reached: int | None = None) -> None:
        """Settle what is answered; items that were not started go back to the queue; ours to run stay as new parts.

        With `reached` the slot is still busy with an item; without, it has stopped.
        """
        (part,) = self.parts
        span, now = part.chunk.span, time.monotonic()
        if reached is None:
            reached = next((left.lo for left in part.open()), span.hi) - 1
        reached = min(reached, span.hi - 1)
        mine = [left for left in (Span(s.lo, min(s.hi, reached + 1)) for s in part.open()) if left.size > 0]
        each_s = (now - (self.first_at or self.began)) / max(reached + 1 - span.lo + self._settled, 1)
        fits = max(int(self.ties.pace.chunk_s / max(each_s, 1e-9)), 1)
        least = _LEAST_PIECES if self.work.planned else 1
        batch = self.work.known.spec.terms.batch or 1
        given = [
            piece
            for far in without(Span(max(reached + 1, span.lo), span.hi), ())
            for size in [min(max(fits, -(-far.size // _MOST_PIECES)), -(-far.size // least))]
            for piece in pieces(part.chunk, far, size=-(-size // batch) * batch, deaths=0)
        ]
        part.seconds = now - self.began
        kept = [part.chunk.narrowed(left, deaths=part.chunk.deaths) for left in mine]
        self._settle(part, given, kept)
        self.parts = [Part(chunk=chunk) for chunk in kept]
        self.began, self.splittable = time.monotonic(), False

    def _settle_parts(self, parts: list[Part]) -> None:
        """Settle what is answered of these; the slot goes on with the others, as parts of their own."""
        for part in parts:
            left = part.open()
            if not left or len(left) > _MOST_PARTS:
                continue
            now = time.monotonic()
            part.seconds, self.began = now - self.began, now
            self._settled += left[0].lo - part.chunk.span.lo
            kept = [part.chunk.narrowed(span, deaths=part.chunk.deaths) for span in left]
            self._settle(part, [], kept)
            self.parts = [other for other in self.parts if other is not part] + [Part(chunk=chunk) for chunk in kept]
            self.splittable = self.splittable and len(self.parts) == 1

    def _settle(self, part: Part, rest: list[Chunk], kept: list[Chunk]) -> None:
        part.memory_mib = self.memory_mib
        part.log_bytes, self.log_bytes = self.log_bytes, 0
        self.settle(part, rest, kept)
