"""Which workers of a fleet were asked for, granted and seen to stop: its records in the store, signed.

A launch is written down before ECS is asked, under a key that only one driver can take. Whoever finds one without an
answer asks again with the same tokens, to which ECS gives the same tasks; so a driver may die between any two calls.
None begins while another is unanswered, so that all drivers agree on which ordinals are free.

No record is ever written over: what ECS granted is one more, and if two who asked for one launch were granted different
tasks, both count. Only a launch that was granted none is removed, and not before the next but one attempt at it.
ECS itself forgets a stopped task after an hour, so what became of it is written down as soon as it is seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import Any

from starburst_common.aws.accounts import read_worker
from starburst_common.aws.requests import RUN_TASK_MOST
from starburst_common.errors import Exists, NotFound, Unsigned
from starburst_common.ids import ids
from starburst_common.model import FleetId, WorkerId, WorkerState
from starburst_common.names import FLEETS, granted_record, launch_record, new_stops_record, worker_records
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, ObjectStore
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import Fields, malformed

_log = our_log("starburst.aws")
_MOST_ORDINALS = 10**9
_DOUBT_S = 60.0  #: what no known key has signed is read again after so long: a newer key may be known by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One step: consecutive ordinals asked for together."""

    lo: int
    attempt: int = 0  #: at these ordinals: one more than were refused before
    count: int  #: asked for; once answered, granted
    token: str  #: makes asking again harmless
    spot: bool  #: on Spot capacity, as far as there is some
    request: dict[str, Any]  #: what RunTask is sent, but for where the tasks run
    at: float  #: when it was asked for; once answered, granted (wall clock)
    tasks: tuple[str, ...] | None = None  #: ARNs, by ordinal; None while unanswered

    @property
    def hi(self) -> int:
        """The ordinal after the last."""
        return self.lo + self.count


@dataclass(slots=True)
class _Known:
    launches: dict[str, Launch]  # as asked for and as granted, by key
    stops: dict[WorkerId, WorkerState]
    read: set[str]  # keys
    unsigned: dict[str, float]  # what counts for nothing, and when it was looked at, by key


