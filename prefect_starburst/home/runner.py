"""A flow's submitted tasks in, futures of their final states out.

Prefect's engine runs here, in the flow's process, for every task run; only the call of the user's function travels.
So states, retries, caching and results are Prefect's own, workers need no Prefect API, the ephemeral server is enough.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from prefect_starburst.home.callables import Callables, deployment_of
from prefect_starburst.home.engine import Submission, final_state
from prefect_starburst.home.former import Former, tags_of
from prefect_starburst.home.future import StarburstFuture, upstream_of
from prefect_starburst.home.loop import EngineLoop
from prefect_starburst.home.options import RunnerOptions
from prefect_starburst.home.parameters import Common
from prefect_starburst.home.session import Session
from prefect_starburst.internals import uuid7, wait_longer_for_the_server, warn_of_unknown
from starburst_common import BadInput, StarburstExecutor
from starburst_common.spi import preload

if TYPE_CHECKING:
    from prefect_starburst.home.block import StarburstSite

#: What the calls of the `map` that is submitting have in common.
_common: ContextVar[Common | None] = ContextVar("starburst-common", default=None)

preload()  # here, so that no flow waits for it at its first submit
wait_longer_for_the_server()  # here, since the flow's engine starts the server before it asks a runner for anything


class StarburstTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """Runs a flow's `task.submit` and `task.map` on starburst workers.

    Args:
        workers, cpu, memory, slots, backend, label, tags, budget, deadline: as for
            `starburst_common.StarburstExecutor`. Task runs that have no answer by then crash.
        site: a `StarburstSite` block, or the name of one that is saved, in place of `backend`.
        max_in_flight: task runs under way at once, the rest waits its turn; None takes 1,024, or twice the slots of all
            workers where that is more. A run that waits for upstream runs does not count; one that waits to retry does.
        on_lost: what becomes of a task run whose worker was lost time and again: "crash" ends it Crashed, and its
            result raises `starburst_common.errors.WorkerLost`; "retry" spends the task's own retries on it.
        resume: a flow run that is tried again takes what its earlier attempts have answered, and waits for what they
            still work on, in place of making those calls anew. Calls are the same if task, code and parameters are.
        options: max_hourly_cost, alert_at, spot, image, storage, env, task_role, aws_tags, capacity, gpus, chunk_size,
            timeout, initializer, initargs, files and seed, as for `starburst_common.StarburstExecutor`; its retries
            are not taken, since
            Prefect's engine retries: `@task(retries=3)`.

    What is not given is taken from the environment (`PREFECT_STARBURST_WORKERS=50`, and so on), else from what is set
    for any map (`starburst config show`), else from the defaults.
    Nothing is started before the first submit. The other runs go on when one of them crashes.

    Raises:
        BadInput: at once, for an option that does not exist or belongs elsewhere; at the first submit, for one out of
            range; at submit, for a generator task.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        workers: int | None = None,
        cpu: float | None = None,
        memory: str | float | None = None,
        slots: int | None = None,
        backend: str | None = None,
        label: str | None = None,
        tags: dict[str, str] | None = None,
        budget: float | None = None,
        deadline: float | str | timedelta | datetime | None = None,
        *,
        site: StarburstSite | str | None = None,
        max_in_flight: int | None = None,
        on_lost: str | None = None,
        resume: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._options = RunnerOptions.of(
            options,
            workers=workers,
            cpu=cpu,
            memory=memory,
            slots=slots,
            backend=backend,
            label=label,
            tags=tags,
            budget=budget,
            deadline=deadline,
            site=site,
            max_in_flight=max_in_flight,
            on_lost=on_lost,
            resume=resume,
        )
        self._duplicates: list[weakref.ref[StarburstTaskRunner]] = []
        self._session: Session | None = None
        self._lock = threading.Lock()

    def duplicate(self) -> Self:
        """A runner with the same options. Prefect starts a duplicate for each flow run, and cancels by the original."""
        twin = type(self)(**self._options.given)
        self._duplicates = [ref for ref in self._duplicates if ref() is not None] + [weakref.ref(twin)]
        return twin

    def executor_options(self) -> dict[str, Any]:
        """The options of its workers, complete, as `starburst_common.StarburstExecutor` takes them.

        Raises `BadInput` for one out of range.
        """
        options = self._options.resolved()
        return {**options.executor, **({} if options.site is None else {"backend": options.open_backend()})}

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
        ask = partial(session.ask, task, _common.get())
        engine = final_state(submission, ask=ask, loop=session.loop, retry_lost=session.retry_lost)
        state = session.loop.start(engine, copy_context())
        return StarburstFuture(submission.task_run_id, state, session.loop)

    def map(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
    ) -> PrefectFutureList[PrefectFuture[Any]]:
        """Submit a run for each element of the parameters that can be iterated over; large others travel once."""
        token = _common.set(Common(parameters))
        try:
            return super().map(task, parameters, wait_for)
        finally:
            _common.reset(token)

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

    def _make_executor(self, options: dict[str, Any]) -> Executor:
        return StarburstExecutor(**options)

    def _begin(self) -> Session:
        with self._lock:
            if self._session is None:
                warn_of_unknown()
                options, context = self._options.resolved(), FlowRunContext.get()
                flow_run = context.flow_run if context else None
                backend = options.open_backend()
                loop = EngineLoop(options.engines)
                executor: Executor | None = None
                try:
                    former = Former.of(flow_run, backend) if options.resume else None
                    callables = Callables(deployment_of(flow_run) if flow_run else None)
                    told = _told(context, options.executor)
                    own = {"backend": backend, "retries": 0}  # whatever is set outside: Prefect's engine retries
                    executor = self._make_executor({**options.executor, **told, **own})
                    run = None
                    if isinstance(executor, StarburstExecutor):
                        run = executor.start(soon=backend.name == "local")  # where a worker for nothing costs nothing
                except BaseException:
                    loop.stop()
                    if executor is not None:
                        executor.shutdown(wait=False, cancel_futures=True)
                    backend.close()
                    raise
                self._session = Session(
                    executor=executor,
                    run=run,
                    loop=loop,
                    flow_run=flow_run,
                    former=former,
                    retry_lost=options.on_lost == "retry",
                    backend=backend,
                    callables=callables,
                )
            return self._session


def _told(context: FlowRunContext | None, options: dict[str, Any]) -> dict[str, Any]:
    """Label and tags of the starburst run, by which it is found again from the flow run."""
    flow_run = context.flow_run if context else None
    if context is None or flow_run is None:
        return {}
    mine = tags_of(flow_run, context.flow)
    return {"label": options.get("label") or flow_run.name, "tags": {**(options.get("tags") or {}), **mine}}


def _made(kind: type[Any], options: RunnerOptions) -> Any:
    return kind(**options.given)
