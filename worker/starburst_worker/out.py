"""Values and failures of a slot's items in; messages to its supervisor out, values batched."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starburst_common.model import Buffer, FailureKind
from starburst_worker.board import GO, SlotBoard
from starburst_worker.failed import failure_of, unpicklable
from starburst_worker.said import say
from starburst_worker.transcript import Transcript

if TYPE_CHECKING:
    from starburst_common.data.values import ValuesWriter
    from starburst_common.wire.frames import FrameWriter

FLUSH_S = 0.05
_FLUSH_BYTES = 8 << 20


class Out:
    """What goes back to the supervisor: values batched, failures one by one."""

    def __init__(self, pipe: Connection, board: SlotBoard, transcript: Transcript) -> None:
        from starburst_common.wire.frames import FrameWriter

        self._board, self.transcript = board, transcript
        self._pipe, self._plain = pipe, partial(FrameWriter, checked=True)
        self._lock = threading.Lock()
        self._files, self._gather_s = (
            "",
            0.0,
        )  # where values are written, if they are, and for how long they are gathered
        self._frame: FrameWriter | ValuesWriter = self._plain()
        self._first, self._gathered_at = 0, 0.0
        self._next = -1  # the item whose value goes to the same frame, if that has any
        self._logs: dict[int, str] = {}
        self._fresh: list[tuple[int, int, str, bool]] = []  # for who follows
        self._followed = False
        self.before: dict[int, int] = {}  #: how much items have printed that are to be tried again
        self._since = time.perf_counter()
        self.left = False

    def begin(self, files: str, gather_s: float) -> None:
        """The next chunk's values are written to files of this pattern, if there is one, after so many seconds each."""
        self._files, self._gather_s = files, gather_s

    def value(self, index: int, value: Any) -> None:
        """Pickle a value now, send it soon; one that cannot be is its item's failure."""
        try:
            with self._lock:
                if index != self._next:
                    self._turn_to(index)
                self._frame.add(value)
                self._next = index + 1
                if self._frame.nbytes > _FLUSH_BYTES:
                    self._send_if_due()
        except BaseException as error:  # of the user's own code, which may well raise SystemExit
            self.failure(*unpicklable(index, value, error))

    def _turn_to(self, index: int) -> None:
        """A frame has values of consecutive items."""
        if len(self._frame):
            self._send()
        self._first, self._gathered_at = index, time.perf_counter()
        if self._files:
            self._frame = self._to_file(index)

    def failure(self, fields: dict[str, Any], exception: bytes | None) -> None:
        """Send a failure."""
        with self._lock:
            self._send()
            say(self._pipe.fileno(), {"failure": fields, "pickled": exception is not None}, exception or b"")

    def printed(self, index: int, *, again: bool) -> None:
        """Take what an item has printed, if it has, which is to be tried `again` or not."""
        if not (self.transcript.dirty or (self.before and index in self.before)):
            return
        with self._lock:
            self._follow(index, ended=not again)
            count, text = self.transcript.take()
            self._logs[index] = self._logs.get(index, "") + text
            count += self.before.pop(index, 0)
            if again:
                self.before[index] = count

    def _follow(self, index: int, *, ended: bool) -> None:
        """Take what an item has printed since, if somebody wants to see it at once."""
        before, self._followed = self._followed, self._board.followed
        if not self._followed:
            return
        if not before:
            self.transcript.follow()
        at, text = self.transcript.fresh()
        if text or ended:
            self._fresh.append((index, self.before.get(index, 0) + at, text, ended))

    def leave(self) -> None:
        """This process is a fork of the slot: it has no part in this."""
        self._pipe.close()
        self.left = True

    def done(self, seconds: float) -> None:
        """Everything that was asked for and allowed has been answered."""
        with self._lock:
            if not self._send(done={"done": seconds}):
                say(self._pipe.fileno(), {"done": seconds})

    def flush(self) -> None:
        """Send what has waited long enough."""
        with self._lock:
            if (index := self._board.current) >= 0 and self.transcript.dirty:
                self._follow(index, ended=False)
            if time.perf_counter() - self._since > FLUSH_S:
                self._send_if_due()

    def _to_file(self, first: int) -> ValuesWriter:
        from starburst_common.data.values import ValuesWriter

        return ValuesWriter(self._files, first)

    def _send_if_due(self) -> None:
        """Values that are written to a file are gathered for longer, unless nothing new is to be begun."""
        gathers = bool(self._files) and self._board.ask == GO and self._frame.nbytes <= _FLUSH_BYTES
        self._send(values=not gathers or time.perf_counter() - self._gathered_at > self._gather_s)

    def _send(self, *, values: bool = True, done: Mapping[str, float] = MappingProxyType({})) -> bool:
        """What there is, if there is something; whether there was."""
        there = (values and len(self._frame) > 0) or bool(self._logs or self._fresh)
        if there:
            count, frame = (len(self._frame), self._framed()) if values else (0, ())
            told = {"first": self._first, "values": count if frame else 0, "logs": self._logs, "fresh": self._fresh}
            nbytes, self.transcript.nbytes = self.transcript.nbytes, 0
            say(self._pipe.fileno(), {**told, "logged": nbytes, **done}, frame)
            self._logs, self._fresh = {}, []
            if values:
                self._frame, self._next = self._plain(), -1
        self._since = time.perf_counter()
        return there

    def _framed(self) -> Sequence[Buffer]:
        """The values as a frame, in parts; where they cannot be written, none, and failures of their items."""
        count = len(self._frame)
        try:
            return self._frame.parts() if count else ()
        except Exception as error:  # of who may not write there, or of values that are no table
            for index in range(self._first, self._first + count):
                fields, exception = failure_of(index, error, kind=FailureKind.USER)
                say(self._pipe.fileno(), {"failure": fields, "pickled": exception is not None}, exception or b"")
            return ()
