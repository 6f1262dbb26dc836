"""What a fleet's workers were given, and from when to when: closed before its records go, for whoever counts costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Self

from starburst_common.errors import Exists
from starburst_common.model import FleetId, Granted, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import account
from starburst_common.ports import SMALL_BYTES, ObjectStore
from starburst_common.wire.documents import open_kept, seal_document
from starburst_common.wire.fields import Fields, malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One fleet's. A worker that had not stopped was told to when it was closed."""

    closed_at: float  #: wall clock
    workers: tuple[WorkerState, ...]

    @classmethod
    def read(cls, store: ObjectStore, key: bytes, fleet: FleetId) -> Self:
        """Raises `NotFound` where the fleet launched nobody, or is open; `Refused` where it is not ours."""
        about = account(fleet)
        header = open_kept(key, about, store.get(about, SMALL_BYTES), partial(store.written_at, about))
        workers = tuple(read_worker(Fields(about, each)) for each in header.many("workers"))
        return cls(closed_at=header.moment("closed_at"), workers=workers)


def close_account(store: ObjectStore, key: bytes, fleet: FleetId, workers: Sequence[WorkerState], now: float) -> None:
    """Write it down, once: of several who close a fleet the first saw most."""
    about = account(fleet)
    told = {"closed_at": now, "workers": [asdict(worker) for worker in workers]}
    with suppress(Exists):
        store.create(about, seal_document(key, about, told))


def read_worker(fields: Fields) -> WorkerState:
    """A worker as a record tells it. Raises `Refused`."""
    phase, end = fields.text("phase"), fields.text("end") if fields.given("end") else None
    if phase not in [*WorkerPhase] or end not in [None, *WorkerEnd]:
        raise malformed("a worker's end", f"{fields['phase']!r:.40}, {fields['end']!r:.40}")
    return WorkerState(
        id=WorkerId(fields.text("id")),
        ordinal=fields.whole("ordinal"),
        phase=WorkerPhase(phase),
        end=WorkerEnd(end) if end is not None else None,
        exit_code=fields.whole("exit_code") if fields.given("exit_code") else None,
        reason=fields.text("reason"),
        started_at=fields.moment("started_at"),
        stopped_at=fields.moment("stopped_at"),
        ran_s=fields.number("ran_s") if fields.given("ran_s") else 0.0,
        granted=_granted(fields.fields("granted")) if fields.given("granted") else None,
    )


def _granted(fields: Fields) -> Granted:
    return Granted(
        capacity=fields.text("capacity"),
        architecture=fields.text("architecture"),
        zone=fields.text("zone"),
        vcpu=fields.number("vcpu"),
        memory_mib=fields.whole("memory_mib"),
        storage_gb=fields.whole("storage_gb") if fields.given("storage_gb") else 0,
        gpus=fields.whole("gpus") if fields.given("gpus") else 0,
        instance=fields.text("instance") if fields.given("instance") else "",
        instance_type=fields.text("instance_type") if fields.given("instance_type") else "",
        spot=fields.flag("spot") if fields.given("spot") else False,
        managed=fields.flag("managed") if fields.given("managed") else True,
    )
