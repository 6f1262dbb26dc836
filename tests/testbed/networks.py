"""Where a task is in a network in; its address there, and which services it reaches from there, out.

Nothing is switched on or off for a subnet: routes, gateways, endpoints and security groups are moto's, as they were
made. Sources, read 2026-11-30: Amazon VPC User Guide, "Enable internet access for a VPC using an internet gateway",
"NAT gateways", "Subnet CIDR blocks", "Security group rules"; AWS PrivateLink Guide, "Access an AWS service using an
interface VPC endpoint", "Gateway endpoints for Amazon S3"; Amazon ECS Developer Guide, "Fargate task networking".
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from moto.backends import get_backend
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend, Zone

from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, REGION
from tests.testbed.endpoints import renamed
from tests.testbed.refusals import Refused

_ANYWHERE = "0.0.0.0/0"
_HTTPS = 443
_RESERVED = 4  #: a subnet's first addresses, which are AWS's, as the last is
_lock = threading.Lock()


class Place(NamedTuple):
    """Where a task is to be."""

    region: str
    subnet: str
    groups: tuple[str, ...]
    public: bool  #: whether it is given a public address


class Full(Exception):
    """The subnet has no address left."""


def attach(place: Place) -> Any:
    """A network interface for a task, with an address of the subnet's. Raises `Full`."""
    ec2 = _ec2(place.region)
    subnet = ec2.get_subnet(place.subnet)
    with _lock:
        there = [each for each in ec2.get_all_network_interfaces() if each.subnet.id == place.subnet]
        if len(there) >= subnet.cidr.num_addresses - _RESERVED - 1:
            raise Full
        taken = {str(each.private_ip_address) for each in there}
        free = next(str(ip) for ip in list(subnet.cidr)[_RESERVED:-1] if str(ip) not in taken)
        return ec2.create_network_interface(subnet, free, group_ids=list(_groups(ec2, place)))


def detach(place: Place, interface: Any) -> None:
    """The address is free again."""
    with _lock:
        _ec2(place.region).enis.pop(interface.id, None)


def refuse_in_use(call: Call) -> None:
    """Raises `Refused` as EC2 does for a subnet or a group that is to be deleted while a network interface is in it.

    Source: Amazon EC2 API Reference, "Error codes", DependencyViolation.
    """
    asked = parse_qs(call.body.decode())
    id = (asked.get("SubnetId") or asked.get("GroupId") or [""])[0]
    for each in _ec2(call.region or REGION).get_all_network_interfaces():
        if id == each.subnet.id:
            raise Refused("DependencyViolation", f"The subnet '{id}' has dependencies and cannot be deleted.")
        if id in {group.id for group in each.group_set}:
            raise Refused("DependencyViolation", f"resource {id} has a dependent object")


def unknown_group(region: str, groups: Iterable[str]) -> str:
    """The first of them that is none."""
    return next((each for each in groups if _ec2(region).get_security_group_from_id(each) is None), "")


def reaches(place: Place, interface: Any, service: str) -> bool:
    """Whether a task gets an answer of a service, as endpoints call it: "ecr.api", "s3"; "" is the internet."""
    ec2 = _ec2(place.region)
    subnet = ec2.get_subnet(place.subnet)
    vpc, table = ec2.get_vpc(subnet.vpc_id), _table(ec2, subnet)
    own = [ec2.get_security_group_from_id(each) for each in _groups(ec2, place)]
    if not _is_set(vpc.enable_dns_support) or not any(_has_https(rule) for each in own for rule in each.egress_rules):
        return False
    if _leads_out(ec2, table, public=place.public):
        return True
    ends = [each for each in ec2.vpc_end_points.values() if each.vpc_id == vpc.id and each.state == "available"]
    return any(
        service and each.service_name.endswith(f".{place.region}.{service}") and _leads(ec2, each, table, interface)
        for each in ends
    )


