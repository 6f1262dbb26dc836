"""The facts of a run in, Prefect's contexts on the worker out: `prefect.runtime`, run loggers, tags, prints answer.

A worker has no Prefect API: whatever would speak to one fails at once instead of reaching a server by accident.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import httpx
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.results import ResultStore
from prefect.settings import Profile, Settings
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from prefect_starburst import transactions
from prefect_starburst.facts import CallContext, FlowFacts
from prefect_starburst.internals import (
    SettingsContext,
    SyncClientContext,
    client_shared,
    events_dropped,
    patch_print,
    set_global_settings,
)

#: Port 9, "discard": nothing listens there, so a connection is refused at once.
ENVIRONMENT = {
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "0",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
}
NO_API = (
    "a task on a starburst worker asked Prefect's API, which a worker does not have: ask in the flow, or call the task "
    "there; to limit how many tasks of a kind run at once, give the task a tag and that tag a concurrency limit"
)


@contextmanager
def run_context(
    task: Task[Any, Any], flow: FlowFacts | None, parameters: dict[str, Any], context: CallContext
) -> Iterator[Worked]:
    """Enter what the engine at home has entered for this run."""
    with ExitStack() as stack:
        stack.enter_context(no_api())
        client, store = _client().client, ResultStore()
        stack.enter_context(client_shared(_client()))
        if flow is not None:
            stack.enter_context(
                FlowRunContext(
                    flow=_flow(flow.name, flow.version),
                    flow_run=flow.flow_run,
                    parameters=flow.parameters,
                    task_runner=NoTaskRunner(),
                    result_store=store,
                    client=client,
                    detached=True,
                )
            )
        stack.enter_context(
            TaskRunContext(
                task=task,
                task_run=TaskRun.model_construct(**context.task_run),
                parameters=parameters,
                log_prints=context.log_prints,
                result_store=store,
                persist_result=False,
                client=client,
            )
        )
        stack.enter_context(TagsContext(current_tags=set(context.tags)))
        if context.log_prints:
            stack.enter_context(patch_print())
        yield Worked(stack.enter_context(transactions.entered(context.transactions)))


@dataclass(frozen=True, slots=True)
class Worked:
    """What a call has left in its contexts."""

    transactions: transactions.Entered

    def failed(self, exc: Exception) -> Exception:
        """The call has failed: with this, or with one that says it better."""
        self.transactions.roll_back()
        cause: BaseException | None = exc
        while cause is not None:
            if isinstance(cause, httpx.ConnectError) and str(cause.request.url).startswith(
                ENVIRONMENT["PREFECT_API_URL"]
            ):
                return RuntimeError(NO_API)
            cause = cause.__cause__ or cause.__context__
        return exc


@contextmanager
def no_api() -> Iterator[None]:
    """Settings and environment without a Prefect API, for this call, its threads and its child processes."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PREFECT_")}
    os.environ.update(ENVIRONMENT)
    settings = _settings()
    outside = set_global_settings(settings)
    try:
        with events_dropped(), settings.model_copy():
            yield
    finally:
        set_global_settings(outside)
        for name in ENVIRONMENT:
            os.environ.pop(name, None)
        os.environ.update(before)


class NoTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """The runner a task finds on a worker: there is none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._started = True

    def duplicate(self) -> Self:
        return self

    def submit(self, task: Task[Any, Any], *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            f"task {task.name!r} was submitted inside a task on a starburst worker, where no task runner is: "
            "submit it from the flow, or call it as a function"
        )


# Once a process and kept: a client takes 40 ms to make, the first settings 10 ms, and all calls can share them.
@functools.cache
def _settings() -> SettingsContext:
    return SettingsContext(profile=Profile(name="starburst-worker", settings={}), settings=Settings())


@functools.cache
def _client() -> SyncClientContext:
    context = SyncClientContext()
    context.client.__enter__()  # not the context's, which would ask the API for its version
    return context


@functools.cache
def _flow(name: str, version: str | None) -> Flow[[], None]:
    return Flow(_at_home, name=name, version=version or "unknown")


def _at_home() -> None:
    """The flow's function does not travel."""
