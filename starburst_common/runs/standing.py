"""A backend in; what goes on there out: runs without an end, and the fleets that are held, with their workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from starburst_common.errors import NotFound
from starburst_common.ids import held_for, ids
from starburst_common.model import FleetId, RunId, WorkerPhase, WorkerState
from starburst_common.names import FLEETS, holders
from starburst_common.ports import Backend
from starburst_common.runs.hold import Hold
from starburst_common.runs.run import Run
from starburst_common.runs.spec import find_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFleet:
    """A fleet that somebody holds."""

    id: FleetId
    runs: tuple[Run, ...]  #: that go on, oldest first
    warm: bool  #: a cluster holds it, whether or not a run goes on
    workers: tuple[WorkerState, ...]  #: alive

    @property
    def starting(self) -> int:
        """How many of its workers are not at work yet."""
        return sum(worker.phase is WorkerPhase.STARTING for worker in self.workers)


def held_fleets(backend: Backend) -> list[HeldFleet]:
    """Those there are, newest last. Nothing is driven, and nothing changed."""
    return [*_held(backend)]


def _held(backend: Backend) -> Iterator[HeldFleet]:
    for name in sorted(ids(backend.store.folders(FLEETS))):
        fleet = FleetId(name)
        by = held_for(backend.store.list(holders(fleet)))
        runs = [*_going_on(backend, sorted(each for each in by if each.startswith("run-")))]
        warm = any(not each.startswith("run-") for each in by)
        alive = [worker for worker in backend.compute.workers(fleet) if worker.phase is not WorkerPhase.STOPPED]
        if by or alive:
            yield HeldFleet(id=fleet, runs=tuple(runs), warm=warm, workers=tuple(alive))


def _going_on(backend: Backend, names: list[str]) -> Iterator[Run]:
    for name in names:
        with suppress(NotFound):
            spec = find_spec(backend, RunId(name))
            if not Hold(backend, spec, None).status().state.over:
                yield Run(backend, spec, None)