def _leads_out(ec2: Any, table: Any, *, public: bool) -> bool:
    """By an internet gateway, for who has a public address; or by a NAT gateway in a subnet that has one."""
    for route in table.routes:
        if route.destination_cidr_block != _ANYWHERE:
            continue
        if route.gateway is not None:
            attached = getattr(route.gateway, "vpc", None)
            return public and attached is not None and attached.id == table.vpc_id
        if (nat := route.nat_gateway) is not None:
            there = _table(ec2, ec2.get_subnet(nat.subnet_id))
            is_whole = nat.state == "available" and nat.connectivity_type != "private"
            return bool(is_whole and _leads_out(ec2, there, public=True))
    return False


def _leads(ec2: Any, endpoint: Any, table: Any, interface: Any) -> bool:
    """Whether an endpoint stands where the table leads, or is found by name and lets its group's rules in whoever asks.

    For endpoints without a group of their own it is the network's default one.
    """
    if (endpoint.vpc_endpoint_type or "Gateway").lower() == "gateway":
        return table.id in endpoint.route_table_ids
    vpc = ec2.get_vpc(endpoint.vpc_id)
    if endpoint.private_dns_enabled in (False, "false") or not _is_set(vpc.enable_dns_hostnames):
        return False
    default = ec2.get_security_group_from_name("default", vpc_id=endpoint.vpc_id)
    groups = endpoint.security_group_ids or [default.id]
    rules = [rule for each in groups for rule in ec2.get_security_group_from_id(each).ingress_rules]
    asker = {group.id for group in interface.group_set}
    return any(_has_https(rule) and _from(rule, str(interface.private_ip_address), asker) for rule in rules)


def _from(rule: Any, address: str, groups: set[str]) -> bool:
    if block := rule.ip_range.get("CidrIp"):
        return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)
    return rule.source_group.get("GroupId") in groups


def _has_https(rule: Any) -> bool:
    if str(rule.ip_protocol) == "-1":
        return True
    return str(rule.ip_protocol) in ("tcp", "6") and int(rule.from_port) <= _HTTPS <= int(rule.to_port)


def _table(ec2: Any, subnet: Any) -> Any:
    """The table that a subnet is joined with, else its network's main one."""
    tables = [each for each in ec2.route_tables.values() if each.vpc_id == subnet.vpc_id]
    joined = next((each for each in tables if subnet.id in each._associations.values()), None)
    return joined or next(each for each in tables if each.main_association_id is not None)


def _groups(ec2: Any, place: Place) -> Iterator[str]:
    if place.groups:
        yield from place.groups
    else:
        yield ec2.get_security_group_from_name("default", vpc_id=ec2.get_subnet(place.subnet).vpc_id).id


@cache
def open_default(region: str) -> None:
    """Give a region's default network what moto leaves out: the gateway, and the route there; and lists their names.

    Source: Amazon VPC User Guide, "Default VPC components"; "AWS-managed prefix lists", called as endpoints are.
    """
    ec2 = _ec2(region)
    for each in ec2.managed_prefix_lists.values():
        each.prefix_list_name = renamed(each.prefix_list_name)
    if (vpc := ec2.get_default_vpc()) is None or any(each.vpc is vpc for each in ec2.internet_gateways.values()):
        return
    gateway = ec2.create_internet_gateway()
    ec2.attach_internet_gateway(gateway.id, vpc.id)
    main = next(each for each in ec2.route_tables.values() if each.vpc_id == vpc.id and each.main_association_id)
    ec2.create_route(main.id, _ANYWHERE, gateway_id=gateway.id)


@cache
def nowhere() -> str:
    """An address that nobody answers at, as none does that no route leads to: connecting there takes for ever."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    waiting = [socket.socket() for _ in range(3)]  # what else comes is dropped while nobody takes these
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(silent.getsockname())
    _kept.extend([silent, *waiting])
    return f"127.0.0.1:{silent.getsockname()[1]}"


_kept: list[socket.socket] = []


def zones_of(region: str) -> list[str]:
    """A region's availability zones; of one that moto does not know yet, three."""
    known = RegionsAndZonesBackend.zones
    if region not in known:
        known[region] = [Zone(f"{region}{each}", region, f"{region}-az{each}") for each in "abc"]
    return [zone.name for zone in known[region]]


def _is_set(attribute: Any) -> bool:
    return str(attribute).lower() == "true"


@cache
def _ec2(region: str) -> Any:
    return get_backend("ec2")[ACCOUNT][region]
