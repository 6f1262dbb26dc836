"""Tasks in, the one callable each that travels out: made once, so that the executor ships it once a state."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import cloudpickle
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.tasks import Task

from prefect_starburst.away.call import RemoteCall
from prefect_starburst.between import logs
from prefect_starburst.between.facts import FlowFacts
from prefect_starburst.home.identity import code_of
from prefect_starburst.internals import hash_objects, should_log_prints
from starburst_common.spi import State, dumps, named, our_log

_log = our_log("prefect.task_runner.starburst")

#: A flow parameter whose pickle is larger stays at home: `prefect.runtime.flow_run.parameters` lacks it on the worker.
LARGEST_FLOW_PARAMETER = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A task, its callable, and what names its code from one attempt at a flow run to the next."""

    task: Task[Any, Any]
    call: RemoteCall
    code: str | None
    state: State | None  #: of the function, as `code` names it


class Callables:
    """The callables of one flow run, by task and by what a task says."""

    def __init__(self, deployment: dict[str, Any] | None = None) -> None:
        self._deployment = deployment
        self._by_task: dict[int, Known] = {}
        self._by_content: dict[tuple[str, int], RemoteCall] = {}  # the call keeps its function, whose id is in the key
        self._flow: FlowFacts | None = None
        self._flow_known = False
        self._lock = threading.Lock()

    def of(self, task: Task[Any, Any]) -> Known:
        """What is known of a task as it is now; tasks of one function, as `with_options` makes, share a callable."""
        known = self._by_task.get(id(task))  # the task is kept with it, so its id stays its own
        state = State.of(task.fn)
        if known is not None and known.call.fn is task.fn and state is not None and known.state == state:
            return known
        with self._lock:
            _send_by_value(task.fn)
            if known is None or known.call.fn is not task.fn:
                call = self._call(task)
            else:
                call = known.call
            code = code_of(task.fn)
            known = Known(task=task, call=call, code=code and hash_objects(task.task_key, code), state=state)
            self._by_task[id(task)] = known
            return known

    def _call(self, task: Task[Any, Any]) -> RemoteCall:
        facts = dumps((slimmed(task), self._flow_facts()))
        content = hashlib.sha256(facts).hexdigest(), id(task.fn)
        if content not in self._by_content:
            needs = task.isasync or task.timeout_seconds is not None or should_log_prints(task)
            self._by_content[content] = RemoteCall(task.fn, facts, logs.Levels.here(), needs_prefect=needs)
        return self._by_content[content]

    def _flow_facts(self) -> FlowFacts | None:
        context = FlowRunContext.get()
        if not self._flow_known and context is not None and context.flow_run is not None:
            self._flow = FlowFacts(
                flow_run=context.flow_run.model_copy(update={"state": None}),
                name=context.flow.name if context.flow else context.flow_run.name,
                version=context.flow.version if context.flow else None,
                parameters={k: v for k, v in (context.parameters or {}).items() if _travels(v)},
                deployment=self._deployment,
            )
        self._flow_known = True
        return self._flow


def deployment_of(flow_run: FlowRun) -> dict[str, Any] | None:
    """What `prefect.runtime.deployment` says here: it asks the API, unless there is none; None if that did not answer.

    A flow that another one calls may have the deployment of that one.
    """
    if flow_run.deployment_id is None and flow_run.parent_task_run_id is None:
        return {"id": None, "name": None, "version": None, "parameters": flow_run.parameters}
    try:
        return {name: getattr(deployment, name) for name in ("id", "name", "version", "parameters")}
    except Exception as error:
        _log.warning("tasks are not told of their deployment: %s", named(error))
        return None


def slimmed(task: Task[Any, Any]) -> Task[Any, Any]:
    """The task without its function, and without what only the engine at home uses: hooks, caching, results."""
    slim = copy(task)
    slim.fn = None  # type: ignore[assignment]  # travels beside it
    for hooks in (
        "on_completion_hooks",
        "on_failure_hooks",
        "on_running_hooks",
        "on_commit_hooks",
        "on_rollback_hooks",
    ):
        setattr(slim, hooks, [])
    for name in ("cache_key_fn", "cache_policy", "_user_cache_policy", "cache_expiration", "retry_condition_fn"):
        setattr(slim, name, None)
    for name in ("result_storage", "result_serializer", "result_storage_key", "task_run_name", "viz_return_value"):
        setattr(slim, name, None)
    slim.persist_result = False
    slim.__dict__.pop("__wrapped__", None)  # the function again
    return slim


def _send_by_value(fn: Callable[..., Any]) -> None:
    """Have a function of a flow's script travel whole where Prefect loaded that under a name of its own making."""
    module = sys.modules.get(fn.__module__ or "")
    if module is not None and module.__name__.startswith("__prefect_loader_"):
        cloudpickle.register_pickle_by_value(module)


def _travels(value: Any) -> bool:
    try:
        return len(dumps(value)) <= LARGEST_FLOW_PARAMETER
    except Exception:
        return False
