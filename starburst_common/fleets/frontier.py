"""What is wanted, and ways to have workers, in; what ever more of them come to, and what bounds it, out. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Plan, Wish, about, plan
from starburst_common.ports import LaunchSpeed

_STEPS = (1, 2, 5)
_HARDLY = 1.3  #: times as soon as here, below which a fleet is hardly worth its while
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A way to have workers."""

    name: str  #: such as "Fargate Spot"
    usd_an_hour: Decimal | None  #: of each; None where no price is known
    each: int = 1  #: so many come together, and are charged for together
    room: Headroom = field(default_factory=Headroom)
    advised: bool = True  #: it may be named as the soonest or cheapest; not where nobody looked whether there is room
    speed: LaunchSpeed = field(default_factory=LaunchSpeed)
    priced: str = ""  #: of which region and day its price is, in words
    note: str = ""  #: what of its price or room a reader should know

    def usd_for(self, workers: int) -> Decimal | None:
        """An hour of one worker, where there are so many.

        >>> Offer(name="m7g.2xlarge", usd_an_hour=Decimal(1), each=2).usd_for(3)
        Decimal('1.333333333333333333333333333')
        """
        charged = -(-workers // self.each) * self.each
        return None if self.usd_an_hour is None else self.usd_an_hour * charged / max(workers, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine, in place of workers on AWS."""

    cores: int
    ends_s: float | None  #: None where nobody knows how long an item takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What numbers of workers would come to, each way."""

    wish: Wish
    offers: tuple[Offer, ...]
    rows: tuple[tuple[Plan, ...], ...]  #: of ever more workers, a plan for each offer
    here: Here

    @property
    def soonest(self) -> tuple[Offer, Plan] | None:
        """What ends first, and is the cheapest that does, by hardly more than a hundredth."""
        known = [(offer, found) for offer, found in self._points() if found.ends_s is not None]
        if not known:
            return None
        first = min(found.ends_s or math.inf for _, found in known)
        near = [pair for pair in known if (pair[1].ends_s or math.inf) <= 1.01 * first]
        return min(near, key=lambda pair: math.inf if pair[1].usd is None else pair[1].usd)

    @property
    def cheapest(self) -> tuple[Offer, Plan] | None:
        """What costs least, and ends first of what costs hardly more than a hundredth more."""
        known = [(offer, found) for offer, found in self._points() if found.usd is not None]
        if not known:
            return None
        least = min(found.usd for _, found in known if found.usd is not None)
        near = [pair for pair in known if pair[1].usd is not None and pair[1].usd <= least * Decimal("1.01")]
        return min(near, key=lambda pair: pair[1].ends_s or math.inf)

    @property
    def best(self) -> list[tuple[Offer, Plan]]:
        """Those than which none is both sooner and cheaper, the soonest first."""
        found: list[tuple[Offer, Plan]] = []
        least = Decimal("Infinity")
        points = [(offer, each) for offer, each in self._points() if each.ends_s is not None and each.usd is not None]
        for offer, each in sorted(points, key=lambda pair: (pair[1].ends_s or 0.0, pair[1].usd or Decimal(0))):
            if each.usd is not None and each.usd < least:
                found, least = [*found, (offer, each)], each.usd
        return found

    @property
    def verdict(self) -> str:
        """Whether this machine would do.

        >>> from starburst_common.resources import Resources
        >>> wish = Wish(workers=50, resources=Resources.of(1), items=200, item_s=1)
        >>> fargate = [Offer(name="Fargate", usd_an_hour=Decimal("0.05"))]
        >>> print(frontier(wish, fargate, cores=8).verdict)
        run it here: about 25 s on 8 cores, for nothing; on AWS about 49 s with 50 workers at the soonest
        >>> print(frontier(replace(wish, item_s=60), fargate, cores=8).verdict)
        on AWS about 5 min with 50 workers, 5.3 times as soon as here (25 min on 8 cores)
        """
        soonest, here = self.soonest, self.here
        if soonest is None or here.ends_s is None or soonest[1].ends_s is None:
            return ""
        mine, ours, cores = here.ends_s, soonest[1].ends_s, f"{here.cores} core{'s' * (here.cores != 1)}"
        count = soonest[1].workers
        fleet = f"about {about(ours)} with {count:,} worker{'s' * (count != 1)}"
        if mine <= ours:
            return f"run it here: about {about(mine)} on {cores}, for nothing; on AWS {fleet} at the soonest"
        times = mine / ours
        hardly = f"hardly: {times:.1f}" if times < _HARDLY else f"{times:.1f}" if times < 10 else f"{times:,.0f}"
        return f"on AWS {fleet}, {hardly} times as soon as here ({about(mine)} on {cores})"

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "items": self.wish.items,
            "item_s": self.wish.item_s,
            "item_s_between": self.wish.spread,
            "here": {"cores": self.here.cores, "ends_s": self.here.ends_s},
            "verdict": self.verdict,
            "offers": [
                {
                    "name": offer.name,
                    "usd_per_worker_hour": None if offer.usd_an_hour is None else float(offer.usd_an_hour),
                    "room": None if offer.room.free == math.inf else int(offer.room.free),
                    "priced": offer.priced,
                    "note": offer.note,
                    "plans": [_fields(plans[number]) for plans in self.rows],
                }
                for number, offer in enumerate(self.offers)
            ],
        }

    def _points(self) -> list[tuple[Offer, Plan]]:
        """Of all for which there is room, as far as it is known."""
        found = [(offer, each) for plans in self.rows for offer, each in zip(self.offers, plans, strict=True)]
        return [(offer, each) for offer, each in found if offer.advised and each.workers <= offer.room.free]


def frontier(wish: Wish, offers: Sequence[Offer], *, cores: int = 1) -> Frontier:
    """What ever more workers come to: 1, 2, 5, 10 and so on, up to as many as are wanted and make it sooner."""
    useful = wish.workers if wish.items is None else min(wish.workers, max(-(-wish.items // wish.resources.slots), 1))
    steps = [step * 10**power for power in range(6) for step in _STEPS]
    counts = [*(step for step in steps if step < useful), useful]
    plans: list[tuple[Plan, ...]] = []
    for count in counts:
        asked = replace(wish, workers=count)
        found = tuple(plan(asked, Headroom(), each.speed, usd_an_hour=each.usd_for(count)) for each in offers)
        if plans and not any(_sooner(new, old) for new, old in zip(found, plans[-1], strict=True)):
            break
        plans.append(found)
    known = wish.items is not None and wish.item_s is not None
    whole_s = (wish.items or 0) * (wish.item_s or 0.0) / max(cores, 1)
    here_s = max(whole_s, wish.longest_s, (wish.item_s or 0.0) * bool(wish.items)) if known else None
    return Frontier(wish=wish, offers=tuple(offers), rows=tuple(plans), here=Here(cores=cores, ends_s=here_s))


def _sooner(new: Plan, old: Plan) -> bool:
    """By more than a hundredth."""
    return new.ends_s is None or old.ends_s is None or new.ends_s < 0.99 * old.ends_s


def bottleneck(found: Plan, room: Headroom) -> str:
    """What keeps a plan's workers from being sooner.

    >>> from starburst_common.resources import Resources
    >>> wish = Wish(workers=100, resources=Resources.of(1), items=10_000, item_s=30)
    >>> bottleneck(plan(wish, Headroom(), LaunchSpeed()), Headroom())
    'the work itself: 200 workers would need about 26 min in place of 51 min'
    >>> bottleneck(plan(replace(wish, items=100), Headroom(), LaunchSpeed()), Headroom())
    "workers' start: their launch and the pull of the image take 45 of 75 s"
    >>> bottleneck(plan(replace(wish, items=100, item_s=300), Headroom(), LaunchSpeed()), Headroom())
    'the longest item, of 5 min: each is on a slot of its own'
    """
    wish, speed = found.wish, found.speed
    if found.ends_s is None or wish.items is None or wish.item_s is None:
        return ""
    longest_s, after_s = max(wish.longest_s, wish.item_s), found.ends_s - speed.start_s
    if found.workers > room.free and room.bound is not None:
        return f"{room.said(wish.resources)}: there is room for {int(room.free):,} of {found.workers:,} workers now"
    if speed.start_s >= _HALF * found.ends_s:
        return (
            f"workers' start: their launch and the pull of the image take {speed.start_s:.0f} of {about(found.ends_s)}"
        )
    if longest_s >= 0.99 * after_s:
        alone = (
            "each is on a slot of its own" if found.workers * wish.resources.slots >= wish.items else "all else is done"
        )
        return f"the longest item, of {about(longest_s)}: {alone}"
    if found.launched_s >= _HALF * after_s:
        return f"the launch rate: {speed.each_s:g} workers a second, the last of them in {about(found.launched_s)}"
    more = plan(replace(wish, workers=2 * found.workers), Headroom(), speed)
    return (
        f"the work itself: {more.workers:,} workers would need about {about(more.ends_s or 0)} "
        f"in place of {about(found.ends_s)}"
    )


def _fields(found: Plan) -> dict[str, Any]:
    return {name: value for name, value in found.fields.items() if name in _TOLD}


_TOLD = ("workers", "ends_s", "ends_s_between", "usd", "usd_between")
