"""What work costs, against sums done by hand; and what the price book holds, and does not."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest

from starburst_common.model import RunId, RunState, RunStatus, Tariff
from starburst_common.money.book import (
    ITEMS,
    ecr_usd_per_month,
    fargate_price,
    fargate_prices,
    item_price,
    item_prices,
    regions,
)
from starburst_common.money.estimate import charge, estimate_of, fargate_usd
from starburst_common.money.instances import BANDS, instance_prices, interruptions, prices_in, shapes
from starburst_common.resources import Resources
from tests.test_cli import Shell, shell_in

#: Region, architecture, Spot, vCPU and GB of each, seconds of each, workers: US dollars of compute and of addresses.
#: Behind each the hour of a worker, from the Price List and the Spot feed as of the book's dates.
BY_HAND = [
    ("us-east-1", "x86", False, 2, 8, 3600, 2, "0.23304", "0.01"),  # 2 x 0.04048 + 8 x 0.004445
    ("us-east-1", "x86", False, 0.25, 0.5, 3600, 1, "0.0123425", "0.005"),  # 0.25 x 0.04048 + 0.5 x 0.004445
    ("us-east-1", "x86", False, 1, 2, 60, 1, "0.00082283", "0.00008333"),  # 1 x 0.04048 + 2 x 0.004445
    ("us-east-1", "x86", False, 1, 2, 1, 1, "0.00082283", "0.00008333"),  # 1 x 0.04048 + 2 x 0.004445
    ("us-east-1", "x86", False, 1, 2, 59, 1, "0.00082283", "0.00008333"),  # 1 x 0.04048 + 2 x 0.004445
    ("us-east-1", "x86", False, 1, 2, 61, 1, "0.00083655", "0.00008472"),  # 1 x 0.04048 + 2 x 0.004445
    ("us-east-1", "x86", False, 16, 120, 3600, 1, "1.18108", "0.005"),  # 16 x 0.04048 + 120 x 0.004445
    ("us-east-1", "arm", False, 2, 8, 3600, 2, "0.18648", "0.01"),  # 2 x 0.03238 + 8 x 0.00356
    ("us-east-1", "x86", True, 2, 8, 3600, 2, "0.07418132", "0.01"),  # 2 x 0.01288561 + 8 x 0.00141493
    ("us-east-1", "arm", True, 4, 16, 1800, 10, "0.296873", "0.025"),  # 4 x 0.01030969 + 16 x 0.00113349
    ("us-west-1", "x86", False, 4, 8, 7200, 50, "22.712", "0.5"),  # 4 x 0.04656 + 8 x 0.00511
    ("eu-west-1", "x86", False, 4, 8, 7200, 50, "19.748", "0.5"),  # 4 x 0.04048 + 8 x 0.004445
    ("eu-west-1", "arm", False, 4, 8, 7200, 50, "15.8", "0.5"),  # 4 x 0.03238 + 8 x 0.00356
    ("eu-west-1", "x86", True, 0.5, 1, 10, 1000, "0.12455683", "0.08333333"),  # 0.5 x 0.01225536 + 1 x 0.00134573
    ("eu-central-1", "x86", False, 8, 32, 5400, 3, "2.412", "0.0225"),  # 8 x 0.04656 + 32 x 0.00511
    ("ap-northeast-1", "x86", True, 1, 2, 36000, 7, "1.3338794", "0.35"),  # 1 x 0.01563522 + 2 x 0.0017101
    ("ap-south-1", "arm", False, 1, 2, 3600, 100, "2.905", "0.5"),  # 1 x 0.02383 + 2 x 0.00261
    ("ap-south-2", "x86", False, 2, 4, 3600, 1, "0.10376", "0.005"),  # 2 x 0.04256 + 4 x 0.00466
    ("sa-east-1", "x86", False, 1, 8, 3600, 1, "0.1304", "0.005"),  # 1 x 0.0696 + 8 x 0.0076
    ("af-south-1", "arm", False, 0.25, 2, 90, 1, "0.00051325", "0.000125"),  # 0.25 x 0.04372 + 2 x 0.0048
    ("il-central-1", "x86", False, 1, 2, 3600, 1, "0.0631936", "0.005"),  # 1 x 0.0518144 + 2 x 0.0056896
    ("us-gov-west-1", "arm", True, 2, 16, 3600, 1, "0.04207392", "0.005"),  # 2 x 0.01122912 + 16 x 0.00122598
    ("mx-central-1", "x86", False, 4, 30, 3600, 2, "0.620067", "0.01"),  # 4 x 0.042504 + 30 x 0.00466725
    ("ap-east-2", "arm", False, 16, 32, 3600, 1, "0.709776", "0.005"),  # 16 x 0.036405 + 32 x 0.003978
    ("eu-north-1", "x86", False, 2, 4, 86400, 4, "10.4256", "0.48"),  # 2 x 0.0445 + 4 x 0.0049
]


@pytest.mark.parametrize(("region", "arch", "spot", "cpu", "gb", "seconds", "workers", "compute", "addresses"), BY_HAND)
def test_what_work_costs_is_what_it_comes_to_by_hand(
    region: str, arch: str, spot: bool, cpu: float, gb: float, seconds: int, workers: int, compute: str, addresses: str
) -> None:
    """Each worker's vCPU and memory by the second, a minute at least, and its address for as long."""
    resources = Resources.of(cpu, gb, spot=spot)
    price = fargate_usd(resources, seconds * workers, workers, Tariff(region=region, arch=arch))
    assert {name: round(usd, 8) for name, usd in price.parts.items()} == {
        "compute": Decimal(compute),
        "public addresses": Decimal(addresses),
    }
    assert (price.region, price.arch, price.capacity) == (region, arch, "spot" if spot else "on-demand")
    assert price.as_of >= "2025-10" and price.source


