"""The time: as it is, until somebody moves it ahead or lets it stand still."""

from __future__ import annotations

import time


class Clock:
    """Runs as the real one, jumps ahead when told, and never goes back but by `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As the real one again."""
        self._ahead_s = 0.0
        self._stopped_at: float | None = None

    def monotonic(self) -> float:
        """In place of `time.monotonic`."""
        return (time.monotonic() if self._stopped_at is None else self._stopped_at) + self._ahead_s

    def time(self) -> float:
        """In place of `time.time`."""
        return time.time() - time.monotonic() + self.monotonic()

    def elapse(self, seconds: float) -> None:
        """Jump ahead."""
        self._ahead_s += seconds

    def stop(self) -> None:
        """Stand still from now on, but for jumps: for rates, of which else a slow machine gets more."""
        self._stopped_at = time.monotonic()


#: Of the services of this process: one process is one AWS, as it is to moto.
CLOCK = Clock()
