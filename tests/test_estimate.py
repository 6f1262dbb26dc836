"""What a run would cost and take, told before it: against a model of AWS, published runs, and sums by hand."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common.aws.launch_rate import BURST, EACH_S
from starburst_common.fleets.frontier import Frontier, Offer, bottleneck, frontier
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Wish, plan
from starburst_common.model import Tariff
from starburst_common.money.instances import instance_prices
from starburst_common.money.meter import Rates, metered
from starburst_common.money.offers import fargate_offers, instance_offers
from starburst_common.ports import LaunchSpeed, Limit, Unit
from starburst_common.resources import Resources
from tests.cloud_model import ON_DEMAND, SPOT, Account, Cloud
from tests.test_cli import Shell, shell_in
from tests.testbed.bed import Bed as Aws

SMALL = Resources.of(1)
SPEED = LaunchSpeed(burst=BURST, each_s=EACH_S, start_s=45.0)
HOUR = Decimal("0.054370")  #: of 1 vCPU, 2 GB and an address in us-east-1

WORK = """
import time

def work(row):
    held = bytearray(row.get("mib", 0) << 20)
    time.sleep(row["s"])

def fails(row):
    raise ValueError(row)
"""


def seconds(kind: str, count: int) -> list[float]:
    """Of items, as work is."""
    chance = random.Random(3)
    each = {
        "alike": lambda: 30.0,
        "short": lambda: chance.uniform(0.5, 1.5),
        "varied": lambda: chance.uniform(10, 60),
        "skewed": lambda: min(chance.lognormvariate(2.5, 0.8), 200.0),
        "long": lambda: chance.uniform(250, 350),
    }[kind]
    return [each() for _ in range(count)]


@pytest.mark.parametrize(
    ("kind", "items", "workers", "quota"),
    [
        ("alike", 2_000, 50, 4000.0),
        ("short", 30_000, 20, 4000.0),
        ("varied", 4_000, 300, 4000.0),
        ("varied", 3_000, 200, 60.0),
        ("skewed", 5_000, 100, 4000.0),
        ("long", 200, 100, 4000.0),
    ],
)
def test_a_run_costs_what_was_estimated(kind: str, items: int, workers: int, quota: float) -> None:
    """Metered within a tenth of what was told before by the mean, and between the least and the most of a sample."""
    durations = seconds(kind, items)
    cloud = Cloud(durations, workers=workers, account=Account(quota={ON_DEMAND: quota, SPOT: 0.0}))
    lasted_s = cloud.run(40_000)
    rates = Rates(tariff=Tariff(), asked=SMALL)
    bill = metered((worker.state for worker in cloud.workers.values()), rates, cloud.now).spent
    mean_s = sum(durations) / items
    wish = Wish(
        workers=workers,
        resources=SMALL,
        items=items,
        item_s=mean_s,
        spread=(0.9 * mean_s, 1.1 * mean_s),
        longest_s=max(durations),
    )
    told = plan(wish, Headroom(free=quota), SPEED, usd_an_hour=HOUR)
    assert told.usd is not None and told.ends_s is not None and told.low is not None and told.high is not None
    assert abs(bill - told.usd) <= told.usd / 10
    assert abs(lasted_s - told.ends_s) <= told.ends_s / 10 + max(durations) / 2
    assert told.low.usd is not None and told.high.usd is not None and told.low.usd <= bill <= told.high.usd
    assert told.low.ends_s <= lasted_s <= told.high.ends_s


#: Runs of the R package that its project has published: on EC2's c7i.xlarge on Spot at 0.3 of 0.1785 (2026-07), a
#: worker each, and on Fargate on demand (2026-02, of 2 vCPU, 4 GB and 4 vCPU, 8 GB, no address counted); items,
#: workers, seconds until the first is at work, seconds an item takes there, seconds and dollars in all.
PUBLISHED = [
    ("heavy SVD", 0.05355, 30, 30, 87.5, 38.4, 125.8, 0.06),
    ("geospatial", 0.05355, 20, 20, 74.7, 27.9, 102.6, 0.03),
    ("sweep, batched", 0.05355, 100, 50, 105.0, 35.2, 175.4, 0.13),
    ("sweep, naive", 0.05355, 10_000, 50, 77.0, 22.86, 4648.9, 3.46),
    ("Fargate Monte Carlo, 500 million", 0.09874, 50, 50, 192.5, 2597.5, 2790.0, 3.82),
    ("Fargate Monte Carlo, 100 million", 0.19748, 100, 100, 192.5, 312.5, 505.0, 2.77),
]


@pytest.mark.parametrize(("name", "usd_an_hour", "items", "workers", "start_s", "item_s", "total_s", "usd"), PUBLISHED)
def test_published_runs_are_told(
    name: str, usd_an_hour: float, items: int, workers: int, start_s: float, item_s: float, total_s: float, usd: float
) -> None:
    """How long they took and what they cost, within a tenth (or a cent), by what was known of their items and start."""
    wish = Wish(workers=workers, resources=Resources.of(1, slots=1), items=items, item_s=item_s)
    speed = LaunchSpeed(start_s=start_s)
    told = plan(wish, Headroom(), speed, usd_an_hour=Decimal(str(usd_an_hour)))
    assert told.ends_s == pytest.approx(total_s, rel=0.1), name
    assert float(told.usd or 0) == pytest.approx(usd, rel=0.1, abs=0.01), name


def test_the_published_prices_are_the_books() -> None:
    """So that what was published is told by the book as well."""
    assert instance_prices("c7i.xlarge", "us-east-1")[0].usd_per_hour == Decimal("0.1785")
    fargate = {(size, offer.name): offer.usd_an_hour for size in (2, 4) for offer in fargate_offers(
        Resources.of(size), Tariff(public_ipv4=False)
    )}  # fmt: skip
    assert fargate[2, "Fargate"] == Decimal("0.098740") and fargate[4, "Fargate"] == Decimal("0.197480")


@pytest.mark.parametrize(
    ("workers", "items", "item_s", "ends_s", "usd"),
    [
        (10, 100, 60.0, 645.0, 10 * 645 / 3600 * 0.05437),  # ten rounds of a minute, after a start of 45 s
        (100, 10, 60.0, 105.0, 10 * 105 / 3600 * 0.05437),  # an item each, for ten of them only
        (1, 1, 1.0, 46.0, 60 / 3600 * 0.05437),  # a minute at least
        (200, 1000, 600.0, 3046.25, (200 * 3046.25 - 100 * 2.5) / 3600 * 0.05437),  # a hundred come within 5 s
    ],
)
def test_an_estimate_is_what_it_comes_to_by_hand(
    workers: int, items: int, item_s: float, ends_s: float, usd: float
) -> None:
    """Each worker from its launch to the end."""
    wish = Wish(workers=workers, resources=SMALL, items=items, item_s=item_s)
    told = plan(wish, Headroom(), SPEED, usd_an_hour=HOUR)
    assert (told.ends_s, float(told.usd or 0)) == (pytest.approx(ends_s), pytest.approx(usd))


def test_what_is_charged_for_beside_workers_time_is_in_an_estimate() -> None:
    """Ten workers' images of 2 GB through a NAT gateway, $0.09 each; and a cent for ten items' requests and logs."""
    wish = Wish(workers=10, resources=SMALL, items=100, item_s=60.0)
    told = plan(wish, Headroom(), SPEED, usd_an_hour=HOUR).usd
    beside = replace(wish, begin_usd=Decimal("0.09"), each_usd=Decimal("0.001"))
    assert (plan(beside, Headroom(), SPEED, usd_an_hour=HOUR).usd or 0) - (told or 0) == Decimal("1.000")


def found(item_s: float, items: int = 1000, cores: int = 8, **more: float) -> Frontier:
    """Of small workers, on demand and on Spot."""
    offers = [Offer(name="Fargate", usd_an_hour=HOUR), Offer(name="Fargate Spot", usd_an_hour=HOUR / 3)]
    wish = Wish(workers=10_000, resources=SMALL, items=items, item_s=item_s, **more)
    return frontier(wish, offers, cores=cores)


def test_more_workers_are_told_until_they_make_nothing_sooner() -> None:
    """The soonest is not beaten in time, the cheapest not in money, and the best by nothing in both."""
    whole = found(30.0)
    times = [plans[0].ends_s or 0 for plans in whole.rows]
    assert times == sorted(times, reverse=True) and whole.rows[-1][0].workers == 1000
    assert whole.soonest is not None and whole.cheapest is not None
    assert (whole.soonest[0].name, whole.soonest[1].ends_s) == ("Fargate Spot", times[-1])
    assert (whole.cheapest[0].name, whole.cheapest[1].workers) == ("Fargate Spot", 5)
    assert {offer.name for offer, _ in whole.best} == {"Fargate Spot"}


def test_this_machine_is_told_to_do_where_it_does() -> None:
    """Sooner, hardly later, or far from it."""
    assert found(0.01).verdict.startswith("run it here: about 2 s on 8 cores, for nothing; on AWS about 4")
    assert "hardly: 1.2 times as soon as here (60 s on 8 cores)" in found(0.48).verdict
    assert "39 times as soon as here (62 min on 8 cores)" in found(30.0).verdict


def test_what_keeps_a_run_from_being_sooner_is_named() -> None:
    """The quota, workers' start, the longest item, the launch rate, or the work itself."""
    quota = Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=64, code="fargate/L-3032A538")
    few = Headroom(free=64, bound=quota)
    for wanted, item_s, longest_s, room, said in [
        (100, 30.0, 0.0, few, "Fargate vCPU quota (1 for each worker, 64 in all): there is room for 64 of 100 workers"),
        (1000, 1.0, 0.0, Headroom(), "workers' start: their launch and the pull of the image take 45 of "),
        (100, 30.0, 900.0, Headroom(), "the longest item, of 15 min: all else is done"),
        (8000, 30.0, 0.0, Headroom(), "the launch rate: 20 workers a second, the last of them in 7 min"),
        (10, 30.0, 0.0, Headroom(), "the work itself: 20 workers would need about 26 min in place of 51 min"),
    ]:
        items = 20_000 if wanted > 1000 else 1000
        wish = Wish(workers=wanted, resources=SMALL, items=items, item_s=item_s, longest_s=longest_s)
        assert bottleneck(plan(wish, Headroom(), SPEED), room).startswith(said)


