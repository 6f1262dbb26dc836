"""A fleet's workers in; what they cost so far, and will at least, out. Pure: the clock is an argument.

Fargate bills a worker by the second, from the pull of its image until it stops, a minute at least: see `estimate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from starburst_common.model import Granted, Tariff, WorkerPhase, WorkerState
from starburst_common.money.estimate import LEAST_BILLED_S, charge, hourly
from starburst_common.money.sums import prices_told
from starburst_common.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a second of a worker costs."""

    tariff: Tariff
    asked: Resources
    discount: float = 0.0

    @property
    def each(self) -> Decimal | None:
        """Of another one, as it is asked for; None where the price is not known."""
        price = charge(self.asked, Decimal(1), self.tariff, discount=self.discount).usd
        return None if price is None else price / 3600

    @property
    def on_demand(self) -> Rates:
        """The same on demand, as workers may be given where there is no Spot."""
        return replace(self, asked=replace(self.asked, spot=False))

    @property
    def dearest(self) -> Decimal | None:
        """What another one costs so."""
        return self.on_demand.each

    def of(self, granted: Granted | None) -> Decimal:
        """Of one that was given this; of one of which that is not known yet, as it was asked for."""
        price = None if granted is None or not granted.vcpu else hourly(granted, self.tariff, self.discount).usd
        return (self.each or Decimal(0)) if price is None else price / 3600

    def shares(self, granted: Granted | None) -> dict[str, Decimal]:
        """Of that, what each component is of it.

        >>> one = Granted(capacity="FARGATE", architecture="", zone="", vcpu=2, memory_mib=8192)
        >>> shares = Rates(tariff=Tariff(), asked=Resources.of(1)).shares(one)
        >>> {part: round(share, 3) for part, share in shares.items()}
        {'compute': Decimal('0.959'), 'public addresses': Decimal('0.041')}
        """
        price = None if granted is None or not granted.vcpu else hourly(granted, self.tariff, self.discount)
        if price is None or not price.usd:
            price = charge(self.asked, Decimal(1), self.tariff, discount=self.discount)
        return {part: usd / price.usd for part, usd in price.parts.items()} if price.usd else {}

    def priced(self, given: Iterable[Granted | None] = ()) -> str:
        """By which prices workers cost what they do that were given these; as they are asked for, where none was.

        >>> Rates(tariff=Tariff(region="eu-west-1"), asked=Resources.of(2, spot=True)).priced()
        'eu-west-1, Fargate Spot x86, prices of 2026-09-29'
        """
        kinds = {
            (granted.capacity, granted.architecture, granted.instance_type, granted.spot): granted
            for granted in given
            if granted is not None and granted.vcpu
        }
        hours = [hourly(granted, self.tariff, self.discount) for granted in kinds.values()]
        return prices_told(hours or [charge(self.asked, Decimal(1), self.tariff, discount=self.discount)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What workers cost, in USD."""

    at: float  #: wall clock, when it was read
    spent: Decimal = Decimal(0)  #: so far
    least: Decimal = Decimal(0)  #: by the time that all have stopped, if they were told to at once
    burn: Decimal = Decimal(0)  #: a second, of those that are there
    grows: Decimal = Decimal(0)  #: the same of those whose first minute is over, which is in what was spent
    priced: str = ""  #: by which prices, in words

    def read(self, now: float) -> Decimal:
        """What was spent until a later moment, if nothing has changed since."""
        return self.spent + self.grows * Decimal(str(max(round(now - self.at, 3), 0.0)))


def metered(
    workers: Iterable[WorkerState],
    rates: Rates,
    now: float,
    *,
    since: float = 0.0,
    stop_s: float = 0.0,
    unseen_until: float = math.inf,
    until: float = math.inf,
) -> Meter:
    """What workers have cost since then, or from then until then.

    They are billed for `stop_s` after they are told to stop. Who has stopped and nobody saw when, did so at
    `unseen_until`, if that is past. Two of 2 vCPU and 8 GB, after an hour and after ten seconds:

    >>> from starburst_common.model import WorkerId
    >>> rates = Rates(tariff=Tariff(), asked=Resources.of(2, "8GB"))
    >>> two = [WorkerState(id=WorkerId("w"), ordinal=0, phase=WorkerPhase.RUNNING, started_at=at) for at in (1, 3591)]
    >>> meter = metered(two, rates, 3601, stop_s=30)
    >>> [round(usd, 6) for usd in (meter.spent, meter.least, 3600 * meter.burn)]
    [Decimal('0.123545'), Decimal('0.124558'), Decimal('0.243040')]
    """
    known: dict[Granted | None, Decimal] = {}
    spent, least, burn, grows = Decimal(0), Decimal(0), Decimal(0), Decimal(0)
    for worker in workers:
        if worker.started_at > until:
            continue
        if (rate := known.get(worker.granted)) is None:
            rate = known[worker.granted] = rates.of(worker.granted)
        minimum = LEAST_BILLED_S if worker.started_at >= since else 0
        if worker.phase is not WorkerPhase.STOPPED:
            ran_s = max(min(now, until) - max(worker.started_at, since), 0.0) if worker.started_at else 0.0
            spent += rate * (_billed(ran_s, minimum) if worker.started_at else 0)
            dearest = rate if worker.granted is not None else rates.dearest or rate
            least += dearest * _billed(ran_s + stop_s, minimum)
            burn += dearest  # whoever is given no Spot is charged for so, and nobody may be there any more to see that
            grows += rate if worker.started_at and ran_s >= minimum else 0
        elif worker.started_at and (ended := min(worker.stopped_at or min(now, unseen_until), until)) > since:
            seconds = _billed(ended - max(worker.started_at, since), minimum)
            spent += rate * seconds
            least += rate * seconds
    return Meter(at=now, spent=spent, least=least, burn=burn, grows=grows, priced=rates.priced(known))


def _billed(seconds: float, minimum: float) -> Decimal:
    return Decimal(math.ceil(max(seconds, minimum)))
