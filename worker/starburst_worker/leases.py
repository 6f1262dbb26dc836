"""The messages that a worker works on: held, renewed, lost, and told of; given back, or done with."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock

from starburst_common.errors import Unavailable
from starburst_common.ports import Leased, WorkQueue

_log = logging.getLogger("starburst.worker")


class Leases:
    """Of one worker, by their receipts. One that is lost is still held, until its chunk is done with."""

    def __init__(self, queue: WorkQueue, name: str, lease_s: float, *, together: int = 1) -> None:
        """Those that are done with are deleted `together`, so many in a request, and by the next renewal."""
        self._queue, self._name, self._lease_s, self._together = queue, name, lease_s, together
        self._lock = Lock()
        self._done: dict[str, None] = {}  # and not deleted yet: a lease goes on for two renewals after its last one
        self._held: set[str] = set()
        self._lost: set[str] = set()  # those of them whose lease has ended, of which we have told
        self._late = False  # the last renewal failed

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, receipt: str) -> bool:
        return receipt in self._held

    def hold(self, messages: Iterable[Leased]) -> None:
        """We have leased these."""
        with self._lock:
            self._held.update(message.receipt for message in messages)

    def done(self, receipt: str, *, at_once: bool = False) -> None:
        """The message is done with, for good."""
        self._forget(receipt)
        with self._lock:
            self._done[receipt] = None
            enough = len(self._done) >= self._together
        if enough or at_once:
            self._delete()

    def give_back(self, receipt: str, again_s: float = 0.0) -> None:
        """Somebody gets the message again, in so long."""
        self._forget(receipt)
        self._queue.extend(self._name, [receipt], again_s)

    def renew(self) -> None:
        """Hold on to all that are ours, and delete those that are done with."""
        held = self._ours()
        try:
            lost = self._queue.extend(self._name, held, self._lease_s) if held else []
        except Unavailable as error:
            if not self._late:
                _log.warning("could not renew its leases: %s", error)
            self._late = True
            return
        self._late = False
        with suppress(Unavailable):
            self._delete()
        with self._lock:
            lost = [receipt for receipt in lost if receipt in self._held]  # others were done with meanwhile
            self._lost.update(lost)
        if lost:
            _log.warning("lost %d leases: whoever has them now may run their items again", len(lost))

    def let_go(self) -> None:
        """What is left of them, as we go, is somebody else's at once."""
        with suppress(Unavailable):
            self._delete()
            self._queue.extend(self._name, self._ours(), 0)

    def _delete(self) -> None:
        with self._lock:
            done = [*self._done]
        if done:
            self._queue.delete(self._name, done)
            with self._lock:
                for receipt in done:
                    self._done.pop(receipt, None)

    def _ours(self) -> list[str]:
        with self._lock:
            return sorted(self._held - self._lost)

    def _forget(self, receipt: str) -> None:
        with self._lock:
            self._held.discard(receipt)
            self._lost.discard(receipt)
