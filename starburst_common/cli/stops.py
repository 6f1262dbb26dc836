"""SIGTERM, of `timeout`, systemd and containers, and SIGHUP, of a closed terminal: Ctrl-C with other exit codes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from stat import S_ISCHR
from types import FrameType

from starburst_common.cli.streams import to_nowhere

_HEARD = (signal.SIGTERM, signal.SIGHUP)
_told: list[int] = []


def hear() -> None:
    """From now on the first raises `KeyboardInterrupt` in the main thread; but one that is ignored or handled."""
    for each in _HEARD:
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, _tell)


def _tell(number: int, frame: FrameType | None) -> None:
    _told.append(number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a shell sends several, and systemd one beside SIGTERM
    if number == signal.SIGHUP:
        _leave_terminal()
    raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Have what is still printed be lost, where the terminal is gone and would refuse it."""
    for number in range(3):
        with suppress(OSError):
            if S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):  # as one that is gone is not any more
                to_nowhere(number)


def exit_code() -> int:
    """Of a command that was interrupted."""
    return 128 + (_told[0] if _told else signal.SIGINT)


def told_to_end() -> bool:
    """Whether one of them came."""
    return bool(_told)
