"""The worker: leases chunks, keeps slots busy, renews leases, settles, obeys signals, and stops itself in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from starburst_common.errors import NotFound, Refused, UnknownVersion
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import Backend, Leased
from starburst_common.runs.marks import Suspect
from starburst_common.wire.seals import misfit_exit
from starburst_worker.backlog import patiently
from starburst_worker.duty import Duty
from starburst_worker.fetched import Fetched
from starburst_worker.guard import Guards
from starburst_worker.intake import Intake, Taken
from starburst_worker.known import KnownRuns
from starburst_worker.leases import Leases
from starburst_worker.memory import too_big
from starburst_worker.parts import Part, pieces, refused
from starburst_worker.prints import WRITE_S, Prints
from starburst_worker.ready import Ready
from starburst_worker.runner import Runner
from starburst_worker.seat import Seat
from starburst_worker.settle import Settler
from starburst_worker.settling import Settling
from starburst_worker.signals import Signals
from starburst_worker.ties import Ties
from starburst_worker.verdict import SPLIT_PIECES, Do, judge
from starburst_worker.work import Work

_log = logging.getLogger("starburst.worker")

EXIT_IDLE, EXIT_DRAINED, EXIT_BROKEN = 0, 143, 1
_WAITING_S = 2.0  #: a fetched chunk waits for a slot at most so long
_SHORTEST_POLL_S = 0.1
_LAST_POLL_S = 0.2  #: a worker that is told to go waits so long for a request under way
_PREFETCH_S = 1.0  #: the next chunk is fetched when the current one will end within so long


class Supervisor:
    """One worker's threads: the main one watches, one fetches, one settles, one serves each slot.

    One renews leases and waits for nothing but the queue, one looks whether runs are over, or followed, one tells what
    items of these print.
    """

    def __init__(self, backend: Backend, duty: Duty, scratch: Path) -> None:
        self._backend, self._duty = backend, duty
        self._runs = KnownRuns(backend, look_every_s=duty.pace.lease_s / 3)
        self._settler = Settler(backend, duty, self._runs.leg)
        self._intake = Intake(backend, duty, self._runs, Fetched(backend, scratch), self._settler)
        self._work_queue = work_queue(duty.fleet)
        self._leases = Leases(backend.queue, self._work_queue, duty.pace.lease_s)
        self._stop = threading.Event()  # no more work; what is under way ends in good order
        self._drain = threading.Event()  # and at once
        self._signals = Signals()
        self._broken: BaseException | None = None
        self._misfit: UnknownVersion | None = None  # our work speaks another wire version than we do
        self._lock = threading.Lock()
        self._done = threading.Event()  # nothing is left to settle
        self._busy = 0
        self._born = self._idle_since = time.monotonic()
        self._wanted = threading.Condition()
        self._ready = Ready()
        self._settling = Settling(self._settler, self._leases, self._runs.over, duty.slots)
        self._prints = Prints(backend, duty.worker, duty.slots, self._runs.followed)
        self._ties = Ties(
            worker=duty.worker,
            scratch=scratch,
            guards=Guards(),
            chunk_s=duty.pace.chunk_s,
            part_bytes=self._settling.part_bytes,
            too_big=self._too_big,
            draining=self._drain.is_set,
            held_up=self._settling.full,
            tell=self._prints.tell,
        )
        self._runners = [Runner(number, self._ties) for number in range(duty.slots)]

    def run(self) -> int:
        """Work until told to stop, idle, or past the lifetime. Returns the exit code."""
        self._signals.hear()
        servers = [self._begin(self._serve, runner, daemon=False) for runner in self._runners]
        fetcher = self._begin(self._fetch)
        settler = self._begin(self._settling.work, daemon=False)
        renew_s = self._duty.pace.lease_s / 3
        self._begin(self._every, renew_s, self._leases.renew)
        self._begin(self._every, min(renew_s, self._backend.tick_s), self._look)
        self._begin(self._every, WRITE_S, self._prints.write)
        while any(thread.is_alive() for thread in servers):
            self._signals.wait(min(0.2, self._duty.pace.lease_s / 6))
            self._oversee(servers)
        last_s = _LAST_POLL_S if self._signals.told else self._backend.poll_s
        fetcher.join(last_s)  # it may just have been given a chunk
        self._give_back()
        self._settling.put(None)
        self._prints.write()
        settler.join()
        self._done.set()
        self._leases.let_go()
        for end in (Runner.dismiss, Runner.close):
            for runner in self._runners:
                end(runner)
        return self._exit_code()

    def _oversee(self, servers: list[threading.Thread]) -> None:
        if self._signals.told:
            self._drain.set()
            self._stop.set()
        self._give_back(waiting_s=min(self._duty.pace.chunk_s, _WAITING_S))
        if self._stop.is_set():
            for _ in servers:
                self._ready.put(None)
            for thread in servers:
                thread.join(0.05)
        elif time.monotonic() - self._born > self._duty.pace.lifetime_s:
            _log.info("past its lifetime of %g s: stopping after the current chunks", self._duty.pace.lifetime_s)
            self._stop.set()

    def _exit_code(self) -> int:
        if self._misfit is not None:
            _log.error("stopped: %s", self._misfit)
            return misfit_exit()
        if self._broken is not None:
            _log.error("stopped: %s", self._broken)
            return EXIT_BROKEN
        return EXIT_DRAINED if self._drain.is_set() else EXIT_IDLE

    def _begin(self, body: Callable[..., None], *args: object, daemon: bool = True) -> threading.Thread:
        """A thread of the worker; if it fails, so does the worker."""

        def guarded() -> None:
            try:
                body(*args)
            except BaseException as error:
                _log.exception("a thread of the worker failed")
                self._broken = error
                self._drain.set()
                self._end()

        thread = threading.Thread(target=guarded, daemon=daemon)
        thread.start()
        return thread

    def _every(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it so often, until all is settled."""
        while not self._done.wait(seconds):
            do()

    def _end(self) -> None:
        """Ask the main thread to stop, now."""
        self._stop.set()
        self._signals.wake()

    # --- fetching -----------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        begun = False
        while not self._stop.is_set():
            room = self._room()
            if room <= 0:
                with self._wanted:
                    self._wanted.wait(0.05)
                continue
            try:
                leased = patiently(partial(self._lease, min(room, 10)))
            except NotFound:
                _log.info("the fleet is closed: stopping")
                self._end()
                return
            if not leased and self._idle_s() > self._duty.pace.idle_s:  # only here is nothing on its way to us
                _log.info("idle for %g s: stopping", self._duty.pace.idle_s)
                self._end()
                return
            if leased and not begun:
                _log.info("leased its first work")
                begun = True
            self._leases.hold(leased)
            works = [patiently(partial(self._take, message)) for message in leased]
            self._runs.sweeps = self._runs.sweeps and bool(leased) and self._ready.empty()
            suspects = [work for work in works if work is not None]
            for number, suspect in reversed(list(enumerate(suspects))):
                self._quarantine(suspect, run_it=number == 0)

    def _lease(self, limit: int) -> list[Leased]:
        pace = self._duty.pace
        left_s = min(pace.idle_s - self._idle_s(), self._born + pace.lifetime_s - time.monotonic())
        wait_s = min(self._backend.poll_s, max(left_s, _SHORTEST_POLL_S))
        queue = self._backend.queue
        return queue.receive(self._work_queue, limit=limit, lease_s=self._duty.pace.lease_s, wait_s=wait_s)

    def _idle_s(self) -> float:
        """For how long nothing was to be done."""
        return 0.0 if self._leases else time.monotonic() - self._idle_since  # a chunk that is being run is held

    def _room(self) -> int:
        """How many chunks to lease now: one for each free slot, and one more when a busy slot is about to end.

        One more also while calls that are withdrawn may wait in the queue, as they need no slot to be answered.
        None while too much waits to be stored: slots do not begin another one then.
        """
        if self._settling.full():
            return 0
        free = self._duty.slots - self._busy - self._ready.qsize()
        if free > 0:
            return free
        soon = self._runs.sweeps or any(runner.remaining_s() < _PREFETCH_S for runner in self._runners)
        return 1 if soon and free == 0 else 0

    def _take(self, message: Leased) -> Work | None:
        """From a message to work, or to its end; returns work that may take the worker with it."""
        try:
            return self._act(self._intake.take(message))
        except UnknownVersion as error:
            self._misfit = error
            self._end()
        except Refused as error:
            _log.error("refused a message: %s", error)  # soon it is a dead letter, where the driver finds it
        self._leases.give_back(message.receipt)
        return None

    def _act(self, taken: Taken) -> Work | None:
        run, chunk, (do, why) = taken.run, taken.case.chunk, judge(taken.case)
        if do is Do.RUN:
            assert taken.work is not None
            self._ready.put(taken.work)
        elif do is Do.LATER:
            self._leases.give_back(taken.receipt, self._duty.pace.lease_s / 2)
        elif do is not Do.QUARANTINE:
            if do is Do.SPLIT:
                rest = pieces(chunk, chunk.span, size=-(-chunk.span.size // SPLIT_PIECES), deaths=1)
                self._settling.settle(run, Part(chunk=chunk), rest)
            elif why is not None:
                self._settling.settle(run, refused(chunk, why, self._duty.worker))
            self._settling.finish(run, taken.receipt)
        return taken.work if do is Do.QUARANTINE else None

    def _quarantine(self, suspect: Work, *, run_it: bool) -> None:
        """Run an item with nothing else near that could die with it and be thought guilty.

        While there is something else it is not held either, or it would count what that does to the worker.
        """
        if run_it and len(self._leases) == 1:
            name = RunNames(suspect.run).suspect(suspect.chunk.span.lo)
            patiently(lambda: self._backend.store.put(name, Suspect(self._duty.worker).body))
            self._ready.put(suspect)
            self._until(lambda: suspect.receipt not in self._leases)
        else:
            patiently(lambda: self._settler.send(suspect.run, [suspect.chunk]))
            patiently(lambda: self._leases.done(suspect.receipt))
            if run_it:
                self._until(lambda: not self._leases)  # then it may be our turn

    def _until(self, there: Callable[[], bool]) -> None:
        while not self._stop.is_set() and not there():
            with self._wanted:
                self._wanted.wait(0.05)

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self, runner: Runner) -> None:
        while True:
            self._settling.wait_for_room(self._stop)
            work = self._ready.get()
            if work is None:
                return
            if self._drain.is_set():
                self._ready.put(work)  # given back at the end
                return
            with self._lock:
                self._busy += 1
            try:
                runner.serve(work, self._settling.as_they_come(work.run))
            finally:
                with self._lock:
                    self._busy -= 1
                    self._idle_since = time.monotonic()
                with self._wanted:
                    self._wanted.notify()
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
