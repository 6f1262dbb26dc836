"""What running items print in, where somebody follows; the last of it as an object of the worker's own out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock

from starburst_common.errors import StarburstError
from starburst_common.model import RunId
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.runs.outcomes import Printed, prints_bytes

WRITE_S = 1.0  #: between two writes: so much later another one has another time, on stores that tell whole seconds
_SLOT_CHARS, _MOST_CHARS = 64 << 10, 1 << 20  #: of a run are kept, for each slot and in all
_PIECE_CHARS = 100  #: what a piece costs beside its text


class Prints:
    """The last that items of each run have printed. It may be late, or lost: outcomes have it all."""

    def __init__(self, backend: Backend, worker: str, slots: int, followed: Callable[[RunId], bool]) -> None:
        self._backend, self._worker, self._followed = backend, worker, followed
        self._most = min(_SLOT_CHARS * slots, _MOST_CHARS)
        self._lock = Lock()
        self._lately: dict[RunId, deque[Printed]] = {}
        self._nchars: dict[RunId, int] = {}
        self._fresh: set[RunId] = set()

    def tell(self, run: RunId, prints: Sequence[Printed]) -> None:
        """Take some more."""
        with self._lock:
            lately = self._lately.setdefault(run, deque())
            lately += prints
            nchars = self._nchars.get(run, 0) + sum(map(_cost, prints))
            while nchars > self._most and len(lately) > 1:
                nchars -= _cost(lately.popleft())
            self._nchars[run] = nchars
            self._fresh.add(run)

    def write(self) -> None:
        """Store what has come since, with what came shortly before: who reads now and then misses nothing."""
        with self._lock:
            for run in [run for run in self._lately if not self._followed(run)]:
                self._fresh.discard(run)
                del self._lately[run], self._nchars[run]
            fresh = {run: list(self._lately[run]) for run in self._fresh}
            self._fresh.clear()
        for run, prints in fresh.items():
            key = RunNames(run).printed(self._worker)
            with suppress(StarburstError):  # the next one has it too
                self._backend.store.put(key, prints_bytes(self._backend.key, key, prints))


def _cost(printed: Printed) -> int:
    return len(printed.text) + _PIECE_CHARS
