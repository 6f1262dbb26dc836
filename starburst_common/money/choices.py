"""What workers have, how many and for how long, in; on what of AWS's they may run, the cheapest first, out.

How fast processors are is in no table here: a vCPU counts as a vCPU, and an hour of work as an hour everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starburst_common.model import Tariff
from starburst_common.money.book import ON_DEMAND, SPOT, item_price
from starburst_common.money.estimate import ADDRESSES, COMPUTE, LEAST_BILLED_S
from starburst_common.money.instances import BANDS, Shape, instance_prices, shapes
from starburst_common.money.offers import FargateOffer, InstanceOffer, fargate_offers, held, instance_offers
from starburst_common.money.shared import FEE, fee_share
from starburst_common.resources import Resources

FARGATE_START_S, EC2_START_S = 45.0, 90.0  #: until a worker is at work; see `planned`
FARGATE = "Fargate"  #: a family of quotas, beside EC2's
Rooms = Mapping[tuple[str, bool], float]  #: vCPU that are free now, by family of quotas and whether it is Spot's


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to run so many workers for so long."""

    name: str
    arch: str
    spot: bool
    workers_each: int  #: that an instance holds; 1 on Fargate
    usd_per_worker_hour: Decimal
    usd: Decimal  #: of all, instances that are not full included
    at_once: int | None  #: workers for which there is room now; None where nobody has looked
    ends_s: float | None  #: with so many at once, others after them; None where there is no room at all
    band: int | None  #: of `BANDS`; None on demand, on Fargate, and where nobody knows
    basis: str
    as_of: str

    @property
    def taken_back(self) -> str:
        """How often Spot takes such instances back in a month, in words."""
        return "never" if not self.spot else "?" if self.band is None else BANDS[self.band]

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "arch": self.arch,
            "spot": self.spot,
            "workers_each": self.workers_each,
            "usd_per_worker_hour": round(float(self.usd_per_worker_hour), 6),
            "usd": round(float(self.usd), 6),
            "at_once": self.at_once,
            "ends_s": self.ends_s,
            "taken_back_a_month": self.taken_back,
            "basis": self.basis,
            "prices_as_of": self.as_of,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCharge:
    """What workers on one type of EC2 cost."""

    instances: int
    each: int  #: workers that an instance holds
    parts: dict[str, Decimal]  #: US dollars by component
    basis: str
    source: str
    as_of: str

    @property
    def usd(self) -> Decimal:
        """Together."""
        return sum(self.parts.values(), Decimal(0))


def choices(
    resources: Resources,
    workers: int,
    hours: float,
    tariff: Tariff,
    *,
    rooms: Rooms | None = None,
    discount: float = 0.0,
    gpus: int = 0,
    gpu: str = "",
    arch: str = "",
    spot: bool = True,
) -> list[Choice]:
    """All of them, the cheapest first; those of Spot, too, with `spot`. With GPUs, of EC2 only: Fargate has none."""
    billed = Decimal(str(max(hours, LEAST_BILLED_S / 3600)))
    found = [
        _of_fargate(offer, offer.usd_an_hour, workers, billed, _free(rooms, FARGATE, offer, resources))
        for offer in (fargate_offers(resources, tariff, discount) if not gpus else [])
        if offer.usd_an_hour is not None and arch in ("", offer.arch)
    ]
    found += [
        _of_instances(offer, workers, billed, _held_now(rooms, offer))
        for offer in instance_offers(resources, tariff, discount, gpus=gpus, gpu=gpu, arch=arch)
    ]
    return sorted((each for each in found if spot or not each.spot), key=lambda choice: (choice.usd, choice.name))


def soonest(found: list[Choice]) -> Choice | None:
    """What ends first, and is the cheapest that does; what has no room is not counted."""
    ready = [choice for choice in found if choice.ends_s is not None]
    first = min((choice.ends_s or 0.0 for choice in ready), default=None)
    return next((choice for choice in ready if choice.ends_s == first), None)


