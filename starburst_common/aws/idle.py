"""A site in; what it keeps while nothing runs, and is charged for by the month, out: images, the log, the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.ecr import EcrRepository
from starburst_common.errors import StarburstError
from starburst_common.sites.site import Site

_PAGES = 10  #: of a thousand objects each that are counted, at a request each


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Things of one kind."""

    what: str
    priced: str  #: a name of the price book
    bytes: int = 0
    count: int | None = None
    more: bool = False  #: there are more than were counted
    unknown: str = ""  #: why nobody could say


def kept_in(site: Site) -> list[Kept]:
    """What there is; where something may not be looked at, it says so."""
    clients = Clients(site.region, owner=site.account)
    try:
        return [*_kept(site, clients)]
    finally:
        clients.close()


def _kept(site: Site, clients: Clients) -> Iterator[Kept]:
    looks: tuple[tuple[str, str, Callable[[Site, Clients], Kept]], ...] = (
        ("images", "ecr-storage", _images),
        ("log", "log-storage", _log),
        ("objects", "s3-storage", _objects),
    )
    for what, priced, look in looks:
        try:
            yield look(site, clients)
        except StarburstError as error:
            yield Kept(what=what, priced=priced, unknown=str(error))


def _images(site: Site, clients: Clients) -> Kept:
    found = EcrRepository(clients, site.repository, tags={}).images()
    size = sum(image.size_bytes for image in found)
    return Kept(what="images", priced="ecr-storage", count=len(found), bytes=size)


def _log(site: Site, clients: Clients) -> Kept:
    """Compressed, as it is charged for. Source: Amazon CloudWatch Logs API reference, LogGroup, storedBytes."""
    with speaking(f"logs:DescribeLogGroups {site.log_group}"):
        found = clients.logs.describe_log_groups(logGroupNamePrefix=site.log_group)["logGroups"]
    size = sum(each.get("storedBytes", 0) for each in found if each.get("logGroupName") == site.log_group)
    return Kept(what="log", priced="log-storage", bytes=size)


def _objects(site: Site, clients: Clients) -> Kept:
    return objects_in(site.bucket, clients)


def objects_in(bucket: str, clients: Clients) -> Kept:
    """What a bucket keeps, as far as it is counted."""
    count = size = pages = 0
    more = False
    with speaking(f"s3:ListBucket {bucket}"):
        for page in clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            count += len(page.get("Contents", ()))
            size += sum(each["Size"] for each in page.get("Contents", ()))
            pages += 1
            if pages == _PAGES and page.get("IsTruncated"):
                more = True
                break
    return Kept(what="objects", priced="s3-storage", count=count, bytes=size, more=more)
