"""The facts of a run in, Prefect's contexts on the worker out: `prefect.runtime`, run loggers, tags, prints answer.

A worker has no Prefect API: whatever would speak to one fails at once instead of reaching a server by accident.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self
from uuid import UUID

import httpx
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.results import ResultStore
from prefect.settings import Profile, Settings
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from prefect_starburst.between import transactions
from prefect_starburst.between.events import Events
from prefect_starburst.between.facts import CallContext, FlowFacts
from prefect_starburst.internals import (
    SettingsContext,
    SyncClientContext,
    client_shared,
    deployment_told,
    events_taken,
    patch_print,
    set_global_settings,
    tags_held,
)

#: Port 9, "discard": nothing listens there, so a connection is refused at once.
ENVIRONMENT = {
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "0",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",  # or any request would fail as one for a token
}
#: What a request says of what was tried, by method and path, and what to do instead; the last is for all others.
_TRIED = {
    r"POST /(task_runs|flows|flow_runs)/": (
        "call a flow",
        "call it in the flow, or its function, FLOW.fn(…), as a part of the task",
    ),
    r"GET /variables/.*": ("read a variable", "read it in the flow, and pass its value as a parameter"),
    r"\w+ /variables/.*": ("set a variable", "return the value, and set the variable in the flow"),
    r"\w+ /block_.*": ("use a block", "load it in the flow, and pass what the task needs of it as a parameter"),
    r"\w+ /artifacts/.*": ("make an artifact", "make it in the flow, from what the task returns"),
    r"\w+ (/v2)?/concurrency_limits/.*": (
        "use a concurrency limit",
        "give the task a tag, and that tag a limit of how many run at once",
    ),
    r"POST /flow_runs/[^/]+/(set_state|suspend|resume)": ("pause its flow run", "do that in the flow"),
    r"GET /flow_runs/[^/]+": (
        "read its flow run",
        "read that, or its deployment, in the flow, and pass what the task needs of it as a parameter",
    ),
    r"\w+ /deployments/.*": ("run a deployment", "run it from the flow"),
    r".*": ("ask Prefect's API", "ask in the flow, and pass what the task needs as a parameter"),
}


@contextmanager
def run_context(
    task: Task[Any, Any], flow: FlowFacts | None, parameters: dict[str, Any], context: CallContext
) -> Iterator[Worked]:
    """Enter what the engine at home has entered for this run."""
    with ExitStack() as stack:
        events = Events(context.task_run["id"])
        stack.enter_context(no_api(events))
        stack.enter_context(tags_held(frozenset(context.task_run["tags"]), _no_slot))
        client, store = _client().client, ResultStore()
        stack.enter_context(client_shared(_client()))
        if flow is not None:
            if flow.deployment is not None:
                stack.enter_context(deployment_told(flow.deployment))
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
        yield Worked(stack.enter_context(transactions.entered(context.transactions)), events)


@dataclass(frozen=True, slots=True)
class Worked:
    """What a call has left in its contexts."""

    transactions: transactions.Entered
    events: Events

    def told(self) -> dict[str, Any]:
        """What of it goes home in a `Reply`."""
        changed = self.transactions.changed()
        events = self.events if self.events.emitted or self.events.dropped else None
        return {"transactions": changed if any(changed) else [], "events": events}

    def failed(self, exc: BaseException) -> BaseException:
        """The call has failed: with this, or with one that says it better."""
        self.transactions.roll_back()
        cause: BaseException | None = exc
        while cause is not None:
            if isinstance(cause, httpx.ConnectError) and str(cause.request.url).startswith(
                ENVIRONMENT["PREFECT_API_URL"]
            ):
                return RuntimeError(refusal(cause.request))
            cause = cause.__cause__ or cause.__context__
        return exc


def load_contexts() -> None:
    """Load what a call's contexts take."""
    import asyncio

    asyncio.Runner().close()
    with no_api(Events(UUID(int=0))):
        _client()


def refusal(request: httpx.Request) -> str:
    """What a request to the API that a worker does not have was for, and what to do instead."""
    asked = f"{request.method} {request.url.path.removeprefix('/api')}"
    tried, instead = next(each for pattern, each in _TRIED.items() if re.fullmatch(pattern, asked))
    return f"a task tried to {tried} ({asked}), but it runs on a starburst worker, without Prefect's API: {instead}"


def _no_slot(names: list[str]) -> NoReturn:
    tags = " and ".join(repr(name.removeprefix("tag:")) for name in names)
    raise RuntimeError(
        f"a task tagged {tags} was called inside a task on a starburst worker, where no concurrency limit of that tag "
        "can be kept: give the tag to the task around, too, or call the function itself, TASK.fn(…)"
    )


@contextmanager
def no_api(events: Events) -> Iterator[None]:
    """Settings and environment without a Prefect API, for this call, its threads and its child processes."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PREFECT_")}
    os.environ.update(ENVIRONMENT)
    settings = _settings()
    outside = set_global_settings(settings)
    try:
        with events_taken(events.take), settings.model_copy():
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
