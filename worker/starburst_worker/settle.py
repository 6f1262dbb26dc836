"""Answers of a chunk in; one stored outcome, its delegated chunks and a notice out. Any step may happen twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from starburst_common.errors import NoSpace, NotFound, Refused, Unavailable
from starburst_common.model import Buffer, Chunk, FailureKind, Outcome, RunId, Span
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import Backend
from starburst_common.runs.messages import chunk_message, notice_message
from starburst_common.runs.outcomes import outcome_parts
from starburst_common.runs.stored import create_outcome, find_outcome
from starburst_common.wire.seals import nbytes_of
from starburst_worker.duty import Duty
from starburst_worker.parts import Part


class Settler:
    """Stores outcomes and tells of them."""

    def __init__(
        self,
        backend: Backend,
        duty: Duty,
        leg_of: Callable[[RunId], int] = lambda run: 0,
        escalates: Callable[[RunId], bool] = lambda run: False,
    ) -> None:
        """`escalates` tells of a run whether what runs out of memory here goes on with more."""
        self._backend, self._duty, self._leg_of, self._escalates = backend, duty, leg_of, escalates

    def settle(self, run: RunId, part: Part, rest: Sequence[Chunk] = (), kept: Sequence[Chunk] = ()) -> Sequence[Chunk]:
        """Store the part's outcome, its open items delegated to `rest` and `kept`; send `rest`; give notice.

        `kept` chunks go on here under the same lease, so they are not sent.
        If somebody settled this chunk first, theirs holds; what it delegates is sent again if that has no outcome.
        Returns the chunks that the outcome that holds delegates to: others are nobody's, whoever works on them.
        """
        kept = [*kept, *self._set_aside(run, part)]
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
            attempts=part.chunk.deaths + 1,
            memory_mib=part.memory_mib,
            tolls=self._tolls(part),
        )
        body = outcome_parts(self._backend.key, RunNames(run).outcome(part.chunk.span), outcome)
        if not self._create(run, outcome.span, body):
            winner = self.adopt(run, part.chunk)
            return () if winner is None else winner.rest
        self.send(run, rest)
        self._notify(run, outcome, body)
        return outcome.rest

    def _tolls(self, part: Part) -> dict[str, int]:
        """What the worker has had of what is charged for since its last outcome."""
        asked = {} if self._backend.tolls is None else dict(self._backend.tolls())
        return asked | ({"log-bytes": part.log_bytes} if part.log_bytes else {})

    def _set_aside(self, run: RunId, part: Part) -> list[Chunk]:
        """What ran out of memory, if it is to go on with more: chunks that are sent when there is somebody who has."""
        if FailureKind.OOM not in {failure.kind for failure in part.failures} or not self._escalates(run):
            return []
        aside = [failure.index for failure in part.failures if failure.kind is FailureKind.OOM]
        part.failures = [failure for failure in part.failures if failure.kind is not FailureKind.OOM]
        for index in aside:  # first: who finds one that is owed knows then why nobody runs it
            self._backend.store.put(RunNames(run).aside(index), b"")
        return [part.chunk.narrowed(Span(index, index + 1), deaths=0) for index in sorted(aside)]

    def _create(self, run: RunId, span: Span, body: Sequence[Buffer]) -> bool:
        """As `create_outcome`; that there is no space for it is said in a file that needs none."""
        try:
            return create_outcome(self._backend, run, span, body)
        except NoSpace:
            with suppress(Unavailable):
                self._backend.store.put(RunNames(run).full, b"")
            raise

    def adopt(self, run: RunId, chunk: Chunk) -> Outcome | None:
        """If the chunk has an outcome, do what its writer may have died before doing. Returns that outcome.

        One that is damaged is none: the chunk is to be run again.
        """
        try:
            outcome, body = find_outcome(self._backend, run, chunk.span)
        except (NotFound, Refused):
            return None
        missing, todo = [], [*outcome.rest]
        while todo:
            rest = todo.pop()
            try:
                part, _ = find_outcome(self._backend, run, rest.span)
            except (NotFound, Refused):
                missing.append(rest)
            else:
                if part.worker == outcome.worker:  # perhaps a part under the same lease, with a last one still to come
                    todo += part.rest
        self.send(run, missing)
        self._notify(run, outcome, [body])
        return outcome

    def send(self, run: RunId, chunks: Sequence[Chunk], hidden_s: float = 0.0) -> None:
        """Hand chunks to whoever leases them next, or so much later."""
        if chunks:
            fleet = self._duty.fleet
            bodies = [chunk_message(self._backend.key, fleet, run, chunk) for chunk in chunks]
            with suppress(NotFound):  # the fleet was closed: nobody wants them
                self._backend.queue.send(work_queue(fleet), bodies, group=run, delay_s=hidden_s)

    def _notify(self, run: RunId, outcome: Outcome, body: Sequence[Buffer]) -> None:
        small = b"".join(body) if nbytes_of(body) <= self._duty.pace.inline_bytes else None
        text = notice_message(self._backend.key, run, outcome, small)
        with suppress(NotFound):  # the run is over, or was removed: nobody waits for it
            self._backend.queue.send(RunNames(run, self._leg_of(run)).notices, [text], group=run)


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
        if part.chunk.span in self._dropped:
            self._dropped |= {chunk.span for chunk in kept}
            return
        mine = {chunk.span for chunk in kept}
        try:
            mine -= {chunk.span for chunk in self._settler.settle(self._run, part, rest, kept)}
        except Refused:
            self._dropped |= mine
            raise
        self._dropped |= mine
