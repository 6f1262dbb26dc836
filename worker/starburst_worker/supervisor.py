"""The worker: leases chunks, keeps slots busy, renews leases, settles, obeys signals, and stops itself in time."""

from __future__ import annotations

import logging
import os
import platform
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from starburst_common.backends import local_at
from starburst_common.code.shared import digests_in
from starburst_common.errors import NotFound, Refused, Unavailable, UnknownVersion
from starburst_common.model import Buffer, Chunk, FailureKind, RunId, WorkerEnd, WorkerId, withdrawn, without
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import SMALL_BYTES, Backend, Leased
from starburst_common.runs.messages import read_chunk_message
from starburst_common.wire.items import checked_frames
from starburst_common.wire.seals import misfit_exit
from starburst_worker.duty import Duty
from starburst_worker.guard import Guards, adopt_orphans
from starburst_worker.prints import WRITE_S, Prints
from starburst_worker.runner import Runner, Settle, Slot, Work, refuse
from starburst_worker.runs import Runs
from starburst_worker.settle import Backlog, LeasedChunk, Part, Settler, pieces

_log = logging.getLogger("starburst.worker")
_T = TypeVar("_T")

EXIT_IDLE, EXIT_DRAINED, EXIT_BROKEN = 0, 143, 1
_DEATHS_SPLIT = 2  #: a chunk that has cost so many workers is cut up
_DEATHS_FAIL = 3  #: an item that alone has cost so many is answered with a failure
_ASKS = 8  #: so often it is asked how the last of them ended, until a driver has seen that
_SPLIT_PIECES = 8
_WAITING_S = 2.0  #: a fetched chunk waits for a slot at most so long
_LAST_ENDS: dict[WorkerEnd | None, tuple[FailureKind, str, str]] = {
    WorkerEnd.OOM: (FailureKind.OOM, "OutOfMemory", "its worker died, {} times, at last for lack of memory"),
    WorkerEnd.SPOT: (FailureKind.SPOT, "WorkerLost", "its worker died, {} times, at last taken back by Spot"),
}
_PATIENCE_S = 900.0
_AGAIN_S = 2.0
_SHORTEST_POLL_S = 0.1
_LAST_POLL_S = 0.2  #: a worker that is told to go waits so long for a request under way
_PREFETCH_S = 1.0  #: the next chunk is fetched when the current one will end within so long
_RESULT_BYTES = 32 << 20  #: of answers, those that slots are still adding to, and again those that wait to be stored
_LEAST_PART_BYTES = 4 << 20  #: of them, what one slot may add to, however many slots there are
_JOBS = 16  #: so many things to be stored, sent or deleted, and some for each slot, may wait before slots do
_JOBS_A_SLOT = 4


