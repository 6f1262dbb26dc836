"""An executor's calls from the first to the last: a run begun with the one, ended after the other, whoever holds it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet, ref

from starburst_common.backends import open_backend
from starburst_common.code.place import check_files
from starburst_common.errors import BadInput, StarburstError
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.warm import lent_fleet
from starburst_common.futures.functions import Functions
from starburst_common.futures.owed import Call, Owed, WaitingCall
from starburst_common.futures.resolve import Resolver
from starburst_common.futures.send import Sender
from starburst_common.options import Options
from starburst_common.ports import Backend
from starburst_common.runs.begin import NewRun, beginning
from starburst_common.runs.drive import Driver
from starburst_common.runs.patience import at_exit
from starburst_common.runs.run import Run
from starburst_common.tolerance import Tolerance


class Submitted:
    """What was submitted to an executor. It ends when it was shut down and all is answered, whoever still holds it."""

    def __init__(self, executor: Executor, options: Options, backend: str | Backend, fleet: Fleet | None) -> None:
        self._executor = ref(executor)
        self._options, self._named, self._fleet = options, backend, fleet
        self._process = os.getpid()
        self._own_backend = not isinstance(backend, Backend)
        self._owed, self.functions = Owed(), Functions(options)
        self._beginning = False  # a thread begins the run, which may take as long as building an image
        self._soon = False
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
        self._must_be_here()
        with self._owed.moved:
            self._owed.moved.wait_for(lambda: not self._beginning)
            if self._run is not None:
                return self._run
            self._beginning, self._soon = True, soon
        return self._begin()

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """As the executor's."""
        if not callable(fn):
            raise BadInput(f"{fn!r} is not callable: give a function")
        self._must_be_here()
        owed, future, call = self._owed, Call(), None
        if not (owed.broken or owed.shut):
            try:
                function = self.functions.as_it_is(fn, (args, kwargs), later=owed.crowded)
                call = WaitingCall(future, function, (args, kwargs))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # pickling calls the user's own code, which may well raise SystemExit
                future.fail(error)
        with owed.moved:
            if owed.broken:
                raise BrokenExecutor(owed.broken)
            if owed.shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if call is None:
                return future
            begins = self._run is None and not self._beginning
            self._beginning = self._beginning or begins
            owed.add(call)
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

    def withdraw(self, unwanted: Callable[[Call], bool]) -> None:
        """Have such calls withdrawn that were sent and have not begun, soon."""
        self._owed.withdraw(unwanted)
        if self._driver is not None:
            with self._driver.books.changed:
                self._driver.books.changed.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the executor's; in a fork of the process that has the threads, nothing."""
        if self._elsewhere:
            return
        if wait and threading.current_thread() in self._threads:
            raise RuntimeError("shutdown within a callback would wait for itself: give wait=False")
        waiting = self._owed.shut_down()
        if cancel_futures:
            for future in waiting:
                future.cancel()
            self.withdraw(lambda _: True)
        if wait:
            try:
                with self._owed.moved:
                    self._owed.moved.wait_for(lambda: not self._beginning)
                for thread in self._threads:
                    thread.join()
            except BaseException:
                self._left = True
                raise

    def let_go(self) -> None:
        """Nobody holds the executor any more: it ends once all is answered."""
        self.shutdown(wait=False)

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _elsewhere(self) -> bool:
        """Whether this is a fork, which has none of the threads, one of which may have held the lock."""
        return os.getpid() != self._process

    def _must_be_here(self) -> None:
        if not self._elsewhere:
            return
        if self._run is not None or self._beginning:
            raise RuntimeError(
                "this executor's threads are in the process that first used it, and this is a fork of that, where its "
                "calls would never be answered: make an executor here"
            )
        self._process = os.getpid()

    def _begin(self) -> Run:
        """Begin the run, in the thread that came first; the others' calls wait, and fail as this does."""
        try:
            run = self._begun()
        except BaseException as error:
            self._threads = []
            with self._owed.moved:
                waiting = self._owed.take()
                self._beginning = False
                self._owed.moved.notify_all()
            for call in waiting:
                call.future.fail(error)
            raise
        with self._owed.moved:
            self._run, self._beginning = run, False
            self._owed.moved.notify_all()
        return run

    def _begun(self) -> Run:
        backend = open_backend(self._named)
        options = self._options
        check_files(options.files, shared=backend.shares_files)
        # A failure is its future's and stops nothing, whatever a cluster tolerates in a map.
        own = replace(options, return_exceptions=True, tolerate=Tolerance())
        with lent_fleet(backend, options) if self._fleet is None else nullcontext(self._fleet) as fleet:
            return self._begun_on(fleet, own)

    def _begun_on(self, fleet: Fleet, options: Options) -> Run:
        backend = fleet.backend
        new = NewRun.of(fleet, "calls", options)
        with beginning(fleet, new, expected=self._expected) as begun:
            self._driver = driver = begun.driver
            run = Run(backend, new.spec, driver)
            sender = Sender(
                self._owed, self.functions, begun.feed, driver, slots=fleet.slots, chunk_size=options.chunk_size
            )
            sends = begun.alongside("starburst-send", sender.send)
            resolver = Resolver(self._owed, run, driver, sent=sends.join)
            resolves = begun.alongside("starburst-resolve", lambda: self._to_its_end(resolver, backend))
            self._threads = [sends, resolves]
        _live.add(self)
        return run

    def _to_its_end(self, resolver: Resolver, backend: Backend) -> None:
        resolver.resolve()
        if self._own_backend and self._fleet is None:
            backend.close()
        _live.discard(self)

    def _expected(self) -> int:
        """Chunks for which a worker starts before they are there: one, once."""
        assert self._driver is not None
        self._soon = self._soon and not self._driver.books.alive
        return int(self._soon)


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
