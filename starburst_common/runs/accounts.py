"""A run that has ended in; its entry for the accounts out, written by who ended it, or by the next who looks."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from starburst_common.errors import Denied, Exists, NotFound, Refused
from starburst_common.model import RunId, WorkerState
from starburst_common.money.accounts import EC2, EC2_SPOT, FARGATE, FARGATE_SPOT, LOCAL, AccountEntry, Stint
from starburst_common.money.estimate import UNUSED, Estimate, charge, fargate_usd
from starburst_common.money.meter import Rates, metered
from starburst_common.money.sums import together
from starburst_common.money.tolls import tolls_usd
from starburst_common.names import account
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.resources import Resources
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.settled import settled_account
from starburst_common.runs.spec import Leg, legs_of, read_spec
from starburst_common.runs.unused import unused_of

if TYPE_CHECKING:
    from starburst_common.aws.accounts import Account

_log = our_log()
_OF_SPEC = ("run", "parent", "who", "function", "label", "tags", "created_at")
CLOSES_S = 60.0  #: whoever ends a run that has a fleet of its own closes that within so long


def keep_entry(backend: Backend, run: RunId) -> str:
    """Write what is kept of a run that has ended; its key, or none of one that goes on, or cannot be read.

    Twice is the same; of a run that was resumed, an earlier entry is replaced.
    """
    try:
        entry = _entry(backend, read_spec(backend, run))
    except (NotFound, Refused):
        return ""
    if entry is None:
        return ""
    key, store = account(run), backend.store
    body = entry.sealed(backend.key, key)
    try:
        if len(entry.stints) > 1:
            store.put(key, body)
        else:
            with suppress(Exists):
                store.create(key, body)
    except Denied as error:
        _log.warning("run %s is not in the accounts: %s", run, error)
        return ""
    return key


def keep_lacking(backend: Backend, run: RunId, leg: int) -> None:
    """The same for whoever comes later, where who ended that leg did not get to it."""
    if leg or not is_there(backend.store, account(run)):
        keep_entry(backend, run)


def read_entry(backend: Backend, key: str) -> AccountEntry:
    """One of them. Raises `NotFound`, `Refused`."""
    store = backend.store
    return AccountEntry.read(backend.key, key, store.get(key, SMALL_BYTES), partial(store.written_at, key))


class Charged(NamedTuple):
    """What a run's workers cost."""

    usd: Decimal
    on_demand_usd: Decimal  #: what they would have without Spot
    parts: dict[str, Decimal]  #: by component, of what each was given; instances that nobody took beside that
    priced: str  #: by which prices, in words


def charged(backend: Backend, spec: Spec) -> Charged | None:
    """What a run's workers cost, once these have stopped; None before, or where nobody knows.

    Of a fleet that was closed long after the run, as that of a `Cluster`, what it cost until the run's end counts.
    """
    usd, dearer, parts, priced = Decimal(0), Decimal(0), defaultdict[str, Decimal](Decimal), list[str]()
    try:
        for leg in legs_of(backend, spec):
            rates = Rates(tariff=backend.tariff, asked=leg.resources, discount=backend.discount)
            if rates.each is None or leg.end is None or leg.end.ended_at is None:
                return None
            account = settled_account(backend, leg.fleet)
            since, until = _times(leg, leg.end.ended_at, account)
            for worker in account.workers:
                spent = metered([worker], rates, account.closed_at, since=since, until=until).spent
                usd += spent
                for part, share in rates.shares(worker.granted).items():
                    parts[part] += spent * share
            workers = [_on_demand(worker) for worker in account.workers]
            dearer += metered(workers, rates, account.closed_at, since=since, until=until).spent
            priced.append(rates.priced(worker.granted for worker in account.workers))
            for size, arch, hours in unused_of(account.workers, account.closed_at) if until == math.inf else ():
                tariff = replace(backend.tariff, arch=arch)
                parts[UNUSED] += charge(size, hours, tariff, discount=backend.discount).usd or Decimal(0)
    except (NotFound, Refused):
        return None
    return Charged(usd, dearer, dict(parts), "; ".join(dict.fromkeys(priced)))


def last_leg(backend: Backend, spec: Spec) -> Leg:
    """As `find_leg`, with what the legs before it have cost until their workers had stopped, as far as that is known.

    Raises `Refused`.
    """
    *former, leg = legs_of(backend, spec)
    late = sum((_late_usd(backend, each) for each in former), Decimal(0)) if backend.charged else Decimal(0)
    return replace(leg, spent_usd=(leg.spent_usd or 0.0) + float(late)) if late else leg


def _late_usd(backend: Backend, leg: Leg) -> Decimal:
    """What a leg's workers cost beyond what was known when it ended."""
    if leg.end is None or leg.end.ended_at is None:
        return Decimal(0)
    try:
        account = settled_account(backend, leg.fleet)
    except (NotFound, Refused):
        return Decimal(0)
    rates = Rates(tariff=backend.tariff, asked=leg.resources, discount=backend.discount)
    since, until = _times(leg, leg.end.ended_at, account)
    whole, known = (
        metered(account.workers, rates, account.closed_at, since=since, until=at).spent
        for at in (until, leg.end.ended_at)
    )
    return whole - known


def _times(leg: Leg, ended_at: float, account: Account) -> tuple[float, float]:
    """From when to when a leg's workers are counted: of a fleet that was closed long after it, until its end."""
    own = account.closed_at - ended_at < CLOSES_S
    return 0.0 if leg.number else leg.began_at, math.inf if own else ended_at


def _on_demand(worker: WorkerState) -> WorkerState:
    granted = worker.granted
    return worker if granted is None else replace(worker, granted=replace(granted, capacity=FARGATE, spot=False))


def _entry(backend: Backend, spec: Spec) -> AccountEntry | None:
    stints: list[Stint] = []
    prices: list[Estimate] = []
    end: End | None = None
    for leg in legs_of(backend, spec):
        before, workers = sum(stint.slot_seconds for stint in stints), 0 if end is None else end.workers
        if (end := leg.end) is None or end.ended_at is None:
            return None
        stints.append(Stint(leg.fleet, round(max(end.slot_seconds - before, 0.0), 3)))
        worked_s, workers = stints[-1].slot_seconds / leg.resources.slots, max(end.workers - workers, 0)
        prices.append(fargate_usd(leg.resources, worked_s, workers or int(worked_s > 0), backend.tariff))
    if end is None or end.ended_at is None:
        return None
    resources, price = spec.resources, together(prices)
    asked = LOCAL if backend.name == "local" else _capacity(resources)
    return AccountEntry(
        **{name: getattr(spec, name) for name in _OF_SPEC},
        backend=backend.name,
        tariff=backend.tariff,
        state=end.state,
        items=end.items,
        succeeded=end.answered - end.failed - end.withdrawn,
        failed=end.kinds,
        withdrawn=end.withdrawn,
        attempts=end.attempts,
        memory_peak_mib=end.memory_mib,
        tolls=end.tolls,
        workers={asked: end.workers},
        cpu=resources.cpu,
        memory_mib=resources.memory_mib,
        slots=resources.slots,
        stints=tuple(stints),
        ended_at=end.ended_at,
        usd=price.parts | tolls_usd(end.tolls, backend.tariff),
        unknown=price.unknown,
        prices=price.source,
        prices_as_of=price.as_of,
        keep_warm_s=spec.terms.keep_warm_s,
    )


def _capacity(resources: Resources) -> str:
    if resources.on_ec2:
        return EC2_SPOT if resources.spot else EC2
    return FARGATE_SPOT if resources.spot else FARGATE