def test_addresses_and_storage_cost_where_there_are_some() -> None:
    """A private subnet's worker has no address that is charged for; the first 20 GB of storage are free."""
    private = Tariff(public_ipv4=False)
    assert fargate_usd(Resources.of(1), 3600, 1, private).parts == {"compute": Decimal("0.04937")}
    assert "storage" not in charge(Resources.of(1), Decimal(1)).parts
    assert charge(Resources.of(1, storage=120), Decimal(2)).parts["storage"] == Decimal("0.0222")  # 0.000111 a GB
    assert charge(Resources.of(1, spot=True, storage="120GB"), Decimal(2)).usd is None  # nobody has seen that price


@pytest.mark.parametrize(
    ("spot", "tariff"),
    [
        (False, Tariff(region="me-west-1")),  # no price at all
        (True, Tariff(region="ca-west-1")),  # none on Spot
        (True, Tariff(region="ca-west-1", arch="arm")),
        (False, Tariff(region="cn-north-1")),
    ],
)
def test_a_price_that_is_not_known_is_not_guessed(spot: bool, tariff: Tariff) -> None:
    """The cost is not known, and not nothing; only who used nothing pays nothing."""
    price = fargate_usd(Resources.of(1, spot=spot), 3600, 1, tariff)
    assert price.usd is None and price.parts == {}
    assert str(price).startswith("cost not known: no price of compute on Fargate")
    assert tariff.region in str(price)
    assert fargate_usd(Resources.of(1, spot=spot), 0, 0, tariff).usd == 0


def test_a_run_that_started_no_worker_costs_nothing() -> None:
    """Whatever was asked for; one whose workers have worked for a moment costs each a minute."""
    status = RunStatus(
        id=RunId("run-1"),
        state=RunState.CANCELLED,
        label="",
        items=1000,
        answered=0,
        failed=0,
        workers=0,
        created_at=0.0,
        ended_at=90.0,
        slot_seconds=0.0,
    )
    assert estimate_of(status, Resources.of(4), 50).usd == 0
    began = estimate_of(replace(status, slot_seconds=0.1), Resources.of(1), 2)
    assert round(began.parts["compute"], 9) == round(2 * Decimal("0.04937") / 60, 9)


