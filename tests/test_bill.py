"""Costs beside AWS's bill: by day, by the tag of the site, and what to do where it tells nothing by that."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common import Cluster
from starburst_common.aws.accounts import close_account
from starburst_common.aws.billed import OF_WORKERS
from starburst_common.ids import new_fleet_id
from starburst_common.names import ACCOUNTS
from starburst_common.runs.accounts import read_entry
from tests.places import aws_text, open_place
from tests.test_cli import Shell, shell_in
from tests.test_costs import kept, worker
from tests.testbed.bed import Bed as Aws

DAY_S = 86_400.0


@pytest.fixture
def shell(aws: Aws, tmp_path: Path) -> Shell:
    """Of a driver who may read the bill, too."""
    env = {**aws.env, **aws.as_user("bill"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    shell = Shell(shell_in(tmp_path).folder, env=env)
    (shell.folder / "starburst.toml").write_text(aws.settings())
    return shell


def day(days_ago: float) -> str:
    """In UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - days_ago * DAY_S))


def test_costs_are_compared_with_the_bill(aws: Aws, shell: Shell) -> None:
    """A day at a time, over pages; by this site's tag alone; without addresses, and what we do not meter apart."""
    backend = open_place(aws_text(aws.site))
    for days, hours in ((5, 2.0), (2, 1.0)):
        fleet = new_fleet_id()
        close_account(backend.store, backend.key, fleet, [worker(0, hours)], time.time())
        began = time.time() - days * DAY_S
        kept(backend, fleet=fleet, created_at=began, ended_at=began + 60)
    backend.close()
    tag = f"starburst:site={aws.site['name']}"
    ecs, s3 = min(OF_WORKERS), "Amazon Simple Storage Service"
    bill = {
        day(5): {f"{tag}|{ecs}": "0.2400000000", "starburst:site=other|" + ecs: "99"},
        day(2): {f"{tag}|{ecs}": "0.1165200000", f"{tag}|{s3}": "0.0031"},
    }
    aws.set(bill=bill)
    done = shell("costs", "--reconcile", "--since", "9d")
    assert (done.returncode, done.stdout.splitlines()[0].split()) == (
        0,
        ["day", "(UTC)", "metered", "AWS's", "bill", "off", "by"],
    )
    rows = [line.split() for line in done.stdout.splitlines() if line[:3] in (day(5)[:3], "all")]
    assert rows == [
        [day(5), "$0.23", "$0.24", "-2.9%"],
        [day(2), "$0.12", "$0.12", "+0.0%"],
        ["all", "$0.35", "$0.36", "-2.0%"],
    ]
    assert "also on the bill, and not metered: $0.0031 for Amazon Simple Storage Service" in done.stderr
    told = json.loads(shell("costs", "--reconcile", "--since", "9d", "--json").stdout)
    assert told["all"] == {"metered_usd": 0.34956, "billed_usd": 0.35652, "off": -0.0195}
    assert told["beside_usd"] == {s3: 0.0031}


def loud(item: int) -> int:
    """Prints a thousand bytes."""
    print("x" * 999)
    return item


def test_what_a_run_asks_of_s3_and_sqs_is_in_its_costs(aws: Aws) -> None:
    """As the services counted it, but for what workers ask after their last answer; with what it prints, and what of
    all that goes through a NAT gateway.
    """
    backend = open_place(aws_text({**aws.site, "nat_gateway": "all"}))
    aws.requests(reset=True)
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        assert cluster.map(loud, range(200), chunk_size=2) == [*range(200)]
    asked = aws.requests()
    (key,) = [key for key in backend.store.list(ACCOUNTS) if "/run-" in key]
    entry = read_entry(backend, key)
    backend.close()
    puts = sum(
        count for (service, name), count in asked.items() if service == "s3" and name.startswith(("Put", "List"))
    )
    gets = sum(
        count for (service, name), count in asked.items() if service == "s3" and name.startswith(("Get", "Head"))
    )
    sqs = sum(count for (service, _), count in asked.items() if service == "sqs")
    for kind, there in (("s3-put", puts), ("s3-get", gets), ("sqs-request", sqs)):
        assert there / 2 <= entry.tolls[kind] <= there, kind
    assert entry.tolls["s3-put"] > 100
    assert entry.usd["requests"] >= Decimal("0.0005")
    assert entry.tolls["log-bytes"] == 200_000
    assert entry.usd["logs"] == pytest.approx(Decimal("0.5") * 200_000 / (1 << 30))
    assert entry.tolls["sqs-bytes"] > 100 * 200 and entry.tolls["s3-bytes"] > 200_000  # outcomes have it, too
    through = sum(count for kind, count in entry.tolls.items() if kind.endswith("-bytes"))
    assert entry.tariff.nat == "all"
    assert entry.usd["data through NAT"] == pytest.approx(Decimal("0.045") * through / (1 << 30))


def test_a_bill_that_tells_nothing_by_the_tag_says_what_to_do(aws: Aws, shell: Shell) -> None:
    """And so does one that may not be read."""
    aws.set(bill_active=False)
    done = shell("costs", "--reconcile", "--since", "3d")
    assert done.returncode != 0 and "activate it under Cost allocation tags" in done.stderr
    assert {action for kind, action in aws.allowed() if action.startswith("ce:")} == {
        "ce:GetCostAndUsage",
        "ce:ListCostAllocationTags",
    }
    driver = Shell(shell.folder, env={**shell.env, **aws.as_user("driver")})
    done = driver("costs", "--reconcile")
    assert done.returncode != 0 and "ce:GetCostAndUsage" in done.stderr and "Traceback" not in done.stderr
