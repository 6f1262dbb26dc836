"""What AWS asks for, which moto lacks: the Price List API, and EC2's history of Spot prices, with their traps.

Prices are those of the price book, unless the conditions say otherwise. Source: AWS Billing, "Using the AWS Price List
Query API"; EC2 API reference, DescribeSpotPriceHistory; answers recorded in public tests, of 2022 to 2026.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starburst_common.money.book import fargate_price
from starburst_common.money.instances import prices_in
from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import Conditions
from tests.testbed.refusals import Answer, Dropped, Refused

Json = dict[str, Any]
REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")  #: elsewhere there is no such host
_PAGE, _SPOT_PAGE = 100, 1000
#: By which usage types begin; derivable from the code of no region. Others are told by their code here.
_PREFIXES = {
    "us-east-1": "USE1", "us-east-2": "USE2", "us-west-1": "USW1", "us-west-2": "USW2", "eu-west-1": "EU",
    "eu-central-1": "EUC1", "eu-north-1": "EUN1", "ap-south-1": "APS3", "ap-southeast-1": "APS1",
    "ap-southeast-2": "APS2", "ap-northeast-1": "APN1", "sa-east-1": "SAE1", "ca-central-1": "CAN1",
}  # fmt: skip
_BLOCKS = ("p4", "p5", "p6", "trn")  #: families that are sold as Capacity Blocks, too
_FIELDS = {
    "regionCode", "location", "locationType", "tenancy", "cputype", "memorytype", "cpuArchitecture", "storagetype",
    "operatingSystem", "instanceType", "preInstalledSw", "capacitystatus", "marketoption", "licenseModel", "usagetype",
    "externalInstanceType",
}  # fmt: skip


class Product(NamedTuple):
    """One row of a list."""

    family: str
    usage: str
    usd: str
    unit: str
    attributes: Mapping[str, str]
    tiers: int = 1


class Pricing:
    """Answers calls about prices."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def call(self, call: Call) -> Json:
        """A call of the Price List API. Raises `Refused`, and `Dropped` where no such host would be found."""
        if call.region not in REGIONS:
            raise Dropped
        if call.operation != "GetProducts":
            raise Refused("InvalidParameterException", f"the test bed does not know {call.operation}")
        asked = json.loads(call.body or b"{}")
        if not 1 <= (most := asked.get("MaxResults", _PAGE)) <= _PAGE:
            raise Refused("InvalidParameterException", "MaxResults must be between 1 and 100")
        found = [each for each in self._products(asked) if _fits(each, asked.get("Filters", []))]
        at = _offset(asked.get("NextToken", ""), len(found))
        page = [self._told(each, asked["ServiceCode"]) for each in found[at : at + most]]
        more = {"NextToken": f"at-{at + most}"} if at + most < len(found) else {}
        return {"FormatVersion": "aws_v1", "PriceList": page, **more}

    def spot_history(self, call: Call) -> Answer:
        """DescribeSpotPriceHistory, as XML: a row is a change, and the last before the start is told, too."""
        asked = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        rows = [*self._spot_rows(call.region, linux="Linux/UNIX" in asked.values(), now="StartTime" in asked)]
        at = _offset(asked.get("NextToken", ""), len(rows))
        items = "".join(
            f"<item>{''.join(_tag(*pair) for pair in row.items())}</item>" for row in rows[at : at + _SPOT_PAGE]
        )
        token = f"at-{at + _SPOT_PAGE}" if at + _SPOT_PAGE < len(rows) else ""
        body = f"<spotPriceHistorySet>{items}</spotPriceHistorySet>{_tag('nextToken', token)}"
        text = f"<DescribeSpotPriceHistoryResponse><requestId>bed</requestId>{body}</DescribeSpotPriceHistoryResponse>"
        return Answer(200, [("Content-Type", "text/xml;charset=UTF-8")], text.encode())

    def _spot_rows(self, region: str, *, linux: bool, now: bool) -> Iterator[dict[str, str]]:
        today = datetime.fromtimestamp(CLOCK.time(), UTC)
        for type, book in _prices(region, "spot").items():
            usd = Decimal(self._conditions.prices.get(f"spot:{type}", book))
            for number, zone in enumerate("abc"):
                pool = {
                    "availabilityZone": f"{region}{zone}",
                    "availabilityZoneId": f"bed1-az{number + 1}",
                    "instanceType": type,
                }
                for product, times in (("Linux/UNIX", 1), ("Windows", 2))[: 1 if linux else 2]:
                    for age in range(1 if now else 3):  # the older ones are dearer, and not told where now is asked for
                        told = usd * times * (1 + Decimal(number + 2 * age) / 10)
                        when = today - timedelta(hours=7 + 31 * number + 90 * age)
                        yield {**pool, "productDescription": product, "spotPrice": f"{told:.6f}"} | {
                            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
                        }

    def _products(self, asked: Json) -> Iterator[Product]:
        region = next(
            (each["Value"] for each in asked.get("Filters", []) if each["Field"] == "regionCode"), "us-east-1"
        )
        makers = {"AmazonECS": _ecs, "AmazonEC2": _ec2}
        if asked["ServiceCode"] not in makers:
            raise Refused("NotFoundException", f"no service {asked['ServiceCode']}")
        lacks = self._conditions.prices_lack
        for each in _made(makers[asked["ServiceCode"]], region):
            name = each.attributes.get("instanceType", each.usage)
            if not any(name == end or name.endswith(f"-{end}") for end in lacks):
                yield self._repriced(each)

    def _repriced(self, product: Product) -> Product:
        sold = product.attributes.get("marketoption") == "OnDemand" and product.attributes["capacitystatus"] == "Used"
        for name, usd in self._conditions.prices.items():
            named = product.attributes.get("instanceType") == name if sold else product.usage.endswith(f"-{name}")
            if named and product.attributes.get("operatingSystem", "Linux") == "Linux":
                return product._replace(usd=usd)
        return product

    def _told(self, product: Product, service: str) -> str:
        """As a text: an offer's term is JRTCKXETXF on demand, its hourly rate 6YS6EN2CT7."""
        sku = hashlib.sha256(f"{product}".encode()).hexdigest()[:16].upper()
        day = self._conditions.prices_published or datetime.fromtimestamp(CLOCK.time(), UTC).strftime("%Y-%m-%d")
        term, offer = f"{sku}.JRTCKXETXF", f"{sku}.NQ3QZPMQV9"
        rates: Json = {
            f"{term}.6YS6EN2CT{7 + tier}": {
                "unit": product.unit,
                "beginRange": "0" if not tier else "2200",
                "endRange": "Inf" if tier == product.tiers - 1 else "2200",
                "description": product.usage,
                "appliesTo": [],
                "rateCode": f"{term}.6YS6EN2CT{7 + tier}",
                "pricePerUnit": {"USD": product.usd if tier == product.tiers - 1 else "0.0000000000"},
            }
            for tier in range(product.tiers)
        }
        upfront = {"unit": "Quantity", "description": "Upfront Fee", "pricePerUnit": {"USD": "1000"}}
        reserved = {
            offer: {"offerTermCode": "NQ3QZPMQV9", "sku": sku, "priceDimensions": {f"{offer}.2TG2D8R56U": upfront}}
        }
        terms: Json = {"OnDemand": {term: {"offerTermCode": "JRTCKXETXF", "sku": sku, "priceDimensions": rates}}}
        terms |= {"Reserved": reserved} if service == "AmazonEC2" else {}
        attributes = {**product.attributes, "usagetype": product.usage, "servicecode": service}
        whole = {
            "product": {"productFamily": product.family, "sku": sku, "attributes": attributes},
            "serviceCode": service,
            "terms": terms,
            "version": "20300101000000",
            "publicationDate": f"{day}T00:00:00Z",
        }
        return json.dumps(whole)


