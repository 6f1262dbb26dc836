"""A region in; what AWS tells of prices there, out: the Price List API, and EC2's history of Spot prices.

The Price List API is in three regions only, whichever region is asked about, and signed by any account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.price_list import LINUX_ON_DEMAND, PriceList, fargate, instances

#: Where the API is, by how a region's name begins. Source: botocore 1.44, data/endpoints.json.
_NEAR = {
    "eu-": "eu-central-1",
    "il-": "eu-central-1",
    "me-": "eu-central-1",
    "af-": "eu-central-1",
    "ap-": "ap-south-1",
}
_ELSE = "us-east-1"


def endpoint_region(region: str) -> str:
    """The one of the API's three regions that is asked about a region.

    >>> [endpoint_region(region) for region in ("eu-west-1", "ap-east-1", "sa-east-1")]
    ['eu-central-1', 'ap-south-1', 'us-east-1']
    """
    return next((there for begin, there in _NEAR.items() if region.startswith(begin)), _ELSE)


def fargate_told(clients: Clients, region: str) -> PriceList:
    """Fargate's prices on demand. Raises `Denied`, `Unavailable`."""
    among = [*_equal({"regionCode": region}), {"Type": "CONTAINS", "Field": "usagetype", "Value": "Fargate"}]
    return fargate(_products(clients, "AmazonECS", among), region)


def instances_told(clients: Clients, region: str) -> PriceList:
    """EC2's prices on demand, for Linux on shared hardware: a thousand types in ten pages. Raises as above."""
    return instances(_products(clients, "AmazonEC2", _equal({"regionCode": region, **LINUX_ON_DEMAND})), region)


def spot_told(clients: Clients) -> PriceList:
    """EC2's Spot prices now in the clients' region, each type's in the zone where it is lowest. Raises as above.

    A row is a change of a price, newest not always first: of each type in each zone the newest counts.
    """
    now = datetime.now(UTC)
    newest: dict[tuple[str, str], tuple[datetime, str]] = {}
    with speaking("ec2:DescribeSpotPriceHistory"):
        pages = clients.networks.get_paginator("describe_spot_price_history").paginate(
            StartTime=now, EndTime=now, ProductDescriptions=["Linux/UNIX"]
        )
        for page in pages:
            for row in page["SpotPriceHistory"]:
                pool = row["InstanceType"], row["AvailabilityZone"]
                newest[pool] = max(
                    newest.get(pool, (row["Timestamp"], row["SpotPrice"])), (row["Timestamp"], row["SpotPrice"])
                )
    prices: dict[str, Decimal] = {}
    odd: dict[str, str] = {}
    for (type, _), (_, told) in newest.items():
        try:
            usd = Decimal(told).normalize()
        except InvalidOperation:
            usd = Decimal(0)
        if usd.is_finite() and usd > 0:
            prices[type] = min(prices.get(type, usd), usd)
        else:
            odd[type] = f"a price of {told!r:.20} in AWS's answer"
    return PriceList(prices, odd, now.date().isoformat())


def _equal(wanted: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]


def _products(clients: Clients, service: str, filters: list[Any]) -> Iterator[str]:
    with speaking("pricing:GetProducts"):
        pages = clients.pricing.get_paginator("get_products").paginate(
            ServiceCode=service, Filters=filters, FormatVersion="aws_v1"
        )
        for page in pages:
            yield from page["PriceList"]
