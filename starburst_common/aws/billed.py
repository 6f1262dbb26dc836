"""A site and days in; what AWS has put on the bill for them, by day and service, out: Cost Explorer, by the site's tag.

It has a tag's costs once that was activated as a cost allocation tag, from then on, and a day's about a day later.
Sources: AWS Cost Management API reference, GetCostAndUsage and ListCostAllocationTags; AWS Billing User Guide, "Using
user-defined cost allocation tags"; read 2026-11-30. A request costs $0.01: AWS Cost Explorer, "Pricing"; read
2026-12-01.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.errors import NotFound, Unavailable

TAG = "starburst:site"
#: What a site's workers are on the bill as; storage beyond the first 20 GB and what instances have included.
OF_WORKERS = frozenset({"Amazon Elastic Container Service", "Amazon Elastic Compute Cloud - Compute", "EC2 - Other"})


class Billed(NamedTuple):
    """What a service's use by a site cost on a day."""

    day: str  #: in UTC, as "2026-11-30"
    service: str
    usd: Decimal


def billed(clients: Clients, site: str, begin: date, end: date) -> list[Billed]:
    """What is on the bill from one day until another, which is not in it, without taxes and credits apart.

    Raises `NotFound`, with what to do, where the bill knows nothing by the tag; `Denied`, `Unavailable`.
    """
    found = [*_lines(clients, site, begin, end)]
    if not found:
        _refuse_unknown(clients)
    return found


def _lines(clients: Clients, site: str, begin: date, end: date) -> Iterator[Billed]:
    asked = {
        "TimePeriod": {"Start": begin.isoformat(), "End": end.isoformat()},
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
        "Filter": {"Tags": {"Key": TAG, "Values": [site], "MatchOptions": ["EQUALS"]}},
        "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
    }
    more: dict[str, str] = {}
    while True:
        with speaking("ce:GetCostAndUsage"):
            page = clients.bill.get_cost_and_usage(**asked, **more)
        for told in page["ResultsByTime"]:
            for group in told["Groups"]:
                cost = group["Metrics"]["UnblendedCost"]
                try:
                    usd = Decimal(cost["Amount"])
                except InvalidOperation:
                    usd = Decimal("NaN")
                if not usd.is_finite() or cost["Unit"] != "USD":
                    raise Unavailable(f"AWS's bill tells {cost!r:.60}, which is no amount in US dollars")
                if usd:
                    yield Billed(told["TimePeriod"]["Start"], group["Keys"][0], usd)
        if not (token := page.get("NextPageToken")):
            return
        more = {"NextPageToken": token}


def _refuse_unknown(clients: Clients) -> None:
    with speaking("ce:ListCostAllocationTags"):
        tags = clients.bill.list_cost_allocation_tags(TagKeys=[TAG])["CostAllocationTags"]
    if not any(tag["Status"] == "Active" for tag in tags):
        raise NotFound(
            f"AWS's bill does not go by the tag {TAG}: activate it under Cost allocation tags in Billing and Cost "
            "Management (of an organization, in its management account), and ask again some days later"
        )
