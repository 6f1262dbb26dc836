"""On what of AWS's workers may run, and what that costs: by the book, by hand, and by what an account has room for."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common.model import Tariff
from starburst_common.money.choices import choices, instance_charge, soonest
from starburst_common.money.instances import interruptions
from starburst_common.resources import Resources
from tests.test_cli import Shell, shell_in
from tests.testbed.bed import Bed as Aws

HERE = Tariff()
FOUR = Resources.of(4, "16GB")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Without settings."""
    return Shell(shell_in(tmp_path).folder, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_choices_come_with_the_cheapest_first() -> None:
    """Fargate's four and every type that holds such a worker, by what all cost, whole instances included."""
    found = choices(FOUR, 3, 2.0, HERE)
    assert [each.usd for each in found] == sorted(each.usd for each in found) and len(found) > 500
    named = {each.name: each for each in found}
    assert {name for name in named if name.startswith("Fargate")} == {
        "Fargate",
        "Fargate Spot",
        "Fargate ARM",
        "Fargate ARM Spot",
    }
    fargate = 4 * Decimal("0.04048") + 16 * Decimal("0.004445") + Decimal("0.005")
    assert named["Fargate"].usd == 6 * fargate
    two = named["m7i.4xlarge"]  # 16 vCPU and 64 GB hold three such workers
    assert (two.workers_each, two.usd) == (3, 2 * (Decimal("0.8064") * Decimal("1.12") + Decimal("0.005")))
    assert choices(FOUR, 4, 2.0, HERE)[0].usd > found[0].usd
    assert named["m7i.4xlarge Spot"].band == interruptions("us-east-1")["m7i.4xlarge"]
    assert not any(each.spot for each in choices(FOUR, 3, 2.0, HERE, spot=False))
    assert {each.arch for each in choices(FOUR, 3, 2.0, HERE, arch="arm")} == {"arm"}


def test_gpus_are_ec2s() -> None:
    """Each worker has as many as it asks for."""
    found = choices(Resources.of(4), 8, 1.0, HERE, gpus=1, gpu="a10g", spot=False)
    held = {each.name: each.workers_each for each in found}
    assert held["g5.xlarge"] == 1 and held["g5.12xlarge"] == 4 and not any("Fargate" in name for name in held)
    assert choices(Resources.of(4), 1, 1.0, Tariff(region="eu-south-1"), gpu="H200", gpus=1) == []


def test_who_has_no_room_begins_when_others_have_ended() -> None:
    """The soonest has room for all, or for most; what has room for none is not it."""
    rooms = {("Fargate", False): 40.0, ("Fargate", True): 0.0, ("Standard", False): 16.0}
    found = choices(FOUR, 20, 1.0, HERE, rooms=rooms)
    named = {each.name: each for each in found}
    assert (named["Fargate"].at_once, named["Fargate"].ends_s) == (10, 45.0 + 2 * 3600)
    assert (named["Fargate Spot"].at_once, named["Fargate Spot"].ends_s) == (0, None)
    assert (named["m7i.4xlarge"].at_once, named["m7i.4xlarge"].ends_s) == (3, 90.0 + 7 * 3600)
    assert named["m7i.4xlarge Spot"].at_once is None  # nobody has told
    first = soonest([each for each in found if each.at_once is not None])
    assert first is not None and first.name == "Fargate ARM"


@pytest.mark.parametrize(
    ("type", "spot", "workers", "hours", "instances", "usd"),
    [
        ("m7i.xlarge", False, 1, 1.0, 1, "0.230792"),  # 0.2016, 0.12 of that, and 0.005
        ("m7i.2xlarge", False, 3, 2.0, 2, "1.826336"),  # two of 0.4032, 0.12 of that and 0.005, for two hours
        ("m7i.2xlarge", False, 3, 0.0, 2, "0.01521947"),  # a minute at least
    ],
)
def test_instances_are_charged_for_as_a_whole(
    type: str, spot: bool, workers: int, hours: float, instances: int, usd: str
) -> None:
    """By hand; what holds no such worker, or has no price, has no charge."""
    found = instance_charge(type, Resources.of(4, spot=spot), workers, hours, HERE)
    assert found is not None and (found.instances, round(found.usd, 8)) == (instances, Decimal(usd))
    assert instance_charge("c7i.xlarge", Resources.of(4), 1, 1.0, HERE) is None  # 8 GB, of which not all are free
    assert instance_charge(type, Resources.of(4), 1, 1.0, Tariff(region="mars-1")) is None


def test_calc_takes_instances_too(shell: Shell) -> None:
    """Whole ones, with the date of the price; what cannot be says what can."""
    done = shell("calc", "--workers", "50", "--cpu", "4", "--memory", "8GB", "--hours", "2", "--on", "m7g.2xlarge")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["cost", "$16.32", "$1.96", "$0.25", "$18.53"]
    assert "on 25 of m7g.2xlarge in us-east-1, 2 workers each (prices of 2026-07-20, arm, on demand)" in done.stderr
    told = json.loads(shell("calc", "--cpu", "4", "--on", "m7g.xlarge", "--spot", "--json").stdout)
    assert (told["instances"], told["capacity"], told["basis"]) == (1, "spot", "derived")
    done = shell("calc", "--cpu", "4", "--on", "c7g.xlarge")
    assert done.returncode == 2 and "`starburst recommend` names types that do" in done.stderr
    done = shell("calc", "--on", "p5.48xlarge", "--region", "eu-south-1")
    assert "p5.48xlarge: no price in eu-south-1, and none is guessed" in done.stderr


def test_recommend_names_the_cheapest_and_the_soonest(shell: Shell, aws: Aws) -> None:
    """By the book; and where there is an account, by what its quotas leave room for."""
    asked = ("recommend", "--cpu", "4", "--memory", "16GB", "--workers", "20", "--hours", "2")
    done = shell(*asked)
    assert "cheapest: " in done.stderr and "Spot, $" in done.stderr and "soonest: Fargate ARM Spot, $" in done.stderr
    assert "never taken back: " in done.stderr and "room: not looked at" in done.stderr
    assert "taken back" in done.stdout and "derived, 2025-06-28" in done.stdout
    none = shell("recommend", "--gpu", "H200", "--region", "eu-south-1")
    assert none.returncode == 2 and "nothing in eu-south-1 holds a worker of 1 vCPU" in none.stderr
    aws.set(on_demand_vcpu=40, spot_vcpu=0)
    shell.env.update(aws.env)
    told = json.loads(shell(*asked, "--top", "1000", "--json").stdout)
    room = {each["name"]: each["at_once"] for each in told["choices"] if each["name"].startswith("Fargate")}
    assert room == {"Fargate": 10, "Fargate ARM": 10, "Fargate Spot": 0, "Fargate ARM Spot": 0}
