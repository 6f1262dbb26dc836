"""A backend with monthly budgets, and a run's tags, in; what others have left of them this month, out.

What runs have spent is told by their entries in the accounts and the accounts of their fleets, and of those that go on
by their workers: so whoever begins or drives a run sees what all others have spent, whoever drives those.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from starburst_common.errors import BadInput, Denied, NotFound, Refused, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import ids, made_at
from starburst_common.limits import Limits
from starburst_common.model import FleetId, RunId, WorkerState
from starburst_common.money.accounts import AccountEntry
from starburst_common.money.budget import least_budget
from starburst_common.money.kept import prices_then
from starburst_common.money.meter import Rates, metered
from starburst_common.money.monthly import MonthlyBudget, Spent, budgets_of, month_of
from starburst_common.money.tolls import tolls_usd
from starburst_common.names import ACCOUNTS, RUNS, RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import Backend, Clock
from starburst_common.resources import Resources
from starburst_common.runs.accounts import CLOSES_S, read_entry
from starburst_common.runs.limiting import Limiter, alerts_of, rates_of
from starburst_common.runs.spec import WHOLE, Leg, find_leg, read_spec
from starburst_common.runs.view import Policy

_log = our_log()
_LOOK_S = 60.0  #: between two looks at what others have spent


def within_month(
    backend: Backend, tags: Mapping[str, str], resources: Resources, limits: Limits, clock: Clock = time
) -> Limits:
    """The limits of a run that is about to begin: its budget is no more than what is left of the month's.

    Raises `BadInput` where that pays for no worker, or nobody knows what one costs. Its driver tells of what is used.
    """
    month = Monthly.of(backend, None, tags, alerts_of(backend, limits), clock)
    if month is None:
        return limits
    spent, rates = month.tightest(tell=False), rates_of(backend, resources)
    if rates.dearest is None:
        raise BadInput(f"nobody knows what a worker costs in {backend.tariff.region}, and {spent.budget.named}, holds")
    if spent.left < (least := least_budget(rates.dearest, backend.stop_s)):
        raise BadInput(spent.refused(least))
    if limits.budget_usd is not None and Decimal(str(limits.budget_usd)) <= spent.left:
        return limits
    return replace(limits, budget_usd=float(spent.left))


def limiter_of(
    backend: Backend, names: RunNames, fleet: Fleet, clock: Clock, policy: Policy, tags: Mapping[str, str]
) -> Limiter:
    """What bounds a leg of a run, by its own limits and by the month's."""
    month = Monthly.of(backend, names.run, tags, alerts_of(backend, policy.limits), clock)
    left = None if month is None else month.tightest
    return Limiter(backend, names, fleet, clock, policy.limits, policy.began_at, left)


class _Cost(NamedTuple):
    """A run's."""

    usd: Decimal
    priced: str  #: by which prices, in words


