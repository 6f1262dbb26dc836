"""A backend, what is to be mapped and how, in; what would come of it out: nothing is launched, stored or pickled."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence, Sized
from dataclasses import replace
from decimal import Decimal
from functools import partial

from starburst_common.dollars import usd_text
from starburst_common.errors import Denied, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.frontier import Frontier, Offer, frontier
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Plan, Wish, plan
from starburst_common.limits import Limits
from starburst_common.measured import Sample
from starburst_common.model import WorkerState
from starburst_common.money.book import SPOT
from starburst_common.money.estimate import charge
from starburst_common.money.offers import FargateOffer, InstanceOffer, derived, fargate_offers, instance_offers
from starburst_common.options import Options
from starburst_common.phrases import one_line
from starburst_common.ports import Backend, LaunchSpeed
from starburst_common.resources import Resources
from starburst_common.runs.beside import image_usd
from starburst_common.runs.ledger import LATELY_S, past_items
from starburst_common.runs.limiting import burn_beside, burn_of, rates_of, within_hourly

_HERE = LaunchSpeed(burst=1000, each_s=1000.0, start_s=1.0)  #: on this machine nobody counts
#: An instance boots, joins its cluster and pulls the image: 75 to 105 s from nothing to the first item, as the R
#: package measured on c7i.xlarge in us-east-1, 2026-07-21.
_EC2 = LaunchSpeed(start_s=90.0)
_MOST_EACH = 4  #: workers of an instance: larger ones stand half empty where workers are few
_MOST = 10_000  #: workers, where nobody says how many


def planned(
    backend: Backend, name: str, items: object, options: Options, *, seconds: float | None, sample: Sample | None
) -> Plan:
    """As `Cluster.plan` tells it, of a function of this name."""
    if backend.refuse is not None:
        backend.refuse(options.resources)
    fleet = Fleet.of(backend, options.resources, options.workers or backend.default_workers)
    priced = rates_of(backend, options.resources).priced()
    wish = replace(_wish(backend, name, items, options, seconds, sample), workers=fleet.workers, priced=priced)
    return _plan(fleet, wish, _room(fleet, options.limits, []))


def estimated(
    backend: Backend,
    name: str,
    items: object,
    options: Options,
    *,
    seconds: float | None,
    sample: Sample | None,
    instances: bool,
) -> Frontier:
    """As `Cluster.estimate` tells it: each way that has a price, up to as many workers as are wanted."""
    wish, tariff = _wish(backend, name, items, options, seconds, sample), backend.tariff
    offers = [
        _of_fargate(backend, wish, each)
        for each in ([] if wish.resources.on_ec2 else fargate_offers(wish.resources, tariff, backend.discount))
        if each.usd_an_hour is not None
    ]
    if instances or wish.resources.on_ec2:
        gpus = wish.resources.gpus
        found = instance_offers(wish.resources, tariff, backend.discount, arch=tariff.arch, gpus=gpus)
        for spot in (False, True):
            few = (each for each in found if each.workers <= _MOST_EACH and (each.price.capacity == SPOT) is spot)
            cheapest = next(few, None)
            offers += [_of_instance(backend, wish, cheapest)] if cheapest is not None else []
    return frontier(wish, offers, cores=_cores())


def _wish(
    backend: Backend, name: str, items: object, options: Options, seconds: float | None, sample: Sample | None
) -> Wish:
    """With how long an item takes: as somebody says, as it was measured, or as in former runs."""
    left_s = options.limits.ends_at(now := time.time()) - now
    wish = Wish(
        workers=options.workers or _MOST,
        resources=options.resources,
        items=len(items) if isinstance(items, Sized) else None,
        item_s=seconds,
        begin_usd=image_usd(backend, options.resources.image),
        budget_usd=options.limits.budget_usd,
        deadline_s=None if left_s == math.inf else left_s,
    )
    if seconds is None and sample is not None:
        return replace(wish, item_s=sample.mean_s, spread=sample.spread, longest_s=sample.longest_s)
    if seconds is None and (past := past_items(backend, name, now - LATELY_S)):
        known = [each.seconds for each in past]
        beside = sum(past[0].beside.values(), Decimal(0)) * Decimal(str(1 - backend.discount))
        return replace(wish, item_s=known[0], spread=(min(known), max(known)), each_usd=beside)
    return wish


def _of_fargate(backend: Backend, wish: Wish, each: FargateOffer) -> Offer:
    spot = each.capacity == SPOT
    asks = replace(wish.resources, spot=spot)
    pulls = (
        f"{usd_text(wish.begin_usd)} of each worker is for its image, through a NAT gateway" if wish.begin_usd else ""
    )
    fleet = Fleet.of(backend, asks, 1)
    room = Headroom() if backend.quotas is None else fleet.headroom([], fleet.look())
    return Offer(
        name=each.name,
        usd_an_hour=each.usd_an_hour,
        room=room,
        speed=LaunchSpeed() if backend.quotas is None else backend.quotas.speed,
        priced=_priced(backend, each.as_of),
        note="; ".join(filter(None, ["derived price" * derived(each), pulls])),
    )


def _priced(backend: Backend, as_of: str) -> str:
    off = f", less {100 * backend.discount:g}%" if backend.discount else ""
    return f"{backend.tariff.region}, prices of {as_of}{off}"


def _of_instance(backend: Backend, wish: Wish, each: InstanceOffer) -> Offer:
    workers, room = f"{each.workers} worker{'s' * (each.workers != 1)} each", _room_on(backend, wish, each)
    looked = "quota not looked at"
    if room is not None and room.bound is not None:
        looked = f"room for {int(room.free):,} by the {room.bound.name}"
    return Offer(
        name=each.name,
        usd_an_hour=each.usd_an_hour,
        each=each.workers,
        room=room or Headroom(),
        advised=room is not None,
        speed=_EC2,
        priced=_priced(backend, each.price.as_of),
        note=f"{workers}{', derived price' * derived(each)}; {looked}",
    )


def _room_on(backend: Backend, wish: Wish, each: InstanceOffer) -> Headroom | None:
    """By the quota of its family, of which an instance takes all its vCPU; None where nobody can say."""
    if backend.quotas is None:
        return None
    spot, shape = each.price.capacity == SPOT, each.shape
    limits = backend.quotas.limits(spot=spot, ec2=True, gpus=bool(wish.resources.gpus))
    kind = [limit for limit in limits if (" Spot " in limit.name) == spot and not limit.unknown]
    mine = [limit for limit in kind if limit.name.startswith(f"EC2 {shape.quota_family} ")]
    if not mine:
        return None
    least = min(mine, key=lambda limit: limit.total - limit.used)
    instances = int(max(least.total - least.used, 0) // shape.vcpu)
    return Headroom(free=instances * each.workers, bound=least, others=least.used)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say_plan(fleet: Fleet, items: object, limits: Limits) -> None:
    """What is about to come, on stderr."""
    if sys.stderr is None:
        return
    try:
        workers = fleet.states()
        if any(worker.end is None for worker in workers):
            return  # they are there already
        room = _room(fleet, limits, workers)
    except (Denied, Unavailable):
        return  # who launches is told
    count = len(items) if isinstance(items, Sized) else None
    wish = Wish(workers=fleet.workers, resources=fleet.spec.resources, items=count)
    print(one_line(str(_plan(fleet, wish, room))), file=sys.stderr, flush=True)


def _room(fleet: Fleet, limits: Limits, workers: Sequence[WorkerState]) -> Headroom:
    """For how many more, by what the account allows and what they may cost an hour."""
    backend, rates = fleet.backend, rates_of(fleet.backend, fleet.spec.resources)
    burn = partial(burn_of, workers, rates, time)
    others = partial(burn_beside, backend, rates, fleet.id, time)
    return within_hourly(backend, rates, limits, fleet.headroom(workers, fleet.look()), burn, others)


def _plan(fleet: Fleet, wish: Wish, room: Headroom) -> Plan:
    backend = fleet.backend
    speed = _HERE if backend.quotas is None else backend.quotas.speed
    return plan(wish, room, speed, usd_an_hour=_usd_an_hour(backend, wish.resources))


def _usd_an_hour(backend: Backend, resources: Resources) -> Decimal | None:
    return charge(resources, Decimal(1), backend.tariff, discount=backend.discount).usd
