"""What a worker has in; the ways to have it on AWS, with what each costs an hour, out: Fargate's four, EC2's types."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from starburst_common.model import Tariff
from starburst_common.money.book import DERIVED, ON_DEMAND, SPOT, item_price
from starburst_common.money.estimate import charge
from starburst_common.money.instances import InstancePrice, Shape, interruptions, prices_in, shapes
from starburst_common.money.shared import fee_share
from starburst_common.resources import Resources

_NOT_FOR_WORKERS = (".metal",)


@dataclass(frozen=True, slots=True, kw_only=True)
class FargateOffer:
    """A kind of Fargate, for one worker."""

    arch: str
    capacity: str
    usd_an_hour: Decimal | None
    basis: str
    as_of: str

    @property
    def name(self) -> str:
        """In words.

        >>> [offer.name for offer in fargate_offers(Resources.of(1))]
        ['Fargate', 'Fargate Spot', 'Fargate ARM', 'Fargate ARM Spot']
        """
        return f"Fargate{' ARM' * (self.arch == 'arm')}{' Spot' * (self.capacity == SPOT)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOffer:
    """A type of instance that holds one worker or several."""

    shape: Shape
    price: InstancePrice
    workers: int  #: that one instance holds
    usd_an_hour: Decimal  #: of one worker, where instances are full, with its share of AWS's fee and the address
    band: int | None  #: how often Spot takes it back, as an index of `BANDS`; None on demand, and where nobody knows

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.shape.type}{' Spot' * (self.price.capacity == SPOT)}"


def fargate_offers(resources: Resources, tariff: Tariff | None = None, discount: float = 0.0) -> list[FargateOffer]:
    """Each architecture, on demand and on Spot, in the tariff's region."""
    at = tariff or Tariff()
    found = []
    for arch in ("x86", "arm"):
        for capacity in (ON_DEMAND, SPOT):
            size = replace(resources, spot=capacity == SPOT)
            price = charge(size, Decimal(1), replace(at, arch=arch), discount=discount)
            found.append(
                FargateOffer(arch=arch, capacity=capacity, usd_an_hour=price.usd, basis=price.basis, as_of=price.as_of)
            )
    return found


def instance_offers(
    resources: Resources,
    tariff: Tariff | None = None,
    discount: float = 0.0,
    *,
    gpus: int = 0,
    gpu: str = "",
    arch: str = "",
) -> list[InstanceOffer]:
    """Types of EC2 that hold at least one such worker, on demand and on Spot, the cheapest a worker first.

    With `gpus` each worker has so many whole ones, of a model whose name holds `gpu`; without, types that have some are
    left out. So are burstable types, which do not keep their speed, and bare metal, which starts for minutes.
    """
    at = tariff or Tariff()
    bands, address = interruptions(at.region), item_price("public-ipv4", at.region)
    each = address.usd if at.public_ipv4 and address is not None else Decimal(0)
    off = Decimal(str(1 - discount))
    found = []
    prices, fee = prices_in(at.region), fee_share(at, gpus=gpus > 0)
    for (type, capacity), price in prices.items():
        shape, on_demand = shapes().get(type), prices.get((type, ON_DEMAND))
        if shape is None or on_demand is None or not _fits(shape, gpus, gpu, arch):
            continue
        if workers := held(shape, resources, gpus):
            band = bands.get(type) if capacity == SPOT else None
            usd = ((price.usd_per_hour + each) * off + on_demand.usd_per_hour * fee) / workers
            found.append(InstanceOffer(shape=shape, price=price, workers=workers, usd_an_hour=usd, band=band))
    return sorted(found, key=lambda offer: (offer.usd_an_hour, offer.name))


def held(shape: Shape, resources: Resources, gpus: int = 0) -> int:
    """How many workers an instance holds.

    >>> held(shapes()["c7g.xlarge"], Resources.of(4)), held(shapes()["m7g.xlarge"], Resources.of(4))
    (0, 1)
    >>> held(shapes()["m7g.4xlarge"], Resources.of(4)), held(shapes()["g5.12xlarge"], Resources.of(4), gpus=1)
    (4, 4)
    """
    return shape.holds(resources.cpu, resources.memory_mib, gpus)


def _fits(shape: Shape, gpus: int, gpu: str, arch: str) -> bool:
    if shape.burstable or any(part in shape.type for part in _NOT_FOR_WORKERS) or arch not in ("", shape.arch):
        return False
    if not gpus:
        return not shape.gpu and shape.quota_family == "Standard"
    return shape.gpus >= gpus and gpu.lower() in shape.gpu.lower()


def derived(offer: FargateOffer | InstanceOffer) -> bool:
    """Whether its price was not seen, but derived from others."""
    return (offer.basis if isinstance(offer, FargateOffer) else offer.price.basis) == DERIVED
