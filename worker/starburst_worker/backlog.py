"""Jobs in, done one after another: all that is still to be stored, sent and deleted."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from starburst_common.errors import Unavailable

Job = Callable[[], object]

_log = logging.getLogger("starburst.worker")
_T = TypeVar("_T")

_PATIENCE_S = 900.0
_AGAIN_S = 2.0


def persistently(call: Callable[[], _T]) -> _T:
    """Make a call, again and again while its service is not to be had: for a quarter of an hour, not for ever."""
    since = time.monotonic()
    while True:
        try:
            return call()
        except Unavailable as error:
            if time.monotonic() - since > _PATIENCE_S:
                raise
            _log.warning("trying again: %s", error)
            time.sleep(_AGAIN_S)


class Backlog:
    """What is still to be stored, sent and deleted, in its order. It takes whatever comes, and says when it is full."""

    def __init__(self, *, jobs: int, nbytes: int) -> None:
        self._most_jobs, self._most_nbytes = jobs, nbytes
        self._jobs: deque[tuple[Job | None, int]] = deque()
        self._nbytes = 0  # of all jobs, and of the one that is being done
        self._doing = 0
        self._moved = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job | None, nbytes: int = 0) -> None:
        """One more, which keeps so much in memory until it is done; None is the last."""
        with self._moved:
            self._jobs.append((job, nbytes))
            self._nbytes += nbytes
            self._moved.notify_all()

    def get(self) -> Job | None:
        """The next one, once there is one; the one before it is done."""
        with self._moved:
            self._nbytes -= self._doing
            self._doing = 0
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._jobs)
            job, self._doing = self._jobs.popleft()
            return job

    def full(self) -> bool:
        """Whether nobody should begin what will make more of them."""
        with self._moved:
            return self._is_full()

    def _is_full(self) -> bool:
        return len(self._jobs) >= self._most_jobs or self._nbytes >= self._most_nbytes

    def wait_for_room(self, unless: threading.Event) -> None:
        """Return when it is not full, or soon after something is said."""
        with self._moved:
            while self._is_full() and not unless.is_set():
                self._moved.wait(0.2)