def instance_charge(
    type: str, resources: Resources, workers: int, hours: float, tariff: Tariff, discount: float = 0.0
) -> InstanceCharge | None:
    """What so many workers for so long cost on instances of a type; None where that has no price in the region.

    Each instance is charged for as a whole, by the second and a minute at least, with AWS's fee for managing it, if
    it does, and its address; see `shared`. Its disk is not counted.

    >>> charged = instance_charge("m7i.2xlarge", Resources.of(4), 3, 2, Tariff())
    >>> charged.instances, charged.each, round(charged.parts["compute"], 4)
    (2, 2, Decimal('1.6128'))
    """
    capacity = SPOT if resources.spot else ON_DEMAND
    prices = {each.capacity: each for each in instance_prices(type, tariff.region)}
    price, on_demand, shape = prices.get(capacity), prices.get(ON_DEMAND), shapes().get(type)
    each = 0 if shape is None else held(shape, resources)
    if price is None or on_demand is None or not each:
        return None
    instances, off = -(-workers // each), Decimal(str(1 - discount))
    paid = Decimal(str(max(hours, LEAST_BILLED_S / 3600))) * instances
    address = item_price("public-ipv4", tariff.region) if tariff.public_ipv4 else None
    fee = paid * on_demand.usd_per_hour * fee_share(tariff, gpus=shape is not None and shape.gpus > 0)
    parts = {COMPUTE: paid * price.usd_per_hour * off} | ({FEE: fee} if fee else {})
    parts |= {ADDRESSES: paid * address.usd * off} if address else {}
    return InstanceCharge(
        instances=instances, each=each, parts=parts, basis=price.basis, source=price.source, as_of=price.as_of
    )


def families(found: list[Choice]) -> Iterator[tuple[str, bool]]:
    """The quotas that choices take of, each once."""
    known = shapes()
    return iter(dict.fromkeys((_family(known.get(each.name.split()[0])), each.spot) for each in found))


def _family(shape: Shape | None) -> str:
    return FARGATE if shape is None else shape.quota_family


def _free(rooms: Rooms | None, family: str, offer: FargateOffer, resources: Resources) -> int | None:
    free = None if rooms is None else rooms.get((family, offer.capacity == SPOT))
    return None if free is None else math.floor(free / resources.cpu)


def _held_now(rooms: Rooms | None, offer: InstanceOffer) -> int | None:
    free = None if rooms is None else rooms.get((offer.shape.quota_family, offer.price.capacity == SPOT))
    return None if free is None else math.floor(free / offer.shape.vcpu) * offer.workers


def _ends_s(workers: int, hours: Decimal, start_s: float, at_once: int | None) -> float | None:
    """Those that find no room begin when others have ended."""
    if at_once is not None and at_once < 1:
        return None
    rounds = 1 if at_once is None else -(-workers // at_once)
    return round(start_s + float(hours) * 3600 * rounds, 1)


def _of_fargate(offer: FargateOffer, usd: Decimal, workers: int, hours: Decimal, at_once: int | None) -> Choice:
    return Choice(
        name=offer.name,
        arch=offer.arch,
        spot=offer.capacity == SPOT,
        workers_each=1,
        usd_per_worker_hour=usd,
        usd=usd * hours * workers,
        at_once=at_once,
        ends_s=_ends_s(workers, hours, FARGATE_START_S, at_once),
        band=None,
        basis=offer.basis,
        as_of=offer.as_of,
    )


def _of_instances(offer: InstanceOffer, workers: int, hours: Decimal, at_once: int | None) -> Choice:
    charged = -(-workers // offer.workers) * offer.workers
    return Choice(
        name=offer.name,
        arch=offer.shape.arch,
        spot=offer.price.capacity == SPOT,
        workers_each=offer.workers,
        usd_per_worker_hour=offer.usd_an_hour,
        usd=offer.usd_an_hour * hours * charged,
        at_once=at_once,
        ends_s=_ends_s(workers, hours, EC2_START_S, at_once),
        band=offer.band,
        basis=offer.price.basis,
        as_of=offer.price.as_of,
    )
