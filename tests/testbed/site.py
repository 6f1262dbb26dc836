"""The AWS account's set-up that a run finds: bucket, cluster, network, roles, secret; and the settings that name it."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from tests.testbed.conditions import ACCOUNT, REGION

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
#: who may assume which role
_ROLES = {
    "execution": "ecs-tasks.amazonaws.com",
    "task": "ecs-tasks.amazonaws.com",
    "build": "codebuild.amazonaws.com",
}
_NOT_SETTINGS = ("endpoint", "build_role", "repository")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Names and ARNs, as in the settings file."""

    name: str
    region: str
    bucket: str
    cluster: str
    subnets: list[str]
    security_groups: list[str]
    execution_role: str
    task_role: str
    image: str
    signing_secret: str
    log_group: str
    build_role: str  #: CodeBuild may assume it
    repository: str  #: what the site's images are called; ECR does not have it until someone makes it
    endpoint: str

    def settings(self) -> dict[str, Any]:
        """What goes into the settings file's site table."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_SETTINGS}

    def toml(self) -> str:
        """The settings file."""
        return settings_text(self.settings())

    def remake(self) -> None:
        """Make again what a reset takes away: the bucket and the cluster."""
        client("s3", self.endpoint).create_bucket(Bucket=self.bucket)
        client("ecs", self.endpoint).create_cluster(
            clusterName=self.cluster,
            capacityProviders=["FARGATE", "FARGATE_SPOT"],
            tags=[{"key": "starburst", "value": self.name}],
        )


def settings_text(site: Mapping[str, Any]) -> str:
    """A settings file with this site table."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in site.items()]
    return "\n".join(['backend = "aws"', "", "[site]", *lines, ""])


def make_site(endpoint: str) -> Site:
    """Make a site through the AWS calls an administrator would use."""
    ec2, iam = client("ec2", endpoint), client("iam", endpoint)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{16 * number}.0/20", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate(ZONES)
    ]
    group = ec2.create_security_group(GroupName="starburst-bed", Description="Workers: out only", VpcId=vpc)["GroupId"]
    roles = {
        kind: iam.create_role(RoleName=f"starburst-bed-{kind}", AssumeRolePolicyDocument=_trust(service))["Role"]["Arn"]
        for kind, service in _ROLES.items()
    }
    iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    secret = client("secretsmanager", endpoint).create_secret(
        Name="starburst/bed/signing", SecretString=secrets.token_hex(32)
    )["ARN"]
    site = Site(
        name="bed",
        region=REGION,
        bucket=f"starburst-bed-{ACCOUNT}",
        cluster="starburst-bed",
        subnets=subnets,
        security_groups=[group],
        execution_role=roles["execution"],
        task_role=roles["task"],
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/starburst-bed:worker",
        signing_secret=secret,
        log_group="/starburst/bed",
        build_role=roles["build"],
        repository="starburst-bed",
        endpoint=endpoint,
    )
    site.remake()
    return site


def _trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@functools.cache
def client(service: str, endpoint: str) -> Any:
    """A boto3 client for the bed's AWS. Slow to make: each is made once."""
    session = boto3.Session(aws_access_key_id="bed", aws_secret_access_key="bed", region_name=REGION)
    return session.client(service, endpoint_url=endpoint)  # type: ignore[call-overload]
