"""What was asked of a run's cost and time, and its workers, in; its bounds out, and the word to workers when they end.

A driver may die at any time. So before it launches anybody, it writes down when the money will be spent with them, and
workers stop then by themselves: a run without a driver launches nobody, so it costs no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from starburst_common.alerts import alerts_in, reached
from starburst_common.dollars import usd_text
from starburst_common.errors import BadInput, Refused
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.headroom import Headroom
from starburst_common.limits import Limits
from starburst_common.model import FleetId, WorkerPhase, WorkerState
from starburst_common.money.budget import Purse, least_budget
from starburst_common.money.estimate import LEAST_BILLED_S
from starburst_common.money.meter import Meter, Rates, metered
from starburst_common.money.monthly import Spent
from starburst_common.names import RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import Backend, Clock
from starburst_common.resources import Resources
from starburst_common.runs.beside import Charges, image_usd
from starburst_common.runs.bounds import Bounds
from starburst_common.runs.legs import Until
from starburst_common.runs.stored import read_until
from starburst_common.runs.tally import Tally
from starburst_common.wire.fields import LAST_MOMENT

_log = our_log()
_SKEW_S = 2.0  #: a store tells whole seconds, and a request takes its time
_LATER_S = 10.0  #: workers are told of a later end when it is so much later


def refuse_unkept(backend: Backend, resources: Resources, limits: Limits, now: float) -> None:
    """Raises `BadInput` for a budget that cannot be kept or pays for nobody, and for a deadline that has passed."""
    limits.refuse_past(now)
    if not backend.charged:
        return
    rates = rates_of(backend, resources)
    if limits.hourly_usd is not None and rates.dearest is not None and limits.hourly_usd < 3600 * rates.dearest:
        costs = (
            f"a worker of {resources.size} costs {usd_text(3600 * rates.dearest)} an hour ({rates.on_demand.priced()})"
        )
        raise BadInput(f"max_hourly_cost={limits.hourly_usd:g}: {costs}: give more, or ask for smaller ones")
    if limits.budget_usd is None:
        return
    budget = f"budget={limits.budget_usd:g}"
    if rates.each is None or rates.dearest is None:
        where = f"{backend.tariff.region} ({backend.tariff.arch}{', Spot' * resources.spot})"
        raise BadInput(f"{budget}: nobody knows what a worker costs in {where}: leave out budget, or spot")
    least = least_budget(rates.dearest, backend.stop_s) + image_usd(backend, resources.image)
    if Decimal(str(limits.budget_usd)) < least:
        costs = f"{usd_text(least)} ({rates.on_demand.priced()})"
        raise BadInput(f"{budget}: to begin and end a worker of {resources.size} costs {costs}: give more")


def rates_of(backend: Backend, resources: Resources) -> Rates:
    """What its workers cost, by the site's tariff and the user's discount."""
    return Rates(tariff=backend.tariff, asked=resources, discount=backend.discount)


def alerts_of(backend: Backend, limits: Limits) -> tuple[float, ...]:
    """Per cent of a budget at which it is said how much is used: as the run has it, else as the site."""
    found = alerts_in(backend.alert_at) if limits.alerts is None else limits.alerts
    return found or ()


def burn_of(workers: Sequence[WorkerState], rates: Rates, clock: Clock) -> Decimal:
    """What these cost a second."""
    return metered(workers, rates, clock.time()).burn


def burn_beside(backend: Backend, rates: Rates, fleet: FleetId, clock: Clock) -> Decimal:
    """What workers of other fleets of the site cost a second."""
    fleets = [each for each in backend.compute.fleets() if each != fleet]
    return burn_of([worker for each in fleets for worker in backend.compute.workers(each)], rates, clock)


def within_hourly(
    backend: Backend,
    rates: Rates,
    limits: Limits,
    room: Headroom,
    burn: Callable[[], Decimal],
    others: Callable[[], Decimal],
) -> Headroom:
    """The room that is left by what a run's workers, and the site's, may cost an hour; these are what they cost now."""
    own = limits.hourly_usd if backend.charged else None
    for most, of in ((own, "its"), (backend.max_hourly_usd, "the site's")):
        if not most or room.free < 1 or (each := rates.dearest) is None:
            continue
        now = burn() + (0 if of == "its" else others())
        paid = max(int((Decimal(str(most)) / 3600 - now) / each), 0)
        if paid < room.free:
            cost = f"{usd_text(3600 * now)} now"
            room = Headroom(free=paid, words=f"{of} max_hourly_cost of {usd_text(Decimal(str(most)))}: {cost}")
    return room


class Limiter:
    """Of one leg of a run, for its driver."""

    def __init__(
        self,
        backend: Backend,
        names: RunNames,
        fleet: Fleet,
        clock: Clock,
        limits: Limits,
        began_at: float,
        month: Callable[[], Spent] | None = None,
    ) -> None:
        """`month` tells what is left of the monthly budget that the run comes under, if it does."""
        self._month = month
        self._backend, self._names, self._clock = backend, names, clock
        self._limits, self._began_at = limits, began_at
        self._rates, self._resources, self._fleet = (
            rates_of(backend, fleet.spec.resources),
            fleet.spec.resources,
            fleet.id,
        )
        self.beside = Charges(backend, names, self._resources, began_at)
        self._others_usd, self._others_at = Decimal(0), -math.inf
        self._skew_s: float | None = None  # by how much our clock is behind the store's, once that is known
        self._told: Until | None = None  # what workers were told last
        self._alerted = 0.0  # at so many per cent of the budget it was said last
        self.meter: Meter | None = None  #: of its workers, as they were last seen; None where nothing is charged for

    @property
    def limited(self) -> bool:
        """Whether anything is."""
        return self._limits.ends_at(0.0) < math.inf or (self._limits.budget_usd is not None and self._backend.charged)

    def look(self, workers: Sequence[WorkerState], tally: Tally) -> Bounds:
        """Its bounds, with these workers and what outcomes tell."""
        clock, limits = self._clock, self._limits
        now = clock.monotonic()
        self.meter = self.read(workers, tally, clock.time() + (self._skewed() if self.limited else 0.0))
        self._alert()
        return Bounds(
            limits=limits,
            deadline=now + limits.ends_at(self._began_at) - clock.time(),
            purse=self._purse(workers, tally),
            read_at=now,
        )

    def read(self, workers: Sequence[WorkerState], tally: Tally, now: float) -> Meter | None:
        """What these have cost, with what is charged for beside them; None where nothing is, or nobody knows."""
        if not self._backend.charged or self._rates.each is None:
            return None
        beside = self.beside.usd(tally.tolls, workers)
        meter = metered(
            workers,
            self._rates,
            now,
            since=0.0 if self._names.leg else self._began_at,
            stop_s=self._backend.stop_s,
            unseen_until=math.inf if self._told is None else self._told.at + self._backend.stop_s,
        )
        return replace(meter, spent=meter.spent + beside, least=meter.least + beside)

    def room(self, room: Headroom, workers: Sequence[WorkerState]) -> dict[str, Any]:
        """For how many more workers there is, by what the account allows and what the site may cost an hour; and why.

        What others cost is seen now and then: two who start workers at once may go beyond it by what one of them does.
        """
        burn = partial(burn_of, workers, self._rates, self._clock)
        paid = within_hourly(self._backend, self._rates, self._limits, room, burn, self._others)
        return {"free": paid.free, "bound": paid.why(self._resources)}

    def _alert(self) -> None:
        """Say in the log how much of the run's budget is used, where that is much."""
        if self._limits.budget_usd is None or self.meter is None:
            return
        spent, budget = self.meter.spent, Decimal(str(self._limits.budget_usd))
        if (much := reached(alerts_of(self._backend, self._limits), spent, budget)) > self._alerted:
            of = f"{usd_text(spent)} of its budget of {usd_text(budget)} are spent ({self.meter.priced})"
            self._alerted = much
            _log.warning("run %s: %s: more than %g%%", self._names.run, of, much)

    def _others(self) -> Decimal:
        """What workers of other fleets of the site cost a second."""
        now = self._clock.monotonic()
        if now - self._others_at > self._backend.look_s / 2:
            self._others_usd = burn_beside(self._backend, self._rates, self._fleet, self._clock)
            self._others_at = now
        return self._others_usd

    def tell(self, bounds: Bounds, more: int = 0) -> None:
        """Have workers know when they end, with so many more of them, who are about to be launched."""
        if not self.limited:
            return
        stop_at = bounds.stop_at(more)
        if stop_at == math.inf:  # nobody is there
            return
        at = min(self._clock.time() + self._skewed() + stop_at - self._clock.monotonic(), LAST_MOMENT)
        if self._told is None or not -0.5 < at - self._told.at < _LATER_S:
            told = Until(at=max(at, 0.0), kind=bounds.kind_at(more))
            self._backend.store.put(self._names.until, told.sealed(self._backend.key, self._names.until))
            self._told = told

    def _purse(self, workers: Sequence[WorkerState], tally: Tally) -> Purse | None:
        if self._limits.budget_usd is None or self.meter is None or (each := self._rates.each) is None:
            return None
        budget, of = Decimal(str(self._limits.budget_usd)), ""
        if self._month is not None and (spent := self._month()).left <= budget:
            budget, of = spent.left, spent.budget.named
        a_second, begin = each / self._resources.slots, self.beside.begin
        caused = self.beside.share(tally.tolls, tally.slot_seconds, a_second, each * LEAST_BILLED_S)
        pulling = sum(not of.started_at and of.phase is not WorkerPhase.STOPPED for of in workers)
        more = 1 + caused.share  # of what is charged for beside workers, they will cause as much as before
        least = self.meter.least + caused.share * max(self.meter.least - caused.usd, Decimal(0)) + begin * pulling
        return Purse(
            budget=budget,
            of=of,
            meter=replace(self.meter, least=least, burn=self.meter.burn * more),
            each=each * more,
            dearest=(self._rates.dearest or each) * more,
            begin=begin,
            stop_s=self._backend.stop_s,
            worth_s=self._backend.worth_s,
            begun=bool(workers),
        )

    def _skewed(self) -> float:
        """By how much our clock is behind the store's, by which workers are billed; another driver's word is read."""
        if not self._backend.charged:
            return 0.0
        if self._skew_s is None:
            store = self._backend.store
            store.put(self._names.driven, b"")
            skew_s = store.written_at(self._names.driven) - self._clock.time()
            self._skew_s = skew_s if abs(skew_s) > _SKEW_S else 0.0
            with suppress(Refused):
                self._told = read_until(self._backend, self._names.run, self._names.leg)
        return self._skew_s
