"""A site in; what of it this process can reach out, a part each: the first look at a connection that does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from starburst_common.aws.clients import Clients, speaking
from starburst_common.errors import NotFound, StarburstError
from starburst_common.sites.site import Site

if TYPE_CHECKING:
    from starburst_common.aws.sessions import AwsSession


class Reached(NamedTuple):
    """A part of a site."""

    part: str
    fine: bool
    told: str  #: what is there, or what is wrong

    def __str__(self) -> str:
        return f"{self.part}: {self.told}"


def site_parts(site: Site, new_session: Callable[[], AwsSession] | None = None) -> list[Reached]:
    """Credentials, region, bucket, cluster and queues, in this order; nothing is made, and nothing is raised.

    It asks for no more rights than runs do. `new_session` is as for `aws_backend`.
    """
    clients = Clients(site.region, new_session)
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("credentials", lambda: _who(clients)),
        ("region", lambda: _region(clients, site)),
        ("bucket", lambda: _bucket(clients, site)),
        ("cluster", lambda: _cluster(clients, site)),
        ("queues", lambda: _queues(clients, site)),
    )
    try:
        return [*_told(parts)]
    finally:
        clients.close()


def _told(parts: tuple[tuple[str, Callable[[], str]], ...]) -> Iterator[Reached]:
    for part, look in parts:
        try:
            yield Reached(part, True, look())
        except StarburstError as error:
            yield Reached(part, False, str(error))


def _who(clients: Clients) -> str:
    with speaking("sts:GetCallerIdentity"):
        sts = clients.session.client("sts", region_name=clients.region)
        try:
            return str(sts.get_caller_identity()["Arn"])
        finally:
            sts.close()


def _region(clients: Clients, site: Site) -> str:
    """A bucket tells where it is to whoever asks elsewhere; what else is wrong with it is told as the bucket's."""
    found = site.region
    with suppress(StarburstError), speaking(f"s3:ListBucket {site.bucket}"):
        found = clients.s3.head_bucket(Bucket=site.bucket).get("BucketRegion", found)
    if found != site.region:
        raise NotFound(f"the bucket is in {found}, and the site in {site.region}: name the region where both are")
    return site.region


def _bucket(clients: Clients, site: Site) -> str:
    with speaking(f"s3:ListBucket {site.bucket}"):
        clients.s3.list_objects_v2(Bucket=site.bucket, Prefix="runs/", MaxKeys=1)
    return site.bucket


def _cluster(clients: Clients, site: Site) -> str:
    with speaking(f"ecs:ListTasks {site.cluster}"):
        clients.ecs.list_tasks(cluster=site.cluster, maxResults=1)
    return site.cluster


def _queues(clients: Clients, site: Site) -> str:
    with suppress(NotFound), speaking(f"sqs:GetQueueUrl starburst-{site.name}-"):
        clients.sqs.get_queue_url(QueueName=f"starburst-{site.name}-none")
    return f"starburst-{site.name}-*"
