"""Settings in; clients of Prefect's API that many engines, or the calls of a slot, have in common, out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import prefect.context
from prefect.context import AsyncClientContext, SettingsContext, SyncClientContext
from prefect.settings import PREFECT_API_URL


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


def tls() -> dict[str, Any]:
    """Settings of an API client: no certificates for plain HTTP, since to read them costs as much as five runs."""
    encrypted = (PREFECT_API_URL.value() or "").startswith("https:")
    return {} if encrypted else {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}


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
