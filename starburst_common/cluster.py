"""A function and its inputs in, a run out: `starburst_map` for one call, `Cluster` for several on warm workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack
from weakref import WeakSet

from starburst_common.backends import open_backend
from starburst_common.errors import BadInput
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.warm import open_fleet
from starburst_common.holding import held, let_go
from starburst_common.ids import new_holder
from starburst_common.offered import OPTIONS, MapOptions, RunOptions
from starburst_common.options import Options, refuse_unknown
from starburst_common.ports import Backend
from starburst_common.rows import telling
from starburst_common.runs.patience import CLOSE_S
from starburst_common.steps import steps_shown
from starburst_common.workers_offered import WorkerOptions

if TYPE_CHECKING:  # the rest is imported with the first call, while workers start
    from starburst_common.calls import Calls
    from starburst_common.data.given import Rows
    from starburst_common.executor import StarburstExecutor
    from starburst_common.fleets.frontier import Frontier
    from starburst_common.fleets.waves import Plan
    from starburst_common.measured import Sample
    from starburst_common.runs.drive import Driver
    from starburst_common.runs.run import Run

_ALONE = "cluster"  #: holds a fleet that no other cluster finds


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
        self._holder = ""  # by that name it has its fleet
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
        return self._calls().map(fn, items, more, self._merged({**options}))

    def starmap(
        self, fn: Callable[..., Any], items: Iterable[Iterable[Any]] | Rows, **options: Unpack[RunOptions]
    ) -> list[Any]:
        """`[fn(*item) for item in items]`, else as `map`."""
        return self._calls().collect(fn, items, "star", self._merged({**options}))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """One call as a future."""
        if self._executor is None:
            from starburst_common.executor import StarburstExecutor

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
        return self._calls().start(fn, items, more, self._merged({**options}))

    def measure(
        self, fn: Callable[..., Any], items: Iterable[Any], *, count: int = 5, within_s: float = 60.0
    ) -> Sample:
        """Run a few of the items on this machine, one after another, and keep nothing but how they did.

        Wherever the cluster runs: for `plan` and `estimate` of what has never run.
        """
        from starburst_common.measured import measured

        return measured(starburst_map, fn, items, count=count, within_s=within_s)

    def plan(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | Rows,
        *,
        seconds: float | None = None,
        sample: Sample | None = None,
        **options: Unpack[RunOptions],
    ) -> Plan:
        """What `map` would come to: how many workers, until when, for how much. Nothing is launched or stored.

        `seconds` an item takes, else as `measure` found, else as in former runs of a function of that name.
        """
        from starburst_common.phrases import name_of
        from starburst_common.planned import planned

        wanted = self._merged({**options})
        return planned(self._place, name_of(fn), items, wanted, seconds=seconds, sample=sample)

    def estimate(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | Rows,
        *,
        seconds: float | None = None,
        sample: Sample | None = None,
        instances: bool = False,
        **options: Unpack[RunOptions],
    ) -> Frontier:
        """What ever more workers would come to on AWS, on each kind of Fargate, and here. Nothing is launched.

        Durations as of `plan`; `instances` has EC2's cheapest types that hold such workers too, by the price book.
        """
        from starburst_common.phrases import name_of
        from starburst_common.planned import estimated

        wanted = self._merged({**options})
        return estimated(self._place, name_of(fn), items, wanted, seconds=seconds, sample=sample, instances=instances)

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
            let_go(self._fleet, self._holder)
            self._fleet = None
        if self._backend is not None:
            from starburst_common.runs.prune import prune_now_and_then

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
            if self._options.files:
                from starburst_common.code.place import check_files

                check_files(self._options.files, shared=self._place.shares_files)
            self._holder = new_holder() if self._options.keep_warm_s else _ALONE
            with steps_shown(self._options.progress):
                fleet = open_fleet(self._place, self._options, self._holder)
        except BaseException:
            self._leave()
            raise
        held(fleet, self._holder)
        self._fleet, self._opened_in = fleet, os.getpid()
        return fleet

    def _calls(self) -> Calls:
        """What is imported for them is so while workers start: opening had these prepared."""
        from starburst_common.calls import Calls

        return Calls(self._place, self._opened, self._drivers.add)

    def _merged(self, options: dict[str, Any]) -> Options:
        fixed = {"backend", *WorkerOptions.__annotations__} & set(options)
        if fixed:
            raise BadInput(f"{', '.join(sorted(fixed))}: give these to the Cluster, whose workers are all alike")
        return Options.of(**{**self._given, **options})
