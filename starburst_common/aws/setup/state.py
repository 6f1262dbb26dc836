"""A site as it is asked for in; of each of its parts whether it is there, and what of it is not as asked, out.

Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.bucket import SiteBucket
from starburst_common.aws.setup.drift import Drift
from starburst_common.aws.setup.groups import SecurityGroup
from starburst_common.aws.setup.inventory import Inventory, remembering
from starburst_common.aws.setup.managed import CapacityProvider, InstanceProfile
from starburst_common.aws.setup.network import Network
from starburst_common.aws.setup.roles import Role
from starburst_common.aws.setup.things import LogGroup, SigningKey, SiteCluster, SiteRepository
from starburst_common.errors import BadInput, Denied
from starburst_common.sites.asked import AskedSite
from starburst_common.sites.site import Site
from starburst_common.sites.wanted import SitePart, WantedSite


class Made(Protocol):
    """One thing in an account."""

    name: str

    def there(self) -> bool:
        """Whether it is."""

    def ours(self) -> bool:
        """Whether it is marked as this site's."""

    @property
    def mended(self) -> Sequence[str]:
        """What of it was not as it was to be, and is since it was made again."""

    def remove(self) -> None:
        """Take it away, with all in it."""


#: In the order in which they are taken away.
KINDS: dict[str, Callable[[AwsAccount, str], Made]] = {
    "capacity provider": CapacityProvider,
    "cluster": SiteCluster,
    "repository": SiteRepository,
    "security group": SecurityGroup,
    "network": Network,
    "instance profile": InstanceProfile,
    "role": Role,
    "log group": LogGroup,
    "signing key": SigningKey,
    "bucket": SiteBucket,
}


class PartState(NamedTuple):
    """How it is with one part of a site."""

    part: SitePart
    there: bool
    amiss: list[str]  #: what of it is not as it is asked for
    unsure: str = ""  #: why nobody could look, if nobody could
    ours: bool = True  #: by its mark; setup refuses what is another's


def is_there(account: AwsAccount, part: SitePart) -> bool:
    """Whether it is there. Raises `BadInput` where it is, and is not this site's."""
    made = KINDS[part.kind](account, part.name)
    if not made.there():
        return False
    if not made.ours():
        option = {"role": f"--{part.name.rpartition('-')[2]}-role", "bucket": "--bucket", "cluster": "--cluster"}
        instead = f"give it by {option[part.kind]}, " if part.kind in option else ""
        raise BadInput(
            f"there is a {part.kind} {part.name} that lacks the tag starburst:site={account.site}: {instead}choose "
            "another --site, or remove it"
        )
    return True


def state_of(account: AwsAccount, wanted: WantedSite, part: SitePart) -> PartState:
    """Of one part. Raises `BadInput` where it is not this site's."""
    if not is_there(account, part):
        return PartState(part, False, [])
    try:
        return PartState(part, True, [each.what for each in _drifts(account, wanted, part)])
    except Denied as error:
        return PartState(part, True, [], str(error))


def states(account: AwsAccount, site: Site) -> list[PartState]:
    """Of all parts of a site that setup has made, as it was asked of it last; none where it was made by other means.

    Raises `Denied` where that may not be read.
    """
    asked = Inventory(account, site.bucket).asked()
    if asked is None:
        return []
    wanted = AskedSite.of(site.name, site.region, {}, asked).wanted
    account = remembering(account.marking(wanted.tags), asked)
    return [_told_of(account, wanted, part) for part in wanted.parts(account.id)]


def _told_of(account: AwsAccount, wanted: WantedSite, part: SitePart) -> PartState:
    try:
        return state_of(account, wanted, part)
    except BadInput:
        return PartState(part, True, [], ours=False)
    except Denied as error:
        return PartState(part, True, [], str(error))


def _drifts(account: AwsAccount, wanted: WantedSite, part: SitePart) -> Iterator[Drift]:
    name = part.name
    match part.kind:
        case "bucket":
            return SiteBucket(account, name).drifts(wanted.kms_key)
        case "signing key":
            return SigningKey(account, name).drifts(wanted.kms_key)
        case "role":
            site = wanted.site(account.id, wanted.subnets or ("subnet-0",), wanted.security_groups)
            return Role(account, name).drifts(site, wanted.boundary)
        case "log group":
            return LogGroup(account, name).drifts(wanted.log_days)
        case "repository":
            return SiteRepository(account, name).drifts()
        case "cluster":
            return SiteCluster(account, name).drifts()
        case "network":
            return Network(account, name).drifts()
        case "security group":
            return SecurityGroup(account, name).drifts()
        case "instance profile":
            return InstanceProfile(account, name).drifts()
        case _:
            site = wanted.site(account.id, wanted.subnets or ("subnet-0",), wanted.security_groups)
            return CapacityProvider(account, name).drifts(site, placed=False)