class Monthly:
    """The monthly budgets that a run comes under."""

    def __init__(
        self,
        backend: Backend,
        run: RunId | None,
        budgets: list[MonthlyBudget],
        alerts: tuple[float, ...],
        clock: Clock = time,
    ) -> None:
        self._backend, self._run, self._budgets, self._alerts, self._clock = backend, run, budgets, alerts, clock
        self._closed: dict[str, _Cost] = {}  # what entries cost whose fleets are all closed, by their keys
        self._entries: dict[str, AccountEntry] = {}
        self._spent: Spent | None = None
        self._looked_at, self._told = -math.inf, 0.0

    @classmethod
    def of(
        cls,
        backend: Backend,
        run: RunId | None,
        tags: Mapping[str, str],
        alerts: tuple[float, ...],
        clock: Clock = time,
    ) -> Monthly | None:
        """None where there is none, or nothing is charged for."""
        mine = [each for each in budgets_of(backend.monthly_budget) if each.covers(tags)]
        return cls(backend, run, mine, alerts, clock) if mine and backend.charged else None

    def tightest(self, *, tell: bool = True) -> Spent:
        """The one of which least is left, as it was a minute ago at most; where nobody can look, as it was last seen.

        Raises `Denied` or `Unavailable` the first time.
        """
        now = self._clock.monotonic()
        if self._spent is None or now - self._looked_at >= _LOOK_S:
            try:
                self._spent = min((self._look(each) for each in self._budgets), key=lambda spent: spent.left)
            except (Denied, Unavailable):
                if self._spent is None:
                    raise
            self._looked_at = now
            if tell and self._spent.alert > self._told:
                self._told = self._spent.alert
                _log.warning("%s: more than %g%%", self._spent.told, self._told)
        return self._spent

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self, budget: MonthlyBudget) -> Spent:
        month = month_of(self._clock.time())
        found = [
            *self._ended(budget, f"{ACCOUNTS}{month.name}/"),
            *(self._going(leg, rates) for leg, rates in self._legs(budget, month.begins)),
        ]
        return Spent(
            budget=budget,
            month=month,
            usd=sum((each.usd for each in found), Decimal(0)),
            runs=len(found),
            priced="; ".join(sorted({each.priced for each in found if each.priced})),
            alerts=self._alerts,
        )

    def _ended(self, budget: MonthlyBudget, folder: str) -> Iterator[_Cost]:
        """What each run cost that has an entry; one that was resumed has one, of its legs before."""
        for key in self._backend.store.list(folder):
            name = key.rpartition("/")[2]
            if name.startswith("fleet-"):
                continue
            with suppress(NotFound, Refused):
                if key not in self._entries:
                    self._entries[key] = read_entry(self._backend, key)
                if budget.covers(self._entries[key].tags):
                    with prices_then(self._entries[key].created_at):
                        found = self._cost(key, self._entries[key])
                    yield found

    def _cost(self, key: str, entry: AccountEntry) -> _Cost:
        """By its workers; where nothing is kept of those, as it was estimated when it ended."""
        if key in self._closed:
            return self._closed[key]
        rates = Rates(tariff=entry.tariff, asked=entry.asked, discount=self._backend.discount)
        usd, whole, priced = Decimal(0), True, ""
        for number, stint in enumerate(entry.stints):
            workers, closed_at = self._workers(stint.fleet)
            until, last = entry.ended_at, number == len(entry.stints) - 1
            if closed_at is not None and (not last or closed_at - entry.ended_at < CLOSES_S):
                until = math.inf
            since = 0.0 if number else entry.created_at
            at = self._clock.time() if closed_at is None else closed_at
            meter = metered(workers, rates, at, since=since, until=until)
            usd, priced, whole = usd + meter.spent, meter.priced, whole and closed_at is not None
        off = 1 - Decimal(str(self._backend.discount))
        if usd:
            usd += sum(tolls_usd(entry.tolls, entry.tariff).values(), Decimal(0)) * off
        else:
            usd = sum(entry.usd.values(), Decimal(0)) * off
        if whole:
            self._closed[key] = _Cost(usd, priced)
        return _Cost(usd, priced)

    def _workers(self, fleet: FleetId) -> tuple[list[WorkerState], float | None]:
        """A fleet's, and when it was closed; None while it is open."""
        from starburst_common.aws.accounts import Account

        try:
            account = Account.read(self._backend.store, self._backend.key, fleet)
        except NotFound:
            return [*self._backend.compute.workers(fleet)], None
        return [*account.workers], account.closed_at

    def _legs(self, budget: MonthlyBudget, since: float) -> Iterator[tuple[Leg, Rates]]:
        """Those that go on, of other runs begun since then."""
        backend = self._backend
        ended = {key.rpartition("/")[2]: entry for key, entry in self._entries.items()}
        for name in ids(backend.store.folders(RUNS)):
            entry = ended.get(name)
            if name == self._run or made_at(name) < since or (entry is not None and entry.state in WHOLE):
                continue
            if entry is not None and not budget.covers(entry.tags):
                continue
            with suppress(NotFound, Refused):
                spec = read_spec(backend, RunId(name))
                if budget.covers(spec.tags) and (leg := find_leg(backend, spec)).end is None:
                    yield leg, rates_of(backend, leg.resources)

    def _going(self, leg: Leg, rates: Rates) -> _Cost:
        """What its workers will have cost once they have stopped, if they were told to now."""
        since = 0.0 if leg.number else leg.began_at
        workers = self._backend.compute.workers(leg.fleet)
        meter = metered(workers, rates, self._clock.time(), since=since, stop_s=self._backend.stop_s)
        return _Cost(meter.least, meter.priced)
