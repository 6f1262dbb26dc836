"""Sites in other partitions of AWS and in other regions: made, used and taken away there, and nowhere else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster
from starburst_common.aws import aws_backend
from starburst_common.aws.setup.account import AdminClients, AwsAccount
from starburst_common.aws.setup.clearing import tear_down
from starburst_common.aws.setup.making import set_up
from starburst_common.sites.administrator import administrator
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.wanted import WantedSite
from tests.places import AWS_PACE, environment
from tests.testbed.bed import Bed as Aws
from tests.testbed.conditions import ACCOUNT

PRODUCT = [Path(name) for name in ("starburst_common", "worker", "prefect_starburst", "airflow_provider_starburst")]
#: No principal of a service, as `ecs-tasks.amazonaws.com`.
ONE_PARTITION_S = re.compile(r"arn:aws:|(?<![a-z0-9]\.)amazonaws\.com")
rest = partial(pytest.param, marks=pytest.mark.rest)
#: What ARNs there begin with, and hosts end with.
REGIONS = {
    "cn-north-1": ("aws-cn", "amazonaws.com.cn"),
    "us-gov-west-1": ("aws-us-gov", "amazonaws.com"),
    "eusc-de-east-1": ("aws-eusc", "amazonaws.eu"),
    "eu-west-1": ("aws", "amazonaws.com"),
}


@pytest.fixture
def there(request: pytest.FixtureRequest) -> Iterator[Aws]:
    """A bed whose account is in that region, taken for AWS by who sets up there."""
    with Aws(region=request.param, named=True) as aws:
        wanted = WantedSite(name="main", region=request.param)
        aws.grant(wanted.site(ACCOUNT, ("subnet-1",), ()).table(), setup=True)
        with environment({**aws.env, **aws.as_user("setup")}):
            yield aws


@pytest.mark.parametrize(
    "there", ["cn-north-1", rest("us-gov-west-1"), rest("eusc-de-east-1"), rest("eu-west-1")], indirect=True
)
def test_from_an_account_to_a_map_and_back_in_every_partition(there: Aws) -> None:
    """All that is made has names of that partition, and what is printed for it too; then nothing is left."""
    region = there.site["region"]
    account = AwsAccount.of(AdminClients(region), "main")
    wanted = WantedSite.of(name="main", region=region, network="made", image=there.site["image"])
    site = set_up(account, wanted, lambda _: None)
    with Cluster(backend=aws_backend(site).paced(**AWS_PACE), workers=1, progress=False) as cluster:
        assert cluster.map(abs, [-1, -2]) == [1, 2]
    arns = [task["arn"] for task in there.tasks()]
    iam = there.boto("iam").get_role(RoleName=site.task_role.rpartition("/")[2])["Role"]
    told = [administrator(), iam, site.table(), *(each(site) for each in POLICIES.values())]
    partitions = set(re.findall(r"arn:(aws[a-z-]*):", json.dumps([arns, told], default=str)))
    partition, domain = REGIONS[region]
    assert partitions == {partition}
    hosts = {service: there.hosts(service, of="setup") for service in ("s3", "sqs", "ecs", "iam", "sts", "ec2", "ssm")}
    assert all(hosts.values()) and all(host.endswith(f".{domain}") for each in hosts.values() for host in each)
    assert {host.removeprefix(f"{site.bucket}.") for host in hosts["s3"]} == {f"s3.{region}.{domain}"}
    for service in ("s3", "sqs"):
        asked = {host.removeprefix(f"{site.bucket}.") for host in there.hosts(service, of="task")}
        assert asked == {f"{service}.{region}.{domain}"}
    assert tear_down(account, site.bucket, site.cluster, with_data=True, tell=lambda _: None) == []
    assert [each["Name"] for each in there.boto("s3").list_buckets()["Buckets"]] == [there.site["bucket"]]


def test_no_partition_is_taken_for_the_only_one() -> None:
    """No ARN or host is put together of `aws` or its domain; principals of services are the same everywhere."""
    files = [file for folder in PRODUCT for file in folder.rglob("*.py")]
    found = {(file.name, text) for file in files for text in _texts(file) if ONE_PARTITION_S.search(text)}
    assert found == {("access.py", "amazonaws.com"), ("access.py", "amazonaws.com.cn")}


def _texts(file: Path) -> list[str]:
    """Those of a module's code, if one is of AWS's."""
    if "arn:aws:" not in (code := file.read_text()) and "amazonaws.com" not in code:
        return []
    tree = ast.parse(code)
    shown = {id(node.body[0].value) for node in ast.walk(tree) if _has_docstring(node)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in shown]
    return [str(node.value) for node in constants]


def _has_docstring(node: Any) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
