"""The accounts in; what runs cost, by whatever they are told apart, out. Reads nothing else of a run.

What a run's workers were billed for is known once their fleet is closed: runs that shared it share that by their slot
time. Until then, and on this machine, its own entry's estimate holds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from starburst_common.errors import BadInput
from starburst_common.model import FleetId
from starburst_common.money.accounts import AccountEntry
from starburst_common.money.estimate import UNUSED, Estimate, billed_hours, charge
from starburst_common.money.kept import prices_then
from starburst_common.money.sums import prices_told
from starburst_common.money.tolls import tolls_usd
from starburst_common.phrases import our_log, told
from starburst_common.ports import Backend
from starburst_common.rows import is_number
from starburst_common.runs.accounts import read_entry
from starburst_common.runs.bills import Bill, bill_of, warm_runs
from starburst_common.runs.ledger import abreast, kept
from starburst_common.runs.remembered import remembered

T = TypeVar("T")

_log = our_log()
_DAY_S = 86_400.0
_DAYS = 30.0
IDLE = "(idle)"  #: what warm fleets cost while no run had them
BY = ("flow", "dag", "function", "day", "site", "tag:NAME")  #: what runs may be told apart by


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """What a run cost, or would have."""

    entry: AccountEntry
    parts: Mapping[str, Decimal]  #: US dollars by component
    unknown: str  #: which price is not known
    worker_hours: Decimal
    billed: bool  #: by the time of its workers; else estimated from slot time
    spot_saved: Decimal = Decimal(0)  #: what those on Spot would have cost more on demand
    prices: Sequence[Estimate] = ()  #: that it is by
    expected: Decimal | None = None  #: what as many items would cost as in the run of its function before it
    provisional: bool = False  #: workers that it had are there still, or may be

    @property
    def usd(self) -> Decimal:
        """US dollars, as far as prices are known."""
        return sum(self.parts.values(), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What several runs cost, or would have on AWS: those of `name`, by what was asked for.

    One without a run, of the name `IDLE`, is what warm fleets cost while no run had them.
    """

    name: str
    runs: int
    items: int
    failed: int
    worker_hours: float
    usd: Decimal  #: of the runs whose price is known
    unknown: int  #: of these runs, those whose price is not known
    parts: Mapping[str, Decimal]  #: by component
    provisional: int = 0  #: of these runs, those whose workers have not all stopped; of warm fleets, such as are open
    spot_saved: Decimal = Decimal(0)  #: what those on Spot would have cost more on demand
    priced: str = ""  #: by which prices, in words
    off: float | None = None  #: by what share its runs cost more than runs of their functions before them let expect


def costs(*, since: float | None = None, by: str = "function", backend: str | Backend = "auto") -> list[Cost]:
    """What runs cost, the dearest first; by day, the first day first. Also of runs that were pruned long ago.

    Args:
        since: runs begun since then (wall clock, seconds); 30 days ago by default.
        by: "flow", "dag", "function", "day" (in UTC), "site", or "tag:NAME".
        backend: as of `starburst_map`.

    On this machine it is what they would have cost on AWS. With the discount that the settings name.
    """
    from starburst_common.backends import open_backend

    key = key_of(by)
    if since is not None and not is_number(since):
        raise BadInput(f"since={told(since)}: give seconds, as of time.time(), or None")
    opened = remembered(open_backend(backend))
    began = time.time() - _DAYS * _DAY_S if since is None else since
    rows = sums(run_costs(opened, began), key, opened.discount, in_order=by == "day")
    return [*rows, *idle_costs(opened, began)]


def key_of(by: str) -> Callable[[AccountEntry], str]:
    """What a run's name is by that. Raises `BadInput`."""
    kind, _, name = by.partition(":") if isinstance(by, str) else ("", "", "")
    known: dict[str, Callable[[AccountEntry], str]] = {
        "flow": lambda entry: entry.flow,
        "dag": lambda entry: entry.dag,
        "function": lambda entry: entry.function,
        "day": lambda entry: time.strftime("%Y-%m-%d", time.gmtime(entry.created_at)),
        "site": lambda entry: entry.tariff.site,
        "tag": lambda entry: entry.tags.get(name, ""),
    }
    if kind not in known or (kind == "tag") != bool(name):
        raise BadInput(f"by={told(by)}: give one of {', '.join(BY)}")
    return known[kind]


def sums(
    found: Iterable[RunCost], key: Callable[[AccountEntry], str], discount: float = 0.0, *, in_order: bool = False
) -> list[Cost]:
    """Runs told apart by `key`, summed up; in the order of the names, or the dearest first."""
    grouped: dict[str, list[RunCost]] = defaultdict(list)
    for each in found:
        grouped[key(each.entry)].append(each)
    off, rows = 1 - Decimal(str(discount)), []
    for name, group in grouped.items():
        parts: dict[str, Decimal] = defaultdict(Decimal)
        for each in group:
            for part, usd in each.parts.items():
                parts[part] += usd * off
        rows.append(
            Cost(
                name=name,
                runs=len(group),
                items=sum(each.entry.items for each in group),
                failed=sum(sum(each.entry.failed.values()) for each in group),
                worker_hours=float(sum(each.worker_hours for each in group)),
                usd=sum(parts.values(), Decimal(0)),
                unknown=sum(bool(each.unknown) for each in group),
                parts=dict(parts),
                provisional=sum(each.provisional for each in group),
                spot_saved=sum((each.spot_saved for each in group), Decimal(0)) * off,
                priced=prices_told(replace(price, discount=discount) for each in group for price in each.prices),
                off=_off(group),
            )
        )
    return sorted(rows, key=(lambda row: (0, row.name)) if in_order else lambda row: (-row.usd, row.name))


