"""A site in; what looks for things of it in AWS that have no owner, a sweep a kind, out."""

from __future__ import annotations

from collections.abc import Sequence

from starburst_common.aws.clients import Clients
from starburst_common.aws.orphan_hosts import OrphanHosts
from starburst_common.aws.orphans import (
    OrphanBuilds,
    OrphanDefinitions,
    OrphanImages,
    OrphanQueues,
    OrphanTasks,
    OrphanUploads,
    Sweep,
)
from starburst_common.aws.owners import Owners
from starburst_common.sites.site import Site


def sweeps(site: Site, *, now: float, least_s: float, image_days: float) -> Sequence[Sweep]:
    """One for each kind, in the order in which things are to go. `now` is by the store's clock.

    What has had no owner for `least_s` has none; an image, from when it was last pulled, for `image_days`.
    """
    owners = Owners(site, Clients(site.region, owner=site.account), now=now, least_s=least_s)
    kinds = (OrphanTasks, OrphanHosts, OrphanQueues, OrphanDefinitions, OrphanBuilds, OrphanUploads)
    return [*(kind(owners) for kind in kinds), OrphanImages(owners, image_days)]
