"""Prefect's events worker in; events that are taken away from it, made elsewhere, or handed to it together, out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context, copy_context
from types import SimpleNamespace

from prefect._internal.concurrency.threads import get_global_loop
from prefect.events import Event
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker

from prefect_starburst.internals.clients import client_settings, client_to_share, share_client, tls


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
