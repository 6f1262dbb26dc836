"""The bed's networks against what AWS documents of them. Sources are named rule by rule."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.testbed.bed import Bed
from tests.testbed.definitions import asked, define, described, reached
from tests.testbed.private import SERVICES, Private, private_network

LOGGED = {"awslogs-group": "/starburst/bed", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "w"}


def started(bed: Bed, subnets: Sequence[str], script: str = "pass", *, public: bool = False, **more: Any) -> Any:
    """A task in there that needs all a worker does, once it has stopped."""
    bed.boto("logs").create_log_group(logGroupName="/starburst/bed")
    defined = define(
        bed,
        script,
        secrets=[{"name": "KEY", "valueFrom": bed.site["signing_secret"]}],
        logConfiguration={"logDriver": "awslogs", "options": LOGGED},
        **more,
    )
    where = {"subnets": [*subnets], "assignPublicIp": "ENABLED" if public else "DISABLED"}
    launch = asked(bed, defined, networkConfiguration={"awsvpcConfiguration": where})
    (task,) = bed.boto("ecs").run_task(**launch)["tasks"]
    return reached(bed, task["taskArn"], "STOPPED")


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("", ""),
        ("ecr.api", "ResourceInitializationError: unable to pull secrets or registry auth: .*Amazon ECR.* i/o timeout"),
        ("secretsmanager", "ResourceInitializationError: .*connection issue between the task and AWS Secrets Manager"),
        ("logs", "ResourceInitializationError: failed to validate logger args: .*Amazon CloudWatch"),
        ("ecr.dkr", r"CannotPullContainerError: .*123456789012\.dkr\.ecr\.us-east-1\.amazonaws\.com.* i/o timeout"),
        ("s3", "CannotPullContainerError: .*starport-layer-bucket.s3.us-east-1.* i/o timeout"),
    ],
)
def test_each_endpoint_is_needed_where_nothing_leads_out(bed: Bed, lacks: str, said: str) -> None:
    """Tasks on Fargate need ecr.api, ecr.dkr, S3's gateway and, for what they use, logs and the secret's.

    (Amazon ECR User Guide, "Amazon ECR interface VPC endpoints (AWS PrivateLink)"; ECS Developer Guide, "Stopped tasks
    error messages".)
    """
    with private_network(bed, [each for each in SERVICES if each != lacks]) as network:
        task = started(bed, network.subnets)
    if not lacks:
        assert task["containers"][0]["exitCode"] == 0, task["stoppedReason"]
        return
    assert task["stopCode"] == "TaskFailedToStart"
    assert re.search(said, task["stoppedReason"]), task["stoppedReason"]


def test_a_gateway_lets_out_who_has_a_public_address(bed: Bed) -> None:
    """And nobody else (Amazon VPC User Guide, "Enable internet access for a VPC using an internet gateway")."""
    assert started(bed, bed.site["subnets"], public=True)["containers"][0]["exitCode"] == 0
    bed.reset()
    assert "i/o timeout" in started(bed, bed.site["subnets"])["stoppedReason"]


def test_a_nat_gateway_lets_out_whoever_has_none(bed: Bed) -> None:
    """If it is in a subnet that leads to an internet gateway (Amazon VPC User Guide, "NAT gateways")."""
    ec2 = bed.boto("ec2")
    (public,) = ec2.describe_subnets(SubnetIds=bed.site["subnets"][:1])["Subnets"]
    private = ec2.create_subnet(VpcId=public["VpcId"], CidrBlock="10.0.200.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=public["VpcId"])["RouteTable"]["RouteTableId"]
    joined = ec2.associate_route_table(RouteTableId=table, SubnetId=private)["AssociationId"]
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=public["SubnetId"], AllocationId=address)["NatGateway"]["NatGatewayId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    try:
        task = started(bed, [private])
        assert task["containers"][0].get("exitCode") == 0, task["stoppedReason"]
        ec2.delete_nat_gateway(NatGatewayId=nat)
        bed.reset()
        assert "i/o timeout" in started(bed, [private])["stoppedReason"]
    finally:
        ec2.disassociate_route_table(AssociationId=joined)
        ec2.delete_route_table(RouteTableId=table)
        ec2.delete_subnet(SubnetId=private)


@pytest.mark.parametrize("shut", ["its group", "its name", "the tasks' group"])
def test_an_endpoint_that_lets_nobody_in_is_none(bed: Bed, shut: str) -> None:
    """Its group must let HTTPS in and the task's out, and its name must be private.

    (AWS PrivateLink Guide, "Access an AWS service using an interface VPC endpoint".)
    """
    ec2 = bed.boto("ec2")
    with private_network(bed, [each for each in SERVICES if each != "logs" or shut == "the tasks' group"]) as network:
        here: Any = [{"Name": "vpc-id", "Values": [network.vpc]}, {"Name": "group-name", "Values": ["default"]}]
        (default,) = ec2.describe_security_groups(Filters=here)["SecurityGroups"]
        if shut == "the tasks' group":
            ec2.revoke_security_group_egress(
                GroupId=default["GroupId"], IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
            )
            said = "Amazon ECR"
        else:
            shutting: dict[str, Any] = {"its group": {"SecurityGroupIds": [_empty(bed, network)]}}
            network.end(bed, "logs", **shutting.get(shut, {"PrivateDnsEnabled": False}))
            said = "Amazon CloudWatch"
        assert f"connection issue between the task and {said}" in started(bed, network.subnets)["stoppedReason"]


def _empty(bed: Bed, network: Private) -> str:
    made = bed.boto("ec2").create_security_group(GroupName="empty", Description="nobody", VpcId=network.vpc)
    return str(made["GroupId"])


def test_what_a_container_calls_is_reached_or_not_by_the_same_rules(bed: Bed) -> None:
    """A service without a way there takes no connection: it times out."""
    script = (
        "import boto3, botocore, json\n"
        "once = botocore.config.Config(connect_timeout=1, retries={'total_max_attempts': 1})\n"
        "def tried(do):\n"
        "    try: do(); return 'fine'\n"
        "    except Exception as error: return type(error).__name__\n"
        "s3 = boto3.client('s3', config=once)\n"
        "said = {'sqs': tried(lambda: boto3.client('sqs', config=once).list_queues()),\n"
        f"        's3': tried(lambda: s3.list_objects_v2(Bucket='{bed.site['bucket']}'))}}\n"
        f"s3.put_object(Bucket='{bed.site['bucket']}', Key='runs/said', Body=json.dumps(said))\n"
    )
    with private_network(bed, [each for each in SERVICES if each != "sqs"]) as network:
        assert started(bed, network.subnets, script)["containers"][0]["exitCode"] == 0
    said = json.loads(bed.boto("s3").get_object(Bucket=bed.site["bucket"], Key="runs/said")["Body"].read())
    assert said == {"sqs": "ConnectTimeoutError", "s3": "fine"}


def test_a_full_subnet_takes_no_task(bed: Bed) -> None:
    """Of a /28 eleven addresses can be had, each task has one of them, and gives it back as it stops.

    (Amazon VPC User Guide, "Subnet CIDR blocks"; AWS re:Post, "InsufficientFreeAddressesInSubnet".)
    """
    ec2 = bed.boto("ec2")

    def free() -> int:
        (subnet,) = ec2.describe_subnets(SubnetIds=network.subnets)["Subnets"]
        return int(subnet["AvailableIpAddressCount"])

    with private_network(bed, ["s3"], blocks=["10.7.0.0/28"]) as network:
        for service in SERVICES[1:]:
            network.end(bed, service)
        assert free() == 11 - 6
        defined = define(bed)
        launch = asked(
            bed, defined, networkConfiguration={"awsvpcConfiguration": {"subnets": network.subnets}}, count=6
        )
        arns = [task["taskArn"] for task in bed.boto("ecs").run_task(**launch)["tasks"]]
        bed.until(lambda: {task["last_status"] for task in bed.tasks()} == {"RUNNING", "STOPPED"})
        assert free() == 0
        (stopped,) = [task for task in bed.tasks() if task["last_status"] == "STOPPED"]
        assert stopped["stopped_reason"].endswith(
            f"in subnet '{network.subnets[0]}': InsufficientFreeAddressesInSubnet"
        )
        running = next(arn for arn in arns if not arn.endswith(stopped["id"]))
        details = {each["name"]: each["value"] for each in described(bed, running)["attachments"][0]["details"]}
        assert details["privateIPv4Address"].startswith("10.7.0.")
        with pytest.raises(ClientError, match=r"DependencyViolation.*has dependencies and cannot be deleted"):
            ec2.delete_subnet(SubnetId=network.subnets[0])
        for arn in arns:
            bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=arn)
        bed.until(lambda: free() == 5)
        bed.until(lambda: {task["last_status"] for task in bed.tasks()} == {"STOPPED"})


@pytest.mark.parametrize(
    ("region", "service", "name"),
    [
        ("us-gov-west-1", "sqs", "com.amazonaws.us-gov-west-1.sqs"),
        ("cn-north-1", "s3", "com.amazonaws.cn-north-1.s3"),
        ("cn-north-1", "sqs", "cn.com.amazonaws.cn-north-1.sqs"),
        ("eusc-de-east-1", "s3", "eu.amazonaws.eusc-de-east-1.s3"),
    ],
)
def test_endpoints_are_called_as_the_partition_has_it(bed: Bed, region: str, service: str, name: str) -> None:
    """No other name is a service's there (AWS CDK, `VPC_ENDPOINT_SERVICE_EXCEPTIONS`; EC2, "Error codes")."""
    ec2 = bed.boto("ec2", region_name=region)
    ends = [each for each in ec2.describe_vpc_endpoint_services()["ServiceNames"] if each.endswith(f"1.{service}")]
    assert {*ends} == {name}
    vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    kind: Any = {"VpcEndpointType": "Gateway" if service == "s3" else "Interface"}
    made = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=name, **kind)["VpcEndpoint"]["VpcEndpointId"]
    other = f"com.amazonaws.{region}.{service}" if not name.startswith("com.") else f"cn.{name}"
    with pytest.raises(ClientError, match="InvalidServiceName"):
        ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=other, **kind)
    ec2.delete_vpc_endpoints(VpcEndpointIds=[made])
    ec2.delete_vpc(VpcId=vpc)
