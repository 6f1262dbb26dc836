"""Leased chunks in, settled answers out: one thread that keeps one slot busy, in a new process where one has ended."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter

from starburst_common.model import RunId
from starburst_worker.attempt import TICK_S, Attempt, Ended
from starburst_worker.parts import Part
from starburst_worker.seat import Seat
from starburst_worker.serving import Serving
from starburst_worker.ties import Ties
from starburst_worker.work import Settle, Work

_numbers = itertools.count(1)


class Runner:
    """Serves one chunk after another on one slot."""

    def __init__(self, number: int, ties: Ties, seat: Seat | None = None) -> None:
        self._number, self._ties = number, ties
        self.seat: Seat | None = seat or Seat(number, ties.scratch, ties.guards)
        self._serving: Serving | None = None
        self._deadly: Counter[str] = Counter()  # functions, and how many slots in a row each has ended as it was loaded

    def dismiss(self) -> None:
        """Tell the slot, which has nothing to do, to end."""
        if self.seat is not None:
            self.seat.dismiss()

    def close(self) -> None:
        """End the slot, which was dismissed."""
        if self.seat is not None:
            self.seat.close_soon()
            self.seat = None

    def remaining_s(self) -> float:
        """About how long the current chunk will still take; 0 when there is none."""
        serving, seat = self._serving, self.seat
        if serving is None or seat is None:
            return 0.0
        elapsed, span = time.monotonic() - serving.began, serving.work.chunk.span
        ran = max(seat.board.reached - span.lo, 0)
        if ran == 0:  # nothing is known; after a moment, expect a long item
            return 0.0 if elapsed < TICK_S else math.inf
        return elapsed / ran * (span.hi - span.lo - ran)

    def current(self) -> tuple[RunId, bool] | None:
        """Whose chunk is being run, and whether it is an executor's."""
        serving = self._serving
        return None if serving is None else (serving.work.run, serving.work.withdrawable)

    def serve(self, work: Work, settle: Settle) -> None:
        """Run a chunk to its end; each part of it is settled once."""
        serving = self._serving = Serving(
            work=work,
            settle=settle,
            ties=self._ties,
            parts=[Part(chunk=work.chunk)],
            splittable=not work.known.spec.terms.chunk_size,
        )
        try:
            serving.withdraw()
            while serving.open() and not work.known.leaving:
                ended = self._attempt(serving)
                if ended is Ended.DROPPED:
                    return
                if ended is Ended.DRAINED:
                    break
                serving.withdraw()
            serving.settle_rest()
        finally:
            self._serving = None

    def _attempt(self, serving: Serving) -> Ended:
        seat = self.seat = self.seat or Seat(self._number, self._ties.scratch, self._ties.guards)
        try:
            return Attempt(serving, seat, self._ties, self._deadly, next(_numbers)).run()
        finally:
            if seat.closed:
                self.seat = None
