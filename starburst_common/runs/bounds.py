"""A deadline, and what a budget still pays for, in; when a run stops that could go on, and why, out. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from starburst_common.dollars import usd_text
from starburst_common.limits import Limits
from starburst_common.model import FailureKind
from starburst_common.money.budget import Purse


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Until when a run may go on, though nothing is wrong; times on the clock of its view.

    >>> from decimal import Decimal
    >>> from starburst_common.money.meter import Meter
    >>> meter = Meter(at=0, burn=Decimal("0.01"), least=Decimal("0.40"))
    >>> purse = Purse(budget=Decimal(5), meter=meter, each=Decimal("0.01"), stop_s=30, worth_s=300)
    >>> bounds = Bounds(deadline=900, purse=purse, read_at=500)
    >>> bounds.stop_at(), bounds.kind.value, bounds.stop_at(3), bounds.kind_at(3).value
    (900, 'deadline', 570.0, 'budget')
    """

    limits: Limits = field(default_factory=Limits)  #: as they were asked for
    deadline: float = math.inf
    purse: Purse | None = None
    read_at: float = 0.0  #: when that was

    def stop_at(self, more: int = 0) -> float:
        """When its workers are told to stop, with so many more of them."""
        return min(self.deadline, math.inf if self.purse is None else self.read_at + self.purse.lasts_s(more))

    @property
    def kind(self) -> FailureKind:
        """Why they are, then."""
        return self.kind_at()

    def kind_at(self, more: int = 0) -> FailureKind:
        """The same with more of them."""
        purse = self.purse
        if purse is None:
            return FailureKind.DEADLINE
        spent = not (more or purse.meter.burn or purse.pays)  # nobody is there, nor can be
        return FailureKind.BUDGET if spent or self.stop_at(more) < self.deadline else FailureKind.DEADLINE

    @property
    def pays(self) -> float:
        """For so many more of them."""
        return math.inf if self.purse is None else self.purse.pays

    def over(self, now: float, *, alive: int, item_s: float) -> bool:
        """Whether all are to stop now; or none is left, and what there is lets none begin."""
        return now >= self.stop_at() or not (alive or (self.pays and now + item_s < self.stop_at()))

    def why(self, answered: int, items: int | None, alive: int, now: float = math.inf) -> str:
        """Why a run stops that could go on, with figures; also somewhat before its end, where that lets none begin."""
        of = f" of {items:,}" if items is not None else ""
        left = f"{answered:,}{of} items are answered; `starburst resume` goes on under another"
        if self.purse is not None and self.kind is FailureKind.BUDGET:
            meter = self.purse.meter
            theirs = "worker has" if alive == 1 else f"{alive} workers have" if alive else "workers have"
            if alive or meter.burn:
                spent = f"{usd_text(meter.least)} once its {theirs} stopped"
            else:
                spent = f"{usd_text(meter.spent)}, and what is left pays for no worker"
            spent += f"; {meter.priced}" * bool(meter.priced)
            if self.purse.of:
                return f"{self.purse.of}, is used up ({spent}): {left.removesuffix(' under another')}"
            return f"its budget of {usd_text(self.purse.budget)} is used up ({spent}): {left} --budget"
        when = "" if self.limits.deadline_s is None else f", {self.limits.deadline_s:,.0f} s after it began"
        if now < self.deadline:
            return f"its deadline{when}{',' * bool(when)} leaves no time for another item: {left} --deadline"
        return f"its deadline has passed{when}: {left} --deadline"
