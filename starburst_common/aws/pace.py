"""How fast AWS lets us call: token buckets, kept on our side so that it need not refuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Bucket:
    """Tokens that come back at a steady rate, up to a burst.

    >>> now = [0.0]
    >>> bucket = Bucket(burst=100, each_s=20, clock=lambda: now[0])
    >>> bucket.take(70), bucket.take(70)
    (70, 30)
    >>> now[0] = 2.0
    >>> bucket.take(70)
    40
    """

    def __init__(self, *, burst: int, each_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._each_s, self._clock = burst, each_s, clock
        self._lock = Lock()
        self._tokens, self._at = float(burst), clock()

    def take(self, most: int) -> int:
        """Up to so many tokens: those that are there."""
        with self._lock:
            self._refill()
            taken = min(most, int(self._tokens))
            self._tokens -= taken
            return taken

    def give_back(self, tokens: int) -> None:
        """Return what was taken and not used."""
        with self._lock:
            self._tokens = min(self._burst, self._tokens + tokens)

    def wait(self) -> None:
        """Take one, as soon as it is there."""
        while not self.take(1):
            time.sleep(1 / self._each_s)

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._each_s)
        self._at = now
