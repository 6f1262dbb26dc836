"""Whether who feeds a run lives: a sign in the store, written anew while input is to come, and watched by readers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Thread
from weakref import WeakSet

from starburst_common.errors import NotFound, Refused, RunCancelled, RunStopped, StarburstError
from starburst_common.model import RunId, RunState
from starburst_common.names import RunNames
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.runs.legs import End
from starburst_common.runs.marks import Sign
from starburst_common.runs.patience import Waits, at_exit, patiently
from starburst_common.runs.reasons import DIED
from starburst_common.runs.spec import last_end

_BEATS = 6  #: so many signs are given in the time after which a feeder counts as lost
_LOOKS = 10  #: so many looks are taken in that time by who does nothing but watch
_LEFT = "its process ended while reading its input"


def read_sign(backend: Backend, run: RunId) -> Sign | None:
    """The feeder's sign; None where the input is whole, or nobody feeds."""
    try:
        body = bytes(backend.store.get(RunNames(run).feeding, SMALL_BYTES))
    except NotFound:
        return None
    except Refused:  # another's: it does not change
        body = b""
    return Sign.read(body)


class SignOfLife:
    """A feeder's own, given by a thread of its own: the feeder may be blocked, by its input or by a slow store.

    At each sign it looks whether somebody has ended the run, and then says so and gives no further one.
    """

    def __init__(self, backend: Backend, run: RunId, over: Callable[[], None]) -> None:
        self._backend, self._run, self._tell = backend, run, over
        self._key = RunNames(run).feeding
        self._process = os.getpid()  # a fork of it feeds nobody
        self._over = Event()
        self._thread = Thread(target=self._beat, name=f"starburst-sign-{run}", daemon=True)
        self._end: End | None = None

    def start(self, waits: Waits) -> None:
        """Give the first one, and go on."""
        patiently(self._give, waits)
        self._thread.start()
        _given.add(self)

    def check(self) -> None:
        """Raise `RunCancelled` or `RunStopped` if somebody has ended the run."""
        if self._end is not None:
            kind = RunCancelled if self._end.state is RunState.CANCELLED else RunStopped
            raise kind(f"run {self._run} takes no more input: another process ended it: {self._end.reason}")

    def look(self) -> None:
        """`check`, with a look at the store."""
        self._end = self._end or last_end(self._backend, self._run)
        self.check()

    def stop(self, why: str = "") -> None:
        """No further ones: the input is whole, or no more of it comes, for this reason. Twice is no error."""
        if self._over.is_set() or os.getpid() != self._process:
            return
        self._over.set()
        _given.discard(self)
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(StarburstError, OSError):  # else it is found to be stale
            if why and self._end is None:
                self._backend.store.put(self._key, Sign.of(ended=why).body)
            else:
                self._backend.store.delete([self._key])

    def _give(self) -> None:
        self._backend.store.put(self._key, Sign.of(at=time.time()).body)

    def _beat(self) -> None:
        while not self._over.wait(self._backend.feeder_lost_s / _BEATS):
            with suppress(StarburstError, OSError):  # the next one may do; what a feeder must know its own calls tell
                self._end = last_end(self._backend, self._run)
                if self._end is not None:
                    self._tell()
                    return
                self._give()


class Watch:
    """What a reader knows of a feeder, measured on the reader's own monotonic clock.

    A sign counts as unchanged only while it can be seen: after an outage, or where the reader itself stood still, the
    time begins anew.
    """

    def __init__(self, backend: Backend, run: RunId, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend, self._run, self._clock = backend, run, clock
        self._body: bytes | None = None
        self._since = self._looked = 0.0
        self.moved = False  #: a sign was followed by another one: the feeder lives
        self.unheard_s = 0.0  #: the sign had not changed for so long at the last look
        self.ended = ""  #: why no more input comes, as the feeder said

    def look(self) -> None:
        """Look at the sign. Its input must be looked at after it, before anything is made of that."""
        try:
            sign = read_sign(self._backend, self._run)
        except BaseException:
            self._body = None
            raise
        now = self._clock()
        if sign is None:
            self.ended = DIED
        elif sign.ended:
            self.ended = sign.ended
        else:
            self.moved |= self._body is not None and sign.body != self._body
            if sign.body != self._body or now - self._looked > self._backend.feeder_lost_s:
                self._body, self._since = sign.body, now
            self._looked, self.unheard_s = now, now - self._since

    @property
    def lost(self) -> bool:
        """Whether nobody feeds any more."""
        return bool(self.ended) or self.unheard_s > self._backend.feeder_lost_s


def unfed(backend: Backend, runs: Iterable[RunId]) -> set[RunId]:
    """Those of the runs without an end whose input is not whole and whose feeder is gone: nobody will end them.

    Takes no time where feeders have said so, or still give signs; as long as `Backend.feeder_lost_s`, for all runs
    together, where one died without a word. Also those of which a crash left a sign only, and no run to attach to.
    """
    watches = {run: Watch(backend, run) for run in runs if _open(backend, run)}
    found: set[RunId] = set()
    while watches:
        for run, watch in list(watches.items()):
            watch.look()
            if watch.moved or is_there(backend.store, RunNames(run).input):
                del watches[run]
            elif watch.lost:
                found.add(run)
                del watches[run]
        if watches:
            time.sleep(backend.feeder_lost_s / _LOOKS)
    return found


def _open(backend: Backend, run: RunId) -> bool:
    try:
        return last_end(backend, run) is None
    except Refused:  # damaged, which is not for us to tell
        return False


_given: WeakSet[SignOfLife] = WeakSet()


@at_exit
def _say_so() -> None:
    """Who exits while it feeds says so, and nobody waits for it."""
    for sign in list(_given):
        sign.stop(_LEFT)