def run_costs(backend: Backend, since: float) -> list[RunCost]:
    """What each run that has ended, begun since then, cost. Entries that lack are written."""
    fleets, runs = kept(backend, since - _DAY_S)  # who shared a fleet may have begun earlier
    read = abreast(backend, lambda key: read_entry(backend, key), runs.values())
    usage: dict[FleetId, float] = defaultdict(float)
    stints: dict[FleetId, int] = defaultdict(int)
    for entry in read:
        for stint in entry.stints:
            usage[stint.fleet] += stint.slot_seconds
            stints[stint.fleet] += 1
    left = {*backend.compute.fleets()} if backend.charged else set[FleetId]()  # open, some of them by who was killed
    wanted = [fleet for fleet in usage if fleet in fleets or fleet in left]
    spans = {fleet: [(each.created_at, each.ended_at) for each in of] for fleet, of in warm_runs(read).items()}
    bills = {
        bill.fleet: bill
        for bill in abreast(backend, lambda fleet: bill_of(backend, FleetId(fleet), spans.get(FleetId(fleet))), wanted)
    }
    going = {fleet for fleet in left if fleet not in bills or not bills[fleet].settled}
    found = []
    for entry in read:
        if entry.created_at >= since:
            shares = [
                (bills[stint.fleet], _share(stint.slot_seconds, usage[stint.fleet], stints[stint.fleet]))
                for stint in entry.stints
                if stint.fleet in bills
            ]
            with prices_then(entry.created_at):
                cost = _cost(entry, shares)
            found.append(replace(cost, provisional=any(stint.fleet in going for stint in entry.stints)))
    return _expecting(sorted(found, key=lambda each: each.entry.created_at))


def _expecting(found: Iterable[RunCost]) -> list[RunCost]:
    """The same, in the order of their beginning, with what was to be expected of each."""
    last: dict[str, Decimal] = {}  # by function: an item's cost
    told = []
    for each in found:
        entry = each.entry
        answered = entry.succeeded + sum(entry.failed.values())
        before = last.get(entry.function)
        told.append(each if before is None or each.unknown else replace(each, expected=before * answered))
        if answered and not each.unknown:
            last[entry.function] = each.usd / answered
    return told


def _off(group: Iterable[RunCost]) -> float | None:
    known = [each for each in group if each.expected is not None]
    expected = sum((each.expected or Decimal(0) for each in known), Decimal(0))
    return float(sum((each.usd for each in known), Decimal(0)) / expected) - 1 if expected else None


def idle_costs(backend: Backend, since: float) -> list[Cost]:
    """What workers of warm fleets cost since then while no run had them, in one row; none where that is nothing."""
    if backend.name != "aws":
        return []
    _, runs = kept(backend, since - _DAY_S)
    read = abreast(backend, lambda key: read_entry(backend, key), runs.values())
    hours, usd, prices = Decimal(0), defaultdict[str, Decimal](Decimal), list[Estimate]()
    unknown = provisional = 0
    off = 1 - Decimal(str(backend.discount))
    for fleet, entries in warm_runs(read).items():
        spans, tariff = [(each.created_at, each.ended_at) for each in entries], entries[0].tariff
        for bill in abreast(backend, lambda name: bill_of(backend, FleetId(name), spans, since), [fleet]):  # noqa: B023
            provisional += bool(bill.idle) and not bill.settled
            for (size, arch), idle in bill.idle.items():
                with prices_then(entries[-1].created_at):
                    price = charge(size, idle, replace(tariff, arch=arch))
                prices.append(price)
                hours += idle
                unknown += bool(price.unknown)
                for part, each in price.parts.items():
                    usd[part] += each * off
    if not hours:
        return []
    total = sum(usd.values(), Decimal(0))
    return [
        Cost(
            name=IDLE,
            runs=0,
            items=0,
            failed=0,
            worker_hours=float(hours),
            usd=total,
            unknown=unknown,
            parts=usd,
            provisional=provisional,
            priced=prices_told(replace(price, discount=backend.discount) for price in prices),
        )
    ]


def _share(mine_s: float, all_s: float, of: int) -> Decimal:
    return Decimal(str(mine_s)) / Decimal(str(all_s)) if all_s else Decimal(1) / of


def _cost(entry: AccountEntry, shares: Sequence[tuple[Bill, Decimal]]) -> RunCost:
    if len(shares) < len(entry.stints):
        workers = sum(entry.workers.values())
        hours = billed_hours(entry.slot_seconds / entry.slots, workers)
        price = charge(entry.asked, Decimal(0), entry.tariff)
        by = [replace(price, as_of=entry.prices_as_of)]
        return RunCost(entry=entry, parts=entry.usd, unknown=entry.unknown, worker_hours=hours, billed=False, prices=by)
    parts: dict[str, Decimal] = defaultdict(Decimal, tolls_usd(entry.tolls, entry.tariff))
    total, unknown, saved, by = Decimal(0), "", Decimal(0), list[Estimate]()
    for bill, share in shares:
        for (size, arch), hours in bill.hours.items():
            tariff = replace(entry.tariff, arch=arch)
            price = charge(size, hours * share, tariff)
            by.append(price)
            if size.spot and price.usd is not None:
                saved += (charge(replace(size, spot=False), hours * share, tariff).usd or price.usd) - price.usd
            total += hours * share
            unknown = unknown or price.unknown
            for part, usd in price.parts.items():
                parts[part] += usd
        for size, arch, hours in bill.unused:
            parts[UNUSED] += charge(size, hours * share, replace(entry.tariff, arch=arch)).usd or Decimal(0)
    return RunCost(
        entry=entry,
        parts={} if unknown else dict(parts),
        unknown=unknown,
        worker_hours=total,
        billed=True,
        spot_saved=max(saved, Decimal(0)),
        prices=by,
    )
