"""A flow's submitted tasks in, futures of their final states out.

Prefect's engine runs here, in the flow's process, for every task run; only the call of the user's function travels.
So states, retries, caching and results are Prefect's own, workers need no Prefect API, the ephemeral server is enough.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from prefect._internal.uuid7 import uuid7
from prefect.client.schemas.objects import FlowRun, RunInput
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging.loggers import get_logger
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

import starburst_common
from prefect_starburst.calls import Calls
from prefect_starburst.engine import Submission, final_state
from prefect_starburst.future import StarburstFuture, upstream_of
from prefect_starburst.loop import EngineLoop
from starburst_common.errors import BadInput

#: Engines in flight at least, whatever the number of workers: more make fuller bursts of calls, so fewer messages.
LEAST_IN_FLIGHT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with: two runners with the same options are equal."""

    max_in_flight: int | None
    executor: dict[str, Any]

    @property
    def engines(self) -> int:
        """How many engines may be in flight: as given, or enough to keep every slot busy twice over.

        >>> RunnerOptions(max_in_flight=None, executor={"workers": 100, "cpu": 8, "slots": None}).engines
        1600
        """
        if self.max_in_flight is not None:
            return self.max_in_flight
        slots = self.executor.get("slots") or max(1, int(self.executor.get("cpu") or 1))
        return max(LEAST_IN_FLIGHT, 2 * slots * (self.executor.get("workers") or 0))


class StarburstTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """Runs a flow's `task.submit` and `task.map` on starburst workers.

    Args:
        workers, cpu, memory, slots, backend, label, tags, budget: as for `starburst_common.StarburstExecutor`.
        max_in_flight: task runs under way at once, the rest waits its turn; None takes 1,024, or twice the slots of all
            workers where that is more. A run that waits for upstream runs does not count; one that waits to retry does.
        options: any further option of `StarburstExecutor`.

    Nothing is started before the first submit. A run whose worker is lost ends Crashed, and `future.result()` raises
    `starburst_common.errors.WorkerLost`; the other runs go on.

    Raises:
        BadInput: at submit, for a generator task; at the first submit, for an option out of range.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        workers: int | None = None,
        cpu: float = 1,
        memory: str | float | None = None,
        slots: int | None = None,
        backend: str = "auto",
        label: str | None = None,
        tags: dict[str, str] | None = None,
        budget: float | None = None,
        *,
        max_in_flight: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if max_in_flight is not None and max_in_flight < 1:
            raise BadInput(f"max_in_flight={max_in_flight!r}: give a whole number of task runs, at least 1")
        self._options = RunnerOptions(
            max_in_flight=max_in_flight,
            executor={
                "workers": workers,
                "cpu": cpu,
                "memory": memory,
                "slots": slots,
                "backend": backend,
                "label": label,
                "tags": tags,
                "budget": budget,
                **options,
            },
        )
        self._duplicates: list[weakref.ref[StarburstTaskRunner]] = []
        self._session: Session | None = None
        self._lock = threading.Lock()

    def duplicate(self) -> Self:
        """A runner with the same options. Prefect starts a duplicate for each flow run, and cancels by the original."""
        twin = type(self)(max_in_flight=self._options.max_in_flight, **self._options.executor)
        self._duplicates = [ref for ref in self._duplicates if ref() is not None] + [weakref.ref(twin)]
        return twin

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> StarburstFuture[Any]:
        """Start a run of `task` as soon as its upstream runs are done and its turn has come; returns at once."""
        if not self._started:
            raise RuntimeError("The task runner is not started: submit inside a flow, or inside `with runner:`")
        if task.isgenerator:
            raise BadInput(
                f"task {task.name!r} is a generator, and a generator cannot be sent back from a worker: "
                "return a list instead, or submit it on a flow with Prefect's ThreadPoolTaskRunner"
            )
        session = self._session or self._begin()
        submission = Submission(
            task=task,
            task_run_id=uuid7(),
            parameters=parameters,
            wait_for=wait_for,
            dependencies=dependencies,
            upstream=upstream_of(parameters, wait_for),
        )
        state = session.loop.start(
            final_state(submission, call=session.calls.of(task), send=session.executor.submit, loop=session.loop),
            copy_context(),
        )
        return StarburstFuture(submission.task_run_id, state, session.loop)

    def cancel_all(self) -> None:
        """Cancel what is under way, here and on the runners that Prefect duplicated from this one."""
        for runner in (self, *filter(None, (ref() for ref in self._duplicates))):
            session, runner._session, runner._started = runner._session, None, False
            if session is not None:
                session.end(cancel=True)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        try:
            if session is not None:
                session.end(cancel=exc_type is not None or session.flow_has_failed())
        finally:
            super().__exit__(exc_type, exc, traceback)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._options == self._options

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self._options)

    def _make_executor(self) -> Executor:
        return starburst_common.StarburstExecutor(**self._options.executor)

    def _begin(self) -> Session:
        with self._lock:
            if self._session is None:
                executor = self._make_executor()
                try:
                    loop = EngineLoop(self._options.engines)
                except BaseException:
                    executor.shutdown(wait=False, cancel_futures=True)
                    raise
                context = FlowRunContext.get()
                self._session = Session(
                    executor=executor,
                    loop=loop,
                    backend=self._options.executor["backend"],
                    flow_run=context.flow_run if context else None,
                )
            return self._session


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a started runner has: workers, a thread for the engines, and the flow run it serves."""

    executor: Executor
    loop: EngineLoop
    backend: str
    flow_run: FlowRun | None
    calls: Calls = field(default_factory=Calls)

    def flow_has_failed(self) -> bool:
        """Whether the flow run ended badly: Prefect leaves the runner without an exception then too."""
        state = self.flow_run.state if self.flow_run else None
        return state is not None and (state.is_failed() or state.is_crashed() or state.is_cancelled())

    def end(self, *, cancel: bool) -> None:
        """Finish the runs under way, or cancel them; then let the workers go."""
        finished = False
        try:
            if not cancel:
                self.loop.drain()
                finished = True
        finally:  # an interrupt while waiting cancels, too
            self.loop.stop()
            self.executor.shutdown(wait=finished, cancel_futures=True)
            if not finished:
                self._cancel_calls()

    def _cancel_calls(self) -> None:
        """End calls under way: the executor itself only drops those it has not sent."""
        run_id = getattr(self.executor, "run_id", None)
        if run_id is not None:
            try:
                starburst_common.attach(run_id, backend=self.backend).cancel()
            except Exception as exc:  # must not hide why the flow ended
                get_logger("task_runner.starburst").warning("calls under way in %s were not cancelled: %s", run_id, exc)


def _made(kind: type[Any], options: RunnerOptions) -> Any:
    return kind(max_in_flight=options.max_in_flight, **options.executor)
