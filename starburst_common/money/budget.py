"""What workers cost and what they may, in; for how long they may go on, and how many more, out. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from starburst_common.money.estimate import LEAST_BILLED_S
from starburst_common.money.meter import Meter

_BEGINS_S = 60.0  #: a worker pulls its image and begins within so long, as a rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a run may spend, and what it spends.

    >>> from dataclasses import replace
    >>> cent = Meter(at=0, burn=Decimal("0.01"), least=Decimal("0.40"))
    >>> purse = Purse(budget=Decimal(5), meter=cent, each=Decimal("0.01"), stop_s=30, worth_s=300)
    >>> purse.lasts_s(), purse.lasts_s(1), purse.pays  # another one costs $0.60 until it could be stopped
    (460.0, 200.0, 0)
    >>> replace(purse, budget=Decimal(20)).pays  # for five minutes each
    4
    """

    budget: Decimal
    meter: Meter
    each: Decimal  #: a second of another worker
    dearest: Decimal = Decimal(0)  #: the same where it is dearest, if that is more
    begin: Decimal = Decimal(0)  #: another worker costs so much beside its time
    stop_s: float  #: a worker that is told to stop is billed for so long
    worth_s: float  #: another worker is not begun for less
    begun: bool = True  #: there has been one
    of: str = ""  #: whose budget it is, if not the run's own

    @property
    def least(self) -> Decimal:
        """What another worker costs at least."""
        return self.begin + max(self.each, self.dearest) * Decimal(str(max(float(LEAST_BILLED_S), self.stop_s)))

    def lasts_s(self, more: int = 0) -> float:
        """When all workers have to be told to stop, in seconds from the reading, with more of them from then on."""
        burn = self.meter.burn + more * max(self.each, self.dearest)
        left = self.budget - self.meter.least - more * self.least
        return float(left / burn) if burn else math.inf

    @property
    def pays(self) -> int:
        """For how many more workers: each, beside those that are there, for as long as it is worth to begin one."""
        if not self.each:
            return 0
        worth_s = Decimal(str(self.worth_s))
        left = self.budget - self.meter.least - self.meter.burn * worth_s
        more = int(max(left, Decimal(0)) / (self.least + self.each * worth_s))
        least = self.begin + least_budget(max(self.each, self.dearest), self.stop_s)
        return more or int(not self.begun and self.budget >= least)


def least_budget(each: Decimal, stop_s: float) -> Decimal:
    """The least that pays for a worker: until it has begun, and until it has stopped again."""
    return each * Decimal(str(max(float(LEAST_BILLED_S), stop_s) + _BEGINS_S))
