"""Prices looked up: what AWS tells is in force from then on, but for what cannot be right, which is said."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import Shell, shell_in
from tests.testbed.bed import Bed as Aws

UPDATE = ("prices", "update", "--region", "eu-west-1")


@pytest.fixture
def shell(aws: Aws, tmp_path: Path) -> Shell:
    """Of a user who may look prices up, and nothing else, and who has not done so."""
    env = {**aws.env, **aws.as_user("prices"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return Shell(shell_in(tmp_path).folder, env=env)


def shown(shell: Shell, what: str, region: str = "eu-west-1") -> dict[str, dict[str, Any]]:
    """Prices as they are shown, by architecture or capacity."""
    rows = json.loads(shell("prices", "show", what, "--region", region, "--json").stdout)
    return {f"{row.get('arch', '')} {row['capacity']}".strip(): row for row in rows}


def test_what_aws_tells_is_in_force_from_then_on(aws: Aws, shell: Shell) -> None:
    """Of nine hundred products a page at a time, the right ones, though those at $0.00, of Windows, of Capacity Blocks
    and of other systems lie among them; Spot's where it is lowest now. All with the day; and `calc` goes by it.
    """
    aws.set(prices={"Fargate-ARM-vCPU-Hours:perCPU": "0.0300", "c7g.xlarge": "0.16", "spot:c7g.xlarge": "0.0512"})
    before = shown(shell, "fargate"), shown(shell, "p5.48xlarge", "us-east-1")
    done = shell(*UPDATE, "--region", "us-east-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "eu-west-1, Fargate: 5 prices of 20" in done.stdout and "  arm vCPU: 0.03238 -> 0.03\n" in done.stdout
    assert "  c7g.xlarge: 0.155 -> 0.16\n" in done.stdout
    fargate, c7g = shown(shell, "fargate"), shown(shell, "c7g.xlarge")
    assert (fargate["arm on-demand"]["usd_per_vcpu_hour"], fargate["arm spot"]) == ("0.03", before[0]["arm spot"])
    assert fargate["x86 on-demand"]["usd_per_vcpu_hour"] == before[0]["x86 on-demand"]["usd_per_vcpu_hour"]
    assert fargate["x86 on-demand"]["as_of"] > before[0]["x86 on-demand"]["as_of"]
    assert fargate["x86 on-demand"]["source"].startswith("AWS Price List API, offer AmazonECS, published 20")
    assert [(row["usd_per_hour"], row["basis"]) for row in c7g.values()] == [
        ("0.16", "observed"),
        ("0.0512", "observed"),
    ]
    assert (
        shown(shell, "p5.48xlarge", "us-east-1")["on-demand"]["usd_per_hour"] == before[1]["on-demand"]["usd_per_hour"]
    )
    calc = json.loads(shell("calc", "--arm", "--region", "eu-west-1", "--json").stdout)
    assert calc["by_component"]["compute"] == pytest.approx(0.03 + 2 * 0.00356)
    calls = aws.requests()
    assert calls["pricing", "GetProducts"] >= 2 * (1 + 9) and calls["ec2", "DescribeSpotPriceHistory"] >= 2 * 2
    assert {action for kind, action in aws.allowed() if kind == "prices"} == {
        "pricing:GetProducts",
        "ec2:DescribeSpotPriceHistory",
    }


def test_what_cannot_be_right_leaves_earlier_prices_in_force(aws: Aws, shell: Shell) -> None:
    """Missing, zero, malformed, tenfold, dearer on Spot than on demand: each says so; what else came is taken."""
    before = shown(shell, "fargate")["x86 on-demand"]
    odd = {"Fargate-GB-Hours": "0.0000000000", "Fargate-ARM-vCPU-Hours:perCPU": "dear", "c7g.xlarge": "1.60"}
    aws.set(prices={**odd, "spot:m5.large": "9", "m5.large": "0.11"}, prices_lack=["Fargate-ARM-GB-Hours", "m5.xlarge"])
    done = shell(*UPDATE)
    assert done.returncode == 5
    assert [line.removeprefix("starburst: ").removeprefix("eu-west-1, ") for line in done.stderr.splitlines()] == [
        "Fargate: x86 GB: a price of 0 in AWS's answer: 0.004445 stays in force",
        "Fargate: arm vCPU: malformed in AWS's answer (InvalidOperation): 0.03238 stays in force",
        "Fargate: arm GB: not in AWS's answer: earlier prices stay in force",
        "EC2 on demand: c7g.xlarge: 1.6 in place of 0.155, more than 2 times as much or as little: 0.155 stays in "
        "force",
        "EC2 on demand: m5.xlarge: not in AWS's answer: earlier prices stay in force",
        "EC2 Spot: m5.large: 9 is more than 0.11 on demand: 0.04601 stays in force",
    ]
    assert "  m5.large: 0.107 -> 0.11\n" in done.stdout
    assert shown(shell, "fargate")["x86 on-demand"] == before
    assert shown(shell, "c7g.xlarge")["on-demand"]["usd_per_hour"] == "0.155"


def test_an_old_answer_and_a_refused_one_change_nothing(aws: Aws, shell: Shell) -> None:
    """A list of years ago, of no day, or older than what is in force; and a list that may not be read."""
    aws.set(prices_published="2022-11-21", denied=["ec2:DescribeSpotPriceHistory"])
    done = shell(*UPDATE)
    assert (done.returncode, done.stdout) == (5, "")
    assert "Fargate: AWS's answer was published on 2022-11-21, more than a year ago: earlier prices stay" in done.stderr
    assert "not allowed to do ec2:DescribeSpotPriceHistory" in done.stderr
    aws.set(prices_published="soon")
    assert "is of no day ('soon'): earlier prices stay in force" in shell(*UPDATE).stderr
    aws.set(prices_published="", denied=[])
    assert shell(*UPDATE).returncode == 0
    aws.set(prices_published=f"{date.today() - timedelta(days=9)}")
    assert "that is in force: earlier prices stay in force" in shell(*UPDATE).stderr


def test_without_aws_or_with_a_broken_file_the_book_is_in_force(aws: Aws, shell: Shell) -> None:
    """Offline is said once for each list, and changes nothing; a file that cannot be read is told, and made anew."""
    book = shown(shell, "fargate")
    done = shell(*UPDATE, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 5 and done.stderr.count("earlier prices stay in force") == 3
    assert done.stdout == "" and shown(shell, "fargate") == book
    file = shell.folder / "cache/starburst/prices/eu-west-1.json"
    assert shell(*UPDATE).returncode == 0 and file.stat().st_mode & 0o777 == 0o600
    looked_up = shown(shell, "fargate")
    file.write_text(file.read_text()[:-100])
    broken = shell("prices", "show", "fargate", "--region", "eu-west-1")
    assert "cannot be read" in broken.stderr and "`starburst prices update` writes it anew" in broken.stderr
    assert shown(shell, "fargate") == book
    assert shell(*UPDATE).returncode == 0 and shown(shell, "fargate") == looked_up
    file.chmod(0o666)
    assert "everybody may write it" in shell("prices", "show", "--region", "eu-west-1").stderr


def test_what_was_looked_up_before_the_book_or_in_days_to_come_is_not_in_force(tmp_path: Path) -> None:
    """The newer of both holds; a date that is none or to come is told, as what is lacking, and the book is in force."""
    shell = Shell(shell_in(tmp_path).folder, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    book, file = shown(shell, "fargate"), tmp_path / "cache/starburst/prices/eu-west-1.json"
    file.parent.mkdir(parents=True)
    prices = {"x86 vCPU": "0.05", "x86 GB": "0.005"}

    def told(as_of: str, **fields: str) -> tuple[bool, str]:
        """Whether these are in force, and what is said."""
        sheet = {"prices": fields or prices, "source": "AWS", "as_of": as_of, "published": "2026-09-01"}
        file.write_text(json.dumps({"fargate": sheet}))
        file.chmod(0o600)
        rows = shown(shell, "fargate")
        at = rows["x86 on-demand"]
        assert rows == book or (at["usd_per_vcpu_hour"], at["as_of"]) == ("0.05", as_of)
        return rows != book, shell("prices", "show", "fargate", "--region", "eu-west-1").stderr

    said = told(f"{date.today()}")
    assert said[0] and "starburst:" not in said[1]
    assert told("2026-01-01")[0] is False
    to_come = f"{date.today() + timedelta(days=9)}"
    for odd in (to_come, "soon"):
        in_force, why = told(odd)
        assert not in_force and "the price book is in force" in why and odd in why
    in_force, why = told(f"{date.today()}", **{"x86 GB": "0.005"})
    assert not in_force and "lacks x86 vCPU: the price book is in force for it" in why


def test_a_region_is_asked_for(aws: Aws, shell: Shell) -> None:
    """The site's, if there is one; a list is asked for where the API is, whatever region it is of."""
    done = shell("prices", "update", STARBURST_CONFIG=str(shell.folder / "none"))
    assert done.returncode == 2 and "no site is configured: give --region" in done.stderr
    aws.set(denied=["ec2:DescribeSpotPriceHistory"])
    for region in ("ap-east-1", "sa-east-1"):
        done = shell("prices", "update", "--region", region)
        assert f"{region}, Fargate: 5 prices" in done.stdout and f"{region}, EC2 on demand: " in done.stdout