def _ecs(region: str) -> Iterator[Product]:
    """Fargate's, those of EC2's metering at $0.00, of Windows and of ECS Anywhere; a fee for each type of instance."""
    prefix, common = (
        _PREFIXES.get(region, region),
        {"regionCode": region, "location": region, "locationType": "AWS Region"},
    )
    for capacity in ("vCPU-Hours", "GB-Hours"):
        unit = {"cputype": "perCPU"} if capacity == "vCPU-Hours" else {"memorytype": "perGB"}
        yield Product("Compute Metering", f"{prefix}-ECS-EC2-{capacity}", "0.0000000000", capacity, {**common, **unit})
    anywhere = {**common, "externalInstanceType": "Default"}
    yield Product(
        "Compute", f"{prefix}-ECS-Anywhere-Instance-hours-WithFree", "0.0102500000", "hours", anywhere, tiers=2
    )
    for type, usd in _prices(region).items():  # how these are called is not documented
        fee = f"{usd * Decimal('0.12'):.10f}"
        yield Product("Compute", f"{prefix}-ManagedInstances:{type}", fee, "hours", {**common, "instanceType": type})
    for arch, name, more in (("x86", "", {}), ("arm", "ARM-", {"cpuArchitecture": "ARM"})):
        if (fargate := fargate_price(region, arch=arch)) is None:
            continue
        vcpu, gb = f"{fargate.usd_per_vcpu_hour:.10f}", f"{fargate.usd_per_gb_hour:.10f}"
        about = {**common, "tenancy": "Shared", **more}
        usage = f"{prefix}-Fargate-{name}"
        yield Product("Compute", f"{usage}vCPU-Hours:perCPU", vcpu, "hours", {**about, "cputype": "perCPU"})
        yield Product("Compute", f"{usage}GB-Hours", gb, "hours", {**about, "memorytype": "perGB"})
        if arch == "x86":
            windows = {**about, "operatingSystem": "Windows", "cputype": "perCPU"}
            yield Product("Compute", f"{usage}Windows-vCPU-Hours:perCPU", "0.0465520000", "hours", windows)
            stored = {**common, "storagetype": "default"}
            storage = f"{fargate.usd_per_storage_gb_hour:.10f}"
            yield Product("Compute", f"{usage}EphemeralStorage-GB-Hours", storage, "GB-Hours", stored)


