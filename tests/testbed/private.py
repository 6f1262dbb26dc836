"""A network of the user's own, whose subnets have no way out but by the endpoints that are made there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from tests.testbed.bed import Bed
from tests.testbed.endpoints import name_of

#: What workers need: all but S3 by interface. Source: Amazon ECR User Guide, "Amazon ECR interface VPC endpoints (AWS
#: PrivateLink)"; Amazon ECS Developer Guide, "Amazon ECS interface VPC endpoints", read 2026-11-30.
SERVICES = ("s3", "ecr.api", "ecr.dkr", "logs", "ssm", "secretsmanager", "sqs")


class Private(NamedTuple):
    """It, while it is there."""

    vpc: str
    subnets: list[str]
    table: str
    group: str  #: of the endpoints, which lets the network's own in

    def end(self, aws: Bed, service: str, **more: Any) -> str:
        """One more endpoint; its id."""
        name = name_of(aws.env["AWS_REGION"], service)
        kind: dict[str, Any] = {
            "VpcEndpointType": "Interface",
            "SubnetIds": self.subnets,
            "SecurityGroupIds": [self.group],
            "PrivateDnsEnabled": True,
        }
        if service == "s3":
            kind = {"VpcEndpointType": "Gateway", "RouteTableIds": [self.table]}
        made = aws.boto("ec2").create_vpc_endpoint(VpcId=self.vpc, ServiceName=name, **kind | more)
        return str(made["VpcEndpoint"]["VpcEndpointId"])


@contextmanager
def private_network(aws: Bed, services: Sequence[str] = SERVICES, *, blocks: Sequence[str] = ()) -> Iterator[Private]:
    """One with such endpoints, while the block lasts; its subnets of such addresses."""
    ec2 = aws.boto("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{aws.env['AWS_REGION']}{zone}")["Subnet"][
            "SubnetId"
        ]
        for block, zone in zip(blocks or ("10.7.0.0/20", "10.7.16.0/20"), "abc", strict=False)
    ]
    here: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    table = ec2.describe_route_tables(Filters=here)["RouteTables"][0]["RouteTableId"]
    group = ec2.create_security_group(GroupName="ends", Description="of endpoints", VpcId=vpc)["GroupId"]
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.7.0.0/16"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[https])
    made = Private(vpc, subnets, table, group)
    for service in services:
        made.end(aws, service)
    try:
        yield made
    finally:
        found = ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
        ends = [each["VpcEndpointId"] for each in found if each["State"] == "available"]
        if ends:
            ec2.delete_vpc_endpoints(VpcEndpointIds=ends)
        for each in ec2.describe_network_interfaces(Filters=here)["NetworkInterfaces"]:
            with suppress(ec2.exceptions.ClientError):  # a task that ends gives its own back
                ec2.delete_network_interface(NetworkInterfaceId=each["NetworkInterfaceId"])
        for subnet in subnets:
            ec2.delete_subnet(SubnetId=subnet)
        for each in ec2.describe_security_groups(Filters=here)["SecurityGroups"]:
            if each["GroupName"] != "default":
                ec2.delete_security_group(GroupId=each["GroupId"])
        ec2.delete_vpc(VpcId=vpc)
