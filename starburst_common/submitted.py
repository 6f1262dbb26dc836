"""Calls submitted in, futures done: what the threads of an executor hold, which may outlive it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet, ref

from starburst_common.backends import open_backend
from starburst_common.code.pack import PackedFunction, Pickled, pack_function, pickled_function
from starburst_common.code.place import check_files
from starburst_common.errors import BadInput, RunCancelled, RunStopped, StarburstError
from starburst_common.fleets.fleet import Fleet
from starburst_common.latest import let_go
from starburst_common.model import Failure, FailureKind, spans_of
from starburst_common.options import Options
from starburst_common.phrases import our_log
from starburst_common.pickling.raised import named
from starburst_common.pickling.state import State
from starburst_common.ports import Backend
from starburst_common.runs.answers import exception_of
from starburst_common.runs.begin import Asked, beginning
from starburst_common.runs.drive import Driver
from starburst_common.runs.patience import at_exit, patiently
from starburst_common.runs.reading import CLOSE_S
from starburst_common.runs.run import Run
from starburst_common.tolerance import Tolerance

_log = our_log()

_AHEAD_CHUNKS = 3  #: chunks a slot sent ahead; calls beyond are pending and can be cancelled
_MOST_CALLS = 256  #: calls in a chunk
_CHUNKS_AT_ONCE = 10  #: that are sent together: as many messages as a queue takes in a batch
_WORTH = 1 / 40  #: of the work a chunk should hold: less costs more to send than it spreads over slots
_FUNCTIONS_BYTES = 64 << 20  #: of functions whose stored form is remembered
_UNSENT_BYTES = 256 << 20  #: of functions wait to be sent; what is beyond is pickled when its turn comes, as in a pool
_FUNCTION_BYTES = 256 << 10  #: counted for each beside its pickle
_KEPT_S = 1.0  #: a function is held after its last use: whoever has let go of it should see it go


@dataclass(slots=True, eq=False)
class _Function:
    """A function as it was when a call of it was submitted."""

    fn: Callable[..., Any]  # held, so that its id stays its own
    state: State | None
    digest: bytes  #: of its pickle
    packed: PackedFunction | None
    size: int = 0  #: of its pickle
    key: str = ""  #: once it is stored, in place of what was packed
    waiting: int = 0  #: calls of it that are to be sent
    used: float = 0.0  #: when it was last submitted (monotonic)

    @property
    def nbytes(self) -> int:
        """What it takes here."""
        return self.size + _FUNCTION_BYTES


class _Call(Future[Any]):
    """A future that can be taken back after it was sent."""

    def withdrawn(self) -> None:
        """It never began: cancelled, as one that was not sent."""
        with self._condition:
            self._state = "PENDING"
        self.cancel()
        self.set_running_or_notify_cancel()


class Submitted:
    """What was submitted to an executor. It ends when it was shut down and all is answered, whoever still holds it."""

    def __init__(self, executor: Executor, options: Options, backend: str | Backend, fleet: Fleet | None) -> None:
        self._executor = ref(executor)
        self._options, self._named, self._fleet = options, backend, fleet
        self._process = os.getpid()
        self._own_backend = not isinstance(backend, Backend)
        self._moved = threading.Condition()
        self._pending: deque[tuple[_Call, _Function, tuple[Any, ...], dict[str, Any]]] = deque()
        self._sent: dict[int, _Call] = {}
        self._unwanted: list[Callable[[_Call], bool]] = []  # which of what is sent is to be withdrawn
        self._withdrawn: set[int] = set()
        self._functions: dict[int, _Function] = {}  # by id, in the order in which they were packed
        self._unsent = 0  # bytes of functions of which calls wait
        self._packing = threading.Lock()
        self._shut = self._soon = False
        self._over = False  # nothing is left to be answered
        self._beginning = False  # a thread begins the run, which may take as long as building an image
        self._broken: str = ""
        self._left = False  # who waited for its end was interrupted
        self._run: Run | None = None
        self._driver: Driver | None = None
        self._threads: list[threading.Thread] = []

    @property
    def run_id(self) -> str | None:
        """As the executor's."""
        return None if self._run is None else self._run.id

    def start(self, *, soon: bool = False) -> Run:
        """As the executor's."""
        with self._moved:
            self._moved.wait_for(lambda: not self._beginning)
            if self._run is not None:
                return self._run
            self._beginning, self._soon = True, soon
        return self._begin()

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """As the executor's."""
        if not callable(fn):
            raise BadInput(f"{fn!r} is not callable: give a function")
        future = _Call()
        function = None
        if not (self._broken or self._shut):
            try:
                function = self._as_it_is(fn, (args, kwargs))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # pickling calls the user's own code, which may well raise SystemExit
                future.set_running_or_notify_cancel()
                future.set_exception(error)
        with self._moved:
            if self._broken:
                raise BrokenExecutor(self._broken)
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if function is None:
                return future
            begins = self._run is None and not self._beginning
            self._beginning = self._beginning or begins
            self._pending.append((future, function, args, kwargs))
            if not function.waiting:
                self._unsent += function.size
            function.waiting += 1
            self._moved.notify_all()
        if begins:
            self._begin()
        return future

    @property
    def slots(self) -> int:
        """Calls that run at once."""
        if self._fleet is not None:
            return self._fleet.slots
        workers = self._options.workers
        if workers is None:
            backend = open_backend(self._named)
            workers = backend.default_workers
            if self._own_backend:
                backend.close()
        return workers * self._options.resources.slots

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the executor's."""
        if wait and threading.current_thread() in self._threads:
            raise RuntimeError("shutdown within a callback would wait for itself: give wait=False")
        with self._moved:
            self._shut = True
            waiting = [future for future, *_ in self._pending]
        if cancel_futures:
            for future in waiting:
                future.cancel()
            self.withdraw(lambda _: True)
        with self._moved:
            self._moved.notify_all()
        if wait:
            try:
                with self._moved:
                    self._moved.wait_for(lambda: not self._beginning)
                for thread in self._threads:
                    thread.join()
            except BaseException:
                self._left = True
                raise

    def let_go(self) -> None:
        """Nobody holds the executor any more: it ends once all is answered."""
        if os.getpid() == self._process:  # a fork has none of its threads, one of which may have held the lock
            self.shutdown(wait=False)

    # --- inside -------------------------------------------------------------------------------------------------------

    def withdraw(self, unwanted: Callable[[_Call], bool]) -> None:
        """Have such calls withdrawn that were sent and have not begun, soon."""
        with self._moved:
            self._unwanted.append(unwanted)
            self._moved.notify_all()
        if self._driver is not None:
            with self._driver.books.changed:
                self._driver.books.changed.notify_all()

    def _begin(self) -> Run:
        """Begin the run, in the thread that came first; the others' calls wait, and fail as this does."""
        try:
            run = self._begun()
        except BaseException as error:
            self._threads = []
            with self._moved:
                waiting, self._pending = self._pending, deque()
                self._beginning = False
                self._moved.notify_all()
            for future, *_ in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            raise
        with self._moved:
            self._run, self._beginning = run, False
            self._moved.notify_all()
        return run

    def _begun(self) -> Run:
        backend = open_backend(self._named)
        options = self._options
        check_files(options.files, shared=backend.shares_files)
        fleet = self._fleet or Fleet.new(backend, options)
        # A failure is its future's and stops nothing, whatever a cluster tolerates in a map.
        own = replace(options, return_exceptions=True, tolerate=Tolerance())
        asked = Asked.of(fleet, "calls", own)
        with beginning(fleet, asked, expected=self._expected) as begun:
            driver, self._feed = begun.driver, begun.feed
            self._feed.waits = self._input_waits
            self._driver, self._slots = driver, fleet.slots
            run = Run(backend, asked.spec, driver)
            self._threads = [
                begun.alongside("starburst-send", lambda: self._send(driver)),
                begun.alongside("starburst-resolve", lambda: self._resolve(run, driver)),
            ]
        _live.add(self)
        return run

    def _input_waits(self, error: OSError | None) -> None:
        """As long as there is somebody to send to."""
        assert self._driver is not None
        if error is not None and self._broken:
            raise RunStopped(self._broken)
        self._driver.books.input_waits(error)

    def _expected(self) -> int:
        """Chunks for which a worker starts before they are there: one, once."""
        assert self._driver is not None
        self._soon = self._soon and not self._driver.books.alive
        return int(self._soon)

    def _send(self, driver: Driver) -> None:
        """Pending calls in, chunks out."""
        try:
            while True:
                self._say_withdrawn(driver)
                self._forget()
                kept_s = _KEPT_S if self._functions else None
                with self._moved:
                    if not self._moved.wait_for(
                        lambda: self._pending or self._shut or self._broken or self._unwanted, kept_s
                    ):
                        continue
                    if self._unwanted and not self._broken:
                        continue
                    if not self._pending or self._broken:
                        break
                with driver.books.changed:
                    if not driver.books.changed.wait_for(
                        lambda: self._room(driver) > 0 or self._in_vain(driver) or self._unwanted, kept_s
                    ):
                        continue
                    room = self._room(driver)
                    if self._in_vain(driver):
                        break
                if self._unwanted:
                    continue
                self._send_some(driver, max(1, min(room, _CHUNKS_AT_ONCE)))
            if not self._in_vain(driver):
                self._feed.end()
                driver.books.input_ended(self._feed.fed)
        except (RunCancelled, RunStopped):
            driver.books.over_elsewhere()
        except BaseException as error:
            driver.books.input_failed(error)
        self._feed.stop(driver.books.input_lost)
        self._forget(after_s=0.0)
        while True:
            with self._moved:
                self._moved.wait_for(lambda: self._unwanted or self._over)
                if self._over:
                    return
            self._say_withdrawn(driver)

    def _say_withdrawn(self, driver: Driver) -> None:
        """Tell workers of what is unwanted, where that was sent and is not answered."""
        with self._moved:
            unwanted, self._unwanted = self._unwanted, []
        if unwanted:
            sent = list(self._sent.items())
            new = {index for index, future in sent if any(is_unwanted(future) for is_unwanted in unwanted)}
            self._withdrawn = new | (self._withdrawn & {index for index, _ in sent})
            if new:
                try:
                    patiently(lambda: driver.withdraw(spans_of(sorted(self._withdrawn))), self._feed.waits)
                except (StarburstError, OSError) as error:
                    _log.warning("calls that nobody wants any more go on: %s", error)

    def _in_vain(self, driver: Driver) -> bool:
        """Whether nobody takes more calls."""
        return bool(self._broken) or driver.books.state.over or driver.books.closed

    def _room(self, driver: Driver) -> int:
        """How many chunks may be sent ahead of those that are owed."""
        return _AHEAD_CHUNKS * self._slots + 2 - len(driver.books.tally.owed)

    def _send_some(self, driver: Driver, chunks: int) -> None:
        """Send calls that wait, in so many chunks at most, which cost one write and one batch of messages."""
        for _ in range(chunks):
            with self._moved:
                count = calls_together(
                    len(self._pending),
                    slots=self._slots,
                    answered=driver.books.tally.answered,
                    slot_seconds=driver.books.tally.slot_seconds,
                    worth_s=driver.backend.pace.chunk_s * _WORTH,
                )
                count = min(count, self._options.chunk_size or count)
                taken = deque(self._pending.popleft() for _ in range(min(count, len(self._pending))))
                for _, function, *_ in taken:
                    function.waiting -= 1
                    if not function.waiting:
                        self._unsent -= function.size
            try:
                while taken:
                    future, function, args, kwargs = taken.popleft()
                    if future.done() and not future.cancelled():
                        continue  # whoever holds it has set it
                    if future.set_running_or_notify_cancel():
                        self._send_one(future, function, (args, kwargs))
            finally:
                with self._moved:  # what cannot be sent any more is told so with all that wait
                    self._pending.extendleft(reversed(taken))
            self._feed.close_chunk()
        self._feed.flush()

    def _send_one(self, future: _Call, function: _Function, call: Any) -> None:
        """A call that cannot be sent is its future's failure; that nothing can be sent is the run's."""
        index = self._feed.fed
        self._sent[index] = future
        try:
            packed = function.packed
            if not function.key and packed is None:
                packed = self._pack(function.fn, call, self._pickled(function.fn))
        except BaseException as error:  # pickling calls the user's own code, which may well raise SystemExit
            del self._sent[index]
            future.set_exception(error)
            return
        if packed is not None:
            function.key, function.packed = self._feed.function(packed), None
        try:
            self._feed.add(function.key, call)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, BadInput):
                raise
            del self._sent[index]
            future.set_exception(error)

    def _pickled(self, fn: Callable[..., Any]) -> Pickled:
        options = self._options
        return pickled_function(fn, options.retry_on, options.initializer, options.initargs)

    def _pack(self, fn: Callable[..., Any], first: Any, pickled: Pickled) -> PackedFunction:
        return pack_function(fn, style="call", retry_on=self._options.retry_on, samples=[first], known=pickled)

    def _as_it_is(self, fn: Callable[..., Any], first: Any) -> _Function:
        """A function in its present state, which is pickled if it is another one than at its last call."""
        state, known = State.of(fn), self._functions.get(id(fn))
        if known is not None and state is not None and known.state == state:
            known.used = time.monotonic()
            return known
        if self._unsent > _UNSENT_BYTES:
            return _Function(fn, None, b"", None)
        pickled = self._pickled(fn)
        digest = pickled.digest()
        if known is not None and known.digest == digest:
            known.state, known.used = state, time.monotonic()
            return known
        known = _Function(fn, state, digest, self._pack(fn, first, pickled), pickled.nbytes, used=time.monotonic())
        with self._packing:
            self._functions.pop(id(fn), None)
            let_go(self._functions, _FUNCTIONS_BYTES - known.nbytes)
            self._functions[id(fn)] = known
        return known

    def _forget(self, *, after_s: float = _KEPT_S) -> None:
        """Let go of functions, and of what they close over, that are sent and were not submitted for so long."""
        with self._packing:
            old = time.monotonic() - after_s
            for key, known in list(self._functions.items()):
                if not known.waiting and known.used <= old:
                    del self._functions[key]

    def _resolve(self, run: Run, driver: Driver) -> None:
        """Answers in, futures done."""
        why = "its run ended"
        try:
            for index, value in run.answers():
                future = self._sent.pop(index)
                try:
                    if isinstance(value, Failure) and value.kind is FailureKind.CANCELLED:
                        future.withdrawn()
                    elif isinstance(value, Failure):
                        future.set_exception(exception_of(value, run.id))
                    else:
                        future.set_result(value)
                except BaseException as error:  # it was set before, or a callback raised SystemExit: the others go on
                    _log.error("run %s: the future of call %d: %s", run.id, index, named(error))
                del future, value  # these may be the caller's alone, and this waits for the next ones
        except BaseException as error:
            why = driver.books.reason or str(error)
        with self._moved:
            self._over = True
            if self._sent or self._pending or not self._shut:
                self._broken = f"the executor cannot go on: {why} (run {run.id})"
            self._moved.notify_all()
        if self._broken:
            try:
                if not driver.books.state.over:
                    run.cancel()  # no more input comes, so it would not end; nobody waits for its answers any more
            except Exception as error:
                _log.warning("run %s is not cancelled: %s", run.id, error)
            with driver.books.changed:
                driver.books.changed.notify_all()
            self._threads[0].join()  # the sender: after it, no call is on its way from pending to sent
            for future in self._sent.values():
                if not future.done():
                    future.set_exception(BrokenExecutor(self._broken))
            for future, *_ in self._pending:
                if future.set_running_or_notify_cancel():
                    future.set_exception(BrokenExecutor(self._broken))
            self._sent.clear()
            self._pending.clear()
        try:
            run.wait(CLOSE_S)
        except Exception as error:
            _log.warning("run %s was left as it is: %s", run.id, error)
        if self._own_backend and self._fleet is None:
            driver.backend.close()
        _live.discard(self)


