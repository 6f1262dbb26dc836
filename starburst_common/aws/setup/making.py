"""What is wanted of a site in; the site made or mended, whatever was there of it before, out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from starburst_common.aws.roads import Roads
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.bucket import SiteBucket
from starburst_common.aws.setup.given import looked_at
from starburst_common.aws.setup.groups import SecurityGroup
from starburst_common.aws.setup.inventory import Inventory, remembering
from starburst_common.aws.setup.kept import KnownSite
from starburst_common.aws.setup.managed import CapacityProvider, InstanceProfile
from starburst_common.aws.setup.network import Network, NetworkPlace, default_place, given_place
from starburst_common.aws.setup.others import Remark, remarks
from starburst_common.aws.setup.roles import Role, ensure_role_of_ecs
from starburst_common.aws.setup.state import Made, PartState, is_there, state_of
from starburst_common.aws.setup.things import LogGroup, SigningKey, SiteCluster, SiteRepository
from starburst_common.errors import BadInput, Denied
from starburst_common.sites.asked import what_is_asked
from starburst_common.sites.site import Site
from starburst_common.sites.wanted import SitePart, WantedSite

Tell = Callable[[str], None]
T = TypeVar("T")
Thing = TypeVar("Thing", bound=Made)


class Planned(NamedTuple):
    """What setup would have."""

    parts: list[PartState]  #: as they are now
    wrong: list[str]  #: why setup cannot be; nothing is to be made then
    unsure: list[str]  #: what nobody could look at
    remarks: list[Remark]  #: of what others have set, which stays


def planned(account: AwsAccount, wanted: WantedSite) -> Planned:
    """What setup would have, and all that is wrong with what was given and with what is there, at once."""
    parts = list[PartState]()
    wrong, unsure = looked_at(account, wanted)
    bucket = wanted.bucket_name(account.id)
    account = remembering(account, asked_before(account, bucket, given=bool(wanted.bucket)))
    for part in wanted.parts(account.id):
        try:
            parts.append(state_of(account, wanted, part))
        except BadInput as error:
            if str(error) not in wrong:
                wrong.append(str(error))
    unsure += [f"{each.part.kind} {each.part.name}: {each.unsure}" for each in parts if each.unsure]
    seen = remarks(account, bucket, wanted.stem)
    return Planned(parts, wrong, [*unsure, *seen.unsure], seen.found)


def asked_before(account: AwsAccount, bucket: str, *, given: bool) -> dict[str, Any] | None:
    """What was asked of the site by whoever set it up, from wherever; None where nobody has.

    `given`: the bucket is the user's. One of the site's own name counts where it bears the site's mark.
    """
    with suppress(BadInput):
        there = SiteBucket(account, bucket)
        if there.there() and (given or there.ours()):
            return Inventory(account, bucket).asked()
    return None


def found_in(account: AwsAccount, bucket: str = "") -> KnownSite:
    """The site as its bucket tells of it, from wherever it was set up. Raises `BadInput` where that tells of none."""
    own = WantedSite(name=account.site, region=account.region)
    name = bucket or own.bucket_name(account.id)
    asked = asked_before(account, name, given=bool(bucket))
    if asked is None:
        raise BadInput(
            f"nothing is written down of a site {account.site} in the bucket {name} of account {account.id}: look at "
            "--site, --region and --bucket"
        )
    return KnownSite(
        account.site, account.region, account.id, name, str(asked.get("cluster") or own.stem), False, asked
    )


def set_up(account: AwsAccount, wanted: WantedSite, tell: Tell) -> Site:
    """Make the site, or what it lacks; its settings. Whoever is stopped halfway does it again.

    Who `planned` finds nothing wrong for is not refused here, but for what has changed since.
    `tell` is told each thing once it is there. Raises `BadInput` where what is there under a name is not this site's.
    """
    bucket = wanted.bucket_name(account.id)
    if not wanted.bucket:
        part = SitePart("bucket", bucket)
        there = is_there(account, part)
        own = SiteBucket(remembering(account, Inventory(account, bucket).asked()) if there else account, bucket)
        own.make(own_names=wanted.own_names, kms_key=wanted.kms_key)
        tell(_told(part, there, own.mended))
    elif not SiteBucket(account, bucket).there():
        raise BadInput(f"--bucket {bucket}: there is no such bucket in this account: make it, or leave --bucket out")
    inventory = Inventory(account, bucket)
    with inventory.held(tell):
        inventory.refuse_others()
        inventory.keep_asked(what_is_asked(wanted))
        inventory.mark_torn_down(False)
        return _Setup(remembering(account, inventory.asked()), wanted, inventory, tell).rest()


class _Setup:
    """All but the bucket, in which what is made is written down first."""

    def __init__(self, account: AwsAccount, wanted: WantedSite, inventory: Inventory, tell: Tell) -> None:
        self._account, self._wanted, self._inventory, self._tell = account, wanted, inventory, tell
        self._ours = wanted.parts(account.id)

    def rest(self) -> Site:
        """The site."""
        account, wanted = self._account, self._wanted
        place = self._place()
        groups = wanted.security_groups or (self._group(place.vpc),)
        site = wanted.site(account.id, place.subnets, groups)
        if wanted.subnets:
            with suppress(Denied):  # which was told before
                site = replace(site, nat_gateway=Roads(account.clients.ec2, site).nat)
        for part in self._ours:
            match part.kind:
                case "signing key":
                    self._have(part, SigningKey, lambda key: key.make(wanted.kms_key))
                case "role":
                    self._have(part, Role, lambda role: role.make(site, wanted.boundary))
                case "log group":
                    self._have(part, LogGroup, lambda group: group.make(wanted.log_days))
                case "repository":
                    self._have(part, SiteRepository, SiteRepository.make)
                case "cluster":
                    ensure_role_of_ecs(account)
                    self._have(part, SiteCluster, SiteCluster.make)
                case "instance profile":
                    self._have(part, InstanceProfile, InstanceProfile.make)
                case "capacity provider":
                    self._have(part, CapacityProvider, lambda provider: provider.make(site))
        return site

    def _have(self, part: SitePart, kind: Callable[[AwsAccount, str], Thing], make: Callable[[Thing], T]) -> T:
        there = is_there(self._account, part)
        self._inventory.add(part)
        thing = kind(self._account, part.name)
        made = make(thing)
        self._tell(_told(part, there, thing.mended))
        return made

    def _place(self) -> NetworkPlace:
        account, wanted = self._account, self._wanted
        if wanted.subnets:
            return given_place(account, wanted.subnets)
        if wanted.network == "default":
            if found := default_place(account):
                self._tell(f"network: the account's own, {found.vpc}, with {len(found.subnets)} subnets")
                return found
            raise BadInput(
                f"{account.region} has no default network: --network made makes one for the site, which costs nothing; "
                "or name subnets with --subnet"
            )
        return self._have(self._part("network"), Network, Network.make)

    def _group(self, vpc: str) -> str:
        return str(self._have(self._part("security group"), SecurityGroup, lambda group: group.make(vpc)))

    def _part(self, kind: str) -> SitePart:
        return next(part for part in self._ours if part.kind == kind)


def _told(part: SitePart, there: bool, mended: Sequence[str]) -> str:
    said = f"mended: {'; '.join(mended)}" if mended else "there already" if there else "made"
    return f"{part.kind} {part.name}: {said}"
