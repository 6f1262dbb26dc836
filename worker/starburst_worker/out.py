"""Values and failures of a slot's items in; messages to its supervisor out, values batched."""

from __future__ import annotations

import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from starburst_worker.board import SlotBoard
from starburst_worker.said import say
from starburst_worker.transcript import Transcript

FLUSH_S = 0.05
_FLUSH_BYTES = 8 << 20


class Out:
    """What goes back to the supervisor: values batched, failures one by one."""

    def __init__(self, pipe: Connection, board: SlotBoard, transcript: Transcript) -> None:
        from starburst_common.wire.frames import FrameWriter

        self._board, self._transcript = board, transcript
        self._pipe, self._writer = pipe, partial(FrameWriter, checked=True)
        self._lock = threading.Lock()
        self._frame, self._first = self._writer(), 0
        self._logs: dict[int, str] = {}
        self._fresh: list[tuple[int, int, str, bool]] = []  # for who follows
        self._followed = False
        self._before: dict[int, int] = {}  # how much items have printed that are to be tried again
        self._since = time.perf_counter()
        self.left = False

    def value(self, index: int, value: Any) -> None:
        """Pickle a value now, send it soon. Raises what pickling raises, and `Unreadable`."""
        with self._lock:
            if len(self._frame) and index != self._first + len(self._frame):
                self._send()
            if not len(self._frame):
                self._first = index
            self._frame.add(value)
            if self._frame.nbytes > _FLUSH_BYTES or time.perf_counter() - self._since > FLUSH_S:
                self._send()

    def failure(self, fields: dict[str, Any], exception: bytes | None) -> None:
        """Send a failure."""
        with self._lock:
            self._send()
            say(self._pipe.fileno(), {"failure": fields, "pickled": exception is not None}, exception or b"")

    def printed(self, index: int, *, again: bool) -> None:
        """Take what an item has printed, which is to be tried `again` or not."""
        if self._transcript.dirty or index in self._before:
            with self._lock:
                self._follow(index, ended=not again)
                count, text = self._transcript.take()
                self._logs[index] = self._logs.get(index, "") + text
                count += self._before.pop(index, 0)
                if again:
                    self._before[index] = count

    def _follow(self, index: int, *, ended: bool) -> None:
        """Take what an item has printed since, if somebody wants to see it at once."""
        before, self._followed = self._followed, self._board.followed
        if not self._followed:
            return
        if not before:
            self._transcript.follow()
        at, text = self._transcript.fresh()
        if text or ended:
            self._fresh.append((index, self._before.get(index, 0) + at, text, ended))

    def leave(self) -> None:
        """This process is a fork of the slot: it has no part in this."""
        self._pipe.close()
        self.left = True

    def done(self, seconds: float) -> None:
        """Everything that was asked for and allowed has been answered."""
        with self._lock:
            self._send()
            say(self._pipe.fileno(), {"done": seconds})

    def flush(self) -> None:
        """Send what has waited long enough."""
        with self._lock:
            if (index := self._board.current) >= 0 and self._transcript.dirty:
                self._follow(index, ended=False)
            if (len(self._frame) or self._logs or self._fresh) and time.perf_counter() - self._since > FLUSH_S:
                self._send()

    def _send(self) -> None:
        if len(self._frame) or self._logs or self._fresh:
            count = len(self._frame)
            values = b"".join(self._frame.parts()) if count else b""
            told = {"first": self._first, "values": count, "logs": self._logs, "fresh": self._fresh}
            say(self._pipe.fileno(), told, values)
            self._frame, self._logs, self._fresh = self._writer(), {}, []
        self._since = time.perf_counter()
