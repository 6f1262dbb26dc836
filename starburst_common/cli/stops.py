"""SIGTERM, as `timeout`, systemd and containers send it: what Ctrl-C does, with an exit code of its own."""

from __future__ import annotations

import signal
from types import FrameType

_told: list[int] = []


def hear() -> None:
    """From now on the first SIGTERM raises `KeyboardInterrupt` in the main thread; unless it is ignored or handled."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _tell)


def _tell(number: int, frame: FrameType | None) -> None:
    _told.append(number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise KeyboardInterrupt


def exit_code() -> int:
    """Of a command that was interrupted."""
    return 143 if _told else 130


def told_to_end() -> bool:
    """Whether SIGTERM came."""
    return bool(_told)
