"""Calls in, futures out: `concurrent.futures.Executor` on a fleet."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from itertools import islice
from typing import Any, Unpack
from weakref import finalize

from starburst_common.code.pack import setup_of
from starburst_common.errors import BadInput
from starburst_common.fleets.fleet import Fleet
from starburst_common.futures.submitted import Submitted
from starburst_common.offered import OPTIONS, AnswerOptions, ExecutorOptions
from starburst_common.options import Options, refuse_unknown
from starburst_common.pickling.within import awaited
from starburst_common.ports import Backend
from starburst_common.rows import telling
from starburst_common.runs.run import Run

#: What is asked of a map as a whole. An executor's answers are futures, one a call.
OF_MAPS = tuple(AnswerOptions.__annotations__)
#: What the standard library's executors take, and why this one does not; None is taken.
_OF_POOLS = {
    "mp_context": "no slot is a fork of this process: each begins without what that has",
    "max_tasks_per_child": "a slot stays for as long as its worker, and what a call leaves in it is the next one's",
    "thread_name_prefix": "calls run in processes, which have no names",
}


class _ExecutorOptions(ExecutorOptions, total=False):
    """With those of pools, which mean nothing."""

    mp_context: None
    max_tasks_per_child: None
    thread_name_prefix: None


@telling(ExecutorOptions)
class StarburstExecutor(Executor):
    """The standard executor on a fleet; takes the options of `starburst_map`, with `max_workers` for `workers`.

    Those about a map as a whole (return_exceptions, ordered, tolerate, progress) are refused: an executor's
    answers are futures, one a call, and a failure is its future's exception.

    A future is RUNNING once its call is sent. `shutdown(cancel_futures=True)`, and whoever leaves the iteration of a
    `map` early, withdraw what was sent and has not begun, too: those futures are cancelled. Its function runs in the
    state that it has when the call is submitted, and is stored anew only when that has changed; many waiting calls of
    one function share a message. A call whose process dies fails alone with `WorkerLost`; the executor breaks
    (`BrokenExecutor`) only when workers cannot run at all.
    """

    def __init__(
        self, max_workers: int | None = None, *, backend: str | Backend = "auto", **options: Unpack[_ExecutorOptions]
    ) -> None:
        from starburst_common.config import with_outside  # with the first executor, not with this module

        given: dict[str, Any] = {**options}
        if max_workers is not None:
            if given.get("workers") is not None:
                raise BadInput("max_workers and workers are the same: give one")
            try:
                Options.of(workers=max_workers)
            except BadInput as error:
                raise BadInput(f"max_{error}") from None
            given["workers"] = max_workers
        if of_pools := [name for name in _OF_POOLS if given.pop(name, None) is not None]:
            raise BadInput(f"{of_pools[0]}={dict(options)[of_pools[0]]!r:.80}: {_OF_POOLS[of_pools[0]]}: leave it out")
        refuse_unknown(given, ("max_workers", "backend", *OPTIONS))
        if of_maps := [f"{name}={given[name]!r}" for name in OF_MAPS if given.get(name) is not None]:
            raise BadInput(
                f"{', '.join(of_maps)}: an executor's answers are futures, one a call: this goes with starburst_map "
                "or Cluster.map"
            )
        self._init(Options.of(**with_outside(given, but=OF_MAPS)), backend, None)

    @classmethod
    def on(cls, fleet: Fleet, options: Options) -> StarburstExecutor:
        """One that shares a fleet."""
        executor = cls.__new__(cls)
        executor._init(options, fleet.backend, fleet)
        return executor

    def _init(self, options: Options, backend: str | Backend, fleet: Fleet | None) -> None:
        if options.initializer is not None:
            setup_of(options.initializer, options.initargs)  # or each call would say that it cannot be pickled
        self._options = options
        self._submitted = Submitted(self, options, backend, fleet)
        finalize(self, self._submitted.let_go).atexit = False

    @property
    def run_id(self) -> str | None:
        """The run that its calls are items of; None before the first."""
        return self._submitted.run_id

    def start(self, *, soon: bool = False) -> Run:
        """Begin the run that its calls are items of, if none did yet.

        No worker starts before the first call; with `soon`, one does, since calls are about to come.
        """
        return self._submitted.start(soon=soon)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """One call as a future."""
        return self._submitted.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As the standard library's; with `chunksize` above 1, that many calls share one future.

        At most `buffersize` futures, if given, are there at a time; else all inputs are read at once. Whoever leaves
        the iteration early, by an error, `break` or a timeout, withdraws all calls that have not begun.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not (isinstance(buffersize, int) and buffersize > 0):
            kind = ValueError if isinstance(buffersize, int) else TypeError
            raise kind(f"buffersize={buffersize!r:.80}: give a whole number above 0, or None")
        until = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        if chunksize > 1:
            groups = iter(lambda: tuple(islice(calls, chunksize)), ())
            values = self._mapped(partial(_call_each, fn), zip(groups), until, buffersize)
            return (value for group in values for value in group)
        return self._mapped(fn, calls, until, buffersize)

    def take_back(self, futures: Iterable[Future[Any]]) -> None:
        """Have none of these calls begun any more, as far as they have not: they are cancelled, some of them soon."""
        going = {future for future in futures if not (future.cancel() or future.done())}
        if going:
            self._submitted.withdraw(going.__contains__)

    @property
    def _max_workers(self) -> int:
        """Calls that run at once, under the name by which dask and others ask an executor for it."""
        return self._submitted.slots

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls; with `wait`, return when every future is done and the workers are gone.

        Where that wait is interrupted, as by Ctrl-C, the calls go on until the process ends, which then cancels them.
        """
        self._submitted.shutdown(wait, cancel_futures=cancel_futures)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _mapped(
        self, fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]], until: float | None, buffersize: int | None
    ) -> Iterator[Any]:
        """Submit the calls, or the first of them, now; the values as they are asked for."""
        futures = deque(self.submit(fn, *call) for call in islice(calls, buffersize))

        def values() -> Iterator[Any]:
            try:
                while futures:
                    if buffersize is not None:
                        futures.extend(self.submit(fn, *call) for call in islice(calls, 1))
                    yield _first(futures, until)
            finally:
                self.take_back(futures)
                futures.clear()

        return values()


def _first(futures: deque[Future[Any]], until: float | None) -> Any:
    """The value of the first, which is kept by nobody then."""
    value = futures[0].result(None if until is None else until - time.monotonic())
    futures.popleft()
    return value


def _call_each(fn: Callable[..., Any], group: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [awaited(fn(*call)) for call in group]
