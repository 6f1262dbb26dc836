"""Where workers run: the account's own network, one that is named, or one that is made.

Public subnets, with an S3 endpoint: a NAT gateway costs more than the workers. The endpoint and all else here is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, mended, tags_in_ec2
from starburst_common.errors import BadInput, Unavailable
from starburst_common.steps import told_while

_RANGE = "10.82.0.0/16"
_BLOCKS = [f"10.82.{16 * number}.0/20" for number in range(16)]  #: of it
_ZONES = 3
_MOST_SUBNETS = 16  #: of a task. Source: Amazon ECS API reference, AwsVpcConfiguration
_IN_USE = {"DependencyViolation", "InvalidGroup.InUse"}
_PATIENCE_S = 300.0  #: for addresses of workers that have ended to be given back
_LOOK_S = 3.0
#: As EC2 is asked for them, how it answers, and what it calls the id of one.
_PARTS = (
    ("vpcs", "Vpcs", "VpcId"),
    ("subnets", "Subnets", "SubnetId"),
    ("internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("route_tables", "RouteTables", "RouteTableId"),
    ("vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
)


class NetworkPlace(NamedTuple):
    """A network, and its subnets for workers."""

    vpc: str
    subnets: tuple[str, ...]


def given_place(account: AwsAccount, subnets: Sequence[str]) -> NetworkPlace:
    """Of subnets that are named. Raises `BadInput` where one is not there, or they are of several networks."""
    with speaking("ec2:DescribeSubnets"):
        try:
            found = account.clients.ec2.describe_subnets(SubnetIds=[*subnets])["Subnets"]
        except ClientError as error:
            if error_code(error).startswith("InvalidSubnet"):
                message = error.response["Error"].get("Message", "")
                raise BadInput(f"--subnet: {message}: name subnets in {account.region}") from error
            raise
    vpcs = {each["VpcId"] for each in found}
    if len(vpcs) != 1:
        raise BadInput(f"--subnet: they are of {len(vpcs)} networks, {', '.join(sorted(vpcs))}: name those of one")
    return NetworkPlace(vpcs.pop(), tuple(subnets))


def default_place(account: AwsAccount) -> NetworkPlace | None:
    """The account's default network with its default subnets, if it has kept them."""
    ec2 = account.clients.ec2
    with speaking("ec2:DescribeSubnets"):
        found = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    if not found:
        return None
    ids = sorted(each["SubnetId"] for each in found)
    return NetworkPlace(found[0]["VpcId"], tuple(ids[:_MOST_SUBNETS]))


