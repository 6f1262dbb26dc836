"""What may end a worker in; whether it is to end, how soon, and with which exit code out."""

from __future__ import annotations

import logging
import threading
import time

from starburst_common.errors import Denied, UnknownVersion
from starburst_common.wire.seals import DENIED_EXIT, TAKEN_EXIT, misfit_exit
from starburst_worker.signals import Signals

_log = logging.getLogger("starburst.worker")

EXIT_IDLE, EXIT_DRAINED, EXIT_BROKEN = 0, 143, 1


def broken_exit(error: BaseException) -> int:
    """What tells that a worker could not go on, once its log has said why."""
    if isinstance(error, Denied):
        from starburst_common.aws.refusals import role_lacks  # only AWS denies

        _log.error("stopped: %s", role_lacks(str(error)))
        return DENIED_EXIT
    _log.error("stopped: %s", error)
    return EXIT_BROKEN


class Ending:
    """Of one worker, which lives so long at most."""

    def __init__(self, lifetime_s: float) -> None:
        self.signals = Signals()
        self.stop = threading.Event()  #: no more work; what is under way ends in good order
        self.drain = threading.Event()  #: and at once
        self.misfit: UnknownVersion | None = None  #: its work speaks another wire version than it does
        self.taken = False  #: its instance is taken back
        self._broken: BaseException | None = None
        self._lifetime_s, self._born = lifetime_s, time.monotonic()

    def left_s(self) -> float:
        """How much of its lifetime is left."""
        return self._born + self._lifetime_s - time.monotonic()

    def oversee(self) -> None:
        """Obey what was told, and stop past its lifetime."""
        if self.signals.told:
            self.drain.set()
            self.stop.set()
        elif self.left_s() < 0 and not self.stop.is_set():
            _log.info("past its lifetime of %g s: stopping after the current chunks", self._lifetime_s)
            self.stop.set()

    def ask(self) -> None:
        """Ask the main thread to stop, now."""
        self.stop.set()
        self.signals.wake()

    def leave(self) -> None:
        """Stop as one that was told to go, which is no worker that ended for nothing."""
        self.drain.set()
        self.ask()

    def take_back(self) -> None:
        """Its instance goes, in two minutes."""
        self.taken = True
        self.leave()

    def broke(self, error: BaseException) -> None:
        """One of its threads failed; what others then fail of is no news."""
        if self._broken is None:
            self._broken = error
        self.drain.set()
        self.ask()

    @property
    def is_broken(self) -> bool:
        """Whether one has."""
        return self._broken is not None

    def exit_code(self) -> int:
        """What tells whoever launched it why it ended."""
        if self.misfit is not None:
            _log.error("stopped: %s", self.misfit)
            return misfit_exit()
        if self._broken is not None:
            return broken_exit(self._broken)
        if self.taken:
            return TAKEN_EXIT
        return EXIT_DRAINED if self.drain.is_set() else EXIT_IDLE
