"""Products as the Price List API tells them, each a text of JSON, in; prices by name, and what is odd, out. Pure.

Source: AWS Billing, "Using the AWS Price List Query API", and answers that public tests have recorded, 2022 to 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

#: How usage types of Fargate for Linux end, and what we call them. What stands before is a region's prefix, which is
#: not its code. The rows of EC2's metering at $0.00, and those of Windows, end otherwise.
FARGATE_USAGE = {
    "Fargate-vCPU-Hours:perCPU": "x86 vCPU",
    "Fargate-GB-Hours": "x86 GB",
    "Fargate-ARM-vCPU-Hours:perCPU": "arm vCPU",
    "Fargate-ARM-GB-Hours": "arm GB",
    "Fargate-EphemeralStorage-GB-Hours": "storage",
}
#: What leaves one product of each type: without `marketoption`, Capacity Blocks at $0.00 come first.
LINUX_ON_DEMAND = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "licenseModel": "No License required",
    "locationType": "AWS Region",
}


class PriceList(NamedTuple):
    """What a list of products tells."""

    prices: dict[str, Decimal]
    odd: dict[str, str]  #: names whose price is none, and why
    published: str  #: the day that the oldest of them is of


def fargate(products: Iterable[str], region: str) -> PriceList:
    """What of Fargate costs what an hour, by the names of `FARGATE_USAGE`."""
    return _listed(products, region, _of_fargate)


def instances(products: Iterable[str], region: str) -> PriceList:
    """What instances cost an hour, on demand, by type."""
    return _listed(products, region, _of_instances)


def _of_fargate(attributes: Mapping[str, str]) -> str:
    usage = attributes["usagetype"]
    return next((name for end, name in FARGATE_USAGE.items() if usage == end or usage.endswith(f"-{end}")), "")


def _of_instances(attributes: Mapping[str, str]) -> str:
    fits = all(attributes.get(name, value) == value for name, value in LINUX_ON_DEMAND.items())
    return attributes["instanceType"] if fits else ""


def _listed(products: Iterable[str], region: str, name_of: Any) -> PriceList:
    prices: dict[str, Decimal] = {}
    odd: dict[str, str] = {}
    published: set[str] = set()
    for number, text in enumerate(products):
        name = ""
        try:
            told = json.loads(text)
            attributes = told["product"]["attributes"]
            if attributes["regionCode"] != region or not (name := name_of(attributes)):
                continue
            published.add(told["publicationDate"].partition("T")[0])
            (usd,) = _on_demand(told["terms"])
        except (ValueError, TypeError, LookupError, AttributeError, InvalidOperation) as error:
            odd[name or f"product {number}"] = f"malformed in AWS's answer ({type(error).__name__})"
            continue
        if not (usd.is_finite() and usd > 0):
            odd[name] = f"a price of {usd} in AWS's answer"
        elif prices.get(name, usd) != usd:
            odd[name] = f"two prices in AWS's answer, {prices[name]} and {usd}"
        else:
            prices[name] = usd
    return PriceList({name: usd for name, usd in prices.items() if name not in odd}, odd, min(published, default=""))


def _on_demand(terms: Mapping[str, Any]) -> Iterator[Decimal]:
    """Terms of reservations are in the same product; one on demand has one price, and no tiers."""
    for term in terms["OnDemand"].values():
        for dimension in term["priceDimensions"].values():
            yield Decimal(dimension["pricePerUnit"]["USD"]).normalize()
