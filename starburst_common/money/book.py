"""The price book: list prices in US dollars, as tables of this package; rows out, each with its source and its date.

What was not observed says so (`basis`), and what is not in it has no price: nothing is guessed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files

from starburst_common.errors import BadInput

ITEMS = ("public-ipv4", "ecr-storage", "s3-storage", "log-storage")  #: what else has a price
ON_DEMAND, SPOT = "on-demand", "spot"
OBSERVED, DERIVED = "observed", "derived"
_GB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FargatePrice:
    """What an hour of Fargate costs in one region, for Linux; a GB is 1024 MiB."""

    region: str
    arch: str  #: "x86" or "arm"
    capacity: str  #: "on-demand" or "spot"
    usd_per_vcpu_hour: Decimal
    usd_per_gb_hour: Decimal
    usd_per_storage_gb_hour: Decimal | None  #: above the first 20 GB, which are free; None where it is not known
    basis: str  #: "observed", or "derived" from other prices
    source: str
    as_of: str  #: the last day on which the price was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPrice:
    """What something else costs; the region "*" is every region."""

    item: str  #: one of `ITEMS`
    region: str
    usd: Decimal
    unit: str  #: what one unit is
    basis: str  #: "observed", or "stated" on a page of AWS's
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePrice:
    """What an hour of an EC2 instance costs in one region, for Linux on shared hardware."""

    type: str
    region: str
    capacity: str  #: "on-demand" or "spot"
    usd_per_hour: Decimal
    basis: str
    source: str
    as_of: str


def fargate_prices(region: str = "") -> list[FargatePrice]:
    """Every price of Fargate that there is, or those of one region."""
    sources = _sources()
    return [
        FargatePrice(
            region=where,
            arch=arch,
            capacity=capacity,
            usd_per_vcpu_hour=Decimal(vcpu),
            usd_per_gb_hour=Decimal(gb),
            usd_per_storage_gb_hour=Decimal(storage) if storage else None,
            basis=basis,
            source=sources[source][0],
            as_of=as_of,
        )
        for where, arch, capacity, vcpu, gb, storage, basis, source, as_of in _rows("fargate.csv", region)
    ]


@lru_cache(maxsize=256)
def fargate_price(region: str, *, arch: str = "x86", capacity: str = ON_DEMAND) -> FargatePrice | None:
    """The price in a region; None where it is not known.

    >>> ireland = fargate_price("eu-west-1", arch="arm", capacity="spot")
    >>> ireland.usd_per_vcpu_hour, ireland.basis, fargate_price("ca-west-1", capacity="spot")
    (Decimal('0.00979124'), 'observed', None)
    """
    found = (price for price in fargate_prices(region) if (price.arch, price.capacity) == (arch, capacity))
    return next(found, None)


@lru_cache(maxsize=256)
def item_price(item: str, region: str) -> ItemPrice | None:
    """The price of one of `ITEMS` in a region; None where it is not known.

    >>> item_price("public-ipv4", "eu-west-1").usd, item_price("public-ipv4", "mars-1")
    (Decimal('0.005'), None)
    """
    return next(iter(item_prices(item, region)), None) if region else None


def item_prices(item: str, region: str = "") -> list[ItemPrice]:
    """The same in every region that has a price, or in one."""
    sources = _sources()
    return [
        ItemPrice(
            item=name,
            region=where,
            usd=Decimal(usd),
            unit=unit,
            basis=basis,
            source=sources[source][0],
            as_of=as_of,
        )
        for name, where, usd, unit, basis, source, as_of in _rows("other.csv", item)
        if region in ("", where) or where == "*"
    ]


def instance_prices(type: str, region: str = "") -> list[InstancePrice]:
    """What an instance of a type costs, on demand and on Spot, in every region that has a price, or in one.

    >>> [(str(price.usd_per_hour), price.capacity, price.basis) for price in instance_prices("m5.large", "eu-west-1")]
    [('0.107', 'on-demand', 'observed'), ('0.04601', 'spot', 'derived')]
    """
    head = {name: cells for name, *cells in _rows("ec2.csv", ("type", "source", "as_of"))}
    found: list[InstancePrice] = []
    for _, *cells in _rows("ec2.csv", type):
        told = zip(head["type"], cells, head["source"], head["as_of"], strict=True)
        for where, cell, source, as_of in told:
            if cell and region in ("", where):
                found += _instance(type, where, cell, source, as_of)
    return found


def _instance(type: str, region: str, cell: str, source: str, as_of: str) -> Iterator[InstancePrice]:
    on_demand, _, spot = cell.partition("/")
    sources = _sources()
    told = [(ON_DEMAND, on_demand, OBSERVED, source, as_of)]
    if spot:
        seen = spot.endswith("!")
        spot_source = "spot-observed" if seen else "spot-advisor"
        told.append((SPOT, spot.rstrip("!"), OBSERVED if seen else DERIVED, spot_source, sources[spot_source][1]))
    for capacity, usd, basis, name, date in told:
        yield InstancePrice(
            type=type,
            region=region,
            capacity=capacity,
            usd_per_hour=Decimal(usd),
            basis=basis,
            source=sources[name][0],
            as_of=date,
        )


def regions() -> list[str]:
    """Those with a price of Fargate."""
    return sorted({price.region for price in fargate_prices()})


def refuse_region(region: str) -> None:
    """Raises `BadInput` for a region that has no price at all.

    >>> refuse_region("us-east-9")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: region='us-east-9' has no price here: did you mean 'us-east-2'?
    """
    known = regions()
    if region not in known:
        near = get_close_matches(region, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise BadInput(f"region={region!r} has no price here: {hint}")


def ecr_usd_per_month(size_bytes: int) -> Decimal:
    """What storing so many bytes of images costs a month. Layers that they share are stored once: several cost less.

    >>> ecr_usd_per_month(5 << 30)
    Decimal('0.50')
    """
    usd = storage_usd_per_month("ecr-storage", "*", size_bytes)
    assert usd is not None
    return usd


def storage_usd_per_month(item: str, region: str, size_bytes: int) -> Decimal | None:
    """What so many bytes cost a month by the price of "s3-storage" or "log-storage"; None where it is not known.

    >>> storage_usd_per_month("s3-storage", "us-east-1", 10 << 30)
    Decimal('0.230')
    """
    price = item_price(item, region)
    return None if price is None else size_bytes * price.usd / _GB


def _rows(table: str, first: str | tuple[str, ...] = "") -> Iterator[list[str]]:
    """The rows of a table below its head, or those that begin with this; others are not parsed."""
    text = files("starburst_common.money").joinpath("book", table).read_text(encoding="utf-8")
    lines = text.splitlines()
    wanted = (first,) if isinstance(first, str) else first
    begins = tuple(f"{each}," for each in wanted if each)
    return csv.reader(line for line in lines[0 if begins else 1 :] if not begins or line.startswith(begins))


def _sources() -> dict[str, tuple[str, str]]:
    return {name: (what, as_of) for name, what, as_of in _rows("sources.csv")}