def _ec2(region: str) -> Iterator[Product]:
    """Of each type several: sold as Capacity Blocks at $0.00 first, with other systems, reserved and dedicated."""
    prefix = "" if region == "us-east-1" else f"{_PREFIXES.get(region, region)}-"
    for type, usd in _prices(region).items():
        common = {
            "regionCode": region,
            "location": region,
            "locationType": "AWS Region",
            "instanceType": type,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",
            "licenseModel": "No License required",
        }
        family = "Compute Instance (bare metal)" if ".metal" in type else "Compute Instance"
        told = f"{usd:.10f}"
        if type.startswith(_BLOCKS):
            block = {**common, "marketoption": "CapacityBlock"}
            yield Product(family, f"{prefix}BoxUsage:{type}", "0.0000000000", "Hrs", block)
        yield Product(family, f"{prefix}BoxUsage:{type}", told, "Hrs", common)
        unused = {**common, "capacitystatus": "UnusedCapacityReservation"}
        yield Product(family, f"{prefix}UnusedBox:{type}", told, "Hrs", unused)
        yield Product(
            family, f"{prefix}DedicatedUsage:{type}", f"{usd * 2:.10f}", "Hrs", {**common, "tenancy": "Dedicated"}
        )
        yield Product(
            family, f"{prefix}BoxUsage:{type}", f"{usd * 2:.10f}", "Hrs", {**common, "operatingSystem": "RHEL"}
        )


@lru_cache(maxsize=4)
def _made(maker: Callable[[str], Iterator[Product]], region: str) -> list[Product]:
    """Once, for all pages."""
    return [*maker(region)]


@lru_cache(maxsize=8)
def _prices(region: str, capacity: str = "on-demand") -> dict[str, Decimal]:
    """What each type costs, by the book; it takes a while to read."""
    return {type: price.usd_per_hour for (type, on), price in prices_in(region).items() if on == capacity}


def _fits(product: Product, filters: Iterable[Mapping[str, str]]) -> bool:
    """All of them hold; a field that a product lacks is never what is asked for."""
    for each in filters:
        field, wanted = each["Field"], each["Value"]
        if field not in _FIELDS:
            raise Refused("InvalidParameterException", f"Input Parameter {field} is invalid")
        said = product.usage if field == "usagetype" else product.attributes.get(field, "")
        if not _HOLDS[each["Type"]](said, wanted):
            return False
    return True


_HOLDS: dict[str, Callable[[str, str], bool]] = {
    "TERM_MATCH": str.__eq__,
    "EQUALS": str.__eq__,
    "CONTAINS": str.__contains__,
    "ANY_OF": lambda said, wanted: said in wanted.split(","),
    "NONE_OF": lambda said, wanted: said not in wanted.split(","),
}


def _offset(token: str, size: int) -> int:
    if not token:
        return 0
    at = token.removeprefix("at-")
    if not at.isdecimal() or int(at) >= size:
        raise Refused("InvalidNextTokenException", "The next token is invalid.")
    return int(at)


def _tag(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"
