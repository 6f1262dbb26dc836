"""What is still to be stored, sent and deleted for leased chunks: done in turn, by a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from starburst_common.errors import Refused, Unavailable
from starburst_common.model import Chunk, RunId
from starburst_worker.backlog import Backlog, Job, persistently
from starburst_worker.leases import Leases
from starburst_worker.parts import Part
from starburst_worker.settle import LeasedChunk, Settler
from starburst_worker.work import Settle, Work

_log = logging.getLogger("starburst.worker")

_RESULT_BYTES = 32 << 20  #: of answers, those that slots are still adding to, and again those that wait to be stored
_LEAST_PART_BYTES = 4 << 20  #: of them, what one slot may add to, however many slots there are
_JOBS = 16  #: so many things to be stored, sent or deleted, and some for each slot, may wait before slots do
_JOBS_A_SLOT = 4


class Settling(Backlog):
    """Of one worker. What cannot be done for a run is given up once that is over."""

    def __init__(self, settler: Settler, leases: Leases, over: Callable[[RunId], bool], slots: int) -> None:
        super().__init__(jobs=_JOBS + _JOBS_A_SLOT * slots, nbytes=_RESULT_BYTES)
        self._settler, self._leases, self._over = settler, leases, over
        self.part_bytes = max(_RESULT_BYTES // max(slots, 1), _LEAST_PART_BYTES)  #: what a slot may add to

    def work(self) -> None:
        """Do all that comes, until the last of it is done."""
        while (job := self.get()) is not None:
            try:
                persistently(job)
            except Refused as error:  # an outcome that cannot be read: its run's driver meets it as well
                _log.error("refused an outcome: %s", error)

    def settle(self, run: RunId, part: Part, rest: Sequence[Chunk] = ()) -> None:
        """A chunk that no slot has begun: its answer, and the chunks that are sent for its open items."""
        self._put(run, partial(self._settler.settle, run, part, rest))

    def as_they_come(self, run: RunId) -> Settle:
        """For a chunk that a slot runs: what takes its parts, one after another."""
        leased = LeasedChunk(self._settler, run)

        def settle(part: Part, rest: list[Chunk], kept: list[Chunk]) -> None:
            self._put(run, lambda: leased.settle(part, rest, kept), part.nbytes)

        return settle

    def finish(self, run: RunId, receipt: str) -> None:
        """After everything that was put so far, the message is done."""
        self._put(run, partial(self._leases.done, receipt))

    def hand_over(self, work: Work) -> None:
        """A chunk that nobody has begun goes to whoever is free, as a fresh message."""
        self._put(work.run, partial(self.hand_over_now, work))

    def hand_over_now(self, work: Work) -> None:
        """The same, in the caller's own thread and before all that waits."""
        self.leave(work.run, work.chunk, work.receipt)

    def leave(self, run: RunId, chunk: Chunk, receipt: str, hidden_s: float = 0.0) -> None:
        """A chunk goes back as a fresh message, now, and nobody is given it for so long."""
        self._settler.send(run, [chunk], hidden_s)
        self._leases.done(receipt, at_once=True)  # with both messages there, its items might run twice

    def _put(self, run: RunId, job: Job, nbytes: int = 0) -> None:
        def done() -> None:
            try:
                job()
            except Unavailable as error:
                if not self._over(run):
                    raise
                _log.warning("given up, as %s is over: %s", run, error)

        self.put(done, nbytes)
