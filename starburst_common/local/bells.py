"""A bell for each queue, a named pipe: who sends rings, who waits for a message is woken at once.

It is a hint and no more. Who waits looks now and then all the same, and a bell that is not there is not missed.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST = 64  #: who is woken for nothing looks once


class Bells:
    """Those of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hang(self, queue: str) -> None:
        """A queue has one from now on, where the file system can."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            os.mkfifo(self._folder / queue, 0o600)

    def take_down(self, queue: str) -> None:
        """The queue is gone."""
        with suppress(OSError):
            (self._folder / queue).unlink()

    def ring(self, queue: str, messages: int) -> None:
        """Wake as many as there are messages for."""
        with suppress(OSError):  # there is none, nobody waits, or it has rung enough
            bell = os.open(self._folder / queue, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(bell, b"!" * min(messages, _MOST))
            finally:
                os.close(bell)

    @contextmanager
    def heard(self, queue: str) -> Iterator[Callable[[float, float], bool]]:
        """What waits for its ringing, so many seconds, and so many where there is no bell; whether it has rung."""
        bell = -1
        with suppress(OSError):
            bell = os.open(self._folder / queue, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # it never ends for a writer
        poll = select.poll()
        if bell >= 0:
            poll.register(bell, select.POLLIN)

        def rang(seconds: float, without_s: float) -> bool:
            if not poll.poll(1000 * (seconds if bell >= 0 else without_s)):
                return False
            with suppress(BlockingIOError):  # another has heard it
                os.read(bell, 1)
            return True

        try:
            yield rang
        finally:
            if bell >= 0:
                os.close(bell)
