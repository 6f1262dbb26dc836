"""Plans and outcomes in; what is answered, by which outcome, and what is still owed out. Pure: in memory, idempotent.

Only what is owed is booked: a planned chunk, or one that a booked outcome delegates to. So answers never overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starburst_common.model import Chunk, Span, without
from starburst_common.runs.outcomes import Summary

_BREAKER_ITEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the tally keeps of an outcome."""

    span: Span
    answered: tuple[Span, ...]
    failed: int
    withdrawn: int = 0
    first_failure: int | None
    worker: str
    seconds: float  #: slot time spent
    kinds: Mapping[str, int] = field(default_factory=dict)  #: of its failures, with how many of each
    attempts: int = 1  #: as of `Outcome`


class Tally:
    """One run's books. Every item is in exactly one planned chunk, and answered by at most one outcome."""

    def __init__(self) -> None:
        self.items: int | None = None  #: how many there are, once the input has ended
        self.planned_items = 0
        self.answered = 0
        self.failed = 0
        self.kinds: Counter[str] = Counter()  #: of failures
        self.withdrawn = 0
        self.slot_seconds = 0.0
        self.attempts = 0  #: at settled chunks
        self.tolls: Counter[str] = Counter()  #: requests that workers were charged for
        self.memory_mib = 0.0  #: the most that a slot has taken
        self.first_failure: int | None = None
        self.alike: Counter[tuple[str, str]] = Counter()
        self.owed: dict[Span, Chunk] = {}  #: planned and not settled
        self.aside: set[Span] = set()  #: of these, items that ran out of memory and wait for larger workers
        self.workers: set[str] = set()  #: that settled something
        self.reopened = 0  #: how often an outcome was taken out of the books again
        self._settled: dict[Span, Settled] = {}
        self._early: dict[Span, Summary] = {}  # outcomes of chunks that nobody owes yet, if ever anybody will
        self._by_first: dict[int, tuple[Span, Span]] = {}  # first item of an answered span: that span, the outcome's

    def plan(self, chunks: Iterable[Chunk]) -> list[Settled]:
        """Chunks of items that were not planned before; what is booked thereby."""
        booked = []
        for chunk in chunks:
            if chunk.span not in self._settled and chunk.span not in self.owed:
                self.planned_items += chunk.span.size
                booked += self._owe([chunk])
        return booked

    def settle(self, summary: Summary) -> list[Settled]:
        """Book an outcome's summary, and those that came before it and that it delegates to; what is new.

        Nothing, if it was booked before, or if nobody owes its chunk: the outcome that delegates to it is still to
        come, or there is none, since it was written by who had lost the chunk to another.
        """
        span = summary.span
        if span in self._settled:
            return []
        self._early[span] = summary
        return self._owe([self.owed[span]]) if span in self.owed else []

    def set_aside(self, items: Iterable[int]) -> None:
        """Of what is owed, these items are for larger workers."""
        self.aside = {span for item in items if (span := Span(item, item + 1)) in self.owed}

    def _owe(self, chunks: Iterable[Chunk]) -> list[Settled]:
        """These are owed, and what came for them early is booked."""
        booked, todo = [], list(chunks)
        while todo:
            chunk = todo.pop()
            if chunk.span in self._settled:
                continue
            summary = self._early.pop(chunk.span, None)
            if summary is None:
                self.owed[chunk.span] = chunk
            else:
                booked.append(self._book(summary))
                todo += summary.rest
        return booked

    def _book(self, summary: Summary) -> Settled:
        span = summary.span
        settled = Settled(
            span=span,
            answered=summary.answered,
            failed=summary.failed,
            withdrawn=summary.withdrawn,
            first_failure=summary.first_failure,
            worker=summary.worker,
            seconds=summary.seconds,
            kinds=summary.kinds,
            attempts=summary.attempts,
        )
        self._settled[span] = settled
        self.owed.pop(span, None)
        for part in settled.answered:
            self._by_first[part.lo] = (part, span)
            self.answered += part.size
        self.failed += settled.failed
        self.kinds.update(settled.kinds)
        self.withdrawn += settled.withdrawn
        self.slot_seconds += settled.seconds
        self.attempts += settled.attempts
        self.tolls.update(summary.tolls)
        self.memory_mib = max(self.memory_mib, summary.memory_mib)
        self.workers.add(settled.worker)
        if settled.first_failure is not None:
            known = self.first_failure
            self.first_failure = settled.first_failure if known is None else min(known, settled.first_failure)
        self.alike.update(summary.alike)
        return settled

    def reopen(self, chunk: Chunk) -> None:
        """The outcome that was booked for a chunk is lost: the chunk is owed again.

        What that delegated to was booked, or owed, because of it, and is so no longer; it may be settled again.
        """
        for span in [span for span in (*self._settled, *self.owed) if span.within(chunk.span)]:
            self.owed.pop(span, None)
            settled = self._settled.pop(span, None)
            if settled is not None:
                self.answered -= sum(part.size for part in settled.answered)
                self.failed -= settled.failed
                self.kinds -= Counter(settled.kinds)
                self.withdrawn -= settled.withdrawn
                self.slot_seconds -= settled.seconds
                self.attempts -= settled.attempts
                for part in settled.answered:
                    del self._by_first[part.lo]
        first = (settled.first_failure for settled in self._settled.values() if settled.first_failure is not None)
        self.first_failure = min(first, default=None)
        self.reopened += 1
        self.owed[chunk.span] = chunk

    def salvage(self, lost: Iterable[Span]) -> list[Settled]:
        """Book what outcomes delegated that are lost for good, as far as it answers nothing twice; what is new."""
        booked: list[Settled] = []
        for chunk in [self.owed[span] for span in lost if span in self.owed]:
            for span in sorted(self._early, key=lambda span: (span.lo, -span.hi)):
                if span in self._early and span.within(chunk.span) and without(span, self._by_answer()) == (span,):
                    booked += self._owe([chunk.narrowed(span, deaths=0)])
        return booked

    def _by_answer(self) -> list[Span]:
        return [part for part, _ in self._by_first.values()]

    def booked(self, span: Span) -> Settled | None:
        """What is booked for a chunk."""
        return self._settled.get(span)

    def answer_at(self, index: int) -> tuple[Span, Span] | None:
        """The answered span from an item on and the span of its outcome; None while there is no answer."""
        found = self._by_first.get(index)
        if found is None and self.reopened:  # answers may be cut otherwise than they were
            return next(
                ((Span(index, part.hi), span) for part, span in self._by_first.values() if part.lo < index < part.hi),
                None,
            )
        return found

    def answers_from(self, index: int) -> list[tuple[Span, Span]]:
        """The same of every answered span that begins there or later, in the order of the items."""
        return sorted(found for first, found in self._by_first.items() if first >= index)

    def settled(self, span: Span) -> bool:
        """Whether the chunk has an outcome, be it owed or not."""
        return span in self._settled or span in self._early

    def spans(self) -> list[Settled]:
        """Every settled chunk, in the order of the items."""
        return [self._settled[span] for span in sorted(self._settled)]

    @property
    def complete(self) -> bool:
        """Every item there is has its answer."""
        return self.items is not None and self.answered >= self.items

    def all_fail_alike(self) -> str:
        """The circuit breaker: what the first items all failed with, or nothing.

        Only a run of more than that many items, of which none succeeded, is stopped for it, and none whose failures
        were asked for (`Policy.breaker`).
        """
        if self.failed < _BREAKER_ITEMS or self.failed != self.answered or len(self.alike) != 1:
            return ""
        if self.items is not None and self.items <= _BREAKER_ITEMS:
            return ""
        ((kind, error),) = self.alike
        return f"the first {self.failed} items all failed alike ({kind}: {error})"