class Network:
    """A network of the site's own. Each of its parts is marked when it is made, and found again by that."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ec2 = account, name, account.clients.ec2
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is, or any part of it."""
        return bool(self._vpcs())

    def ours(self) -> bool:
        """It is found by that mark."""
        return self.there()

    def make(self) -> NetworkPlace:
        """Have it whole: subnets in up to three zones that reach the internet, and S3 without it."""
        lacked = [each.what for each in self._lacks()]
        place = self._whole()
        self.mended = [*lacked, *mended(self._tags())]
        return place

    def _whole(self) -> NetworkPlace:
        ec2 = self._ec2
        with speaking("ec2:CreateVpc"):
            vpc = self._one("vpcs", "Vpcs") or ec2.create_vpc(CidrBlock=_RANGE, **self._marked("vpc"))["Vpc"]
            id = vpc["VpcId"]
            ec2.modify_vpc_attribute(VpcId=id, EnableDnsHostnames={"Value": True})
        subnets = self._subnets(id)
        with speaking("ec2:CreateInternetGateway"):
            gateway = (
                self._one("internet_gateways", "InternetGateways")
                or ec2.create_internet_gateway(**self._marked("internet-gateway"))["InternetGateway"]
            )
            if not gateway.get("Attachments"):
                ec2.attach_internet_gateway(VpcId=id, InternetGatewayId=gateway["InternetGatewayId"])
        table = self._routes(id, gateway["InternetGatewayId"], subnets)
        with speaking("ec2:CreateVpcEndpoint"):
            if not self._one("vpc_endpoints", "VpcEndpoints"):
                ec2.create_vpc_endpoint(
                    VpcId=id,
                    ServiceName=self._s3(),
                    VpcEndpointType="Gateway",
                    RouteTableIds=[table],
                    **self._marked("vpc-endpoint"),
                )
        return NetworkPlace(id, tuple(subnets))

    def drifts(self) -> Iterator[Drift]:
        """What of its parts and their tags is not as it is to be."""
        yield from self._lacks()
        yield from self._tags()

    def _lacks(self) -> Iterator[Drift]:
        """What of it is not there any more; all of it is made by one mend."""
        if not self._vpcs():
            return
        subnets = self._all("subnets", "Subnets")
        there = {each["AvailabilityZone"] for each in subnets}
        if lacking := self._unserved(there):
            yield Drift(f"its lack of a subnet in {', '.join(lacking)}", self._whole)
        if hidden := [each["SubnetId"] for each in subnets if not each.get("MapPublicIpOnLaunch")]:
            yield Drift(f"its lack of public addresses in {', '.join(hidden)}", self._whole)
        gateway = self._one("internet_gateways", "InternetGateways") or {}
        table = self._one("route_tables", "RouteTables") or {}
        out = {each.get("GatewayId") for each in table.get("Routes", [])}
        joined = {each.get("SubnetId") for each in table.get("Associations", [])}
        if not gateway.get("Attachments") or gateway["InternetGatewayId"] not in out:
            yield Drift("its lack of a way to the internet", self._whole)
        elif away := [each["SubnetId"] for each in subnets if each["SubnetId"] not in joined]:
            yield Drift(f"its lack of a way to the internet from {', '.join(away)}", self._whole)
        if not self._one("vpc_endpoints", "VpcEndpoints"):
            yield Drift("its lack of an endpoint of S3", self._whole)

    def _tags(self) -> Iterator[Drift]:
        for kind, answer, id in _PARTS:
            for each in self._all(kind, answer):
                yield from tags_in_ec2(self._account, self._ec2, each[id], each["Tags"])

    def remove(self) -> None:
        """All of it, in the order in which AWS lets go."""
        ec2 = self._ec2
        with speaking("ec2:DeleteVpc"):
            if endpoints := [each["VpcEndpointId"] for each in self._all("vpc_endpoints", "VpcEndpoints")]:
                ec2.delete_vpc_endpoints(VpcEndpointIds=endpoints)
            for each in self._all("route_tables", "RouteTables"):
                for joined in each.get("Associations", []):
                    ec2.disassociate_route_table(AssociationId=joined["RouteTableAssociationId"])
                when_free(partial(ec2.delete_route_table, RouteTableId=each["RouteTableId"]))
            for each in self._all("subnets", "Subnets"):
                when_free(partial(ec2.delete_subnet, SubnetId=each["SubnetId"]))
            for each in self._all("internet_gateways", "InternetGateways"):
                id = each["InternetGatewayId"]
                for attached in each.get("Attachments", []):
                    ec2.detach_internet_gateway(InternetGatewayId=id, VpcId=attached["VpcId"])
                ec2.delete_internet_gateway(InternetGatewayId=id)
            for each in self._vpcs():
                when_free(partial(ec2.delete_vpc, VpcId=each["VpcId"]))

    def _s3(self) -> str:
        """What S3's endpoint is called there: names of other partitions begin in several ways."""
        asked: Any = [{"Name": "service-type", "Values": ["Gateway"]}]
        found = self._ec2.describe_vpc_endpoint_services(Filters=asked)["ServiceNames"]
        return str(next(name for name in found if name.endswith(f".{self._account.region}.s3")))

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _subnets(self, vpc: str) -> list[str]:
        """In each of three zones one; those that were chosen before stay, whatever zones there are now."""
        ec2, found = self._ec2, self._all("subnets", "Subnets")
        there = {each["AvailabilityZone"]: each["SubnetId"] for each in found}
        free = [block for block in _BLOCKS if block not in {each["CidrBlock"] for each in found}]
        with speaking("ec2:CreateSubnet"):
            for zone, block in zip(self._unserved(there), free, strict=False):
                made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone, **self._marked("subnet"))
                there[zone] = made["Subnet"]["SubnetId"]
            for subnet in there.values():  # instances in them have no other way out
                ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
        return [there[zone] for zone in sorted(there)]

    def _unserved(self, there: Collection[str]) -> list[str]:
        """Zones that are to have a subnet, beside those that have."""
        usual: Any = [{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}]
        with speaking("ec2:DescribeAvailabilityZones"):
            zones = self._ec2.describe_availability_zones(Filters=usual)["AvailabilityZones"]
        names = sorted(each["ZoneName"] for each in zones if each["State"] == "available")
        return [each for each in names if each not in there][: max(_ZONES - len(there), 0)]

    def _routes(self, vpc: str, gateway: str, subnets: Sequence[str]) -> str:
        """The table by which all subnets reach the internet."""
        ec2 = self._ec2
        with speaking("ec2:CreateRouteTable"):
            table = (
                self._one("route_tables", "RouteTables")
                or ec2.create_route_table(VpcId=vpc, **self._marked("route-table"))["RouteTable"]
            )
            id = table["RouteTableId"]
            if not any(route.get("GatewayId") == gateway for route in table.get("Routes", [])):
                ec2.create_route(RouteTableId=id, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
            joined = {each.get("SubnetId") for each in table.get("Associations", [])}
            for subnet in subnets:
                if subnet not in joined:
                    ec2.associate_route_table(RouteTableId=id, SubnetId=subnet)
        return str(id)

    def _vpcs(self) -> list[Any]:
        return self._all("vpcs", "Vpcs")

    def _one(self, kind: str, answer: str) -> Any:
        """The first of a kind by its id, so that all who set up take the same."""
        found = self._all(kind, answer)
        return found[0] if found else None

    def _all(self, kind: str, answer: str) -> list[Any]:
        """All of a kind that are marked as this network's."""
        marked = [
            {"Name": "tag:starburst:site", "Values": [self._account.site]},
            {"Name": "tag:Name", "Values": [self.name]},
        ]
        with speaking(f"ec2:Describe{answer}"):
            found = getattr(self._ec2, f"describe_{kind}")(Filters=marked)[answer]
        alive = [each for each in found if each.get("State") not in ("deleted", "deleting")]
        return sorted(alive, key=lambda each: sorted(str(value) for key, value in each.items() if key.endswith("Id")))

    def _marked(self, kind: str) -> dict[str, Any]:
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": [*self._account.pairs, named(self.name)]}]}


def when_free(remove: Callable[[], Any], patience_s: float = _PATIENCE_S) -> None:
    """Remove a part, as soon as nothing uses it any more; one that is gone is no matter.

    Addresses of workers are given back some time after they have ended. Raises `Unavailable` where that takes too long.
    """
    until = time.monotonic() + patience_s
    with told_while("AWS does not let go of the network yet: addresses of workers that have ended are given back late"):
        while (why := _kept(remove)) is not None:
            if time.monotonic() > until:
                message = why.response["Error"].get("Message", "")
                raise Unavailable(f"{message}: what uses it is not starburst's: remove that, and try again") from why
            time.sleep(_LOOK_S)


def _kept(remove: Callable[[], Any]) -> ClientError | None:
    """Why it is in use still, if it is."""
    try:
        remove()
    except ClientError as error:
        code = error_code(error)
        if code in _IN_USE:
            return error
        if not code.endswith(".NotFound"):
            raise
    return None


def named(name: str) -> dict[str, str]:
    """The tag by which EC2's console calls a thing."""
    return {"Key": "Name", "Value": name}
