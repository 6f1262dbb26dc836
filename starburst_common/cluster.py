"""A function and its inputs in, a run out: `starburst_map` for one call, `Cluster` for several on warm workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self, Unpack
from weakref import WeakSet

from starburst_common.backends import open_backend
from starburst_common.code.pack import pack_function
from starburst_common.code.place import check_files
from starburst_common.data.counted import Found, count_rows
from starburst_common.data.given import Rows
from starburst_common.data.results import Results
from starburst_common.data.where import placed
from starburst_common.errors import BadInput, RunStopped, StarburstError
from starburst_common.executor import StarburstExecutor
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.waves import Plan
from starburst_common.holding import held, let_go
from starburst_common.model import RunState
from starburst_common.offered import OPTIONS, MapOptions, RunOptions, WorkerOptions
from starburst_common.options import Options, refuse_unknown
from starburst_common.phrases import our_log
from starburst_common.planned import name_of, planned, say_plan
from starburst_common.ports import Backend
from starburst_common.progress import preparing, progress
from starburst_common.rows import telling
from starburst_common.runs.begin import NewRun, beginning
from starburst_common.runs.drive import Driver
from starburst_common.runs.failed import SavingFailed
from starburst_common.runs.prune import prune_now_and_then
from starburst_common.runs.read import Reader, iterated, side_by_side
from starburst_common.runs.reading import CLOSE_S
from starburst_common.runs.run import Run
from starburst_common.steps import steps_shown

_log = our_log()


@telling(MapOptions)
def starburst_map(
    fn: Callable[..., Any],
    items: Iterable[Any] | Rows,
    *more: Iterable[Any],
    backend: str | Backend = "auto",
    **options: Unpack[MapOptions],
) -> list[Any]:
    """`[fn(item) for item in items]`, on many workers; with `more`, `fn(item, another, …)` to the shortest's end.

    Args:
        fn: any function: your modules, lambdas, closures and notebook cells travel with it.
        items: any iterable that ends; read as workers need it where it has no length.
        more: one for each further argument, as for `map` and `Executor.map`; has a length if all of them have.
        backend: "auto" (AWS where a site is configured, else this machine) or "local".
        options: those of `MapOptions`, below.

    Returns:
        One value an item, in the order of the items (with `ordered=False`, as they complete).

    Raises:
        BadInput: an argument or item is wrong; nothing was launched.
        The first failing item's own exception, with the remote traceback as its cause, unless failures are returned.
        RunStopped: more failures than tolerated, or the run could not go on.

    Failures that are returned, as asked for by `return_exceptions` or `tolerate`, may all be alike. A run that goes on
    though nobody asked for failures, as `Cluster.start` makes it, is stopped where its first items, 20 or more, all
    fail alike.
    """
    with Cluster(backend=backend, **options) as cluster:
        return cluster.map(fn, items, *more)


@telling(MapOptions)
class Cluster:
    """A fleet that stays warm between calls; takes the options of `starburst_map`, for all calls or for one.

    Nothing is opened or launched before the `with` statement (or the first call), and no worker is left after it;
    a run that was started and is not over keeps its workers until it is.
    """

    def __init__(self, *, backend: str | Backend = "auto", **options: Unpack[MapOptions]) -> None:
        refuse_unknown(options, ("backend", *OPTIONS))
        from starburst_common.config import with_outside  # with the first cluster, not with this module

        self._given = with_outside(options)
        self._options = Options.of(**self._given)
        self._named = backend
        self._backend: Backend | None = None
        self._fleet: Fleet | None = None
        self._opened_in = os.getpid()
        self._executor: StarburstExecutor | None = None
        self._drivers: WeakSet[Driver] = WeakSet()  # of the runs begun on this fleet

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(cancel_futures=kind is not None)

    def map(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, *more: Iterable[Any], **options: Unpack[RunOptions]
    ) -> list[Any]:
        """As `starburst_map`; `options` given here hold for this call."""
        return self._collect(fn, *side_by_side(items, more), {**options})

    def starmap(
        self, fn: Callable[..., Any], items: Iterable[Iterable[Any]] | Rows, **options: Unpack[RunOptions]
    ) -> list[Any]:
        """`[fn(*item) for item in items]`, else as `map`."""
        return self._collect(fn, items, "star", {**options})

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """One call as a future."""
        if self._executor is None:
            self._executor = StarburstExecutor.on(self._opened(), replace(self._options, batch=None))
        return self._executor.submit(fn, *args, **kwargs)

    def start(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, *more: Iterable[Any], **options: Unpack[RunOptions]
    ) -> Run:
        """Begin a run of what `map` would call, and return at once with its handle.

        When `items` has a length every item is stored when this returns, and the run goes on whatever becomes of this
        process. Otherwise this process reads on in the background, a little ahead of the workers; where it dies, what
        it has read is answered, and the run then stops, since nobody knows the rest.

        Failures do not stop it, with one exception: when 20 items or more are answered, and all of them have failed
        alike, it is stopped, since nobody may be looking. `tolerate` and `return_exceptions` say that failures are
        wanted: with `tolerate` more than that many stop it, with `return_exceptions` none do.
        """
        if (asked := self._merged({**options})).failures_to:
            raise BadInput("failures_to: nothing has failed yet: save_failed of the run does it later")
        return self._start(fn, *side_by_side(items, more), asked, stop_at_first=False)

    def plan(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | Rows,
        *,
        seconds: float | None = None,
        deadline: float | None = None,
        **options: Unpack[RunOptions],
    ) -> Plan:
        """What `map` would come to: how many workers, until when, for how much. Nothing is launched or stored.

        `seconds` an item takes, else as in former runs of a function of that name; `deadline` is in seconds from now.
        """
        wanted = self._merged({**options})
        return planned(self._place, name_of(fn), items, wanted, seconds=seconds, deadline=deadline)

    def close(self, *, cancel_futures: bool = False) -> None:
        """Wait for submitted calls, and let go of the workers; in a fork of the process that has them, do neither."""
        if self._opened_in != os.getpid():
            return
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=cancel_futures)
            self._executor = None
        if not cancel_futures:
            until = time.monotonic() + CLOSE_S
            for driver in list(self._drivers):
                if driver.books.ending:
                    driver.join(until - time.monotonic())
        if self._fleet is not None:
            let_go(self._fleet)
            self._fleet = None
        if self._backend is not None:
            prune_now_and_then(self._backend)
        self._leave()

    @property
    def _place(self) -> Backend:
        """Where it runs, opened at the first use."""
        self._backend = self._backend or open_backend(self._named)
        return self._backend

    def _leave(self) -> None:
        if self._backend is not None and self._backend is not self._named:
            self._backend.close()
        self._backend = None

    def _opened(self) -> Fleet:
        """The fleet, made now if there is none. Raises `BadInput` before that for what workers cannot have."""
        if self._fleet is not None:
            return self._fleet
        try:
            check_files(self._options.files, shared=self._place.shares_files)
            with steps_shown(self._options.progress):
                fleet = Fleet.new(self._place, self._options)
            fleet.hold("cluster")
        except BaseException:
            self._leave()
            raise
        held(fleet)
        self._fleet, self._opened_in = fleet, os.getpid()
        return fleet

    def _merged(self, options: dict[str, Any]) -> Options:
        fixed = {"backend", *WorkerOptions.__annotations__} & set(options)
        if fixed:
            raise BadInput(f"{', '.join(sorted(fixed))}: give these to the Cluster, whose workers are all alike")
        return Options.of(**{**self._given, **options})

    def _collect(self, fn: Callable[..., Any], items: Iterable[Any] | Rows, style: str, given: Any) -> list[Any]:
        options = self._merged(given)
        run = self._start(fn, items, style, options, stop_at_first=not options.return_exceptions)
        try:
            with progress(run, options.progress), SavingFailed(run, options.failures_to):
                if options.results_to:
                    values = run.written()
                elif options.ordered:
                    values = run.results()
                else:
                    values = run.unordered()
                ended = run.wait()
                if ended.state is RunState.STOPPED:  # decided after its last answer
                    raise RunStopped(f"run {run.id}: {ended.reason}")
        except BaseException as raised:
            if not isinstance(raised, Exception):  # Ctrl-C
                raised.add_note(
                    f"run {run.id} is cancelled; what was answered is kept: `starburst results {run.id}` prints it, "
                    f"attach({run.id!r}).iter_completed() gives it"
                )
            try:
                run.cancel()
            except StarburstError as error:  # what went wrong first is what is raised
                _log.warning("run %s is not cancelled: %s", run.id, error)
            raise
        return values

    def _start(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, style: str, options: Options, *, stop_at_first: bool
    ) -> Run:
        if options.batch is not None and style == "star":
            raise BadInput(f"batch={options.batch} goes with one input: have items hold all that a call needs")
        shared = self._place.shares_files
        check_files(options.files, shared=shared)
        if options.results_to:
            options = replace(options, results_to=placed(options.results_to))
            Results(options.results_to, "").check(shared=shared)
        with preparing(options.progress) as tell:
            return self._begun(fn, items, style, options, tell, stop_at_first=stop_at_first)

    def _begun(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | Rows,
        style: str,
        options: Options,
        tell: Callable[[Callable[[], str]], None],
        *,
        stop_at_first: bool,
    ) -> Run:
        found = Found(items, self._place.buckets, shared=self._place.shares_files) if isinstance(items, Rows) else None
        iterator = iter(()) if isinstance(items, Rows) else iterated(items)
        first = list(islice(iterator, 1))
        tell(lambda: f"pickling {name_of(fn)}")
        packed = pack_function(
            fn,
            style=style,
            retry_on=options.retry_on,
            initializer=options.initializer,
            initargs=options.initargs,
            samples=first,
        )
        tell(str)  # what opening does it tells itself
        fleet = self._opened()
        rows = None if found is None else count_rows(found, partial(self._begun, tell=tell, stop_at_first=True), tell)
        tell(lambda: "storing files")
        say_plan(fleet, items if rows is None else rows, options.progress)
        new = NewRun.of(fleet, name_of(fn), options, stop_at_first=stop_at_first)
        whole = rows is not None or isinstance(items, Sized)
        with beginning(fleet, new, expected=lambda: int(not whole)) as begun:
            feed, books = begun.feed, begun.driver.books
            tell(lambda: feed.doing)
            function, everything = feed.function(packed), chain(first, iterator)
            reader = Reader(feed, books, function, everything, options=options, slots=fleet.slots)
            if rows is not None:
                reader.read_rows(rows)
            elif isinstance(items, Sized):
                reader.read_all(len(items))
            else:
                begun.alongside("starburst-feed", reader.read_ahead)
        if whole:
            feed.stop()
        self._drivers.add(begun.driver)
        return Run(fleet.backend, new.spec, begun.driver)
