"""A worker on an instance in; what its share of that costs an hour, by component, out.

An instance is charged for whole, by the second and a minute at least, with its address, and where ECS manages it, AWS
takes a fee, of its price on demand, whatever it costs. Sources: https://aws.amazon.com/ec2/pricing/on-demand/,
https://aws.amazon.com/ecs/pricing/, "Amazon ECS Managed Instances"; read 2026-11-30. A worker's share is what it takes
most of, of vCPU, memory and GPUs; what nobody takes is idle, and told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from starburst_common.instances import shapes, suited
from starburst_common.model import Tariff
from starburst_common.money.book import DERIVED, ON_DEMAND, SPOT, item_price
from starburst_common.money.instances import InstancePrice, allowed, instance_prices, prices_in
from starburst_common.money.kept import edition
from starburst_common.resources import Resources

FEE = "management fee"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedHour:
    """Of one worker."""

    type: str  #: of the instance
    compute: Decimal
    fee: Decimal
    address: Decimal
    basis: str
    source: str
    as_of: str


def shared_hour(resources: Resources, tariff: Tariff) -> SharedHour | None:
    """On the type that it is on; where that is not known yet, on the cheapest that workers fill, of those that the

    site may have. None without a price.

    >>> one = Resources.of(1, capacity="ec2")
    >>> hour = shared_hour(one, Tariff(arch="arm"))
    >>> hour.type, hour.basis, shared_hour(one, Tariff(region="mars-1"))
    ('c6g.12xlarge', 'derived', None)
    >>> shared_hour(one, Tariff(arch="arm", types=("m7g.*",))).type[:4]
    'm7g.'
    """
    size, region = (resources.cpu, resources.memory_mib, resources.gpus), tariff.region
    types = allowed(tariff, gpus=resources.gpus > 0)
    type = resources.instance_type or _cheapest(*size, resources.spot, region, tariff.arch, types, edition(region))
    shape, price = shapes().get(type), _price(type, region, SPOT if resources.spot else ON_DEMAND)
    on_demand = _price(type, region, ON_DEMAND)
    if shape is None or price is None or on_demand is None:
        return None
    share = Decimal(str(shape.share(*size)))
    address = item_price("public-ipv4", region)
    return SharedHour(
        type=type,
        compute=price.usd_per_hour * share,
        fee=on_demand.usd_per_hour * share * _fee_share(resources, tariff),
        address=(address.usd if address is not None else Decimal(0)) * share,
        basis=price.basis if resources.instance_type else DERIVED,
        source=price.source,
        as_of=price.as_of,
    )


def fee_share(tariff: Tariff, *, gpus: bool = False) -> Decimal:
    """What AWS takes for managing an instance, of its price on demand; nothing where it is of a group of the user's.

    >>> fee_share(Tariff(region="eu-west-1")), fee_share(Tariff(managed=False))
    (Decimal('0.12'), Decimal('0'))
    """
    if not (tariff.gpus_managed if gpus else tariff.managed):
        return Decimal(0)
    fee = item_price("managed-instances-fee", tariff.region)
    assert fee is not None  # it is of every region
    return fee.usd


def _fee_share(resources: Resources, tariff: Tariff) -> Decimal:
    """The same of a worker, by the instance that it is on, once that is known."""
    if resources.instance_type:
        tariff = replace(tariff, managed=resources.managed, gpus_managed=resources.managed)
    return fee_share(tariff, gpus=resources.gpus > 0)


def _price(type: str, region: str, capacity: str) -> InstancePrice | None:
    return next((each for each in instance_prices(type, region) if each.capacity == capacity), None) if type else None


@lru_cache(maxsize=256)
def _cheapest(
    cpu: float,
    memory_mib: int,
    gpus: int,
    spot: bool,
    region: str,
    arch: str,
    types: tuple[str, ...],
    _: tuple[int, str],
) -> str:
    """The type on which such workers cost least; empty where none holds one, or has a price."""
    may_be = {shape.type: shape for shape in suited(types, arch, gpus=gpus > 0)}
    found = [
        (price.usd_per_hour * Decimal(str(shape.share(cpu, memory_mib, gpus))), type)
        for (type, capacity), price in prices_in(region).items()
        if capacity == (SPOT if spot else ON_DEMAND)
        and (shape := may_be.get(type)) is not None
        and shape.fits(cpu, memory_mib, gpus)
    ]
    return min(found, default=(Decimal(0), ""))[1]