class Launches:
    """The records of all fleets; each is read once, since none changes."""

    def __init__(self, store: ObjectStore, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._lock = Lock()
        self._known: dict[FleetId, _Known] = {}

    def claim(self, fleet: FleetId, lo: int, count: int, request: dict[str, Any], *, spot: bool) -> Launch | None:
        """Write down that these workers are about to be asked for; None if another driver has done so."""
        before = self._attempts(fleet, lo)
        launch = Launch(
            lo=lo,
            attempt=self._free_attempt(fleet, lo, max(before, default=-1) + 1),
            count=count,
            token=secrets.token_hex(16),
            spot=spot,
            request=request,
            at=self._clock(),
        )
        try:
            self._write(fleet, launch_record(fleet, lo, launch.attempt), launch)
        except Exists:
            return None
        old = [key for attempt, keys in before.items() if attempt < launch.attempt - 1 for key in keys]
        if old:
            self._store.delete(old)
        return launch

    def answer(self, fleet: FleetId, launch: Launch, tasks: Sequence[str]) -> None:
        """Write down what ECS granted; ordinals that it did not grant are free again."""
        answered = replace(launch, count=len(tasks), tasks=tuple(tasks), request={}, at=self._clock())
        with suppress(Exists):  # another driver was told the same
            self._write(fleet, granted_record(fleet, launch.lo, launch.attempt, tasks), answered)

    def stopped(self, fleet: FleetId, states: Sequence[WorkerState]) -> None:
        """Write down how workers ended."""
        if states:
            key = new_stops_record(fleet)
            self._store.create(key, self._sealed(key, {"stops": [asdict(state) for state in states]}))
            with self._lock:
                known = self._of(fleet)
                known.read.add(key)
                known.stops.update((state.id, state) for state in states)

    def read(self, fleet: FleetId) -> tuple[list[Launch], dict[WorkerId, WorkerState]]:
        """Every launch, by ordinal, and every end written down so far, by who has a key that is known."""
        with self._lock:
            before = set(self._of(fleet).read)
            doubted = {key for key, at in self._of(fleet).unsigned.items() if self._clock() - at < _DOUBT_S}
        keys = set(self._store.list(worker_records(fleet)))
        for key in sorted(keys - before - doubted):
            with suppress(NotFound):
                try:
                    fields, _ = open_document(self._key, key, self._store.get(key, SMALL_BYTES))
                except Unsigned as error:
                    self._pass_over(fleet, key, error)
                    continue
                stops = fields.many("stops") if fields.given("stops") else []
                states = [read_worker(Fields(key, each)) for each in stops]
                launch = None if fields.given("stops") else _launch(fields)
                with self._lock:
                    known = self._of(fleet)
                    known.read.add(key)
                    known.stops.update((state.id, state) for state in states)
                    if launch is not None:
                        known.launches[key] = launch
        with self._lock:
            known = self._of(fleet)
            for key in before - keys:  # what came since the listing began may well be missing in it
                known.launches.pop(key, None)
                known.read.discard(key)
            for key in known.unsigned.keys() - keys:
                del known.unsigned[key]
            return merged(known.launches.values()), dict(known.stops)

    def unsigned(self, fleet: FleetId) -> bool:
        """Whether something was read there that no known key has signed: perhaps of a key that was revoked."""
        with self._lock:
            return bool(self._of(fleet).unsigned)

    def _pass_over(self, fleet: FleetId, key: str, error: Unsigned) -> None:
        with self._lock:
            known = self._of(fleet).unsigned
            if key not in known:
                _log.warning("a record of %s counts for nothing: %s", fleet, error)
            known[key] = self._clock()

    def forget(self, fleet: FleetId) -> None:
        """Remove a fleet's records."""
        self._store.delete_folder(worker_records(fleet))
        with self._lock:
            self._known.pop(fleet, None)

    def fleets(self) -> list[FleetId]:
        """Every fleet with records."""
        return [FleetId(name) for name in ids(self._store.folders(FLEETS))]

    def _attempts(self, fleet: FleetId, lo: int) -> dict[int, list[str]]:
        """The keys of the attempts at a launch, as far as they are known; those that were granted tasks have none."""
        found: dict[int, list[str]] = {}
        with self._lock:
            mine = {key: launch for key, launch in self._of(fleet).launches.items() if launch.lo == lo}
        for key, launch in mine.items():
            found.setdefault(launch.attempt, []).append(key)
        for attempt in {launch.attempt for launch in mine.values() if launch.tasks}:
            found[attempt] = []
        return found

    def _free_attempt(self, fleet: FleetId, lo: int, attempt: int) -> int:
        """The first from there on in whose place nobody has put anything."""
        with self._lock:
            taken = self._of(fleet).unsigned
            while launch_record(fleet, lo, attempt) in taken:
                attempt += 1
        return attempt

    def _write(self, fleet: FleetId, key: str, launch: Launch) -> None:
        self._store.create(key, self._sealed(key, asdict(launch)))
        with self._lock:
            known = self._of(fleet)
            known.launches[key] = launch
            known.read.add(key)

    def _of(self, fleet: FleetId) -> _Known:
        return self._known.setdefault(fleet, _Known({}, {}, set(), {}))

    def _sealed(self, key: str, fields: dict[str, Any]) -> bytes:
        return seal_document(self._key, key, fields)


def free_steps(ordinals: Iterable[int], launches: Iterable[Launch], *, most: int) -> list[tuple[int, int]]:
    """First ordinal and count of each step that asks for what nobody has asked for.

    >>> taken = Launch(lo=3, count=2, token="", spot=False, request={}, at=0)
    >>> free_steps(range(16), [taken], most=10)
    [(0, 3), (5, 10), (15, 1)]
    """
    covered = {ordinal for launch in launches for ordinal in range(launch.lo, launch.hi)}
    steps: list[tuple[int, int]] = []
    for ordinal in sorted(set(ordinals) - covered):
        if steps and ordinal == sum(steps[-1]) and steps[-1][1] < most:
            steps[-1] = (steps[-1][0], steps[-1][1] + 1)
        else:
            steps.append((ordinal, 1))
    return steps


def unanswered(fleet: FleetId, launch: Launch) -> list[WorkerId]:
    """What the workers of a launch are called until it is known which tasks they are; none once it is."""
    return [WorkerId(f"{fleet}-{ordinal}") for ordinal in range(launch.lo, launch.hi)] if launch.tasks is None else []


def merged(records: Iterable[Launch]) -> list[Launch]:
    """Launches as far as they are answered, by ordinal: with all tasks that anybody who asked for one was granted.

    >>> asked = Launch(lo=3, count=2, token="t", spot=False, request={}, at=0)
    >>> some, other = replace(asked, count=1, tasks=("a",)), replace(asked, tasks=("a", "b"))
    >>> [(launch.count, launch.tasks) for launch in merged([asked, other, some])]
    [(2, ('a', 'b'))]
    >>> merged([replace(asked, request={"count": 2}), some])[0].request  # as it was asked for
    {'count': 2}
    >>> merged([asked]) == [asked]
    True
    """
    launches: dict[str, Launch] = {}
    for launch in sorted(records, key=lambda launch: launch.tasks or ()):
        known = launches.get(launch.token)
        if known is None or known.tasks is None:
            launches[launch.token] = launch if known is None else replace(launch, request=known.request)
        elif launch.tasks is not None:
            tasks = tuple(dict.fromkeys((*known.tasks, *launch.tasks)))
            launches[launch.token] = replace(known, count=len(tasks), tasks=tasks, at=max(known.at, launch.at))
    return sorted(launches.values(), key=lambda launch: (launch.lo, launch.attempt))


def _launch(fields: Fields) -> Launch:
    """As `claim` or `answer` wrote it. Raises `Refused`."""
    lo, count, tasks = fields.whole("lo"), fields.whole("count"), None
    if count > RUN_TASK_MOST or lo + count > _MOST_ORDINALS:
        raise malformed("a launch", f"{count} workers from number {lo} on")
    if fields.given("tasks"):
        tasks = tuple(fields.many("tasks"))
        if len(tasks) != count or not all(isinstance(arn, str) for arn in tasks):
            raise malformed("a launch", f"it has other than {count} tasks")
    request = fields.fields("request")
    if tasks is None and not request.fields("overrides").text("cpu").isdecimal():
        raise malformed("a launch", "of workers without a size")
    return Launch(
        lo=lo,
        attempt=fields.whole("attempt"),
        count=count,
        token=fields.text("token"),
        spot=fields.flag("spot"),
        request=request.raw,
        at=fields.moment("at"),
        tasks=tasks,
    )
