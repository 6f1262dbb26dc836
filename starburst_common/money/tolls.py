"""What is charged for beside workers, counted, in; what requests, logs and data through NAT gateways cost out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from starburst_common.model import NAT_ALL, NO_NAT, Tariff
from starburst_common.money.book import item_price

REQUESTS, LOGS, NAT = "requests", "logs", "data through NAT"  #: components
APART = (REQUESTS, LOGS, NAT)
_LOCAL = Tariff()


def tolls_usd(tolls: Mapping[str, int], tariff: Tariff = _LOCAL) -> dict[str, Decimal]:
    """What requests, logs and data through NAT gateways cost, as far as their prices are known there.

    A component that is nothing is left out. Images come from S3, so an S3 gateway endpoint lets them by, too.
    Sources: https://aws.amazon.com/cloudwatch/pricing/, "Logs"; https://aws.amazon.com/vpc/pricing/, "NAT gateway".

    >>> tolls_usd({"s3-put": 1000, "s3-get": 1000, "sqs-request": 1000}), tolls_usd({})
    ({'requests': Decimal('0.0058')}, {})
    >>> told = {"log-bytes": 1 << 30, "sqs-bytes": 1 << 30, "s3-bytes": 5 << 30, "image-bytes": 3 << 30}
    >>> for nat in ("none", "but-s3", "all"):
    ...     print({name: f"{usd:f}" for name, usd in tolls_usd(told, Tariff(nat=nat)).items()})
    {'logs': '0.5'}
    {'logs': '0.5', 'data through NAT': '0.09'}
    {'logs': '0.5', 'data through NAT': '0.45'}
    """
    through: tuple[str, ...] = () if tariff.nat == NO_NAT else ("log-bytes", "sqs-bytes")
    through += ("s3-bytes", "image-bytes") if tariff.nat == NAT_ALL else ()
    told = [(REQUESTS, kind, Decimal(count)) for kind, count in tolls.items() if not kind.endswith("-bytes")]
    told += [(LOGS, "log-ingest", _gb(tolls.get("log-bytes", 0)))]
    told += [(NAT, "nat-data", _gb(sum(tolls.get(kind, 0) for kind in through)))]
    found: dict[str, Decimal] = {}
    for name, item, count in told:
        if count and (price := item_price(item, tariff.region)) is not None:
            found[name] = found.get(name, Decimal(0)) + count * price.usd
    return {name: usd.normalize() for name, usd in found.items()}


def _gb(nbytes: int) -> Decimal:
    return Decimal(nbytes) / (1 << 30)
