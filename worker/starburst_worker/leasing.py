"""A fleet's messages in; chunks that wait for slots, or are settled without one, out: the thread that leases them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starburst_common.errors import NotFound, Refused, UnknownVersion
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import Backend, Leased
from starburst_common.runs.marks import Suspect
from starburst_worker.backlog import persistently
from starburst_worker.busy import Busy
from starburst_worker.duty import Duty
from starburst_worker.ending import Ending
from starburst_worker.intake import Intake, Taken
from starburst_worker.known import KnownRuns
from starburst_worker.leases import Leases
from starburst_worker.parts import Part, pieces, refused
from starburst_worker.ready import Ready
from starburst_worker.settling import Settling
from starburst_worker.verdict import SPLIT_PIECES, Do, judge
from starburst_worker.work import Work

_log = logging.getLogger("starburst.worker")

_SHORTEST_POLL_S = 0.1
_LEFT_S = 30.0  #: a chunk that is left to others is hidden so long, by who stays for other runs
_PREFETCH_S = 1.0  #: the next chunk is fetched when the current one will end within so long


@dataclass(slots=True, kw_only=True)
class Leasing:
    """Of one worker: takes as many chunks as there are slots, until told to stop, idle, or without a fleet."""

    backend: Backend
    duty: Duty
    ending: Ending
    runs: KnownRuns
    intake: Intake
    leases: Leases
    ready: Ready
    settling: Settling
    busy: Busy
    soonest_s: Callable[[], float]  #: about how long until the first busy slot is free

    def work(self) -> None:
        """Lease what there is room for, and see what becomes of it."""
        begun = False
        while not self.ending.stop.is_set():
            if self.runs.forsaken():
                if not self.leases:
                    _log.info("nobody drives its runs any more: stopping")
                    self.ending.leave()
                    return
                self.busy.wait()
                continue
            room = self._room()
            if room <= 0:
                self.busy.wait()
                continue
            try:
                leased = persistently(partial(self.lease, min(room, 10)))
            except NotFound:
                _log.info("the fleet is closed: stopping")
                self.ending.ask()
                return
            if leased and not begun:
                _log.info("leased its first work")
                begun = True
            self.leases.hold(leased)
            works = [persistently(partial(self.take, message)) for message in leased]
            self.runs.sweeps = self.runs.sweeps and bool(leased) and self.ready.empty()
            suspects = [work for work in works if work is not None]
            for number, suspect in reversed(list(enumerate(suspects))):
                self._quarantine(suspect, run_it=number == 0)
            if self._idle_s() > self.duty.pace.idle_s:  # only here is nothing on its way to us
                _log.info("idle for %g s: stopping", self.duty.pace.idle_s)
                self.ending.ask()
                return

    def lease(self, limit: int) -> list[Leased]:
        """So many messages at most; none after a while. Raises `NotFound` where the fleet is closed."""
        pace = self.duty.pace
        left_s = min(pace.idle_s - self._idle_s(), self.ending.left_s())
        wait_s = min(self.backend.poll_s, max(left_s, _SHORTEST_POLL_S))
        name = work_queue(self.duty.fleet)
        return self.backend.queue.receive(name, limit=limit, lease_s=pace.lease_s, wait_s=wait_s)

    def _idle_s(self) -> float:
        """For how long nothing was to be done."""
        return 0.0 if self.leases else self.busy.idle_s()  # a chunk that is being run is held

    def _room(self) -> int:
        """How many chunks to lease now: one for each free slot, and one more when a busy slot is about to end.

        One more also while calls that are withdrawn may wait in the queue, as they need no slot to be answered.
        None while too much waits to be stored: slots do not begin another one then.
        """
        if self.settling.full():
            return 0
        free = self.duty.slots - self.busy.slots - self.ready.qsize()
        if free > 0:
            return free
        return 1 if free == 0 and (self.runs.sweeps or self.soonest_s() < _PREFETCH_S) else 0

    def take(self, message: Leased) -> Work | None:
        """From a message to work, or to its end; returns work that may take the worker with it."""
        try:
            return self._act(self.intake.take(message))
        except UnknownVersion as error:
            self.ending.misfit = error
            self.ending.ask()
        except Refused as error:
            _log.error("refused a message: %s", error)  # soon it is a dead letter, where the driver finds it
        self.leases.give_back(message.receipt)
        return None

    def _act(self, taken: Taken) -> Work | None:
        run, chunk, (do, why) = taken.run, taken.case.chunk, judge(taken.case)
        if do is Do.RUN:
            assert taken.work is not None
            self.ready.put(taken.work)
        elif do is Do.LATER:
            self.leases.give_back(taken.receipt, self.duty.pace.lease_s / 2)
        elif do is Do.LEAVE:
            self.settling.leave(run, chunk, taken.receipt, 0.0 if self.runs.forsaken() else _LEFT_S)
        elif do is not Do.QUARANTINE:
            if do is Do.SPLIT:
                rest = pieces(chunk, chunk.span, size=-(-chunk.span.size // SPLIT_PIECES), deaths=1)
                self.settling.settle(run, Part(chunk=chunk), rest)
            elif why is not None:
                self.settling.settle(run, refused(chunk, why, self.duty.worker))
            self.settling.finish(run, taken.receipt)
        return taken.work if do is Do.QUARANTINE else None

    def _quarantine(self, suspect: Work, *, run_it: bool) -> None:
        """Run an item with nothing else near that could die with it and be thought guilty.

        While there is something else it is not held either, or it would count what that does to the worker.
        """
        if run_it and len(self.leases) == 1:
            name = RunNames(suspect.run).suspect(suspect.chunk.span.lo)
            persistently(lambda: self.backend.store.put(name, Suspect(self.duty.worker).body))
            self.ready.put(suspect)
            self._until(lambda: suspect.receipt not in self.leases)
        else:
            persistently(lambda: self.settling.hand_over_now(suspect))
            if run_it:
                self._until(lambda: not self.leases)  # then it may be our turn

    def _until(self, there: Callable[[], bool]) -> None:
        while not self.ending.stop.is_set() and not there():
            self.busy.wait()
