"""Which workers of a fleet were asked for, granted and seen to stop: its records in the store, signed.

A launch is written down before ECS is asked, under a key that only one driver can take. Whoever finds one without an
answer asks again with the same token, to which ECS gives the same tasks; so a driver may die between any two calls.
None begins while another is unanswered, so that all drivers agree on which ordinals are free.
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

from starburst_common.errors import Exists, NotFound
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import FLEETS, launch_record, new_stops_record, worker_records
from starburst_common.ports import ObjectStore
from starburst_common.wire import document, read_document, seal, unseal


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One step: consecutive ordinals asked for together."""

    lo: int
    count: int  #: asked for; once answered, granted
    token: str  #: makes asking again harmless
    spot: bool  #: on Spot capacity, as far as there is some
    request: dict[str, Any]  #: what RunTask is sent, but for where the tasks run
    at: float  #: wall clock
    tasks: tuple[str, ...] | None = None  #: ARNs, by ordinal; None while unanswered

    @property
    def hi(self) -> int:
        """The ordinal after the last."""
        return self.lo + self.count


@dataclass(slots=True)
class _Known:
    launches: dict[str, Launch]
    stops: dict[WorkerId, WorkerState]
    read: set[str]  #: keys that will not change any more


class Launches:
    """The records of all fleets; what cannot change is read once."""

    def __init__(self, store: ObjectStore, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._lock = Lock()
        self._known: dict[FleetId, _Known] = {}

    def claim(self, fleet: FleetId, lo: int, count: int, request: dict[str, Any], *, spot: bool) -> Launch | None:
        """Write down that these workers are about to be asked for; None if another driver has done so."""
        token = secrets.token_hex(16)
        launch = Launch(lo=lo, count=count, token=token, spot=spot, request=request, at=self._clock())
        key = launch_record(fleet, lo)
        try:
            self._store.create(key, self._sealed(key, asdict(launch)))
        except Exists:
            return None
        return launch

    def answer(self, fleet: FleetId, launch: Launch, tasks: Sequence[str]) -> None:
        """Write down what ECS granted; ordinals that it did not grant are free again."""
        key = launch_record(fleet, launch.lo)
        if not tasks:
            self._store.delete([key])
            return
        answered = replace(launch, count=len(tasks), tasks=tuple(tasks))
        self._store.put(key, self._sealed(key, asdict(answered)))
        with self._lock:
            known = self._of(fleet)
            known.launches[key] = answered
            known.read.add(key)

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
        """Every launch, by ordinal, and every end written down so far."""
        keys = list(self._store.list(worker_records(fleet)))
        with self._lock:
            known = self._of(fleet)
            fresh = [key for key in keys if key not in known.read]
        for key in fresh:
            with suppress(NotFound):
                fields, _ = read_document(unseal(self._key, key, self._store.get(key)))
                with self._lock:
                    _book(known, key, fields.raw)
        with self._lock:
            for key in [key for key in known.launches if key not in keys]:
                del known.launches[key]
            return sorted(known.launches.values(), key=lambda launch: launch.lo), dict(known.stops)

    def forget(self, fleet: FleetId) -> None:
        """Remove a fleet's records."""
        self._store.delete_folder(worker_records(fleet))
        with self._lock:
            self._known.pop(fleet, None)

    def fleets(self) -> list[FleetId]:
        """Every fleet with records."""
        return [FleetId(name) for name in self._store.folders(FLEETS)]

    def _of(self, fleet: FleetId) -> _Known:
        return self._known.setdefault(fleet, _Known({}, {}, set()))

    def _sealed(self, key: str, fields: dict[str, Any]) -> bytes:
        return seal(self._key, key, document(fields))


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


def _book(known: _Known, key: str, fields: dict[str, Any]) -> None:
    fields.pop("blobs", None)
    if "stops" in fields:
        known.read.add(key)
        for stop in fields["stops"]:
            end = WorkerEnd(stop.pop("end"))
            state = WorkerState(**{**stop, "phase": WorkerPhase(stop["phase"]), "end": end})
            known.stops[state.id] = state
    else:
        tasks = fields.pop("tasks")
        known.launches[key] = Launch(**fields, tasks=None if tasks is None else tuple(tasks))
        if tasks is not None:
            known.read.add(key)
