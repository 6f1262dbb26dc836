"""What is wanted, and what there is room for, in; when how many workers would run, until when, for how much, out. Pure.

No worker waits for another: each starts as soon as there is a token of the launch rate and room for it, and works until
nothing is left. So what a plan tells is a curve, which rises at the launch rate to what there is room for, and its area
is the work. What is free now is taken to stay so. Workers are charged for from their launch until all is answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from starburst_common.dollars import usd_text
from starburst_common.fleets.headroom import Headroom, asked_by, worth_asking
from starburst_common.ports import LaunchSpeed
from starburst_common.resources import Resources

_LEAST_BILLED_S = 60.0  #: of each worker; see `money.estimate`
_IDLE_S = 60.0  #: a worker that finds nothing to do ends after so long
_START_VARIES = 1 / 3  #: by so much workers may come sooner or later than `LaunchSpeed` has it: from 30 to 60 s, of 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted."""

    workers: int
    resources: Resources
    items: int | None = None  #: None where nobody knows yet
    item_s: float | None = None  #: how long one takes on average; None where nobody knows
    spread: tuple[float, float] | None = None  #: between which that average lies; None where nobody knows
    longest_s: float = 0.0  #: how long the longest takes, as far as it is known
    begin_usd: Decimal = Decimal(0)  #: each worker costs so much beside its time
    each_usd: Decimal = Decimal(0)  #: and each item
    priced: str = ""  #: by which prices, in words
    budget_usd: float | None = None
    deadline_s: float | None = None  #: from now


class Point(NamedTuple):
    """Of a plan's curve."""

    at_s: float
    workers: int  #: at work
    answered: int  #: items


class Reckoned(NamedTuple):
    """What a plan comes to."""

    ends_s: float
    usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would come of it. Nothing exists, and nothing was asked of anybody."""

    wish: Wish
    useful: int  #: workers: no more than wanted, and than there is work for
    workers: int  #: of those, as many as there is room for
    launched_s: float  #: when the last of them is launched
    ends_s: float | None  #: when all is answered; None where that is not known
    usd: Decimal | None  #: list price of it all; None where that is not known
    low: Reckoned | None = None  #: where items are quick and workers come soon
    high: Reckoned | None = None  #: where they are not, and the longest item comes last
    bound: str = ""  #: why there are no more
    needs: int = 0  #: the quota that would be worth asking for; 0 where none is
    asks: str = "starburst quota request"  #: for it
    needed: float = 0.0  #: what of it would be used, by others too
    with_it_s: float | None = None  #: when all is answered then
    speed: LaunchSpeed = field(default_factory=LaunchSpeed)

    @property
    def late(self) -> bool:
        """Whether it ends after what was wanted."""
        return self.ends_s is not None and self.wish.deadline_s is not None and self.ends_s > self.wish.deadline_s

    @property
    def enough(self) -> int | None:
        """The fewest workers that would end it in time; None where no number does, or nothing is asked."""
        wish, found = self.wish, None
        if wish.items is None or wish.item_s is None or wish.deadline_s is None:
            return None
        low, high = 1, max(-(-wish.items // wish.resources.slots), 1)
        while low <= high:
            middle = (low + high) // 2
            ends_s = _ends_s(middle, wish, self.speed)
            if ends_s is not None and ends_s <= wish.deadline_s:
                found, high = middle, middle - 1
            else:
                low = middle + 1
        return found

    @property
    def affordable(self) -> int | None:
        """How many items the budget pays for; None where it pays for all, or nobody knows."""
        items, budget = self.wish.items, self.wish.budget_usd
        if budget is None or items is None or self.usd is None or self.usd <= Decimal(str(budget)):
            return None
        return int(items * Decimal(str(budget)) / self.usd)

    def curve(self, points: int = 60) -> Sequence[Point]:
        """How many workers are at work, and how many items answered, evenly over the time that it takes."""
        wish = self.wish
        whole_s = self.ends_s if self.ends_s is not None else 2 * (self.speed.start_s + self.launched_s)
        found = []
        for number in range(points + 1):
            at_s = whole_s * number / points
            done = 0.0 if not wish.item_s else _done_s(self.workers, wish, self.speed, at_s) / wish.item_s
            items = wish.items or 0
            found.append(Point(at_s, _at_work(self.workers, self.speed, at_s), min(int(done), items)))
        if self.ends_s is not None:
            found[-1] = Point(whole_s, 0, wish.items or 0)
        return found

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "workers_wanted": self.wish.workers,
            "workers_useful": self.useful,
            "workers": self.workers,
            "bound": self.bound,
            "launched_s": round(self.launched_s, 1),
            "ends_s": None if self.ends_s is None else round(self.ends_s, 1),
            "ends_s_between": None
            if self.low is None or self.high is None
            else [round(self.low.ends_s, 1), round(self.high.ends_s, 1)],
            "usd": None if self.usd is None else round(float(self.usd), 6),
            "usd_between": self._usd_between(),
            "priced": self.wish.priced,
            "items": self.wish.items,
            "item_s": self.wish.item_s,
            "late": self.late,
            "workers_enough": self.enough,
            "items_affordable": self.affordable,
            "quota_needed": self.needs or None,
            "ends_s_with_it": None if self.with_it_s is None else round(self.with_it_s, 1),
            "curve": [list(point) for point in self.curve()],
        }

    def __str__(self) -> str:
        """In a line.

        >>> from starburst_common.ports import Limit, Unit
        >>> quota = Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=100, code="fargate/L-3032A538")
        >>> wish = Wish(workers=100, resources=Resources.of(4), items=4000, item_s=55)
        >>> print(plan(wish, Headroom(free=25, bound=quota), LaunchSpeed(), usd_an_hour=Decimal("0.2")))
        25 of 100 workers now: Fargate vCPU quota (4 for each worker, 100 in all); all 4,000 items in about 37 min, \