class Supervisor:
    """One worker's threads: the main one watches, one fetches, one settles, one serves each slot.

    One renews leases and waits for nothing but the queue, one looks whether runs are over, or followed, one tells what
    items of these print.
    """

    def __init__(self, backend: Backend, duty: Duty, scratch: Path) -> None:
        self._backend, self._duty = backend, duty
        self._runs = Runs(backend, scratch, look_every_s=duty.lease_s / 3)
        self._settler = Settler(backend, duty, self._runs.leg)
        self._work_queue = work_queue(duty.fleet)
        self._stop = threading.Event()  # no more work; what is under way ends in good order
        self._drain = threading.Event()  # and at once
        self._told = False  # by a signal
        self._waker = -1
        self._broken: BaseException | None = None
        self._misfit: UnknownVersion | None = None  # our work speaks another wire version than we do
        self._lock = threading.Lock()
        self._held: set[str] = set()  # receipts of messages that we work on
        self._lost: set[str] = set()  # those of them whose lease has ended, of which we have told
        self._late = False  # the last renewal failed
        self._done = threading.Event()  # nothing is left to settle
        self._busy = 0
        self._born = self._idle_since = time.monotonic()
        self._wanted = threading.Condition()
        self._ready: queue.Queue[Work | None] = queue.Queue()
        self._settling = Backlog(jobs=_JOBS + _JOBS_A_SLOT * duty.slots, nbytes=_RESULT_BYTES)
        self._prints = Prints(backend, duty.worker, duty.slots, self._runs.followed)
        guards = Guards()
        self._runners = [
            Runner(
                number,
                scratch,
                guards=guards,
                worker=duty.worker,
                chunk_s=duty.chunk_s,
                too_big=self._too_big,
                draining=self._drain.is_set,
                part_bytes=max(_RESULT_BYTES // max(duty.slots, 1), _LEAST_PART_BYTES),
                held_up=self._settling.full,
                tell=self._prints.tell,
            )
            for number in range(duty.slots)
        ]

    def run(self) -> int:
        """Work until told to stop, idle, or past the lifetime. Returns the exit code."""
        signalled = self._signals()
        servers = [threading.Thread(target=self._guarded(self._serve, runner)) for runner in self._runners]
        fetcher = threading.Thread(target=self._guarded(self._fetch), daemon=True)
        settler = threading.Thread(target=self._guarded(self._settle))
        renew_s = self._duty.lease_s / 3
        renewer = threading.Thread(target=self._guarded(self._every, renew_s, self._renew), daemon=True)
        looker = threading.Thread(
            target=self._guarded(self._every, min(renew_s, self._backend.tick_s), self._look), daemon=True
        )
        teller = threading.Thread(target=self._guarded(self._every, WRITE_S, self._prints.write), daemon=True)
        for thread in (*servers, fetcher, settler, renewer, looker, teller):
            thread.start()
        while any(thread.is_alive() for thread in servers):
            if select.select([signalled], [], [], min(0.2, self._duty.lease_s / 6))[0]:
                os.read(signalled, 512)
                if self._told:
                    self._drain.set()
                    self._stop.set()
            self._give_back(waiting_s=min(self._duty.chunk_s, _WAITING_S))
            if self._stop.is_set():
                for _ in servers:
                    self._ready.put(None)
                for thread in servers:
                    thread.join(0.05)
            elif time.monotonic() - self._born > self._duty.lifetime_s:
                _log.info("past its lifetime of %g s: stopping after the current chunks", self._duty.lifetime_s)
                self._stop.set()
        fetcher.join(_LAST_POLL_S if self._told else self._backend.poll_s)  # it may just have been given a chunk
        self._give_back()
        self._settling.put(None)
        self._prints.write()
        settler.join()
        self._done.set()
        self._let_go()
        for end in (Runner.dismiss, Runner.close):
            for runner in self._runners:
                end(runner)
        if self._misfit is not None:
            _log.error("stopped: %s", self._misfit)
            return misfit_exit()
        if self._broken is not None:
            _log.error("stopped: %s", self._broken)
            return EXIT_BROKEN
        return EXIT_DRAINED if self._drain.is_set() else EXIT_IDLE

    def _signals(self) -> int:
        """From now on SIGTERM and SIGINT make the returned descriptor readable: a handler may touch no lock."""
        reader, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker)

        def told(*_: object) -> None:
            self._told = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)
        return reader

    def _end(self) -> None:
        """Ask the main thread to stop, now."""
        self._stop.set()
        os.write(self._waker, b"!")

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
                leased = self._patiently(partial(self._lease, min(room, 10)))
            except NotFound:
                _log.info("the fleet is closed: stopping")
                self._end()
                return
            if not leased and self._idle_s() > self._duty.idle_s:  # only here is nothing on its way to us
                _log.info("idle for %g s: stopping", self._duty.idle_s)
                self._end()
                return
            if leased and not begun:
                _log.info("leased its first work")
                begun = True
            with self._lock:
                self._held.update(message.receipt for message in leased)
            works = [self._patiently(partial(self._take, message)) for message in leased]
            suspects = [work for work in works if work is not None]
            for number, suspect in reversed(list(enumerate(suspects))):
                self._quarantine(suspect, run_it=number == 0)

    def _lease(self, limit: int) -> list[Leased]:
        left_s = min(self._duty.idle_s - self._idle_s(), self._born + self._duty.lifetime_s - time.monotonic())
        wait_s = min(self._backend.poll_s, max(left_s, _SHORTEST_POLL_S))
        queue = self._backend.queue
        return queue.receive(self._work_queue, limit=limit, lease_s=self._duty.lease_s, wait_s=wait_s)

    def _idle_s(self) -> float:
        """For how long nothing was to be done."""
        with self._lock:
            idle = self._busy == 0 and not self._held
            return time.monotonic() - self._idle_since if idle else 0.0

    def _room(self) -> int:
        """How many chunks to lease now: one for each free slot, and one more when a busy slot is about to end.

        None while too much waits to be stored: slots do not begin another one then.
        """
        if self._settling.full():
            return 0
        free = self._duty.slots - self._busy - self._ready.qsize()
        if free > 0:
            return free
        soon = any(runner.remaining_s() < _PREFETCH_S for runner in self._runners)
        return 1 if soon and free == 0 else 0

    def _take(self, message: Leased) -> Work | None:
        """From a message to work, or to its end; returns work that may take the worker with it."""
        try:
            run, chunk, frames = read_chunk_message(self._backend.key, self._duty.fleet, message.body)
            known = self._runs.run(RunId(run))
        except UnknownVersion as error:
            self._misfit = error
            self._end()
            self._release(message.receipt, again_s=0)
            return None
        except Refused as error:
            _log.error("refused a message: %s", error)
            self._release(message.receipt, again_s=0)  # soon it is a dead letter, where the driver finds it
            return None
        if known is None or known.over:
            self._finish(RunId(run), message.receipt)
            return None
        if message.receives > 1 and self._has_outcome(RunId(run), chunk):
            self._finish(RunId(run), message.receipt)
            return None
        deaths = chunk.deaths + message.receives - 1  # at most: one who died waiting for it counts too
        chunk = chunk.narrowed(chunk.span, deaths=deaths)  # whoever gets it from us knows
        try:
            function, parts = self._runs.function(chunk.function), self._frames(run, chunk, frames)
            work = Work(
                run=RunId(run),
                known=known,
                chunk=chunk,
                function=function,
                files=self._runs.files(RunId(run), known.spec["place"].files),
                frames=parts,
                shared=self._runs.shared(RunId(run), {*function.shared}.union(*map(digests_in, parts))),
                receipt=message.receipt,
            )
        except (Refused, NotFound) as error:
            if self._runs.over(RunId(run)):  # so it may have been removed
                self._finish(RunId(run), message.receipt)
                return None
            _log.error("cannot run items %s of %s: %s", chunk.span, run, error)
            failed = refuse(chunk, FailureKind.IMPORT, type(error).__name__, str(error), self._duty.worker)
            self._put(RunId(run), lambda: self._settler.settle(RunId(run), failed))
            self._finish(RunId(run), message.receipt)
            return None
        part: Part | None = None
        rest: list[Chunk] = []
        if work.calls:
            self._runs.look_withdrawn(work.run, known)
        if not without(chunk.span, known.withdrawn):
            part = Part(chunk=chunk, failures=withdrawn([chunk.span], self._duty.worker))
        elif known.unfit:
            part = refuse(chunk, FailureKind.IMPORT, "EnvironmentMismatch", known.unfit, self._duty.worker)
        elif chunk.span.size == 1 and deaths >= _DEATHS_FAIL and (last := self._last_alone(work)):
            state = self._backend.compute.ended(self._duty.fleet, last)
            end = state.end if state is not None else None
            if end is None and deaths < _DEATHS_FAIL + _ASKS:
                self._release(message.receipt, again_s=self._duty.lease_s / 2)
                return None
            kind, what, why = _LAST_ENDS.get(end, (FailureKind.LOST, "WorkerLost", "its worker died, {} times"))
            part = refuse(chunk, kind, what, why.format(_DEATHS_FAIL), self._duty.worker)
        elif chunk.span.size > 1 and deaths >= _DEATHS_SPLIT:
            part = Part(chunk=chunk)
            rest = pieces(chunk, chunk.span, size=-(-chunk.span.size // _SPLIT_PIECES), deaths=1)
        if part is None:
            if deaths >= _DEATHS_FAIL - 1:
                return work
            self._ready.put(work)
        else:
            settled = part
            self._put(RunId(run), lambda: self._settler.settle(RunId(run), settled, rest))
            self._finish(RunId(run), message.receipt)
        return None

    def _has_outcome(self, run: RunId, chunk: Chunk) -> bool:
        try:
            return self._settler.adopt(run, chunk) is not None
        except Refused as error:  # its run's driver meets it as well, and says so
            _log.error("refused an outcome: %s", error)
            return True

    def _last_alone(self, work: Work) -> WorkerId | None:
        """The last worker that ran this item alone, for which it is to blame if it died; None if none has."""
        name = RunNames(work.run).suspect(work.chunk.span.lo)
        with suppress(NotFound, Refused):
            return WorkerId(bytes(self._backend.store.get(name, SMALL_BYTES)).decode(errors="replace"))
        return None

    def _quarantine(self, suspect: Work, *, run_it: bool) -> None:
        """Run an item with nothing else near that could die with it and be thought guilty.

        While there is something else it is not held either, or it would count what that does to the worker.
        """
        if run_it and self._held == {suspect.receipt}:
            name = RunNames(suspect.run).suspect(suspect.chunk.span.lo)
            self._patiently(lambda: self._backend.store.put(name, self._duty.worker.encode()))
            self._ready.put(suspect)
            self._until(lambda: suspect.receipt not in self._held)
        else:
            self._patiently(lambda: self._settler.send(suspect.run, [suspect.chunk]))
            self._patiently(lambda: self._release(suspect.receipt, again_s=None))
            if run_it:
                self._until(lambda: not self._held)  # then it may be our turn

    def _until(self, there: Callable[[], bool]) -> bool:
        while not self._stop.is_set():
            with self._lock:
                if there():
                    return True
            with self._wanted:
                self._wanted.wait(0.05)
        return False

    def _frames(self, run: str, chunk: Chunk, inline: bytes | None) -> list[Buffer]:
        raw: Buffer = inline if inline is not None else self._backend.store.get_range(*chunk.ref)
        return checked_frames(self._backend.key, run, raw, chunk.span)

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
                runner.serve(work, self._settle_later(work.run))
            finally:
                with self._lock:
                    self._busy -= 1
                    self._idle_since = time.monotonic()
                with self._wanted:
                    self._wanted.notify()
            self._finish(work.run, work.receipt)

    def _settle_later(self, run: RunId) -> Settle:
        leased = LeasedChunk(self._settler, run)

        def later(part: Part, rest: list[Chunk], kept: list[Chunk]) -> None:
            self._put(run, lambda: leased.settle(part, rest, kept), part.nbytes)

        return later

    def _too_big(self, slot: Slot) -> str:
        """Why this slot must be killed for memory, if so: all slots together exceed the limit and it is the largest."""
        limit = self._duty.memory_mib
        if limit is None:
            return ""
        sizes = {other.slot: other.slot.rss_mib for other in self._runners if other.slot is not None}
        used = sum(sizes.values())
        if used <= limit or sizes.get(slot, 0.0) < max(sizes.values()):
            return ""
        return f"the worker used {used:.0f} MiB of its {limit} MiB: give more memory, or fewer slots"

    # --- settling and leases ------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        while (job := self._settling.get()) is not None:
            try:
                self._patiently(job)
            except Refused as error:  # an outcome that cannot be read: its run's driver meets it as well
                _log.error("refused an outcome: %s", error)

    def _put(self, run: RunId, job: Callable[[], object], nbytes: int = 0) -> None:
        """To be done in its turn, by the settling thread. What cannot be is given up once the run is over."""

        def done() -> None:
            try:
                job()
            except Unavailable as error:
                if not self._runs.over(run):
                    raise
                _log.warning("given up, as %s is over: %s", run, error)

        self._settling.put(done, nbytes)

    def _finish(self, run: RunId, receipt: str) -> None:
        """After everything queued so far is settled, the message is done."""
        self._put(run, lambda: self._release(receipt, again_s=None))

    def _release(self, receipt: str, *, again_s: float | None) -> None:
        """A message is no longer ours: for good, or somebody gets it again in so long."""
        with self._lock:
            self._held.discard(receipt)
            self._lost.discard(receipt)
        if again_s is None:
            self._backend.queue.delete(self._work_queue, [receipt])
        else:
            self._backend.queue.extend(self._work_queue, [receipt], again_s)

    def _every(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it so often, until all is settled."""
        while not self._done.wait(seconds):
            do()

    def _renew(self) -> None:
        with self._lock:
            held = sorted(self._held - self._lost)
        try:
            lost = self._backend.queue.extend(self._work_queue, held, self._duty.lease_s) if held else []
        except Unavailable as error:
            if not self._late:
                _log.warning("could not renew its leases: %s", error)
            self._late = True
            return
        self._late = False
        with self._lock:
            lost = [receipt for receipt in lost if receipt in self._held]  # others were done with meanwhile
            self._lost.update(lost)
        if lost:
            _log.warning("lost %d leases: whoever has them now may run their items again", len(lost))

    def _look(self) -> None:
        for run, calls in {of for runner in self._runners if (of := runner.current())}:
            with suppress(Unavailable):  # it is looked at again
                known = self._runs.run(run)
                if known is not None:
                    self._runs.look_followed(run, known)
                    if calls:
                        self._runs.look_withdrawn(run, known)

    def _let_go(self) -> None:
        """Messages that were still being fetched when we had to go are somebody else's at once."""
        with self._lock:
            held = sorted(self._held - self._lost)
        with suppress(Unavailable):
            self._backend.queue.extend(self._work_queue, held, 0)

    def _give_back(self, waiting_s: float = 0.0) -> None:
        """Chunks that were fetched and have waited so long for a slot go to whoever is free, as fresh messages."""
        kept: list[Work | None] = []
        while True:
            try:
                work = self._ready.get_nowait()
            except queue.Empty:
                break
            if work is None or time.monotonic() - work.fetched_at < waiting_s:
                kept.append(work)
            else:
                self._put(work.run, partial(self._hand_over, work))  # an outage must hold up neither signals nor leases
        for work in kept:
            self._ready.put(work)

    def _hand_over(self, work: Work) -> None:
        self._settler.send(work.run, [work.chunk])
        self._release(work.receipt, again_s=None)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Make a call, again and again while its service is not to be had: for a quarter of an hour, not for ever."""
        since = time.monotonic()
        while True:
            try:
                return call()
            except Unavailable as error:
                if time.monotonic() - since > _PATIENCE_S:
                    raise
                _log.warning("trying again: %s", error)
                time.sleep(_AGAIN_S)

    def _guarded(self, body: Callable[..., None], *args: object) -> Callable[[], None]:
        def guarded() -> None:
            try:
                body(*args)
            except BaseException as error:
                _log.exception("a thread of the worker failed")
                self._broken = error
                self._drain.set()
                self._end()

        return guarded


def _backend_of(duty: Duty) -> Backend:
    if duty.backend == "local":
        return local_at(Path(duty.home))
    from starburst_common.aws import aws_backend
    from starburst_common.site import Site

    key = os.environ.pop("STARBURST_KEY")  # the slots, which run the user's code, do without
    return aws_backend(Site.of(duty.site, "this worker's orders"), key=key.encode())


def main() -> NoReturn:
    """Be the worker that the environment describes."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("starburst").setLevel(logging.INFO)
    if "STARBURST_WORKER" not in os.environ:
        sys.exit("STARBURST_WORKER is not set: this is a worker, which starburst starts with its orders in there")
    adopt_orphans()
    try:
        duty = Duty.read(os.environ["STARBURST_WORKER"])
    except UnknownVersion as error:
        _log.error("stopped: %s", error)
        sys.exit(misfit_exit())
    except (Refused, Unavailable) as error:
        sys.exit(f"stopped: {error}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # for the slots; what is set holds
        os.environ.setdefault(name, str(max(1, int(duty.cpu) // duty.slots)))
    _log.info(
        "worker %s: %d slots, Python %s, %s", duty.worker, duty.slots, platform.python_version(), platform.machine()
    )
    code, scratch = EXIT_BROKEN, Path.cwd()
    try:
        code = Supervisor(_backend_of(duty), duty, scratch).run()
        _log.info("worker %s ends with %d", duty.worker, code)
    except Exception:
        _log.exception("worker %s failed", duty.worker)
    logging.shutdown()
    if duty.backend == "local":
        from starburst_common.local.compute import note_end  # with the store's library, which others need not load

        note_end(scratch, code)
    os._exit(code)  # whatever thread still waits for something, waits in vain
