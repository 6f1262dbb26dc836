"""Answers of a chunk in; one stored outcome, its delegated chunks and a notice out. Any step may happen twice."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starburst_common.errors import Exists, NotFound
from starburst_common.model import Batch, Chunk, Failure, Outcome, RunId, Span, spans_of, without
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import Backend
from starburst_common.wire import chunk_message, outcome_bytes, read_outcome, seal_message, summary_fields
from starburst_worker.duty import Duty


@dataclass(slots=True, kw_only=True)
class Part:
    """A chunk, or what is left of one, as its answers come in. It will have exactly one outcome."""

    chunk: Chunk
    seconds: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    logs: dict[int, str] = field(default_factory=dict)

    def open(self) -> tuple[Span, ...]:
        """Items without an answer."""
        failed = spans_of(sorted(failure.index for failure in self.failures))
        return without(self.chunk.span, [*(batch.span for batch in self.batches), *failed])


class Settler:
    """Stores outcomes and tells of them."""

    def __init__(self, backend: Backend, duty: Duty) -> None:
        self._backend, self._duty = backend, duty

    def settle(self, run: RunId, part: Part, rest: Sequence[Chunk] = (), kept: Sequence[Chunk] = ()) -> Sequence[Chunk]:
        """Store the part's outcome, its open items delegated to `rest` and `kept`; send `rest`; give notice.

        `kept` chunks go on here under the same lease, so they are not sent.
        If somebody settled this chunk first, theirs holds; what it delegates is sent again if that has no outcome.
        Returns the chunks that the outcome that holds delegates to: others are nobody's, whoever works on them.
        """
        if [chunk.span for chunk in (*rest, *kept)] == [part.chunk.span]:
            self.send(run, rest)  # nothing is answered: a fresh message, which has cost no worker, if it is not kept
            return (*rest, *kept)
        outcome = Outcome(
            span=part.chunk.span,
            worker=self._duty.worker,
            seconds=part.seconds,
            batches=tuple(sorted(part.batches, key=lambda batch: batch.span)),
            failures=tuple(sorted(part.failures, key=lambda failure: failure.index)),
            rest=(*rest, *kept),
            logs=part.logs,
        )
        key = RunNames(run).outcome(part.chunk.span)
        body = outcome_bytes(self._backend.key, key, outcome)
        try:
            self._backend.store.create(key, body)
        except Exists:
            winner = self.adopt(run, part.chunk)
            return () if winner is None else winner.rest
        self.send(run, rest)
        self._notify(run, outcome, body)
        return outcome.rest

    def adopt(self, run: RunId, chunk: Chunk) -> Outcome | None:
        """If the chunk has an outcome, do what its writer may have died before doing. Returns that outcome."""
        names = RunNames(run)
        key = names.outcome(chunk.span)
        try:
            body = bytes(self._backend.store.get(key))
        except NotFound:
            return None
        outcome = read_outcome(self._backend.key, key, body)
        missing = []
        for rest in outcome.rest:
            try:
                self._backend.store.get(names.outcome(rest.span))
            except NotFound:
                missing.append(rest)
        self.send(run, missing)
        self._notify(run, outcome, body)
        return outcome

    def send(self, run: RunId, chunks: Sequence[Chunk]) -> None:
        """Hand chunks to whoever leases them next."""
        if chunks:
            fleet = self._duty.fleet
            bodies = [chunk_message(self._backend.key, fleet, run, chunk) for chunk in chunks]
            with suppress(NotFound):  # the fleet was closed: nobody wants them
                self._backend.queue.send(work_queue(fleet), bodies, group=run)

    def _notify(self, run: RunId, outcome: Outcome, body: bytes) -> None:
        notice: dict[str, Any] = {"summary": summary_fields(outcome)}
        if len(body) <= self._duty.inline_bytes:
            notice["outcome"] = b64encode(body).decode()
        text = seal_message(self._backend.key, f"notice {run}", notice)
        with suppress(NotFound):  # the run is over: nobody waits for it
            self._backend.queue.send(RunNames(run).notices, [text], group=run)


class LeasedChunk:
    """Settles the parts of one leased chunk, in their order.

    Its lease may have ended meanwhile, and somebody else may have settled it: then parts of ours that theirs does not
    delegate to are dropped. Else items would have two answers, and the run an answer too many.
    """

    def __init__(self, settler: Settler, run: RunId) -> None:
        self._settler, self._run = settler, run
        self._dropped: set[Span] = set()

    def settle(self, part: Part, rest: Sequence[Chunk], kept: Sequence[Chunk]) -> None:
        """As `Settler.settle`, if the part is still ours to settle."""
        if part.chunk.span not in self._dropped:
            holds = {chunk.span for chunk in self._settler.settle(self._run, part, rest, kept)}
            self._dropped |= {chunk.span for chunk in kept} - holds


def pieces(chunk: Chunk, span: Span, *, size: int, deaths: int) -> list[Chunk]:
    """A span of a chunk cut into chunks of `size` items."""
    return [
        chunk.narrowed(Span(lo, min(lo + size, span.hi)), deaths=deaths) for lo in range(span.lo, span.hi, max(size, 1))
    ]