def calls_together(pending: int, *, slots: int, answered: int, slot_seconds: float, worth_s: float) -> int:
    """How many of the calls that wait go in one chunk: a fair share, or as many as are worth a message.

    How long a call takes is guessed from those that were answered. Before there are any each goes alone: the answers of
    a chunk come together, and nobody knows how soon.

    >>> calls_together(100, slots=2, answered=0, slot_seconds=0.0, worth_s=0.05)
    1
    >>> calls_together(100, slots=2, answered=10, slot_seconds=0.02, worth_s=0.05)
    25
    >>> calls_together(100, slots=2, answered=10, slot_seconds=20.0, worth_s=0.05)
    13
    """
    if not answered:
        return 1
    share = -(-pending // (4 * slots))
    worth = int(worth_s * answered / slot_seconds) if slot_seconds > 0 else 0
    return min(max(share, worth, 1), _MOST_CALLS)


_live: WeakSet[Submitted] = WeakSet()


os.register_at_fork(after_in_child=_live.clear)


@at_exit
def _shut_down_all() -> None:
    """As the standard executors: the interpreter waits for what was submitted; once it is interrupted, for no more."""
    with suppress(KeyboardInterrupt):
        for submitted in list(_live):
            if not submitted._left:
                (submitted._executor() or submitted).shutdown()
    for submitted in list(_live):
        if submitted._driver is not None:
            with suppress(StarburstError, OSError):
                submitted._driver.cancel()  # it ends its run while the process waits for its books to be closed
