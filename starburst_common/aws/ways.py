"""What ECS says of a worker, or EC2 of a network, in; the services that it does not lead to, and what to do, out. Pure.

Sources, read 2026-11-30: Amazon ECR User Guide, "Amazon ECR interface VPC endpoints (AWS PrivateLink)"; Amazon ECS
Developer Guide, "Stopped tasks error messages"; Amazon VPC User Guide, "Configure route tables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starburst_common.model import NAT_ALL, NAT_BUT_S3, NO_NAT
from starburst_common.sites.policies import partition_of
from starburst_common.sites.site import Site


class Way(NamedTuple):
    """To one service that a worker, or ECS for it, must reach."""

    service: str  #: as endpoints in networks are called
    name: str  #: for a person
    told: str  #: how ECS says that nobody answered there
    exit_code: int = 0  #: with which a worker says so that has begun; beyond those of processes that a signal ended


#: In the order in which they are needed, and sought in what ECS says.
WAYS = (
    Way("ecr.api", "ECR's API", r"registry auth from Amazon ECR|api\.ecr"),
    Way("secretsmanager", "Secrets Manager", r"Secrets Manager|secrets? from asm"),
    Way("ssm", "Systems Manager", r"Systems Manager|secrets? from ssm"),
    Way("logs", "CloudWatch Logs", r"Amazon CloudWatch|Cloudwatch log stream"),
    Way("s3", "S3", r"starport-layer-bucket|\bs3[.-]", 196),
    Way("ecr.dkr", "ECR's registry", r"Amazon ECR repository|\.dkr[.-]ecr"),
    Way("sqs", "SQS", r"\bsqs\b", 197),
)
_ANYWHERE = "0.0.0.0/0"


def way_to(service: str) -> Way:
    """The one to a service."""
    return next(way for way in WAYS if way.service == service)


def unanswered(said: str, exit_code: int | None = None) -> Way | None:
    """Which service did not answer, as far as ECS's words or a worker's exit code tell.

    >>> unanswered('Post "https://api.ecr.eu-west-1.amazonaws.com/": dial tcp 1.2.3.4:443: i/o timeout').service
    'ecr.api'
    >>> unanswered("", 197).service
    'sqs'
    >>> unanswered("", 0)
    """
    if exit_code is not None:
        return next((way for way in WAYS if way.exit_code and way.exit_code == exit_code), None)
    return next((way for way in WAYS if re.search(way.told, said)), None)


def way_out(ways: Sequence[Way], region: str, *, public: bool = False) -> str:
    """What to do where a network does not lead to these; to any, where it is not known to which.

    `public`: workers have public addresses already.

    >>> print(way_out([way_to("s3")], "eu-west-1"))  # doctest: +NORMALIZE_WHITESPACE
    give the site's subnets a way out to S3: in public ones `assign_public_ip = true`; in private ones a gateway
    endpoint com.amazonaws.eu-west-1.s3 in their route table, or a NAT gateway; the workers' security groups must let
    HTTPS out
    """
    if not ways:
        to, ends = "", "endpoints (S3's gateway; ECR's two, SQS, logs and the secret's)"
    else:
        to, ends = f" to {_listed(way.name for way in ways)}", _listed(_end(way.service, region) for way in ways)
        if any(way.service != "s3" for way in ways):
            ends += ", with a group that lets HTTPS in from them"
    return (
        f"give the site's subnets a way out{to}: in public ones "
        f"{'a route to an internet gateway' if public else '`assign_public_ip = true`'}; in private ones {ends}, or a "
        "NAT gateway; the workers' security groups must let HTTPS out"
    )


def _end(service: str, region: str) -> str:
    """Names in other partitions begin in several ways, and `aws ec2 describe-vpc-endpoint-services` lists them."""
    begin = "com.amazonaws" if partition_of(region) in ("aws", "aws-us-gov") else "…"
    if service == "s3":
        return f"a gateway endpoint {begin}.{region}.s3 in their route table"
    return f"an interface endpoint {begin}.{region}.{service}"


def needed(site: Site) -> list[Way]:
    """What a site's workers must reach.

    >>> from starburst_common.sites.wanted import WantedSite
    >>> [way.service for way in needed(WantedSite(name="main", region="eu-west-1").site("123456789012", ("s",), ()))]
    ['ecr.api', 'ssm', 'logs', 's3', 'ecr.dkr', 'sqs']
    """
    other = "secretsmanager" if ":ssm:" in site.signing_secret else "ssm"
    return [way for way in WAYS if way.service != other]


def lacking(
    site: Site, subnet: Mapping[str, Any], tables: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]
) -> list[Way]:
    """What the site's workers do not reach from a subnet, by the route tables and endpoints of its network.

    All as EC2 describes them. What else than an internet gateway takes everything is taken to lead out.

    >>> from starburst_common.sites.wanted import WantedSite
    >>> wanted = WantedSite(name="main", region="eu-west-1", private=True, subnets=("subnet-1",))
    >>> site = wanted.site("123456789012", ("subnet-1",), ())
    >>> table = {"RouteTableId": "rtb-1", "Associations": [{"Main": True}], "Routes": []}
    >>> end = {"ServiceName": "com.amazonaws.eu-west-1.s3", "VpcEndpointType": "Gateway", "State": "available",
    ...        "RouteTableIds": ["rtb-1"]}
    >>> [way.service for way in lacking(site, {"SubnetId": "subnet-1"}, [table], [end])]
    ['ecr.api', 'ssm', 'logs', 'ecr.dkr', 'sqs']
    >>> nat = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}
    >>> lacking(site, {"SubnetId": "subnet-1"}, [table | {"Routes": [nat]}], [])
    []
    """
    table = table_of(subnet["SubnetId"], tables)
    if table is None or _leads_out(table, public=site.assign_public_ip):
        return []
    there = {each["ServiceName"] for each in ends if _leads(each, table)}
    return [way for way in needed(site) if not any(name.endswith(f".{site.region}.{way.service}") for name in there)]


def gated(subnet: Mapping[str, Any], tables: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]) -> str:
    """What of a subnet's bytes goes through a NAT gateway.

    >>> nat = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}
    >>> table = {"RouteTableId": "rtb-1", "Associations": [{"Main": True}], "Routes": [nat]}
    >>> end = {"ServiceName": "com.amazonaws.eu-west-1.s3", "VpcEndpointType": "Gateway", "State": "available",
    ...        "RouteTableIds": ["rtb-1"]}
    >>> subnet = {"SubnetId": "subnet-1"}
    >>> gated(subnet, [table], []), gated(subnet, [table], [end]), gated(subnet, [table | {"Routes": []}], [end])
    ('all', 'but-s3', 'none')
    """
    table = table_of(subnet["SubnetId"], tables)
    routes = [] if table is None else table.get("Routes", [])
    out = (route for route in routes if route.get("DestinationCidrBlock") == _ANYWHERE)
    if table is None or not any(route.get("NatGatewayId") for route in out):
        return NO_NAT
    by_itself = any(str(each["ServiceName"]).endswith(".s3") and _leads(each, table) for each in ends)
    return NAT_BUT_S3 if by_itself else NAT_ALL


def leads_elsewhere(table: Mapping[str, Any]) -> bool:
    """Whether any of its routes leads to another network, where endpoints may be that nobody sees from here.

    >>> local, hub = {"GatewayId": "local"}, {"DestinationCidrBlock": "10.0.0.0/8", "TransitGatewayId": "tgw-1"}
    >>> leads_elsewhere({"Routes": [local]}), leads_elsewhere({"Routes": [local, hub]})
    (False, True)
    """
    inside = ("local", "igw-", "vpce-")
    routes = (each for each in table.get("Routes", []) if each.get("State") != "blackhole")
    return any(not str(each.get("GatewayId", "")).startswith(inside) for each in routes)


def lost_told(lost: Mapping[str, Sequence[Way]], site: Site) -> str:
    """That for a person: all subnets, and what any of them lacks."""
    ways = [way for way in WAYS if any(way in each for each in lost.values())]
    out = way_out(ways, site.region, public=site.assign_public_ip)
    return f"{', '.join(sorted(lost))} do not lead to {_listed(way.name for way in ways)}: {out}"


def unsure_told(lost: Mapping[str, Sequence[Way]], site: Site) -> str:
    """The same of subnets with routes to other networks, where all of it may be."""
    return (
        f"{', '.join(sorted(lost))} have routes to other networks, as through a peering connection or a transit "
        "gateway, and what answers there EC2 does not tell: `starburst doctor --from-worker` shows, by a worker, "
        f"whether the site's have all that they need. By what is seen from here {lost_told(lost, site)}"
    )


def table_of(subnet: str, tables: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The route table that holds for a subnet."""
    joined = [(each, joint) for each in tables for joint in each.get("Associations", [])]
    own = next((each for each, joint in joined if joint.get("SubnetId") == subnet), None)
    return own or next((each for each, joint in joined if joint.get("Main")), None)


def _leads_out(table: Mapping[str, Any], *, public: bool) -> bool:
    ways = [route for route in table.get("Routes", []) if route.get("DestinationCidrBlock") == _ANYWHERE]
    return any(
        route.get("State") != "blackhole" and (public or not str(route.get("GatewayId", "")).startswith("igw-"))
        for route in ways
    )


def _leads(end: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    if str(end.get("State", "")).lower() != "available":
        return False
    if end.get("VpcEndpointType") == "Gateway":
        return table["RouteTableId"] in end.get("RouteTableIds", [])
    return bool(end.get("PrivateDnsEnabled"))


def _listed(texts: Any) -> str:
    found = [*texts]
    return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))
