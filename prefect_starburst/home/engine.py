"""One submitted call in, its final state out: Prefect's own engine, with a stand-in for the user's function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import nullcontext, suppress
from contextvars import copy_context
from copy import copy
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast
from uuid import UUID
from weakref import WeakKeyDictionary

from prefect.client.schemas.objects import RunInput, State, TaskRun
from prefect.context import TagsContext, TaskRunContext
from prefect.exceptions import PrefectSignal
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Crashed
from prefect.tasks import Task

from prefect_starburst.between import logs, transactions
from prefect_starburst.between.events import MOST_BYTES, MOST_EVENTS, Events
from prefect_starburst.between.facts import CallContext
from prefect_starburst.between.reply import Reply
from prefect_starburst.home.loop import EngineLoop
from prefect_starburst.internals import run_coro_as_sync, run_task_async, should_log_prints, task_run_logger
from starburst_common import BadInput, ItemFailed, ItemTimeout, StarburstError, UnpicklableResult, WorkerLost
from starburst_common.spi import named, with_traceback

R = TypeVar("R")

#: The call of a task's function with its parameters in, the worker's answer out.
Ask = Callable[[dict[str, Any], CallContext], Awaitable[Any]]

#: Failures of starburst's that are the call's own fault: they fail the run, and spend its retries. All others crash it.
FAILURES = (BadInput, UnpicklableResult, ItemTimeout)

#: A task's lists of hooks; not every Prefect has them all.
HOOKS = ("on_completion_hooks", "on_failure_hooks", "on_running_hooks", "on_commit_hooks", "on_rollback_hooks")


class CallLost(BaseException):
    """A call came to nothing. No Exception, so that the engine reports Crashed, and its state names the class."""

    @classmethod
    def by(cls, name: str, why: object) -> CallLost:
        """Under the name of what it was. Its cause is what the run's result raises."""
        lost: CallLost = type(name, (cls,), {})(str(why))
        return lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submitted call, and the futures among its parameters and in its `wait_for`."""

    task: Task[Any, Any]
    task_run_id: UUID
    parameters: dict[str, Any]
    wait_for: Iterable[PrefectFuture[Any]] | None
    dependencies: dict[str, set[RunInput]] | None
    upstream: list[PrefectFuture[Any]]


async def final_state(submission: Submission, *, ask: Ask, loop: EngineLoop, retry_lost: bool = False) -> State[Any]:
    """Wait for upstream runs, then for room, then run the engine to the end.

    With `retry_lost` a call whose worker was lost fails its run, which spends the task's retries; else it crashes it.
    Raises what the engine raises without setting a state, such as inputs it cannot resolve, like Prefect's own runners.
    """
    for future in submission.upstream:
        await _settled(future, loop)
    stub = Stub(submission.task, ask, retry_lost=retry_lost)
    async with loop.room:
        try:
            state = await run_task_async(
                stub.proxy(),
                task_run_id=submission.task_run_id,
                parameters=submission.parameters,
                wait_for=submission.wait_for,
                dependencies=submission.dependencies,
                return_type="state",
            )
        except (Exception, PrefectSignal, GeneratorExit):
            raise
        except BaseException as crash:  # the engine has told Prefect; SystemExit would end the loop
            return stub.crashed(crash)
        return cast("State[Any]", state)


class Stub:
    """Stands in for a task's function inside the engine: where that would be called, its call goes to a worker.

    It has the function's signature, source and code: parameters bind and cache keys come out as for the function.
    """

    def __init__(self, task: Task[Any, Any], ask: Ask, *, retry_lost: bool = False) -> None:
        functools.update_wrapper(self, task.fn)
        with suppress(TypeError, ValueError):  # as it is for a function that tells none
            self.__signature__ = _once(inspect.signature, task.fn)
        self.__code__ = getattr(task.fn, "__code__", None)
        self._task, self._ask = task, ask
        self._failures = (*FAILURES, WorkerLost) if retry_lost else FAILURES
        self._task_run: TaskRun | None = None

    def proxy(self) -> Task[Any, Any]:
        """A copy of the task for the engine: async, its function the stub, its hooks kept off the loop."""
        task = self._task
        proxy = copy(task)
        proxy.fn = self
        proxy.isasync = True
        proxy.log_prints = False  # prints happen on the worker
        if not hasattr(task, "source_code"):  # which Prefect's cache policies take, where they would read the file
            with suppress(TypeError, OSError):
                proxy.source_code = _once(inspect.getsource, task.fn)
        if task.timeout_seconds is not None:
            proxy.timeout_seconds = EnforcedElsewhere(task.timeout_seconds)
        for hooks in HOOKS:
            setattr(proxy, hooks, [_off_loop(hook, task) for hook in getattr(task, hooks, [])])
        if callable(task.retry_condition_fn):
            proxy.retry_condition_fn = _off_loop(task.retry_condition_fn, task)
        return proxy

    async def __call__(self, *_: Any, **__: Any) -> Any:
        context = TaskRunContext.get()
        assert context is not None, "the engine calls within a task run's context"
        self._task_run = context.task_run
        around = transactions.around()
        try:
            facts = CallContext.of(
                context.task_run,
                tags=TagsContext.get().current_tags,
                log_prints=should_log_prints(self._task),
                transactions=transactions.packed(around),
            )
            answer = await self._ask(context.parameters, facts)
        except (StarburstError, BrokenExecutor, CancelledError) as exc:
            told = _without_number(exc)
            if isinstance(told, self._failures):
                raise told from told.__cause__
            raise CallLost.by(type(told).__name__, told) from told
        reply = answer if isinstance(answer, Reply) else Reply(value=answer)
        transactions.set_again(around, reply.transactions)
        if reply.records:
            logs.relog(reply.records, task_run_logger(context.task_run, self._task).extra or {})
        if reply.events is not None:
            self._emit(reply.events, context)
        if reply.left:
            kind, why = reply.left.partition(": ")[::2]
            raise CallLost.by(kind, why) from with_traceback(ItemFailed(reply.left), reply.traceback)
        if reply.error is not None:
            if isinstance(error := reply.exception, StopIteration):  # which no coroutine can raise
                raise RuntimeError(f"the function raised {named(error)}") from error
            raise error
        return reply.value

    def _emit(self, events: Events, context: TaskRunContext) -> None:
        log = task_run_logger(context.task_run, self._task)
        try:
            events.emit()
        except Exception as error:  # such as limits that are tighter here than there
            log.warning("events of this run are not emitted: %s: %s", type(error).__name__, error)
        if events.dropped:
            log.warning(
                "%d further events of this run were left out: %d, and %d MB of them, are the most",
                events.dropped,
                MOST_EVENTS,
                MOST_BYTES >> 20,
            )

    def crashed(self, crash: BaseException) -> State[Any]:
        """The Crashed state the engine has set, its data an exception that `future.result()` can raise."""
        state = self._task_run.state if self._task_run else None
        if state is None or not state.is_crashed():
            state = Crashed(message=f"Execution was interrupted: {type(crash).__name__}: {crash}".rstrip(": "))
        state.data = crash.__cause__ if isinstance(crash, CallLost) and isinstance(crash.__cause__, Exception) else None
        return state


def _without_number(error: R) -> R:
    """An item's error without the item's number, which a flow's author knows nothing of."""
    if not isinstance(error, ItemFailed):
        return error
    told = type(error)(str(error).removeprefix(f"item {error.index}: "))
    told.__cause__ = error.__cause__
    for note in getattr(error, "__notes__", []):
        told.add_note(note)
    return told


