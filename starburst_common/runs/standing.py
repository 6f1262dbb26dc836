"""A backend in; what goes on there out: runs without an end, and the fleets that are held, with their workers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from starburst_common.errors import NotFound, Refused, Unsigned
from starburst_common.fleets.fleet import KEPT_WARM, Fleet, left
from starburst_common.fleets.warm import WarmEntry, cool, warm_entries
from starburst_common.ids import held_for, ids
from starburst_common.model import FleetId, RunId, WorkerPhase, WorkerState
from starburst_common.names import FLEETS, holders, work_queue
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.hold import Hold
from starburst_common.runs.records import Spec
from starburst_common.runs.run import Run
from starburst_common.runs.spec import find_spec, read_spec

_log = our_log()
_SILENT_S = 300.0  #: clocks differ, and an outage passes; a cluster says every minute that it has a fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFleet:
    """A fleet that somebody holds."""

    id: FleetId
    runs: tuple[Run, ...]  #: that go on, oldest first
    clusters: int  #: that hold it, whether or not a run goes on
    silent: int = 0  #: further ones, of which nothing was heard for long, as of those whose process was killed
    heard_at: float = 0.0  #: when one of these was heard of last, on the store's clock
    workers: tuple[WorkerState, ...]  #: alive
    at_work: int = 0  #: of these at most, by the messages that are leased
    entry: WarmEntry | None = None  #: it stays open without anybody
    left_at: float | None = None  #: when the last one let go of it, on the store's clock
    unsigned: bool = False  #: nobody who is there knows its key: it was revoked, or is nobody's, and nobody can use it
    key: bytes = field(default=b"", repr=False)  #: which of our keys it is of; empty where nobody knows

    @property
    def warm(self) -> bool:
        """Whether it stays open though no run goes on."""
        return bool(self.clusters) or self.entry is not None

    @property
    def warm_until(self) -> float | None:
        """When its workers stop, where nobody comes; None where somebody has it, or that is not known."""
        if self.runs or self.clusters or self.entry is None or self.left_at is None:
            return None
        return self.left_at + self.entry.keep_warm_s

    @property
    def size(self) -> str:
        """Of a worker, in words; empty where nobody knows."""
        return self.entry.size if self.entry is not None else self.runs[0].resources.size if self.runs else ""

    @property
    def starting(self) -> int:
        """How many of its workers are not at work yet."""
        return sum(worker.phase is WorkerPhase.STARTING for worker in self.workers)


def held_fleets(backend: Backend) -> list[HeldFleet]:
    """Those there are, newest last. Nothing is driven, and nothing changed."""
    return [*_held(backend)]


def stop_fleet(backend: Backend, held: HeldFleet) -> bool:
    """Cancel its runs, keeping what is answered, and stop its workers; not where another run has come meanwhile.

    Nobody finds it any more: then it ends with that run. A cluster that has it launches others if need be.
    """
    for run in held.runs:
        run.cancel()
    by = cool(backend, held.id)
    if [*_going_on(backend, _specs(backend, [each for each in by if each.startswith("run-")]))]:
        return False
    size = held.runs[0].resources if held.runs else Resources.of()
    Fleet.of(backend, size, 1, held.id).close()
    return True


def _held(backend: Backend) -> Iterator[HeldFleet]:
    entries = warm_entries(backend)
    for name in sorted(ids(backend.store.folders(FLEETS))):
        fleet = FleetId(name)
        written = {entry.key.rpartition("/")[2]: entry.written_at for entry in backend.store.entries(holders(fleet))}
        by = held_for(written)
        clusters = [written[name] for name in by if not name.startswith("run-") and name != KEPT_WARM]
        silent = [at for at in clusters if time.time() - at > _SILENT_S]
        specs = [*_specs(backend, sorted(each for each in by if each.startswith("run-")))]
        runs, entry = [*_going_on(backend, specs)], entries.get(fleet)
        foreign = any(spec.damage and _is_foreign(backend, spec) for spec in specs)
        unsigned = foreign or (fleet in entries and entry is None)
        try:
            alive = [worker for worker in backend.compute.workers(fleet) if worker.phase is not WorkerPhase.STOPPED]
        except Refused as error:  # it costs itself alone
            _log.warning("fleet %s is passed over: %s", fleet, error)
            continue
        if by or alive:
            leased = backend.queue.depth(work_queue(fleet)).leased if runs else 0
            yield HeldFleet(
                id=fleet,
                runs=tuple(runs),
                clusters=len(clusters) - len(silent),
                silent=len(silent),
                heard_at=max(silent, default=0.0),
                workers=tuple(alive),
                at_work=min(leased, len(alive)),
                entry=entry if KEPT_WARM in by else None,
                left_at=_left_at(backend, fleet) if KEPT_WARM in by else None,
                unsigned=unsigned,
                key=entry.signer if entry is not None else next((spec.key for spec in specs), b""),
            )


def _left_at(backend: Backend, fleet: FleetId) -> float | None:
    with suppress(NotFound):
        return backend.store.written_at(left(fleet))
    return None


def _specs(backend: Backend, names: list[str]) -> Iterator[Spec]:
    for name in names:
        with suppress(NotFound):
            yield find_spec(backend, RunId(name))


def _going_on(backend: Backend, specs: Iterable[Spec]) -> Iterator[Run]:
    for spec in specs:
        with suppress(NotFound):
            if not Hold(backend, spec, None).status().state.over:
                yield Run(backend, spec, None)


def _is_foreign(backend: Backend, spec: Spec) -> bool:
    try:
        read_spec(backend, spec.run)
    except Unsigned:
        return True
    except (NotFound, Refused):
        pass
    return False
