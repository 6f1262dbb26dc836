"""SIGTERM and SIGINT in, a descriptor that becomes readable out: a handler may touch no lock."""

from __future__ import annotations

import os
import select
import signal


class Signals:
    """Of this process, from when they are `heard`. The main thread waits for them, others may wake it."""

    def __init__(self) -> None:
        self.told = False  #: to go
        self._reader = self._waker = -1

    def hear(self) -> None:
        """From now on they do not end this process, but tell it."""
        self._reader, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker)

        def told(*_: object) -> None:
            self.told = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)

    def wait(self, seconds: float) -> None:
        """Return then, or as soon as something is told."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 512)

    def wake(self) -> None:
        """End the main thread's wait."""
        if self._waker >= 0:
            os.write(self._waker, b"!")
