"""The worker: its parts put together, its threads begun, watched and ended."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from starburst_common.errors import Denied
from starburst_common.names import work_queue
from starburst_common.ports import Backend
from starburst_worker.busy import Busy
from starburst_worker.duty import Duty
from starburst_worker.ending import Ending
from starburst_worker.fetched import Fetched
from starburst_worker.guard import Guards
from starburst_worker.intake import Intake
from starburst_worker.known import KnownRuns
from starburst_worker.leases import Leases
from starburst_worker.leasing import Leasing
from starburst_worker.memory import too_big
from starburst_worker.prints import WRITE_S, Prints
from starburst_worker.ready import Ready
from starburst_worker.runner import Runner
from starburst_worker.saved import Saved
from starburst_worker.seat import Seat
from starburst_worker.settle import Settler
from starburst_worker.settling import Settling
from starburst_worker.ties import Ties

_log = logging.getLogger("starburst.worker")

_WAITING_S = 2.0  #: a fetched chunk waits for a slot at most so long
_TOGETHER = 10  #: so many messages are deleted at once
_LAST_POLL_S = 0.2  #: a worker that is told to go waits so long for a request under way


class Supervisor:
    """One worker's threads: the main one watches, one leases chunks, one settles them, one serves each slot.

    One renews leases and waits for nothing but the queue, one looks whether runs are over, or followed, one tells what
    items of these print.
    """

    def __init__(
        self, backend: Backend, duty: Duty, scratch: Path, guards: Guards | None = None, seats: Sequence[Seat] = ()
    ) -> None:
        """With the seats of the slots that were forked already, and their guards."""
        self._backend, self._duty = backend, duty
        self._ending = Ending(duty.pace.lifetime_s)
        self._done = threading.Event()  # nothing is left to settle
        self._runs = KnownRuns(backend, look_every_s=duty.pace.lease_s / 3, memory_mib=duty.memory_mib)
        settler = Settler(backend, duty, self._runs.leg, self._runs.escalates)
        together = _TOGETHER if backend.charged else 1  # where a request costs
        self._leases = Leases(backend.queue, work_queue(duty.fleet), duty.pace.lease_s, together=together)
        self._ready, self._busy = Ready(), Busy()
        self._settling = Settling(settler, self._leases, self._runs.over, duty.slots)
        self._prints = Prints(backend, duty.worker, duty.slots, self._runs.followed)
        self._ties = Ties(
            worker=duty.worker,
            scratch=scratch,
            guards=guards or Guards(),
            pace=duty.pace,
            part_bytes=self._settling.part_bytes,
            too_big=self._too_big,
            draining=self._ending.drain.is_set,
            held_up=self._settling.full,
            saved=Saved(backend),
            tell=self._prints.tell,
        )
        self._runners = [Runner(number, self._ties, seat) for number, seat in zip_longest(range(duty.slots), seats)]
        self._leasing = Leasing(
            backend=backend,
            duty=duty,
            ending=self._ending,
            runs=self._runs,
            intake=Intake(backend, duty, self._runs, Fetched(backend, scratch), settler),
            leases=self._leases,
            ready=self._ready,
            settling=self._settling,
            busy=self._busy,
            soonest_s=lambda: min((runner.remaining_s() for runner in self._runners), default=math.inf),
        )

    def run(self) -> int:
        """Work until told to stop, idle, or past the lifetime. Returns the exit code."""
        self._ending.signals.hear()
        servers = [self._begin(self._serve, runner, daemon=False) for runner in self._runners]
        leaser = self._begin(self._leasing.work)
        settler = self._begin(self._settling.work, daemon=False)
        renew_s = self._duty.pace.lease_s / 3
        self._begin(self._every, renew_s, self._leases.renew)
        self._begin(self._every, min(renew_s, self._backend.tick_s), self._look)
        self._begin(self._every, WRITE_S, self._prints.write)
        if self._duty.notices:
            from starburst_worker.notices import EVERY_S, Notices  # a twelfth of a start, which others do not need

            self._begin(self._every, min(renew_s / 6, EVERY_S), Notices(self._ending.take_back).look)
        while any(thread.is_alive() for thread in servers):
            self._ending.signals.wait(min(0.2, self._duty.pace.lease_s / 6))
            self._oversee(servers)
        last_s = _LAST_POLL_S if self._ending.signals.told or self._ending.taken else self._backend.poll_s
        leaser.join(last_s)  # it may just have been given a chunk
        self._give_back()
        self._settling.put(None)
        self._prints.write()
        settler.join()
        self._done.set()
        self._leases.let_go()
        for end in (Runner.dismiss, Runner.close):
            for runner in self._runners:
                end(runner)
        return self._ending.exit_code()

    def _oversee(self, servers: list[threading.Thread]) -> None:
        self._ending.oversee()
        self._give_back(waiting_s=min(self._duty.pace.chunk_s, _WAITING_S))
        if self._ending.stop.is_set():
            for _ in servers:
                self._ready.put(None)
            for thread in servers:
                thread.join(0.05)

    def _begin(self, body: Callable[..., None], *args: object, daemon: bool = True) -> threading.Thread:
        """A thread of the worker; if it fails, so does the worker."""

        def guarded() -> None:
            try:
                body(*args)
            except Denied as error:
                self._ending.broke(error)
            except BaseException as error:
                if not self._ending.is_broken:
                    _log.exception("a thread of the worker failed")
                self._ending.broke(error)

        thread = threading.Thread(target=guarded, daemon=daemon)
        thread.start()
        return thread

    def _every(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it so often, until all is settled."""
        while not self._done.wait(seconds):
            do()

    def _serve(self, runner: Runner) -> None:
        while True:
            self._settling.wait_for_room(self._ending.stop)
            work = self._ready.get()
            if work is None:
                return
            if self._ending.drain.is_set():
                self._ready.put(work)  # given back at the end
                return
            with self._busy.one():
                runner.serve(work, self._settling.as_they_come(work.run))
            self._settling.finish(work.run, work.receipt)

    def _look(self) -> None:
        self._runs.look_on({of for runner in self._runners if (of := runner.current())})

    def _too_big(self, seat: Seat) -> str:
        """Why this slot must be killed for memory, if so."""
        if self._duty.memory_mib is None:
            return ""
        sizes = {other: other.rss_mib for runner in self._runners if (other := runner.seat) is not None}
        return too_big(sizes.get(seat, 0.0), [*sizes.values()], self._duty.memory_mib)

    def _give_back(self, waiting_s: float = 0.0) -> None:
        """Chunks that were fetched and have waited so long for a slot go to whoever is free, as fresh messages."""
        for work in self._ready.waited(waiting_s):
            self._settling.hand_over(work)  # in its turn: an outage must hold up neither signals nor leases