class EnforcedElsewhere(float):
    """A timeout that never runs out here, since the worker keeps it, and that the engine's messages show as it is.

    >>> timeout = EnforcedElsewhere(1.5); (timeout > 1e300, f"{timeout} second(s)")
    (True, '1.5 second(s)')
    """

    def __new__(cls, seconds: float) -> Self:
        self = super().__new__(cls, math.inf)
        self.seconds = seconds
        return self

    seconds: float

    def __str__(self) -> str:
        return str(self.seconds)


_known: dict[Callable[..., Any], WeakKeyDictionary[Callable[..., Any], Any]] = defaultdict(WeakKeyDictionary)


def _once(tell: Callable[[Callable[..., Any]], R], fn: Callable[..., Any]) -> R:
    """What `tell` says of a function, which the engine would ask several times a run. Raises as it does."""
    known = _known[tell]
    if fn not in known:
        known[fn] = tell(fn)
    return cast("R", known[fn])


def _off_loop(hook: Callable[..., Any], task: Task[Any, Any]) -> Callable[..., Any]:
    """A user's hook as a coroutine function that runs it in a thread, with the task and the context it knows."""

    def called(*args: Any) -> Any:
        context = TaskRunContext.get()
        with context.model_copy(update={"task": task}) if context else nullcontext():
            answer = hook(*(task if isinstance(arg, Task) else arg for arg in args))
            return run_coro_as_sync(answer) if inspect.iscoroutine(answer) else answer

    async def off_loop(*args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, copy_context().run, called, *args)

    off_loop.__name__ = getattr(getattr(hook, "func", hook), "__name__", type(hook).__name__)
    return off_loop


async def _settled(future: PrefectFuture[Any], loop: EngineLoop) -> None:
    """Wait for a future of any runner without holding up the loop, on which the engine would block."""
    if isinstance(future, PrefectConcurrentFuture):
        if future.wrapped_future.done():
            return
        done = asyncio.Event()
        future.add_done_callback(lambda _: loop.post(done.set))
    else:  # of `task.delay()` or a deployment: it can only be waited for
        done = asyncio.Event()

        def wait_and_tell() -> None:
            try:
                future.wait()
            finally:
                loop.post(done.set)

        threading.Thread(target=copy_context().run, args=(wait_and_tell,), daemon=True).start()
    await done.wait()
