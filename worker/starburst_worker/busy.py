"""How many of a worker's slots are at work, and for how long it has had nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Busy:
    """Slots begin and end in threads of their own; another one waits for what that changes."""

    def __init__(self) -> None:
        self.slots = 0
        self._idle_since = time.monotonic()
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """One slot, while the block lasts."""
        with self._changed:
            self.slots += 1
        try:
            yield
        finally:
            with self._changed:
                self.slots -= 1
                self._idle_since = time.monotonic()
                self._changed.notify()

    def idle_s(self) -> float:
        """How long ago a slot was at work, where none is."""
        return time.monotonic() - self._idle_since

    def wait(self) -> None:
        """Return when a slot has ended, or after a moment."""
        with self._changed:
            self._changed.wait(0.05)
