"""The supervisor's end of a slot: its process, and the ways to talk to it."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from starburst_common.model import Buffer
from starburst_worker.board import Board
from starburst_worker.guard import Guard, Guards
from starburst_worker.memory import oom_kills, peak_mib, resident_mib
from starburst_worker.order import Order
from starburst_worker.said import Ear

SlotMain = Callable[[int, str], None]  #: takes the descriptor and the board of a slot, as `slot.main`
_MOMENT_S = 0.02  #: the kernel, whom to ask takes as long as a short chunk, is asked less often
_ENDING_S = 1.0  #: for a slot that was dismissed


class Seat:
    """A slot, as its supervisor has it."""

    def __init__(self, number: int, scratch: Path, guards: Guards, *, slot: SlotMain | None = None) -> None:
        """In a new process; where it is given what runs in a slot, in one that is forked from this."""
        self._guards = guards
        board_file = scratch / f"slot-{number}-{time.monotonic_ns()}.board"
        self.board = Board(board_file)
        self._socket, theirs = socket.socketpair()
        self._pipe = Connection(os.dup(self._socket.fileno()))
        handle = theirs.detach()
        try:
            if slot is None:
                self._process: Guard = guards.start(handle, board_file)
            else:
                self._process = guards.fork(handle, partial(slot, handle, str(board_file)), self._leave)
        finally:
            os.close(handle)
        self.pid = self._process.pid  #: its guard's, until it has told its own
        self.ear = Ear(self._socket)
        self.ready = False
        self.functions: set[str] = set()  #: that it has
        self.crowded = False  #: it has loaded other versions of the user's modules
        self.closed = False
        self._ooms = 0  # the kernel's count of memory kills when it got its chunk, or a moment before
        self._asked_at, self._peak_mib = -math.inf, 0.0

    def ask(self, order: Order, function: Buffer, frames: Sequence[Buffer]) -> None:
        """Have it run a chunk. Raises `OSError` where it is gone."""
        before, self._asked_at = self._asked_at, time.monotonic()
        if self._asked_at - before > _MOMENT_S:
            self._ooms = oom_kills()
        self._pipe.send_bytes(order.text())
        if order.with_function:
            self._pipe.send_bytes(function)
        if order.lies is None:
            self._pipe.send_bytes(b"".join(frames))
        self.functions.add(order.function)

    def answer(self, answer: bytes) -> None:
        """To what it has asked while it runs a chunk. Raises `OSError` where it is gone."""
        self._pipe.send_bytes(answer)

    @property
    def ended(self) -> bool:
        """Whether its process is gone. Its socket does not tell: what it forked may hold that."""
        return self._process.poll() is not None

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed somebody for memory since it got its chunk."""
        return oom_kills() > self._ooms

    @property
    def rss_mib(self) -> float:
        """Its memory now."""
        return resident_mib(self.pid)

    @property
    def peak_mib(self) -> float:
        """The most that it was when it had last had a chunk for a while."""
        if not self._peak_mib or time.monotonic() - self._asked_at > _MOMENT_S:
            self._peak_mib = peak_mib(self.pid)
        return self._peak_mib

    def dismiss(self) -> None:
        """Let it end by itself: what it has opened is closed, and its functions at exit are called."""
        self._hang_up()

    def close_soon(self) -> None:
        """Close it, once it has had a moment to end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)
        self.close()

    def end(self) -> int:
        """End it with whatever it started, if they have not ended, and give its exit code."""
        return self._guards.end(self._process)

    def close(self) -> int:
        """End it, and what there is of it here; its exit code."""
        code = self.end()
        self._hang_up()
        self.board.close()
        self.closed = True
        return code

    def _hang_up(self) -> None:
        self._pipe.close()
        self._socket.close()

    def _leave(self) -> None:
        """Let go of it in another process, which was forked from its worker's."""
        self._hang_up()
        self.board.leave()
