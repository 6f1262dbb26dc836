"""What a worker knows of the runs it serves: whether they go on, and how to call their functions."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from starburst_common.code.shared import mapped
from starburst_common.code.unpack import unpack_bundle
from starburst_common.errors import NotFound, Unavailable
from starburst_common.latest import let_go
from starburst_common.model import RunId, Span
from starburst_common.names import RunNames, code_key, shared_key
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.runs.inputs import Function
from starburst_common.runs.records import Spec
from starburst_common.runs.renumbered import Numbers, numbers_of
from starburst_common.runs.sharing import checked, period_of
from starburst_common.runs.stored import FOLLOWED_S, withdrawn_items
from starburst_common.trust import owner_only
from starburst_worker.order import FUNCTIONS_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFunction:
    """A function that was fetched, with the folder of the user's own modules that travel with it, if any do."""

    key: str
    stored: Function
    modules: str | None

    @property
    def nbytes(self) -> int:
        """What it takes here."""
        return len(self.stored.blob)


@dataclass(slots=True, kw_only=True)
class KnownRun:
    """A run as this worker sees it."""

    spec: Spec
    numbers: Numbers | None = None  #: by which its items have their seeds, where those are not their own
    leg: int  #: the last one when we met it; whoever resumes it has another fleet
    over: bool
    looked_at: float
    withdrawn: tuple[Span, ...] = ()  #: items that are not to begin any more
    asked_at: float = -math.inf  #: when that was last looked for
    mark: float | None = None  #: when the mark of whoever follows it was written, on the store's clock
    marked_at: float = -math.inf  #: when we met that mark
    sought_at: float = -math.inf  #: when we last looked for one
    unfit: str = ""  #: why this worker cannot serve it

    @property
    def followed(self) -> bool:
        """Whether somebody wants to see at once what its items print."""
        return time.monotonic() - self.marked_at < FOLLOWED_S


