"""What a worker knows of the runs it serves: what was asked, whether they go on, and who drives or follows them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from starburst_common.errors import NotFound, Unavailable
from starburst_common.limits import NO_LIMITS
from starburst_common.model import RunId, Span
from starburst_common.names import RunNames
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.runs.driven import Driven
from starburst_common.runs.records import Spec
from starburst_common.runs.renumbered import Numbers, numbers_of
from starburst_common.runs.stored import FOLLOWED_S, read_until, withdrawn_items
from starburst_worker.locks import Locks


@dataclass(slots=True, kw_only=True)
class KnownRun:
    """A run as this worker sees it."""

    spec: Spec
    numbers: Numbers | None = None  #: by which its items have their seeds, where those are not their own
    leg: int  #: the last one when we met it; whoever resumes it has another fleet
    over: bool
    looked_at: float
    driven: Driven | None = None  #: by whom, where it is to stop without
    withdrawn: tuple[Span, ...] = ()  #: items that are not to begin any more
    asked_at: float = -math.inf  #: when that was last looked for
    mark: float | None = None  #: when the mark of whoever follows it was written, on the store's clock
    marked_at: float = -math.inf  #: when we met that mark
    sought_at: float = -math.inf  #: when we last looked for one
    unfit: str = ""  #: why this worker cannot serve it
    until: float = math.inf  #: its workers stop then, by its deadline or since its budget is spent (wall clock)
    until_at: float = -math.inf  #: when that was last looked for
    item_s: float = 0.0  #: how long an item has taken here, last

    @property
    def lost(self) -> bool:
        """Whether it is to stop here: nobody drives it any more, or its time or its money is over."""
        return (self.driven is not None and self.driven.lost) or self.left_s <= 0

    @property
    def left_s(self) -> float:
        """For how long it may go on."""
        return self.until - time.time() if self.until < math.inf else math.inf

    @property
    def leaving(self) -> bool:
        """Whether nothing more of it is to begin here: an item would not end in time."""
        return self.lost or self.left_s < self.item_s

    @property
    def followed(self) -> bool:
        """Whether somebody wants to see at once what its items print."""
        return time.monotonic() - self.marked_at < FOLLOWED_S


class KnownRuns:
    """Those that one worker has met; its threads share what the store says of them."""

    def __init__(self, backend: Backend, look_every_s: float, memory_mib: int | None = None) -> None:
        """`memory_mib` is what the worker has; None where nothing is a limit to it."""
        self._backend, self._look_every_s, self._memory_mib = backend, look_every_s, memory_mib
        self._locks = Locks()
        self._known: dict[RunId, KnownRun] = {}
        self.sweeps = False  #: calls that are withdrawn may wait in the queue

    def run(self, run: RunId) -> KnownRun | None:
        """The run, looked at anew every so often; None when it is not there any more."""
        names = RunNames(run)
        with self._locks.of(names.spec):
            if (known := self._known.get(run)) is not None:
                try:
                    self._look(RunNames(run, known.leg), known)
                except Unavailable:
                    if known.driven is not None:
                        known.driven.looked_in_vain()
                    raise
                return known
            try:
                spec = self._spec(names)
                seeded = spec.parent is not None and spec.terms.seed is not None
                numbers = numbers_of(self._backend, run) if seeded else None
            except NotFound:
                return None
            store = self._backend.store
            while (ended := is_there(store, names.end)) and is_there(
                store, (later := RunNames(run, names.leg + 1)).resumed
            ):
                names = later
            ttl_s = spec.terms.driver_ttl_s
            limited = spec.terms.limits != NO_LIMITS or names.leg
            known = KnownRun(
                spec=spec,
                driven=None if ttl_s is None else Driven(ttl_s=ttl_s),
                numbers=numbers,
                leg=names.leg,
                over=ended,
                looked_at=time.monotonic() - self._look_every_s + self._backend.tick_s,  # whether it is cancelled
                unfit=_unfit(spec),
                until_at=-math.inf if limited else math.inf,
            )
            self._look_until(names, known)
            self._known[run] = known
            return known

    def look_on(self, runs: Iterable[tuple[RunId, bool]]) -> None:
        """Look anew at runs that are being served, and whose items are an executor's calls or not."""
        for run, withdrawable in runs:
            with suppress(Unavailable):  # it is looked at again
                if (known := self.run(run)) is not None:
                    self.look_followed(run, known)
                    if withdrawable:
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
            mark = self._mark(RunNames(run).followed)
            if mark != known.mark:
                known.mark, known.marked_at = mark, -math.inf if mark is None else now

    def followed(self, run: RunId) -> bool:
        """Whether somebody wants to see at once what its items print."""
        known = self._known.get(run)
        return known is not None and known.followed

    def forsaken(self) -> bool:
        """Whether none that it has met is to go on here, as far as they are not over; see `KnownRun.leaving`."""
        if not any(known.leaving for known in [*self._known.values()]):
            return False
        left = [run for run, known in [*self._known.items()] if not (known.leaving or known.over)]
        self.look_on((run, False) for run in left)
        return all(self._known[run].over or self._known[run].leaving for run in left)

    def over(self, run: RunId) -> bool:
        """Whether nobody wants its items any more, looked at now."""
        return self._over(RunNames(run, self.leg(run)))

    def leg(self, run: RunId) -> int:
        """In which leg it is served here."""
        known = self._known.get(run)
        return 0 if known is None else known.leg

    def escalates(self, run: RunId) -> bool:
        """Whether what runs out of memory here goes on with more: once, so where workers are as the run asked."""
        known = self._known.get(run)
        if known is None or self._memory_mib is None:
            return False
        return known.spec.terms.escalate and self._memory_mib <= known.spec.resources.memory_mib

    def _spec(self, names: RunNames) -> Spec:
        return Spec.read(self._backend.key, names.spec, names.run, self._backend.store.get(names.spec, SMALL_BYTES))

    def _look(self, names: RunNames, known: KnownRun) -> None:
        if not known.over and time.monotonic() - known.looked_at > self._look_every_s:
            known.over = self._over(names)
            known.looked_at = time.monotonic()
        if not known.over and known.driven is not None and known.driven.due(time.monotonic()):
            known.driven.saw(self._mark(names.driven), time.monotonic())
        if not known.over:
            self._look_until(names, known)

    def _look_until(self, names: RunNames, known: KnownRun) -> None:
        """Look, now and then, when it is to stop: on AWS every 10 s, which costs a worker a five-hundredth more."""
        if (now := time.monotonic()) - known.until_at > 2 * self._backend.tick_s:
            known.until_at = now
            until = read_until(self._backend, names.run, names.leg)
            known.until = math.inf if until is None else until.at

    def _mark(self, key: str) -> float | None:
        """When a mark was written, on the store's clock; None where there is none."""
        with suppress(NotFound):
            return self._backend.store.written_at(key)
        return None

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
