"""A slim task, parameters and the facts of a run in; its value or error and its log records out. Runs on the worker."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import cloudpickle
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task
from prefect.utilities.callables import call_with_parameters
from prefect.utilities.timeout import timeout, timeout_async

from prefect_starburst import logs
from starburst_common.errors import UnpicklableResult


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFacts:
    """What a task may ask about the flow run it belongs to."""

    flow_run: FlowRun
    name: str
    version: str | None
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a task may ask about its own run."""

    task_run: dict[str, Any]
    tags: frozenset[str]
    log_prints: bool

    @classmethod
    def of(cls, task_run: TaskRun, *, tags: set[str], log_prints: bool) -> Self:
        """The facts of a run at one attempt; its state and inputs, the heavy part, stay at home."""
        facts = {name: value for name, value in task_run.__dict__.items() if name not in ("state", "task_inputs")}
        return cls(task_run=facts, tags=frozenset(tags), log_prints=log_prints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a call ended: a value, or an error with its traceback as text; and what was logged on the way.

    A value with nothing logged travels bare.
    """

    value: Any = None
    error: Exception | None = None
    traceback: str = ""
    records: list[logs.Record] = field(default_factory=list)


class RemoteCall:
    """A task's function as the executor knows it: one object per task, called once per task run."""

    def __init__(self, task: Task[Any, Any], flow: FlowFacts | None, levels: logs.Levels) -> None:
        self.task, self.flow, self.levels = task, flow, levels

    def __call__(self, parameters: dict[str, Any], context: CallContext) -> Any:
        """The function's value, or a `Reply` where there is more to tell."""
        from prefect_starburst.worker import run_context

        with logs.captured(self.levels) as records, run_context(self.task, self.flow, parameters, context):
            try:
                value = _value(self.task, parameters)
            except Exception as exc:
                return Reply(error=_portable(exc), traceback=_told(exc), records=records)
        return Reply(value=value, records=records) if records or isinstance(value, Reply) else value


def _value(task: Task[Any, Any], parameters: dict[str, Any]) -> Any:
    """Call the function, within its timeout as Prefect counts it: from the moment it starts."""
    if task.isasync:
        return asyncio.run(_awaited(call_with_parameters(task.fn, parameters), task.timeout_seconds))
    with timeout(task.timeout_seconds, TaskRunTimeoutError):
        return call_with_parameters(task.fn, parameters)


async def _awaited(coroutine: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
    with timeout_async(seconds, TaskRunTimeoutError):
        return await coroutine


def _told(exc: Exception) -> str:
    """The traceback from the user's function on, without the calls of ours and Prefect's that led to it."""
    frames = exc.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        ("prefect_starburst.", "prefect.")
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(exc), exc, frames or exc.__traceback__)).rstrip()


def _portable(exc: Exception) -> Exception:
    """The exception, or one of ours that names it where it would not survive the way home."""
    try:
        cloudpickle.loads(cloudpickle.dumps(exc))
    except Exception as reason:
        return UnpicklableResult(
            f"the task raised {type(exc).__module__}.{type(exc).__qualname__}: {exc}; that exception cannot be sent "
            f"back ({reason}): give it picklable arguments, or raise another one from it"
        )
    return exc
