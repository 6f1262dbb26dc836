"""A call that an outage may meet in, the same call again out, for as long as that is worth it."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from starburst_common.errors import Exists, NotFound, Refused, Unavailable
from starburst_common.model import Buffer
from starburst_common.phrases import duration
from starburst_common.ports import ObjectStore

_log = logging.getLogger("starburst")
CLOSE_S = 30.0  #: who ends a run, or a fleet, or has a last answer, waits so long for that end at most
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.05, 1.0
_T = TypeVar("_T")

#: Told of an outage at each failed try, and raises what ends the waiting; told None once it is over.
Waits = Callable[[OSError | None], None]


@dataclass(slots=True)
class WaitsFor:
    """What a run may wait for, each in words; empty where for nothing."""

    space: str = ""  #: a worker has none for its answers
    launch: str = ""  #: what the last launch was told
    feed: str = ""  #: the outage that whoever feeds it here waits for
    outage: str = ""  #: the one that its driver waits for
    outage_at: float = 0.0  #: since when it does, on its clock
    dead: str = ""  #: messages that no worker could read or finish

    def meets(self, error: OSError, now: float, most_s: float) -> None:
        """Its driver an outage, or the same one again; raises one that has lasted for longer."""
        self.outage_at = self.outage_at if self.outage else now
        if (lasts_s := now - self.outage_at) > most_s:
            how = f"given up after {duration(lasts_s)} of an outage; `starburst attach` goes on with the run"
            raise Unavailable(f"{how}: {error}") from error
        self.outage = str(error)

    def __str__(self) -> str:
        return self.outage or self.space or self.launch or self.feed or self.dead


def patiently(call: Callable[[], _T], waits: Waits) -> _T:
    """What the call gives, once no outage meets it any more. The call must be safe to do twice."""
    pause_s = 0.0
    while True:
        try:
            value = call()
        except OSError as error:
            waits(error)
            pause_s = min(2 * pause_s or _FIRST_PAUSE_S, _MOST_PAUSE_S)
            time.sleep(pause_s)
        else:
            if pause_s:
                waits(None)
            return value


def raised(error: OSError | None) -> None:
    """Wait for no outage."""
    if error is not None:
        raise error


def bounded(what: str, seconds: float) -> Waits:
    """Wait out an outage, but none that lasts longer: that one is raised."""
    since: float | None = None

    def waits(error: OSError | None) -> None:
        nonlocal since
        if error is None:
            _log.warning("%s: goes on", what)
            since = None
        elif since is None:
            _log.warning("%s: waiting for %s", what, error)
            since = time.monotonic()
        elif time.monotonic() - since > seconds:
            raise error

    return waits


def at_exit(call: Callable[[], None]) -> Callable[[], None]:
    """Have the interpreter make a call at its end, which may wait: Ctrl-C ends that, and nothing is printed of it."""

    def made() -> None:
        with suppress(KeyboardInterrupt, SystemExit):
            call()

    atexit.register(made)
    return call


def create_ours(store: ObjectStore, key: str, body: Buffer | Sequence[Buffer]) -> None:
    """`create` that may be tried again: these very bytes, where they are there, were written by an earlier try.

    Raises `Exists` if the key is taken by others.
    """
    try:
        store.create(key, body)
    except Exists:
        ours = body if isinstance(body, bytes | bytearray | memoryview) else b"".join(body)
        try:
            found = store.get(key, most=len(ours))
        except (NotFound, Refused):
            found = b""
        if found != ours:
            raise
