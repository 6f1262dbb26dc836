"""What a clock offers, so that time can be handed in: the standard library's `time` is one."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time for whoever keeps a run going; a simulator brings one of its own."""

    def monotonic(self) -> float:
        """Seconds on a clock that nobody sets."""

    def time(self) -> float:
        """Seconds since 1970 on the wall clock, which may jump."""

    def sleep(self, seconds: float, /) -> None:
        """Let so much time pass."""
