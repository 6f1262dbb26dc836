"""A site in; what of it this process can reach out, a part each: the first look at a connection that does not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.ecr import EcrRepository
from starburst_common.aws.keys import signing_key
from starburst_common.aws.roads import Roads
from starburst_common.aws.ways import lost_told, unsure_told
from starburst_common.aws.whose import see_whose
from starburst_common.errors import BadInput, Denied, NotFound, StarburstError
from starburst_common.sites.site import Site

if TYPE_CHECKING:
    from starburst_common.aws.sessions import AwsSession


_MOST_OFF_S = 120.0  #: of fifteen minutes that S3 and of five that other services allow


class Reached(NamedTuple):
    """A part of a site."""

    part: str
    fine: bool | None  #: None where nobody could tell
    told: str  #: what is there, or what is wrong

    def __str__(self) -> str:
        return f"{self.part}: {self.told}"


def site_parts(site: Site, new_session: Callable[[], AwsSession] | None = None) -> list[Reached]:
    """Credentials, clock, region, bucket, cluster, queues, signing key, log, images, network and, where workers may run
    on such, instances, in this order.

    Nothing is made, and nothing is raised.

    It asks for no more rights than runs do, but for network and instances: who may not look there cannot tell.
    `new_session` is as for `aws_backend`.
    """
    clients = Clients(site.region, new_session, owner=site.account)
    identity = cache(partial(_identity, clients))
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("credentials", lambda: str(identity()["Arn"])),
        ("clock", lambda: _clock(identity())),
        ("region", lambda: _region(clients, site)),
        ("bucket", lambda: _bucket(clients, site)),
        ("cluster", lambda: _cluster(clients, site)),
        ("queues", lambda: _queues(clients, site)),
        ("signing key", lambda: _key(clients, site)),
        ("log", lambda: _log(clients, site)),
        ("images", lambda: _images(clients, site)),
        ("network", lambda: _network(clients, site)),
        *((("instances", lambda: _instances(clients, site)),) if site.providers else ()),
    )
    try:
        return [*_told(parts)]
    finally:
        clients.close()


class _Unsure(Exception):
    """Nobody can tell from here; the text says how to be sure."""


def _told(parts: tuple[tuple[str, Callable[[], str]], ...]) -> Iterator[Reached]:
    for part, look in parts:
        try:
            yield Reached(part, True, look())
        except _Unsure as unsure:
            yield Reached(part, None, str(unsure))
        except StarburstError as error:
            yield Reached(
                part, None if part in ("network", "instances") and isinstance(error, Denied) else False, str(error)
            )


def _identity(clients: Clients) -> dict[str, Any]:
    with speaking("sts:GetCallerIdentity"):
        sts = clients.session.client("sts", region_name=clients.region)
        try:
            return dict(sts.get_caller_identity())
        finally:
            sts.close()


def _clock(identity: Mapping[str, Any]) -> str:
    """AWS refuses what is signed with a time that is minutes off. Source: AWS General Reference, "Signing requests"."""
    said = identity["ResponseMetadata"]["HTTPHeaders"]["date"]
    off_s = time.time() - parsedate_to_datetime(said).timestamp()
    if abs(off_s) > _MOST_OFF_S:
        raise BadInput(f"{off_s:+.0f} s off AWS's: set it right, as with `timedatectl set-ntp true`")
    return "as AWS's"


def _region(clients: Clients, site: Site) -> str:
    """A bucket tells where it is to whoever asks elsewhere; what else is wrong with it is told as the bucket's."""
    found = site.region
    with suppress(StarburstError), speaking(f"s3:ListBucket {site.bucket}"):
        found = clients.s3.head_bucket(Bucket=site.bucket).get("BucketRegion", found)
    if found != site.region:
        raise NotFound(f"the bucket is in {found}, and the site in {site.region}: name the region where both are")
    return site.region


def _bucket(clients: Clients, site: Site) -> str:
    try:
        with speaking(f"s3:ListBucket {site.bucket}"):
            clients.s3.list_objects_v2(Bucket=site.bucket, Prefix="runs/", MaxKeys=1)
    except Denied:
        see_whose(clients, site.bucket)
        raise
    return site.bucket


def _cluster(clients: Clients, site: Site) -> str:
    with speaking(f"ecs:ListTasks {site.cluster}"):
        clients.ecs.list_tasks(cluster=site.cluster, maxResults=1)
    return site.cluster


def _queues(clients: Clients, site: Site) -> str:
    with suppress(NotFound), speaking(f"sqs:GetQueueUrl starburst-{site.name}-"):
        clients.sqs.get_queue_url(QueueName=f"starburst-{site.name}-none")
    return f"starburst-{site.name}-*"


def _key(clients: Clients, site: Site) -> str:
    ring = signing_key(clients, site.signing_secret)
    older = f", and {ring.older} older" if ring.older else ""
    return f"{len(ring)} bytes, in {site.signing_secret.split(':')[2]}{older}"


def _log(clients: Clients, site: Site) -> str:
    with suppress(NotFound), speaking(f"logs:GetLogEvents {site.log_group}"):
        clients.logs.get_log_events(logGroupName=site.log_group, logStreamName="none")
    return site.log_group


def _images(clients: Clients, site: Site) -> str:
    if site.image:
        return f"{site.image}, for every run that names no other"
    try:
        return EcrRepository(clients, site.repository, tags={}).uri
    except NotFound:
        return f"{site.repository}, made with the first image"


def _network(clients: Clients, site: Site) -> str:
    """By its routes and endpoints; what security groups let through is not looked at."""
    roads = Roads(clients.networks, site)
    if lost := roads.lost:
        if lost.keys() <= roads.elsewhere:
            raise _Unsure(unsure_told(lost, site))
        raise BadInput(lost_told(lost, site))
    nat = "" if roads.nat == site.nat_gateway else f'; costs are told right with `nat_gateway = "{roads.nat}"`'
    return f"{len(site.subnets)} subnets, which lead to all that workers need{nat}"


def _instances(clients: Clients, site: Site) -> str:
    """Capacity providers that ECS takes workers for, and whether instances of theirs have a way out."""
    with speaking("ecs:DescribeCapacityProviders"):
        found = clients.ecs.describe_capacity_providers(cluster=site.cluster, capacityProviders=[*site.providers])
    active = {each["name"] for each in found["capacityProviders"] if each["status"] == "ACTIVE"}
    if lacking := [name for name in site.providers if name not in active]:
        raise NotFound(f"cluster {site.cluster} has no capacity provider {', '.join(lacking)}: `starburst setup` does")
    with speaking("ec2:DescribeSubnets"):
        subnets = clients.networks.describe_subnets(SubnetIds=[*site.subnets])["Subnets"]
    hidden = [each["SubnetId"] for each in subnets if not each.get("MapPublicIpOnLaunch")]
    if site.assign_public_ip and hidden:
        raise BadInput(
            f"instances in {', '.join(hidden)} get no public address, so workers on them reach nothing: switch on "
            "auto-assigned public addresses of these subnets, or give them a NAT gateway"
        )
    return ", ".join(site.providers)
