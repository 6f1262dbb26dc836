"""What we use of Prefect beyond what it offers to users: all of it is named here, each piece with its reason.

No release promises to keep these, so each release is tried with the whole test suite before it is named below.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, NoReturn

import prefect
import prefect.context
import prefect.main  # completes the context models, which refer to classes they do not import
from packaging.version import Version
from prefect import task_engine
from prefect._internal.concurrency.threads import get_global_loop
from prefect._internal.uuid7 import uuid7
from prefect.context import AsyncClientContext, SettingsContext, SyncClientContext
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.logging.loggers import patch_print, task_run_logger
from prefect.runtime import deployment
from prefect.task_engine import TaskRunTimeoutError, run_task_async
from prefect.transactions import BaseTransaction
from prefect.utilities.annotations import BaseAnnotation, quote, unmapped
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.collections import StopVisiting, isiterable, visit_collection
from prefect.utilities.engine import should_log_prints
from prefect.utilities.hashing import hash_objects
from prefect.utilities.timeout import timeout, timeout_async

from prefect_starburst.internals.clients import (
    client_settings,
    client_shared,
    client_to_share,
    set_global_settings,
    share_client,
    tls,
)
from prefect_starburst.internals.events import events_gathered, events_taken, send_event

#: The releases that the test suite runs with.
OLDEST, NEWEST = "3.4.25", "3.9.1"

#: Each piece, and why there is no way without it.
REASONS = {
    "uuid7": "a run's id is made at submit, before its engine begins, and the API orders runs by it",
    "run_task_async": "the engine itself, on an event loop of ours: one thread for all task runs",
    "TaskRunTimeoutError": "what the engine takes for a timeout, raised on the worker that keeps it",
    "timeout": "ends a function on the worker as the engine would at home",
    "timeout_async": "the same for async functions",
    "AsyncClientContext": "engines share one API client: one each costs six times the CPU",
    "SyncClientContext": "what runs on a worker has a client, so that to ask the API fails there and not before",
    "SettingsContext": "a worker has settings without an API; a setting is changed without all being read anew",
    "EventsWorker": "events on a worker are taken home; engines' are handed over together: a tenth of the CPU less",
    "PrefectEventsClient": "the same",
    "get_global_loop": "the events worker takes a client of ours only if it is of the loop that it runs on",
    "patch_print": "print under `log_prints`, on the worker",
    "task_run_logger": "which run a record from a worker belongs to",
    "BaseTransaction": "a transaction's values travel to the worker and back",
    "BaseAnnotation": "parameters of a map may be annotated several times over",
    "quote": "futures inside are left alone",
    "unmapped": "what a map has in common",
    "visit_collection": "futures nested in parameters, found as the engine finds them",
    "StopVisiting": "the same",
    "isiterable": "what a map iterates over, decided as Prefect decides it",
    "hash_objects": "calls are equal where Prefect's cache keys would be",
    "should_log_prints": "`log_prints` of the task, the flow or the settings",
    "run_coro_as_sync": "an async hook, called in the thread that calls the others",
}


@contextmanager
def tags_held(held: frozenset[str], refuse: Callable[[list[str]], NoReturn]) -> Iterator[None]:
    """Have tasks that are called take no slot of the limits of these tags, which somebody holds for them already.

    Limits of other tags are refused.
    """
    engine: Any = task_engine
    before = engine._concurrency, engine._aconcurrency

    def others(names: list[str]) -> list[str]:
        found = sorted(set(names) - {f"tag:{tag}" for tag in held})
        return refuse(found) if found else []

    engine._concurrency = engine._aconcurrency = lambda names, **_: nullcontext(others(names))
    try:
        yield
    finally:
        engine._concurrency, engine._aconcurrency = before


_SERVER_START_S = 180  # on one core, with another process on it at a higher priority


def wait_longer_for_the_server() -> None:
    """Give Prefect's temporary server longer to start, in this process, if no setting of the user's says how long.

    Its first start makes a database, and then Prefect's 20 s are not enough on a slow or busy machine.
    """
    ephemeral = prefect.context.get_settings_context().settings.server.ephemeral
    if "startup_timeout_seconds" not in ephemeral.model_fields_set:
        ephemeral.startup_timeout_seconds = _SERVER_START_S


@contextmanager
def deployment_told(told: dict[str, Any]) -> Iterator[None]:
    """Have `prefect.runtime.deployment` say this, where it would ask the API."""
    before = deployment.FIELDS.copy()
    deployment.FIELDS.update({name: partial(_itself, value) for name, value in told.items()})
    try:
        yield
    finally:
        deployment.FIELDS.update(before)


def _itself(value: Any) -> Any:
    return value


def before_events_end(call: Callable[[], object]) -> None:
    """Have the interpreter make a call at its end, while Prefect still takes events and an ephemeral server is up.

    The events worker ends at the end of threads, which comes before `atexit`; what is registered last is called first.
    """
    with suppress(RuntimeError):  # the interpreter is ending
        threading._register_atexit(call)  # type: ignore[attr-defined]  # as Prefect does


def stored_values(transaction: BaseTransaction) -> dict[str, Any]:
    """What was set in a transaction itself, not in those around it; changing it changes that."""
    return transaction._stored_values


def warn_of_unknown(release: str = prefect.__version__) -> None:
    """Say so, once a process, if a release is none that we were tried with."""
    if not Version(OLDEST) <= Version(release) <= Version(NEWEST):
        which = "newer" if Version(release) > Version(NEWEST) else "older"
        warnings.warn(
            f"Prefect {release} is {which} than those StarburstTaskRunner was tried with: if tasks do not behave as "
            f'they should, pin "prefect>={OLDEST},<={NEWEST}"',
            stacklevel=2,
        )


__all__ = [
    "NEWEST",
    "OLDEST",
    "REASONS",
    "AsyncClientContext",
    "BaseAnnotation",
    "BaseTransaction",
    "EventsWorker",
    "PrefectEventsClient",
    "SettingsContext",
    "StopVisiting",
    "SyncClientContext",
    "TaskRunTimeoutError",
    "before_events_end",
    "client_settings",
    "client_shared",
    "client_to_share",
    "deployment_told",
    "events_gathered",
    "events_taken",
    "get_global_loop",
    "hash_objects",
    "isiterable",
    "patch_print",
    "quote",
    "run_coro_as_sync",
    "run_task_async",
    "send_event",
    "set_global_settings",
    "share_client",
    "should_log_prints",
    "stored_values",
    "tags_held",
    "task_run_logger",
    "timeout",
    "timeout_async",
    "tls",
    "unmapped",
    "uuid7",
    "visit_collection",
    "wait_longer_for_the_server",
    "warn_of_unknown",
]
