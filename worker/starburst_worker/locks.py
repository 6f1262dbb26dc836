"""A lock for each key: who holds it asks the store for one thing, and others who want that wait for what comes."""

from __future__ import annotations

from threading import Lock


class Locks:
    """Nobody who asks for one thing waits while the store is asked for another."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._locks: dict[str, Lock] = {}

    def of(self, key: str) -> Lock:
        """Its lock."""
        with self._lock:
            return self._locks.setdefault(key, Lock())
