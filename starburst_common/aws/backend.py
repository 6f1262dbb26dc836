"""A site in, or its address, a `Backend` out whose store, queues and workers are in the user's own AWS account."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from starburst_common.aws.buckets import UserBuckets
from starburst_common.aws.clients import Clients
from starburst_common.aws.lent import Lent
from starburst_common.aws.onlooker import Onlooker
from starburst_common.aws.queue import SqsQueue
from starburst_common.aws.requests import address_of, tags
from starburst_common.aws.store import S3Objects
from starburst_common.errors import BadInput
from starburst_common.model import Address
from starburst_common.ports import Backend, Compute, ObjectStore, Pace
from starburst_common.sites.site import Site

if TYPE_CHECKING:
    from starburst_common.aws.sessions import AwsSession
    from starburst_common.config import ImageSettings

_LEAST_KEY = 32
#: SQS's counts are right a minute after the last message was sent, and workers take half a minute to start. Source:
#: Amazon SQS API reference, GetQueueAttributes
_COUNTED_S = 90.0


#: A tick, the answers that are stored then, and what ECS takes to stop a task.
_STOP_S = 30.0

_TURNS_S = 15.0  #: so often it is told what a fleet has and wants of a quota: two requests
_MACHINES = {"X86_64": "x86_64", "ARM64": "aarch64"}


def aws_backend(
    site: Site,
    *,
    key: bytes | None = None,
    keep_days: float = 7,
    image: ImageSettings | None = None,
    new_session: Callable[[], AwsSession] | None = None,
) -> Backend:
    """The backend of a site.

    `key` signs; by default it is read from the site's secret. `new_session` makes a boto3 session with credentials,
    again whenever they were refused as expired; by default they are those of this process.

    Raises `BadInput` when the secret is not there, `Denied` or `Unavailable` when it cannot be read.
    """
    # what a worker does without: its start waits for each import, on a quarter of a processor four times as long
    from starburst_common.aws.compute import EcsCompute
    from starburst_common.aws.images import EcsImages
    from starburst_common.aws.keys import signing_key
    from starburst_common.aws.possible import refuse_impossible
    from starburst_common.aws.quotas import AccountQuotas
    from starburst_common.aws.turns import QuotaTurns
    from starburst_common.config import ImageSettings

    clients = Clients(site.region, new_session, owner=site.account)
    secret = signing_key(clients, site.signing_secret) if key is None else key
    if len(secret) < _LEAST_KEY:
        raise BadInput(f"the signing secret has {len(secret)} characters: put at least {_LEAST_KEY} random ones there")
    store, quotas = S3Objects(site.bucket, clients), AccountQuotas(clients, site.subnets, site)
    compute = EcsCompute(site, clients, store, secret, swaps=store, limits=quotas.limits)
    return replace(
        _backend(address_of(site), clients, store, compute, secret),
        queue=_queue(clients, site.name, tags(site.name, site.tags)),
        keep_s=keep_days * 86400,
        machine=_MACHINES[site.architecture],
        refuse=partial(refuse_impossible, site, clients),
        images=EcsImages(site, image or ImageSettings(), clients, store),
        turns=QuotaTurns(store, _TURNS_S),
        quotas=quotas,
        tariff=site.tariff,
        max_hourly_usd=site.max_hourly_cost,
        monthly_budget=site.monthly_budget,
        alert_at=site.alert_at,
        compute_by=lambda other: EcsCompute(site, clients, store, other, limits=quotas.limits),
    )


def aws_backend_at(address: Address, key: bytes, clients: Clients | None = None) -> Backend:
    """The same as its workers have it, who know no more of a site: they launch nobody and make no images."""
    clients = clients or Clients(address.region, owner=address.account)
    store = S3Objects(address.bucket, clients)
    return replace(
        _backend(address, clients, store, Onlooker(store, key), key), compute_by=lambda other: Onlooker(store, other)
    )


def _backend(address: Address, clients: Clients, store: ObjectStore, compute: Compute, key: bytes) -> Backend:
    return Backend(
        name="aws",
        store=store,
        queue=_queue(clients, address.site, tags(address.site), address.account),
        compute=compute,
        key=key,
        default_workers=10,
        pace=Pace(lease_s=90.0, chunk_s=30.0, share_s=5.0, idle_s=60.0, lifetime_s=12 * 3600.0, inline_bytes=48 << 10),
        tick_s=5.0,
        poll_s=20.0,
        look_s=60.0,
        keep_s=math.inf,
        resend_after_s=_COUNTED_S,
        charged=True,
        stop_s=_STOP_S,
        worth_s=300.0,
        feeder_lost_s=120.0,
        buckets=UserBuckets(Lent(clients)),
        tolls=clients.tolls.take,
    )


def _queue(clients: Clients, site: str, marks: dict[str, str], account: str = "") -> SqsQueue:
    return SqsQueue(clients, prefix=f"starburst-{site}-", tags=marks, account=account)
