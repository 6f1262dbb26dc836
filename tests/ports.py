"""Real ports with something before or around each call: counted, slow, or not to be had."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starburst_common.ports import Backend


class Port:
    """A port as it is, but that `before` is called with each method's name and its first argument."""

    def __init__(self, real: Any, before: Callable[[str, Any], None]) -> None:
        self._real, self._before = real, before

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._real, method)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(method, args[0] if args else None)
            return real(*args, **kwargs)

        return call


def counting(backend: Backend) -> tuple[Backend, Counter[str]]:
    """The backend, and how often each of its methods is called."""
    calls: Counter[str] = Counter()

    def before(method: str, first: Any) -> None:
        calls[method] += 1

    ports = {name: Port(getattr(backend, name), before) for name in ("store", "queue", "compute")}
    return replace(backend, **ports), calls


def slow_to_write(backend: Backend, *keys: str, seconds: float, tell: bool = False) -> Backend:
    """The backend; writes of keys that end so take a while, and are told on stdout when they begin."""

    def before(method: str, first: Any) -> None:
        if method in ("create", "put") and str(first).endswith(keys):
            if tell:
                print(f"writes {first}", flush=True)
            time.sleep(seconds)

    return replace(backend, store=Port(backend.store, before))
