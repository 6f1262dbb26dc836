"""What we use of Prefect beyond what it offers to users: all of it is named here, each piece with its reason.

No release promises to keep these, so each release is tried with the whole test suite before it is named below.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import Context, copy_context
from types import SimpleNamespace
from typing import Any, NoReturn

import prefect
import prefect.context
import prefect.main  # completes the context models, which refer to classes they do not import
from packaging.version import Version
from prefect import task_engine
from prefect._internal.concurrency.threads import get_global_loop
from prefect._internal.uuid7 import uuid7
from prefect.context import AsyncClientContext, SettingsContext, SyncClientContext
from prefect.events import Event
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.logging.loggers import patch_print, task_run_logger
from prefect.settings import PREFECT_API_URL
from prefect.task_engine import TaskRunTimeoutError, run_task_async
from prefect.transactions import BaseTransaction
from prefect.utilities.annotations import BaseAnnotation, quote, unmapped
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.collections import StopVisiting, isiterable, visit_collection
from prefect.utilities.engine import should_log_prints
from prefect.utilities.hashing import hash_objects
from prefect.utilities.timeout import timeout, timeout_async

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


def client_to_share() -> AsyncClientContext:
    """A client for all engines of a loop."""
    context = AsyncClientContext(tls())
    context._httpx_settings = None  # an engine that asks for a client without settings takes this one
    return context


def share_client(client: AsyncClientContext) -> None:
    """Have the engine that runs in this context use that client."""
    AsyncClientContext.__var__.set(client)


@contextmanager
def client_shared(client: SyncClientContext) -> Iterator[None]:
    """Have what runs in this context use that client."""
    token = SyncClientContext.__var__.set(client)
    try:
        yield
    finally:
        SyncClientContext.__var__.reset(token)


@contextmanager
def events_taken(take: Callable[[Event], None]) -> Iterator[None]:
    """Have events that are emitted handed to a function, at once and in the context they are emitted in."""
    instance = EventsWorker.instance
    taker = SimpleNamespace(client_type=PrefectEventsClient, send=take)  # `emit_event` makes no event without a client
    EventsWorker.instance = lambda *_: taker  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        EventsWorker.instance = instance  # type: ignore[method-assign]


def send_event(event: Event) -> None:
    """Emit an event that is made: what it is related to comes from the context."""
    EventsWorker.instance().send(event)


def _start_events_worker() -> None:
    """Have events sent with a client as engines have, and without asking again what release the server is of.

    Left to itself, the worker reads all certificates for each of the two.
    """
    if tls():
        client = client_to_share()
        # The worker runs there, and looks for a client of its loop.
        client.client._loop = get_global_loop()._loop  # type: ignore[assignment]  # inferred as None
        share_client(client)
    with client_settings(server_version_check_enabled=False):
        EventsWorker.instance()


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


_GATHERED_S = 0.05
_gathered = threading.local()  # on a thread that gathers: `hold`
_send = EventsWorker.send


def _send_or_hold(worker: EventsWorker, event: Event) -> None:
    getattr(_gathered, "hold", _send)(worker, event)


def _send_or_replace(worker: EventsWorker, event: Event) -> None:
    try:
        _send(worker, event)
    except RuntimeError:  # it was stopped after it was chosen
        _send(EventsWorker.instance(), event)


EventsWorker.send = _send_or_hold  # type: ignore[method-assign, assignment]


@asynccontextmanager
async def events_gathered() -> AsyncIterator[None]:
    """Have events emitted on the running loop's thread handed over together, each within a moment or at the end.

    Engines that share a thread emit evenly: handed over one by one, each event would find Prefect's events worker
    asleep, and cost it two changes of threads.
    """
    with suppress(Exception):  # the first event says what is wrong
        copy_context().run(_start_events_worker)
    loop, held = asyncio.get_running_loop(), list[tuple[Context, EventsWorker, Event]]()

    def hold(worker: EventsWorker, event: Event) -> None:
        if not held:
            loop.call_later(_GATHERED_S, hand_over)
        held.append((copy_context(), worker, event))

    def hand_over() -> None:
        taken = held.copy()
        held.clear()
        for context, worker, event in taken:
            context.run(_send_or_replace, worker, event)

    _gathered.hold = hold
    try:
        yield
    finally:
        del _gathered.hold
        hand_over()


def tls() -> dict[str, Any]:
    """Settings of an API client: no certificates for plain HTTP, since to read them costs as much as five runs."""
    encrypted = (PREFECT_API_URL.value() or "").startswith("https:")
    return {} if encrypted else {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}


_SERVER_START_S = 180  # on one core, with another process on it at a higher priority


def wait_longer_for_the_server() -> None:
    """Give Prefect's temporary server longer to start, in this process, if no setting of the user's says how long.

    Its first start makes a database, and then Prefect's 20 s are not enough on a slow or busy machine.
    """
    ephemeral = prefect.context.get_settings_context().settings.server.ephemeral
    if "startup_timeout_seconds" not in ephemeral.model_fields_set:
        ephemeral.startup_timeout_seconds = _SERVER_START_S


def set_global_settings(settings: SettingsContext | None) -> SettingsContext | None:
    """Set what threads without a context of their own take for settings; what it was."""
    before = prefect.context.GLOBAL_SETTINGS_CONTEXT
    prefect.context.GLOBAL_SETTINGS_CONTEXT = settings  # type: ignore[assignment]
    return before


@contextmanager
def client_settings(**values: Any) -> Iterator[None]:
    """Have API clients in this context set so; `temporary_settings` reads all settings anew."""
    here = prefect.context.get_settings_context()
    client = here.settings.client.model_copy(update=values)
    with SettingsContext(profile=here.profile, settings=here.settings.model_copy(update={"client": client})):
        yield


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
