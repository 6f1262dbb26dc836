"""A fleet's records in, how another worker ended out: what a worker may know of its fleet, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from starburst_common.aws.launches import Launches
from starburst_common.errors import Denied
from starburst_common.model import FleetId, WorkerId, WorkerState
from starburst_common.ports import ObjectStore, WorkerSpec


class Onlooker:
    """`Compute` as a worker has it, whose orders do not say where a cluster is: it launches and stops nobody."""

    def __init__(self, store: ObjectStore, key: bytes) -> None:
        self._launches = Launches(store, key)

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        """As a driver has written it down; nothing is asked of ECS."""
        _, stops = self._launches.read(fleet)
        return stops.get(worker)

    def fleets(self) -> list[FleetId]:
        return self._launches.fleets()

    def prepare(self, spec: WorkerSpec) -> NoReturn:
        raise _denied("launches none")

    def alike(self, spec: WorkerSpec) -> NoReturn:
        raise _denied("launches none")

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> NoReturn:
        raise _denied("launches none")

    def workers(self, fleet: FleetId) -> NoReturn:
        raise _denied("asks after none")

    def tend(self, fleet: FleetId) -> NoReturn:
        raise _denied("looks after none")

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> NoReturn:
        raise _denied("stops none")

    def tail(self, fleet: FleetId, worker: WorkerId) -> NoReturn:
        raise _denied("reads no other's log")

    def forget(self, fleet: FleetId) -> NoReturn:
        raise _denied("forgets none")


def _denied(what: str) -> Denied:
    return Denied(f"a worker knows only the address of its site: it {what}")