def test_a_discount_comes_off_and_is_said() -> None:
    """Of all components alike."""
    price = fargate_usd(Resources.of(2, "8GB"), 7200, 2, discount=0.25)
    assert price.parts == {"compute": Decimal("0.17478"), "public addresses": Decimal("0.0075")}
    assert str(price) == "$0.18 on Fargate in us-east-1 (prices of 2026-09-29, x86, on demand, less 25%)"


def test_the_book_says_of_each_price_where_and_when_it_was_seen() -> None:
    """On demand for both architectures in 36 regions; what was derived is told apart from what was observed."""
    prices = fargate_prices()
    assert len(regions()) == 36
    assert {(price.region, price.arch) for price in prices if price.capacity == "on-demand"} == {
        (region, arch) for region in regions() for arch in ("x86", "arm")
    }
    assert all(price.source and price.as_of >= "2025-10-27" for price in prices)
    derived = [price for price in prices if price.basis == "derived"]
    assert {(price.arch, price.capacity) for price in derived} == {("arm", "spot")} and len(derived) == 20
    assert all("not observed" in price.source for price in derived)
    assert all((price.usd_per_storage_gb_hour is None) == (price.capacity == "spot") for price in prices)
    for region in regions():
        address = item_price("public-ipv4", region)
        assert address is not None and (address.usd, address.as_of) == (Decimal("0.005"), "2025-11-04")


def test_spot_is_cheaper_and_arm_is_too() -> None:
    """A row that was mixed up with another would show: Spot is 0.30 to 0.38 of on demand, ARM 0.56 to 0.80 of x86."""
    for price in fargate_prices():
        if price.capacity == "spot":
            demand = fargate_price(price.region, arch=price.arch)
            assert demand is not None
            assert Decimal("0.29") < price.usd_per_vcpu_hour / demand.usd_per_vcpu_hour < Decimal("0.39")
        if price.arch == "arm":
            x86 = fargate_price(price.region, capacity=price.capacity)
            assert x86 is not None and Decimal("0.55") < price.usd_per_gb_hour / x86.usd_per_gb_hour < Decimal("0.81")


def test_instances_and_images_are_in_the_book_which_is_small() -> None:
    """EC2 by type and region, on demand and on Spot with what that is from; storage of images; in half a megabyte."""
    (demand,) = instance_prices("c7g.xlarge", "us-east-1")[:1]
    assert (demand.usd_per_hour, demand.capacity, demand.basis) == (Decimal("0.145"), "on-demand", "observed")
    (large,) = [price for price in instance_prices("m5.large", "us-east-1") if price.capacity == "on-demand"]
    assert large.usd_per_hour == Decimal("0.096")
    spots = {price.basis: price for price in instance_prices("m5.large") if price.capacity == "spot"}
    assert spots["derived"].as_of == "2025-06-28" and "not observed" in spots["derived"].source
    assert instance_prices("z9x.large") == []
    assert ecr_usd_per_month(10 << 30) == Decimal("1.00")
    book = files("starburst_common.money").joinpath("book")
    assert sum(len(table.read_bytes()) for table in book.iterdir()) < 500_000


def test_what_instances_have_and_how_often_they_are_taken_back_is_known() -> None:
    """Of every type that has a price; not how often Spot takes back what nobody was told of."""
    region = prices_in("us-east-1")
    assert {type for type, _ in region} <= {*shapes()} and len(region) > 1500
    assert (region["c7g.xlarge", "on-demand"],) == (*instance_prices("c7g.xlarge", "us-east-1")[:1],)
    gpu = shapes()["p5.48xlarge"]
    assert (gpu.vcpu, gpu.gpus, gpu.gpu, gpu.quota_family) == (192, 8, "NVIDIA H100", "P")
    bands = interruptions("us-east-1")
    assert {*bands.values()} == {*range(len(BANDS))} and {*bands} <= {*shapes()}
    assert interruptions("us-gov-west-1") == {} and prices_in("mars-1") == {}


