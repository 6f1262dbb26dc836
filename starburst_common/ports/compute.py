"""Where workers run: what to launch, and what every place promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from starburst_common.model import FleetId, WorkerId, WorkerState
from starburst_common.ports.pace import Pace
from starburst_common.resources import Resources
from starburst_common.wire.seals import WIRE_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What to launch: a fleet's workers are all alike."""

    fleet: FleetId
    resources: Resources
    pace: Pace
    key: str = ""  #: the id of the key that they sign by; empty for the newest
    priority: float = 1.0  #: its share, beside other fleets that wait for what starts workers

    def orders(self) -> dict[str, Any]:
        """What a worker is told, wherever it runs; its compute adds which worker it is and where its backend is."""
        return {
            "wire": WIRE_VERSION,
            "fleet": self.fleet,
            "key": self.key,
            "cpu": self.resources.cpu,
            "slots": self.resources.slots,
            **self.pace.orders(),
        }


class Wait(NamedTuple):
    """Why fewer workers started than were asked for, and when to ask again."""

    reason: str
    seconds: float


class Compute(Protocol):
    """Where workers run."""

    def prepare(self, spec: WorkerSpec) -> None:
        """Workers of the fleet will be launched soon: what can be done ahead begins, and is not waited for."""

    def alike(self, spec: WorkerSpec) -> str:
        """What the spec's workers would be if they were launched now, but for their fleet: equal texts, equal workers.

        Who has one worker may use another that is alike in its place.
        """

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        """Start the fleet's workers with these ordinals, each at most once ever,

        so that two drivers asking for the same ordinals get each worker once. Where some must wait, says for what;
        their ordinals are free, to be asked for again. Raises `CannotLaunch` when asking again would not help.
        """

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        """Every worker of the fleet that was ever launched and not yet forgotten, by ordinal.

        A worker whose launch is under way may have another id until it is known. Who looks changes nothing.
        """

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        """The same for who drives a run on it: what a driver that died has begun to launch is launched or let go,

        and how workers ended is kept for as long as the fleet, where the platform forgets it.
        """

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        """How a worker ended, if it has and somebody saw it; cheap, for workers to ask as well."""

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        """Tell workers to hand back their work and end; what is left after `grace_s` is killed.

        Returns when they are gone, or at once when the platform has taken it on itself to end them, in its own time if
        it has one. Workers that stopped before, or never were, are no error.
        """

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        """The last lines the worker printed."""

    def forget(self, fleet: FleetId) -> None:
        """Remove all records of a fleet whose workers have stopped."""

    def fleets(self) -> list[FleetId]:
        """Every fleet with records, by name."""