def test_instances_hold_workers_by_what_they_have() -> None:
    """The cheapest first, with its address; none that is burstable, bare metal, of the other kind or too small."""
    offers = instance_offers(Resources.of(4, "8GB"), Tariff(region="us-east-1"), arch="x86")
    assert [offer.usd_an_hour for offer in offers] == sorted(offer.usd_an_hour for offer in offers)
    kinds = {offer.shape.type for offer in offers}
    assert "m7i.xlarge" in kinds and not kinds & {
        "c7i.xlarge",
        "t3.xlarge",
        "m7g.xlarge",
        "m7i.metal-24xl",
        "g5.xlarge",
    }
    (mine,) = [offer for offer in offers if offer.name == "m7i.2xlarge"]
    assert (mine.workers, mine.usd_an_hour) == (2, (Decimal("0.4032") * Decimal("1.12") + Decimal("0.005")) / 2)
    gpu = instance_offers(Resources.of(4), Tariff(region="us-east-1"), gpus=1, gpu="A10G")
    assert {offer.shape.gpu for offer in gpu} == {"NVIDIA A10G"}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With functions to measure."""
    made = shell_in(tmp_path)
    (tmp_path / "mine.py").write_text(WORK)
    return made


def rows(shell: Shell, count: int, **row: float) -> None:
    """Items, all alike."""
    (shell.folder / "rows.jsonl").write_text(f"{json.dumps(row)}\n" * count)


def test_estimate_measures_a_few_items_and_tells_of_all(shell: Shell) -> None:
    """How long they took and what memory; what ever more workers would make of it; that it is done here as well."""
    rows(shell, 20, s=0.05, mib=300)
    done = shell(
        "estimate", "mine:work", "-i", "rows.jsonl", "--measure", "3", "--cpu", "8", "--plot", "told.svg", "--json"
    )
    told = json.loads(done.stdout)
    assert told["measured"]["items"] == 3 and told["measured"]["mean_s"] >= 0.05
    assert 300 < told["measured"]["peak_mib"] < 600
    assert told["verdict"].startswith("run it here")
    assert [offer["name"] for offer in told["offers"]] == ["Fargate", "Fargate Spot", "Fargate ARM", "Fargate ARM Spot"]
    first = told["offers"][0]["plans"][0]
    assert first["workers"] == 1 and first["usd_between"][0] <= first["usd"] <= first["usd_between"][1]
    assert "say --memory" not in done.stderr and "measured here: 3 of 20 items" in done.stderr
    assert ET.fromstring((shell.folder / "told.svg").read_text()).tag.endswith("svg")
    assert shell.states() == []


def test_what_is_wrong_with_an_estimate_is_said(shell: Shell) -> None:
    """Too little memory, items that fail, none that ends in time, a picture of no kind, and none without matplotlib."""
    rows(shell, 3, s=0.01, mib=1700)
    done = shell("estimate", "mine:work", "-i", "rows.jsonl", "--measure", "1")
    assert "these items would need 2," in done.stderr and "say --memory 3GB, or fewer --slots" in done.stderr
    done = shell("estimate", "mine:fails", "-i", "rows.jsonl")
    assert done.returncode == 2 and "no item of 2 was measured in 60 s: ValueError" in done.stderr
    rows(shell, 3, s=30.0)
    done = shell("estimate", "mine:work", "-i", "rows.jsonl", "--within", "1")
    assert done.returncode == 2 and "was measured in 1 s" in done.stderr and "give --seconds" in done.stderr
    known = ("estimate", "mine:work", "-i", "rows.jsonl", "--seconds", "30")
    assert "give a file that ends with .png or .svg" in shell(*known, "--plot", "told.gif").stderr
    (shell.folder / "matplotlib.py").write_text("raise ImportError")
    done = shell(*known, "--plot", "told.png", PYTHONPATH=str(shell.folder))
    assert done.returncode == 2 and "`pip install 'starburst-ecs[plot]'`" in done.stderr
    assert "nobody knows how long" in shell("estimate", "mine:work", "-i", "rows.jsonl", "--history").stderr


def test_on_an_account_its_quotas_bound_what_is_told(aws: Aws, shell: Shell) -> None:
    """As they are now; what lies beyond them is told, and not advised. A plan of measured items is drawn, too."""
    aws.set(on_demand_vcpu=20, spot_vcpu=8)
    rows(shell, 1000, s=0.01)
    shell.env.update(aws.env)
    known = ("estimate", "mine:work", "-i", "rows.jsonl", "--seconds", "30")
    done = shell(*known, "--workers", "100")
    assert done.returncode == 0, done.stderr
    assert "Fargate vCPU quota (1 for each worker, 20 in all): there is room for 20 of 100 workers now" in done.stderr
    assert "soonest: 20 workers on Fargate ARM" in done.stderr
    aws.set(ec2_vcpu={"Standard": 0, "Standard Spot": 7})
    done = shell(*known, "--ec2")
    assert "large Spot: 2 workers each, derived price; room for 6 by the EC2 Standard" in done.stderr
    assert "soonest: 100 workers on m" not in done.stderr and "soonest: 1,000 workers on m" not in done.stderr
    done = shell("plan", "mine:work", "-i", "rows.jsonl", "--measure", "2", "--workers", "50", "--plot", "plan.png")
    assert "measured here: 2 of 1,000 items" in done.stderr and "20 of 50 workers now" in done.stdout
    assert (shell.folder / "plan.png").read_bytes()[:4] == b"\x89PNG"
