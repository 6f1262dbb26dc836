"""Sites in other partitions of AWS and in other regions: made, used and taken away there, and nowhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial

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

rest = partial(pytest.param, marks=pytest.mark.rest)
REGIONS = {"cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eusc-de-east-1": "aws-eusc", "eu-west-1": "aws"}


@pytest.fixture
def there(request: pytest.FixtureRequest) -> Iterator[Aws]:
    """A bed whose account is in that region, taken for AWS by who sets up there."""
    with Aws(region=request.param) as aws:
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
    assert partitions == {REGIONS[region]}
    assert tear_down(account, site.bucket, site.cluster, with_data=True, tell=lambda _: None) == []
    assert [each["Name"] for each in there.boto("s3").list_buckets()["Buckets"]] == [there.site["bucket"]]
