"""What an item saves of itself in; a message to its supervisor, and what that answers, out."""

from __future__ import annotations

from multiprocessing.connection import Connection
from threading import Lock

from starburst_common.errors import Unavailable
from starburst_worker.board import DRAIN, SlotBoard
from starburst_worker.said import say

KEPT, NONE, FAILED = b"+", b"-", b"!"  #: how an answer to a slot begins


class SlotCheckpoints:
    """In a slot: what its items save goes to the supervisor, which answers."""

    def __init__(self, pipe: Connection, board: SlotBoard) -> None:
        self._pipe, self._board, self._lock = pipe, board, Lock()

    def load(self) -> bytes | None:
        """What the item that is running saved last."""
        return self._asked({"load": self._board.current}, b"")

    def save(self, state: bytes) -> None:
        """Returns once it is stored."""
        self._asked({"save": self._board.current}, state)

    def leaving(self) -> bool:
        """Whether the worker must go."""
        return self._board.ask == DRAIN

    def _asked(self, what: dict[str, int], state: bytes) -> bytes | None:
        with self._lock:
            say(self._pipe.fileno(), what, state)
            answer = self._pipe.recv_bytes()
        if answer[:1] == FAILED:
            raise Unavailable(answer[1:].decode())
        return answer[1:] if answer[:1] == KEPT else None