class Runs:
    """A cache over the store, shared by the threads of one worker.

    Its lock is for its dictionaries only: nobody who asks for one thing waits while the store is asked for another.
    """

    def __init__(self, backend: Backend, scratch: Path, look_every_s: float) -> None:
        self._backend, self._scratch, self._look_every_s = backend, scratch, look_every_s
        self._lock = Lock()
        self._known: dict[RunId, KnownRun] = {}
        self.sweeps = False  #: calls that are withdrawn may wait in the queue
        self._functions: dict[str, KnownFunction] = {}  # in the order of their last use
        self._periods: dict[RunId, str] = {}
        self._shared: dict[str, tuple[str, list[str]]] = {}  # where they lie, and what they refer to
        self._fetching: dict[str, Lock] = {}  # by key: whoever holds it is fetching, others wait for what that brings

    def run(self, run: RunId) -> KnownRun | None:
        """The run, looked at anew every so often; None when it is not there any more."""
        names = RunNames(run)
        with self._turn(names.spec):
            if (known := self._known.get(run)) is not None:
                self._look(RunNames(run, known.leg), known)
                return known
            try:
                spec = self._spec(names)
                seeded = spec.parent is not None and spec.terms.seed is not None
                numbers = numbers_of(self._backend, run) if seeded else None
            except NotFound:
                return None
            store = self._backend.store
            while is_there(store, names.end) and is_there(store, (later := RunNames(run, names.leg + 1)).resumed):
                names = later
            known = KnownRun(
                spec=spec,
                numbers=numbers,
                leg=names.leg,
                over=self._over(names),
                looked_at=time.monotonic(),
                unfit=_unfit(spec),
            )
            self._known[run] = known
            return known

    def look_on(self, runs: Iterable[tuple[RunId, bool]]) -> None:
        """Look anew at runs that are being served, and whose items are an executor's calls or not."""
        for run, calls in runs:
            with suppress(Unavailable):  # it is looked at again
                if (known := self.run(run)) is not None:
                    self.look_followed(run, known)
                    if calls:
                        self.look_withdrawn(run, known)

    def look_withdrawn(self, run: RunId, known: KnownRun) -> None:
        """Look, now and then, which of an executor's calls it has withdrawn: other runs' items never are."""
        if time.monotonic() - known.asked_at > self._backend.tick_s:
            known.asked_at = time.monotonic()
            before, known.withdrawn = known.withdrawn, withdrawn_items(self._backend, run)
            self.sweeps = self.sweeps or known.withdrawn != before

    def look_followed(self, run: RunId, known: KnownRun) -> None:
        """Look, now and then, whether somebody follows it. On AWS every 10 s: of 70 workers for a cent an hour."""
        if (now := time.monotonic()) - known.sought_at > 2 * self._backend.tick_s:
            known.sought_at = now
            mark = None
            with suppress(NotFound):
                mark = self._backend.store.written_at(RunNames(run).followed)
            if mark != known.mark:
                known.mark, known.marked_at = mark, -math.inf if mark is None else now

    def followed(self, run: RunId) -> bool:
        """Whether somebody wants to see at once what its items print."""
        known = self._known.get(run)
        return known is not None and known.followed

    def over(self, run: RunId) -> bool:
        """Whether nobody wants its items any more, looked at now."""
        return self._over(RunNames(run, self.leg(run)))

    def leg(self, run: RunId) -> int:
        """In which leg it is served here."""
        known = self._known.get(run)
        return 0 if known is None else known.leg

    def _spec(self, names: RunNames) -> Spec:
        return Spec.read(self._backend.key, names.spec, names.run, self._backend.store.get(names.spec, SMALL_BYTES))

    def _look(self, names: RunNames, known: KnownRun) -> None:
        if not known.over and time.monotonic() - known.looked_at > self._look_every_s:
            known.over = self._over(names)
            known.looked_at = time.monotonic()

    def function(self, key: str) -> KnownFunction:
        """A function and the modules it needs. Raises `Refused` unless we signed both."""
        with self._turn(key):
            with self._lock:
                if (found := self._functions.pop(key, None)) is not None:
                    self._functions[key] = found
            if found is not None:
                return found
            stored = Function.read(self._backend.key, key, self._backend.store.get(key))
            modules = None if stored.bundle is None else str(self._unpacked(key, stored.bundle))
            function = KnownFunction(key=key, stored=stored, modules=modules)
            with self._lock:
                self._functions[key] = function
                let_go(self._functions, FUNCTIONS_BYTES)
            return function

    def files(self, run: RunId, digest: str) -> Path | None:
        """The folder of the files that were sent for a run's items, if any were. Raises `Refused` and `NotFound`."""
        return self._unpack(RunNames(run).files(digest), f"files-{digest}") if digest else None

    def shared(self, run: RunId, digests: Iterable[str]) -> dict[str, str]:
        """Where the shared values that a run's items refer to lie here, with those that they do.

        Their seals are checked once. Raises `Refused`. What is not there is left out: whoever asks for it is told.
        """
        found: dict[str, str] = {}
        waiting = [*digests]
        while waiting:
            if (digest := waiting.pop()) not in found:
                with suppress(NotFound):
                    found[digest], more = self._shared_at(run, digest)
                    waiting += more
        return found

    def _shared_at(self, run: RunId, digest: str) -> tuple[str, list[str]]:
        with self._turn(RunNames(run).shared):
            if run not in self._periods:
                self._periods[run] = period_of(self._backend, run)
        key = shared_key(self._periods[run], digest)
        with self._turn(key):
            if (known := self._shared.get(key)) is None:
                self._shared[key] = known = self._fetched(key, self._scratch / f"shared-{digest}")
            return known

    def _fetched(self, key: str, place: Path) -> tuple[str, list[str]]:
        """Where the store is files, there is nothing to fetch."""
        if (there := self._backend.store.file(key)) is not None:
            return str(there), checked(self._backend, key, mapped(there))
        body = self._backend.store.get(key)
        refers = checked(self._backend, key, body)
        place.unlink(missing_ok=True)  # a full disk may have left a part of it
        with open(place, "xb", opener=owner_only) as out:
            out.write(body)
        return str(place), refers

    def _unpacked(self, function: str, bundle: str) -> Path:
        return self._unpack(code_key(function, bundle), f"code-{bundle}")

    def _unpack(self, key: str, name: str) -> Path:
        folder = self._scratch / name
        with self._turn(folder.name):
            if not folder.exists():
                unpack_bundle(self._backend, key, folder)
        return folder

    def _turn(self, key: str) -> Lock:
        with self._lock:
            return self._fetching.setdefault(key, Lock())

    def _over(self, names: RunNames) -> bool:
        """Whether it has ended, is cancelled (who said so may have died before it could end it), or was removed."""
        store = self._backend.store
        return is_there(store, names.end) or is_there(store, names.cancel) or not is_there(store, names.spec)


def _unfit(spec: Spec) -> str:
    wanted, have = spec.python, sys.version_info[:2]
    if wanted == have:
        return ""
    return (
        f"the run was started with Python {wanted[0]}.{wanted[1]}, this worker has {have[0]}.{have[1]}: "
        f"leave `image` out, so that one for Python {wanted[0]}.{wanted[1]} is made, or start the run from Python "
        f"{have[0]}.{have[1]}"
    )