def test_what_else_is_charged_for_has_its_price_source_and_date() -> None:
    """In each of 36 regions, or where it was seen only; what was not observed says so."""
    found = {item: item_prices(item) for item in ITEMS}
    known = {item: len(prices) for item, prices in found.items()}
    assert {item for item, number in known.items() if number == 1} == {
        "ecr-storage",
        "ebs-storage",
        "sqs-request",
        "managed-instances-fee",
    }
    assert {*known.values()} == {1, 36}
    assert all(price.source and price.as_of >= "2025-09" for prices in found.values() for price in prices)
    doubtful = {price.item: price.basis for prices in found.values() for price in prices if price.basis != "observed"}
    assert doubtful == {"ecr-storage": "stated", "managed-instances-fee": "derived"}
    usd = {item: price.usd for item in ITEMS if (price := item_price(item, "us-east-1")) is not None}
    assert (usd["nat-gateway"], usd["log-ingest"], usd["s3-put"]) == (
        Decimal("0.045"),
        Decimal("0.50"),
        Decimal("5e-6"),
    )
    assert item_price("ebs-storage", "eu-west-1") is None


def test_a_price_that_was_derived_is_told_as_such() -> None:
    """Wherever an estimate is shown."""
    resources, frankfurt = Resources.of(1, spot=True), Tariff(region="eu-central-1", arch="arm")
    price = fargate_usd(resources, 3600, 1, frankfurt)
    assert str(price).endswith("in eu-central-1 (prices of 2026-09-29, arm, Spot, derived)")
    assert price.fields["basis"] == "derived"


# --- the commands -----------------------------------------------------------------------------------------------------


def test_calc_reckons_what_workers_would_cost(tmp_path: Path) -> None:
    """By component and together, with region, architecture, capacity and date of the prices; or says that it cannot."""
    shell = Shell(shell_in(tmp_path).folder, env={})
    done = shell("calc", "--workers", "50", "--cpu", "4", "--memory", "8GB", "--hours", "2")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["cost", "$19.75", "$0.50", "$20.25"]
    assert "$20.25 on Fargate in us-east-1 (prices of 2026-09-29, x86, on demand)" in done.stderr
    unknown = shell("calc", "--spot", "--region", "ca-west-1")
    assert unknown.returncode == 2
    assert "cost not known: no price of compute on Fargate Spot for x86 in ca-west-1" in unknown.stderr


def test_prices_are_shown_with_where_they_are_from(tmp_path: Path) -> None:
    """As a table, and for machines; what is in no table is told in a line."""
    shell = Shell(shell_in(tmp_path).folder, env={})
    done = shell("prices", "show", "fargate", "--region", "eu-west-1")
    assert "eu-west-1  x86   on-demand            0.04048         0.004445" in done.stdout
    assert "from: AWS Price List API, offer AmazonECS" in done.stderr
    rows = json.loads(shell("prices", "show", "c7g.xlarge", "--region", "us-east-1", "--json").stdout)
    assert (rows[0]["usd_per_hour"], rows[0]["capacity"], rows[0]["basis"]) == ("0.145", "on-demand", "observed")


def test_what_has_no_price_is_said_with_where_it_has_one(tmp_path: Path) -> None:
    """A type that is not sold in a region, what was seen in one region only, and what there is not."""
    shell = Shell(shell_in(tmp_path).folder, env={})
    for asked, said in [
        (
            ("ebs-storage", "--region", "eu-west-1"),
            "ebs-storage: no price in eu-west-1, and none is guessed; there are ",
        ),
        (
            ("p5.48xlarge", "--region", "eu-south-1"),
            "p5.48xlarge: no price in eu-south-1, and none is guessed; there are",
        ),
        (("c7g.xlage",), "c7g.xlage: no price: did you mean 'c7g.xlarge'?"),
    ]:
        done = shell("prices", "show", *asked)
        assert done.returncode == 2 and said in done.stderr