$3.12 ($3.10 to $3.22); with 400 vCPU about 10 min: `starburst quota request 500`
        >>> print(plan(wish, Headroom(), LaunchSpeed()))
        100 workers now; all 4,000 items in about 10 min
        >>> print(plan(Wish(workers=500, resources=Resources.of(1), items=12), Headroom(), LaunchSpeed()))
        12 workers now, for 12 items
        """
        said = [self._workers(), *filter(None, [self._whole(), self._more()])]
        if self.late:
            cure = f"workers={self.enough:,} would do" if self.enough else "no number of workers would do"
            said.append(f"that is later than in {about(self.wish.deadline_s or 0)}: {cure}")
        if self.affordable is not None:
            said.append(f"{usd_text(Decimal(str(self.wish.budget_usd)))} pays for about {self.affordable:,} items")
        return "; ".join(said)

    def _workers(self) -> str:
        word = "worker" if self.useful == 1 else "workers"
        if self.workers < self.useful:
            return f"{self.workers or 'none'} of {self.useful:,} {word} now: {self.bound}"
        fewer = f", for {self.wish.items:,} items" if self.useful < self.wish.workers and self.wish.items else ""
        later = f", the last of them in {about(self.launched_s)}" if self.launched_s >= 1 else ""
        return f"{self.useful:,} {word} now{fewer}{later}"

    def _whole(self) -> str:
        if self.ends_s is None:
            return ""
        between, usd = self._usd_between(), ""
        if between is not None and self.usd is not None:
            low, high = (usd_text(Decimal(str(each))) for each in (between[0], between[-1]))
            by = f"; {self.wish.priced}" if self.wish.priced else ""
            usd = f", {usd_text(self.usd)} ({low} to {high}{by})"
        return f"all {self.wish.items:,} items in about {about(self.ends_s)}{usd}"

    def _usd_between(self) -> list[float] | None:
        ends = [each.usd for each in (self.low, self.high) if each is not None and each.usd is not None]
        return [round(float(usd), 6) for usd in ends] or None

    def _more(self) -> str:
        if not self.needs:
            return ""
        sooner = "" if self.with_it_s is None else f" about {about(self.with_it_s)}"
        return f"with {self.needed:g} vCPU{sooner or ' all of them'}: `{self.asks} {self.needs}`"


def plan(wish: Wish, room: Headroom, speed: LaunchSpeed, *, usd_an_hour: Decimal | None = None) -> Plan:
    """What would come of it, with room for so many workers now, each at this price."""
    slots = wish.resources.slots
    useful = wish.workers if wish.items is None else min(wish.workers, max(-(-wish.items // slots), 1))
    workers = int(min(useful, room.free))
    found, limit = _reckoned(workers, wish, speed, usd_an_hour), room.bound
    needs, needed = 0, 0.0
    if workers < useful and limit is not None and limit.code:
        needed = room.takes(useful, wish.resources) + room.others
        needs = worth_asking(needed)
    return Plan(
        wish=wish,
        useful=useful,
        workers=workers,
        launched_s=_ramp_s(workers, speed),
        ends_s=None if found is None else found.ends_s,
        usd=None if found is None else found.usd,
        low=_bound(workers, wish, speed, usd_an_hour, high=False),
        high=_bound(workers, wish, speed, usd_an_hour, high=True),
        bound=room.said(wish.resources) if workers < useful else "",
        needs=needs,
        needed=needed,
        asks="" if limit is None else asked_by(limit),
        with_it_s=_ends_s(useful, wish, speed) if needs else None,
        speed=speed,
    )


def about(seconds: float) -> str:
    """A length of time as it is said.

    >>> [about(seconds) for seconds in (0.4, 45, 95, 2280, 9000, 200_000)]
    ['1 s', '45 s', '95 s', '38 min', '2.5 h', '2.3 days']
    """
    if seconds < 200:
        return f"{max(math.ceil(seconds), 1)} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.2g} h" if seconds < 172_800 else f"{seconds / 86_400:.2g} days"


def _ramp_s(workers: int, speed: LaunchSpeed) -> float:
    """From the first launch to the last."""
    return max(workers - speed.burst, 0) / speed.each_s


def _at_work(workers: int, speed: LaunchSpeed, at_s: float) -> int:
    since = at_s - speed.start_s
    return 0 if since < 0 else int(min(workers, speed.burst + speed.each_s * since))


def _done_s(workers: int, wish: Wish, speed: LaunchSpeed, at_s: float) -> float:
    """Slot seconds until then: the area below the curve."""
    since, first = max(at_s - speed.start_s, 0.0), min(workers, speed.burst)
    rising = min(since, _ramp_s(workers, speed))
    area = first * rising + speed.each_s * rising**2 / 2 + workers * (since - rising)
    return area * wish.resources.slots


def _ends_s(workers: int, wish: Wish, speed: LaunchSpeed) -> float | None:
    """When all is answered: no sooner than one item takes."""
    if wish.items is None or wish.item_s is None or workers <= 0:
        return None
    left, rate, first = wish.items * wish.item_s / wish.resources.slots, speed.each_s, min(workers, speed.burst)
    ramp_s = _ramp_s(workers, speed)
    if left <= (risen := first * ramp_s + rate * ramp_s**2 / 2):
        since = (math.sqrt(first**2 + 2 * rate * left) - first) / rate
    else:
        since = ramp_s + (left - risen) / workers
    return speed.start_s + max(since, wish.item_s, wish.longest_s) if wish.items else speed.start_s


def _reckoned(workers: int, wish: Wish, speed: LaunchSpeed, usd_an_hour: Decimal | None) -> Reckoned | None:
    """Each worker costs from its launch to the end, a minute at least; who is not launched by then, nothing."""
    ends_s = _ends_s(workers, wish, speed)
    if ends_s is None:
        return None
    launched = min(workers, speed.burst + int(speed.each_s * ends_s))
    alive_s = launched * ends_s - max(launched - speed.burst, 0) * _ramp_s(launched, speed) / 2
    hours = Decimal(str(max(alive_s, launched * _LEAST_BILLED_S))) / 3600
    beside = launched * wish.begin_usd + (wish.items or 0) * wish.each_usd
    return Reckoned(ends_s, None if usd_an_hour is None else hours * usd_an_hour + beside)


def _bound(workers: int, wish: Wish, speed: LaunchSpeed, usd_an_hour: Decimal | None, *, high: bool) -> Reckoned | None:
    """The best of it, or the worst: when the average item, and workers' start, are as good or bad as they may be.

    At worst the longest item begins when all else is answered, and all workers but one wait for it.
    """
    if wish.item_s is None:
        return None
    lowest, highest = wish.spread or (wish.item_s, wish.item_s)
    varied = replace(speed, start_s=speed.start_s * (1 + (_START_VARIES if high else -_START_VARIES)))
    tail_s = max(wish.longest_s, highest) if high else 0.0
    found = _reckoned(workers, replace(wish, item_s=highest if high else lowest), varied, usd_an_hour)
    if found is None or not high:
        return found
    waits = Decimal(str(workers * min(tail_s, _IDLE_S))) / 3600
    usd = None if found.usd is None or usd_an_hour is None else found.usd + waits * usd_an_hour
    return Reckoned(found.ends_s + tail_s, usd)
