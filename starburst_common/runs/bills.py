"""A fleet's account in; what workers are billed for out, while runs had them and, of a warm fleet, while none had."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from starburst_common.errors import NotFound
from starburst_common.ids import held_for, made_at
from starburst_common.instances import shapes
from starburst_common.model import FleetId, WorkerState
from starburst_common.money.accounts import AccountEntry
from starburst_common.money.estimate import billed_hours, size_of
from starburst_common.names import holders
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.settled import settled_account
from starburst_common.sites.managed import IDLE_S

UNUSED = "idle instances"  #: a component


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a fleet's workers are billed for: hours by what each was given."""

    fleet: FleetId
    hours: Mapping[tuple[Resources, str], Decimal]  #: while runs had them
    idle: Mapping[tuple[Resources, str], Decimal]  #: while none had, of a warm fleet
    unused: Sequence[tuple[Resources, str, Decimal]] = ()  #: hours of whole instances, that no worker of it took
    settled: bool = True  #: nothing more comes to it


def warm_runs(read: Iterable[AccountEntry]) -> dict[FleetId, list[AccountEntry]]:
    """The runs that a warm fleet has had, in the order of their beginning."""
    found: dict[FleetId, list[AccountEntry]] = defaultdict(list)
    for entry in sorted(read, key=lambda entry: entry.created_at):
        if entry.keep_warm_s:
            found[entry.stints[0].fleet].append(entry)
    return found


def bill_of(
    backend: Backend, fleet: FleetId, spans: Sequence[tuple[float, float]] | None = None, since: float = 0.0
) -> Bill:
    """Of a fleet that has settled; of a warm one, which tells when it had runs, also before, as it stands now."""
    from starburst_common.aws.accounts import Account

    hours, idle = (
        defaultdict[tuple[Resources, str], Decimal](Decimal),
        defaultdict[tuple[Resources, str], Decimal](Decimal),
    )
    settled = True
    try:
        account = settled_account(backend, fleet)
    except NotFound:
        if spans is None:
            raise
        settled = False
        account = Account(closed_at=time.time(), workers=tuple(backend.compute.workers(fleet)))
        by = [name for name in held_for(backend.store.list(holders(fleet))) if name.startswith("run-")]
        spans = [*spans, *((_began(name), account.closed_at) for name in by)]
    for worker in account.workers:
        if (given := worker.granted) is not None and worker.started_at:
            arch = "arm" if given.architecture.lower() in ("arm64", "aarch64") else "x86"
            what = size_of(given), arch if given.architecture else backend.tariff.arch
            ended = worker.stopped_at or account.closed_at
            idle_s = 0.0 if spans is None else alone_s(max(worker.started_at, since), ended, spans)
            idle[what] += Decimal(str(idle_s)) / 3600
            hours[what] += billed_hours(max(ended - worker.started_at, 0.0), 1) - Decimal(str(idle_s)) / 3600
    unused = [*unused_of(account.workers, account.closed_at)]
    none_had = {what: each for what, each in idle.items() if each}
    return Bill(fleet=fleet, hours=hours, unused=unused, idle=none_had, settled=settled)


def unused_of(workers: Sequence[WorkerState], now: float) -> Iterator[tuple[Resources, str, Decimal]]:
    """Of the instances of workers, by their types: hours of whole ones that none of these workers took.

    One is there from its first worker on until it has been without one for some time; what others of a site's workers
    took of it meanwhile is not known here, and counted as well.
    """
    there: dict[str, list[WorkerState]] = defaultdict(list)
    for worker in workers:
        if worker.granted is not None and worker.granted.instance and worker.started_at:
            there[worker.granted.instance].append(worker)
    for them in there.values():
        given = them[0].granted
        shape = shapes().get(given.instance_type) if given is not None else None
        if given is None or shape is None:
            continue
        ended = max(worker.stopped_at or now for worker in them) + IDLE_S
        taken_s = sum(
            shape.share(each.granted.vcpu, each.granted.memory_mib, each.granted.gpus)
            * max((each.stopped_at or now) - each.started_at, 0)
            for each in them
            if each.granted is not None
        )
        whole_s = ended - min(worker.started_at for worker in them)
        whole = replace(given, vcpu=shape.vcpu, memory_mib=shape.registered_mib, gpus=shape.gpus)
        yield size_of(whole), shape.arch, Decimal(str(round(max(whole_s - taken_s, 0), 3))) / 3600


def alone_s(begin: float, end: float, spans: Sequence[tuple[float, float]]) -> float:
    """How long of this time is in none of the spans.

    >>> alone_s(0, 100, [(-5, 10), (20, 40), (30, 50), (90, 200)]), alone_s(0, 5, []), alone_s(5, 0, [])
    (50.0, 5.0, 0.0)
    """
    alone, at = 0.0, begin
    for lo, hi in sorted(spans):
        if hi > at:
            alone += max(min(lo, end) - at, 0)
            at = max(at, hi)
    return alone + max(end - at, 0)


def _began(run: str) -> float:
    try:
        return made_at(run)
    except ValueError:
        return 0.0
