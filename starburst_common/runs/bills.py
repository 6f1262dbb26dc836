"""A fleet's account in; what workers are billed for out, while runs had them and, of a warm fleet, while none had."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from starburst_common.errors import NotFound
from starburst_common.ids import held_for, made_at
from starburst_common.model import FleetId
from starburst_common.money.accounts import AccountEntry
from starburst_common.money.estimate import billed_hours, size_of
from starburst_common.names import holders
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.settled import settled_account
from starburst_common.runs.unused import unused_of


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
