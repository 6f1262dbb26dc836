"""The price book: list prices in US dollars, as tables of this package; rows out, each with its source and its date.

What was not observed says so (`basis`), and what is not in it has no price: nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from starburst_common.errors import BadInput
from starburst_common.money import kept
from starburst_common.money.kept import edition, sheets
from starburst_common.money.tables import FARGATE, OTHER, rows, sources
from starburst_common.phrases import nearest

#: What else has a price.
ITEMS = (
    "public-ipv4",
    "nat-gateway",
    "nat-data",
    "endpoint",
    "endpoint-data",
    "ecr-storage",
    "s3-storage",
    "s3-put",
    "s3-get",
    "sqs-request",
    "log-ingest",
    "log-storage",
    "ebs-storage",
    "managed-instances-fee",
)
ON_DEMAND, SPOT = "on-demand", "spot"
OBSERVED, DERIVED = "observed", "derived"
STORAGE = "storage"
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
    basis: str  #: "observed", "stated" on a page of AWS's, or "derived" from other prices
    source: str
    as_of: str

    @property
    def told(self) -> str:
        """Where and when it holds, in words."""
        derived = ", derived" * (self.basis == DERIVED)
        return f"{'every region' if self.region == '*' else self.region}, price of {self.as_of}{derived}"


def fargate_prices(region: str = "") -> list[FargatePrice]:
    """Every price of Fargate that there is, or those of one region; those that were looked up before the book's."""
    found = [
        FargatePrice(
            region=where,
            arch=arch,
            capacity=capacity,
            usd_per_vcpu_hour=Decimal(vcpu),
            usd_per_gb_hour=Decimal(gb),
            usd_per_storage_gb_hour=Decimal(storage) if storage else None,
            basis=basis,
            source=sources()[source][0],
            as_of=as_of,
        )
        for where, arch, capacity, vcpu, gb, storage, basis, source, as_of in rows(FARGATE, region)
    ]
    return [price if price.capacity == SPOT else _looked_up(price) for price in found]


def _looked_up(price: FargatePrice) -> FargatePrice:
    sheet = sheets(price.region).get(kept.FARGATE)
    names = f"{price.arch} vCPU", f"{price.arch} GB"
    if sheet is None or not kept.holds(sheet.as_of, price.as_of):
        return price
    if lacking := tuple(name for name in names if name not in sheet.prices):
        kept.tell_lacking(price.region, lacking)
        return price
    return replace(
        price,
        usd_per_vcpu_hour=sheet.prices[names[0]],
        usd_per_gb_hour=sheet.prices[names[1]],
        usd_per_storage_gb_hour=sheet.prices.get(STORAGE, price.usd_per_storage_gb_hour),
        source=sheet.source,
        as_of=sheet.as_of,
    )


def fargate_price(region: str, *, arch: str = "x86", capacity: str = ON_DEMAND) -> FargatePrice | None:
    """The price in a region; None where it is not known.

    >>> ireland = fargate_price("eu-west-1", arch="arm", capacity="spot")
    >>> ireland.usd_per_vcpu_hour, ireland.basis, fargate_price("ca-west-1", capacity="spot")
    (Decimal('0.00979124'), 'observed', None)
    """
    return _fargate_price(region, arch, capacity, edition(region))


@lru_cache(maxsize=256)
def _fargate_price(region: str, arch: str, capacity: str, _: tuple[int, str]) -> FargatePrice | None:
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
    return [
        ItemPrice(
            item=name,
            region=where,
            usd=Decimal(usd),
            unit=unit,
            basis=basis,
            source=sources()[source][0],
            as_of=as_of,
        )
        for name, where, usd, unit, basis, source, as_of in rows(OTHER, item)
        if region in ("", where) or where == "*"
    ]


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
        hint = f"did you mean {near!r}?" if (near := nearest(region, known)) else f"known are {', '.join(known)}"
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
