"""The AWS account's set-up that a run finds: bucket, cluster, network, roles, secret; and the settings that name it."""

from __future__ import annotations

import dataclasses
import functools
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from starburst_common.sites.administrator import administrator
from starburst_common.sites.arns import Arns
from starburst_common.sites.managed import provider
from starburst_common.sites.policies import POLICIES, bill, prices, trust
from starburst_common.sites.site import Site as Settings
from tests.testbed import cloud
from tests.testbed.conditions import ACCOUNT, ADMINISTRATOR, PARTITION, REGION, domain_of
from tests.testbed.networks import open_default, zones_of
from tests.testbed.settings import settings_text

ROLES = ("execution", "task", "build")
MANAGED = ("infrastructure", "instance")  #: roles for instances, named as setup does
#: who starts runs, who looks after the site, who sets sites up, who starts runs and works on them in one process, as
#: tests of a port do, and who looks prices up
USERS = ("driver", "operator", "setup", "both", "prices", "bill")
#: CreateBucket takes one region without being told it. Source: Amazon S3 API reference
_LOCATED: Any = {} if REGION == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
_NOT_SETTINGS = ("endpoint", "build_role", "repository", "keys", "profile")


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
    ec2_provider: str
    ec2_spot_provider: str
    gpu_provider: str
    gpu_spot_provider: str
    build_role: str  #: CodeBuild may assume it
    repository: str  #: what the site's images are called; ECR does not have it until someone makes it
    endpoint: str
    keys: dict[str, tuple[str, str]]  #: of each user, access key and secret
    profile: str  #: of instances, an ARN

    def settings(self) -> dict[str, Any]:
        """What goes into the settings file's site table."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_SETTINGS}

    def toml(self) -> str:
        """The settings file."""
        return settings_text(self.settings())

    def remake(self) -> None:
        """Make again what a reset takes away, and as it was: the bucket, the cluster, and all policies."""
        settings = Settings.of(self.settings(), "the bed")
        managed = [Arns(settings).role(kind) for kind in MANAGED]
        own = [self.execution_role, self.task_role, self.build_role, *managed]
        cloud.only(own, [key for key, _ in self.keys.values()])
        grant({**self.settings(), "build_role": self.build_role}, build=False, alone=True)
        cloud.give("starburst", {_user("setup"): administrator()}, alone=True)
        cloud.give("starburst-prices", {_user("prices"): prices()})
        cloud.give("starburst-bill", {_user("bill"): bill()})
        cloud.give("starburst-worker", {_user("both"): POLICIES["task"](Settings.of(self.settings(), "the bed"))})
        client("s3", self.endpoint).create_bucket(Bucket=self.bucket, **_LOCATED)
        client("ecs", self.endpoint).create_cluster(
            clusterName=self.cluster,
            capacityProviders=["FARGATE", "FARGATE_SPOT"],
            tags=[{"key": "starburst", "value": self.name}],
        )
        for name in settings.providers:
            wanted = provider(settings, self.profile, spot=name.endswith("spot"), gpus="gpu" in name)
            client("ecs", self.endpoint).create_capacity_provider(
                name=name, cluster=self.cluster, managedInstancesProvider=wanted
            )


def make_site(endpoint: str) -> Site:
    """Make a site through the AWS calls an administrator would use."""
    zones = zones_of(REGION)  # before EC2 makes its default network of them
    ec2, iam = client("ec2", endpoint), client("iam", endpoint)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{16 * number}.0/20", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate(zones[:3])
    ]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    open_default(REGION)
    group = ec2.create_security_group(GroupName="starburst-bed", Description="Workers: out only", VpcId=vpc)["GroupId"]
    roles = {
        kind: iam.create_role(RoleName=f"starburst-bed-{kind}", AssumeRolePolicyDocument=_trust(kind))["Role"]["Arn"]
        for kind in ROLES
    }
    for subnet in subnets:
        ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    for kind in MANAGED:
        iam.create_role(RoleName=f"starburst-bed-{REGION}-{kind}", AssumeRolePolicyDocument=_trust(kind))
    profile = iam.create_instance_profile(InstanceProfileName="starburst-bed")["InstanceProfile"]["Arn"]
    iam.add_role_to_instance_profile(InstanceProfileName="starburst-bed", RoleName=f"starburst-bed-{REGION}-instance")
    iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    keys = {}
    for name in USERS:
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = (made["AccessKeyId"], made["SecretAccessKey"])
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
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.{domain_of(REGION)}/starburst-bed:worker",
        signing_secret=secret,
        log_group="/starburst/bed",
        ec2_provider="starburst-bed-ec2",
        ec2_spot_provider="starburst-bed-ec2-spot",
        gpu_provider="starburst-bed-gpu",
        gpu_spot_provider="starburst-bed-gpu-spot",
        profile=profile,
        build_role=roles["build"],
        repository="starburst-bed",
        endpoint=endpoint,
        keys=keys,
    )
    site.remake()
    return site


def grant(settings: Mapping[str, Any], *, setup: bool = False, build: bool = True, alone: bool = False) -> None:
    """Let users, and the roles that a site names, have the policies that are printed for it.

    Those of another site stay unless they are to be `alone`. `setup`: who sets up is a driver there, too; `build`:
    drivers build in CodeBuild.
    """
    site = Settings.of(settings, "a test")
    asks = site if build else dataclasses.replace(site, build_role="")
    users = {"driver": "driver", "both": "driver", "bill": "driver", "operator": "operator"} | (
        {"setup": "driver"} if setup else {}
    )
    policies = {_user(name): POLICIES[kind](asks) for name, kind in users.items()}
    roles = {kind: getattr(site, f"{kind}_role") for kind in ROLES}
    roles |= {kind: Arns(site).role(kind) for kind in MANAGED}
    policies |= {arn: POLICIES[kind](site) for kind, arn in roles.items() if arn}
    cloud.give(f"starburst-{site.name}", policies, alone=alone)


def _user(name: str) -> str:
    return f"arn:{PARTITION}:iam::{ACCOUNT}:user/{name}"


def _trust(kind: str) -> str:
    return json.dumps(trust(kind, ACCOUNT, PARTITION, REGION))


@functools.cache
def client(service: str, endpoint: str) -> Any:
    """A boto3 client of the account's administrator. Slow to make: each is made once."""
    session = boto3.Session(aws_access_key_id=ADMINISTRATOR, aws_secret_access_key="bed", region_name=REGION)
    return session.client(service, endpoint_url=endpoint)  # type: ignore[call-overload]
