"""Calls whose answers are owed, as all threads of an executor see them: waiting or sent, and whether more may come.

In memory, and nothing here asks anybody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from typing import Any

from starburst_common.futures.functions import Snapshot
from starburst_common.phrases import our_log
from starburst_common.pickling.raised import named

_log = our_log()
_WAITING_BYTES = 256 << 20  #: of functions wait to be sent; what is beyond is pickled when its turn comes, as in a pool


class Call(Future[Any]):
    """A future that whoever holds it may have set, and that can be taken back after it was sent."""

    def begins(self) -> bool:
        """Whether it is to be sent: it is running then. Else it was cancelled, or is set."""
        return (self.cancelled() or not self.done()) and self.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Done so, unless it was cancelled, or is set; what its callbacks raise stops nobody."""
        try:
            if self.running() or self.begins():
                self.set_exception(error)
        except BaseException as raised:  # a callback raised SystemExit, or it was set meanwhile
            _log.error("the future of a call that failed: %s", named(raised))

    def withdrawn(self) -> None:
        """It never began: cancelled, as one that was not sent."""
        with self._condition:
            self._state = "PENDING"
        self.cancel()
        self.set_running_or_notify_cancel()


@dataclass(frozen=True, slots=True, eq=False)
class WaitingCall:
    """A call that is to be sent."""

    future: Call
    function: Snapshot
    arguments: tuple[tuple[Any, ...], dict[str, Any]]


class Owed:
    """One executor's. Fields are read with `moved` held where more than one of them must fit."""

    def __init__(self) -> None:
        self.moved = threading.Condition()  #: notified when anything below moves
        self.waiting: deque[WaitingCall] = deque()
        self.sent: dict[int, Call] = {}  #: by the number of their item
        self.unwanted: list[Callable[[Call], bool]] = []  #: which of what is sent is to be withdrawn
        self.shut = False  #: no more are submitted
        self.broken = ""  #: why none can be sent or answered any more
        self.over = False  #: none is left to be answered
        self._waiting_bytes = 0

    @property
    def crowded(self) -> bool:
        """Whether functions of which calls wait take so much that no more are to be pickled ahead."""
        return self._waiting_bytes > _WAITING_BYTES

    def add(self, call: WaitingCall) -> None:
        """One more that waits."""
        with self.moved:
            self.waiting.append(call)
            self._counted(call.function, 1)
            self.moved.notify_all()

    def take(self, most: int | None = None) -> deque[WaitingCall]:
        """The first of those that wait, which do so no more; all, if `most` is None."""
        with self.moved:
            count = len(self.waiting) if most is None else min(most, len(self.waiting))
            taken = deque(self.waiting.popleft() for _ in range(count))
            for call in taken:
                self._counted(call.function, -1)
        return taken

    def give_back(self, taken: deque[WaitingCall]) -> None:
        """These wait again, as the first."""
        with self.moved:
            self.waiting.extendleft(reversed(taken))
            for call in taken:
                self._counted(call.function, 1)

    def _counted(self, function: Snapshot, calls: int) -> None:
        was, function.waiting = function.waiting, function.waiting + calls
        self._waiting_bytes += function.size * ((function.waiting > 0) - (was > 0))

    def withdraw(self, unwanted: Callable[[Call], bool]) -> None:
        """Such calls are not wanted any more, where they were sent."""
        with self.moved:
            self.unwanted.append(unwanted)
            self.moved.notify_all()

    def no_longer_wanted(self) -> set[int]:
        """What was sent and is not wanted any more, of all that is newly said so."""
        with self.moved:
            unwanted, self.unwanted = self.unwanted, []
        if not unwanted:
            return set()
        return {index for index, call in list(self.sent.items()) if any(is_unwanted(call) for is_unwanted in unwanted)}

    def shut_down(self) -> list[Call]:
        """No more are submitted; those that wait."""
        with self.moved:
            self.shut = True
            self.moved.notify_all()
            return [call.future for call in self.waiting]

    def end(self, why: str) -> None:
        """No more is answered; it is broken, for this reason, where more is owed or may be submitted."""
        with self.moved:
            self.over = True
            if self.sent or self.waiting or not self.shut:
                self.broken = f"the executor cannot go on: {why}"
            self.moved.notify_all()

    def fail(self) -> None:
        """All that is owed fails, since it is broken."""
        for future in [*self.sent.values(), *(call.future for call in self.take())]:
            future.fail(BrokenExecutor(self.broken))
        self.sent.clear()
