"""What a site's workers need to run on instances: an instance profile, and capacity providers in the site's cluster.

Neither costs anything while no worker runs on an instance.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, mended, of_tags, pairs, plain, tags_in_ecs, unlike
from starburst_common.errors import Unavailable
from starburst_common.sites.managed import provider
from starburst_common.sites.site import Site
from starburst_common.steps import told_while

_GONE = "NoSuchEntity"
_KNOWN_S = 60.0  #: so long a new role may be unknown to ECS
_PATIENCE_S = 600.0  #: for instances to end, whose capacity provider goes
_LOOK_S = 3.0
_ROLE_S = 1.0  #: between tries with a role that ECS does not know yet
_MOST = 100  #: instances a call. Source: Amazon ECS API reference, DescribeContainerInstances


class InstanceProfile:
    """What hands its role to instances; both have one name."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._iam = account, name, account.clients.iam
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        return self._account.is_ours((self._found() or {}).get("Tags", []))

    def make(self) -> None:
        """Have it, with its role, which is there, and its tags."""
        if self._found() is not None:
            self.mended = mended(self.drifts())
            return
        with (
            speaking(f"iam:CreateInstanceProfile {self.name}"),
            suppress(self._iam.exceptions.EntityAlreadyExistsException),  # somebody else was first
        ):
            self._iam.create_instance_profile(InstanceProfileName=self.name, Tags=self._account.pairs)
        self._give_role()

    def drifts(self) -> Iterator[Drift]:
        """What of its tags and its role is not as it is to be."""
        if (found := self._found()) is None:
            return
        named: dict[str, Any] = {"InstanceProfileName": self.name}
        with speaking(f"iam:TagInstanceProfile {self.name}"):
            yield from of_tags(
                self._account,
                plain(found.get("Tags", [])),
                lambda tags: self._iam.tag_instance_profile(**named, Tags=pairs(tags)),
                lambda names: self._iam.untag_instance_profile(**named, TagKeys=names),
            )
        if not found.get("Roles"):
            yield Drift("its lack of a role", self._give_role)

    def _give_role(self) -> None:
        with (
            speaking(f"iam:AddRoleToInstanceProfile {self.name}"),
            suppress(self._iam.exceptions.LimitExceededException),  # somebody else was first: it takes one
        ):
            self._iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)

    def remove(self) -> None:
        """Its role goes by itself."""
        with speaking(f"iam:DeleteInstanceProfile {self.name}"):
            for role in (self._found() or {}).get("Roles", []):
                self._iam.remove_role_from_instance_profile(InstanceProfileName=self.name, RoleName=role["RoleName"])
            self._iam.delete_instance_profile(InstanceProfileName=self.name)

    def _found(self) -> Any:
        with speaking(f"iam:GetInstanceProfile {self.name}"):
            try:
                return self._iam.get_instance_profile(InstanceProfileName=self.name)["InstanceProfile"]
            except ClientError as error:
                if error_code(error) == _GONE:
                    return None
                raise


class CapacityProvider:
    """One in the cluster that setup makes, by its name, which ends with its kind."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._ecs = account, name, account.clients.ecs
        self._cluster = f"starburst-{account.site}"
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        tags = (self._found() or {}).get("tags", [])
        return self._account.is_ours({"Key": each["key"], "Value": each["value"]} for each in tags)

    def make(self, site: Site) -> None:
        """Have it as it is to be; instances that are there already stay as they are."""
        asked: dict[str, Any] = {"name": self.name, "cluster": self._cluster}
        asked["managedInstancesProvider"] = self._wanted(site)
        until = time.monotonic() + _KNOWN_S
        self.mended = mended(self.drifts(site))
        with speaking(f"ecs:CreateCapacityProvider {self.name}"):
            there = self._found() is not None
            while True:
                try:
                    self._ask(asked, there=there)
                    return
                except ClientError as error:
                    if "already exists" in str(error):  # somebody else was first
                        return
                    if "assume the role" not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(_ROLE_S)

    def drifts(self, site: Site, *, placed: bool = True) -> Iterator[Drift]:
        """What of its tags and settings is not as it is to be; of its network only where it is known, so `placed`.

        Settings are mended by `make`, which says all of them each time.
        """
        if (found := self._found()) is None:
            return
        yield from tags_in_ecs(self._account, self._ecs, found["capacityProviderArn"], found.get("tags", []))
        wanted = self._wanted(site)
        wanted["instanceLaunchTemplate"].pop("capacityOptionType")  # is what it is
        if not placed:
            wanted["instanceLaunchTemplate"].pop("networkConfiguration")
        if others := [*unlike(found.get("managedInstancesProvider"), wanted)]:
            yield Drift(f"its {', '.join(others)}", lambda: None)

    def _wanted(self, site: Site) -> dict[str, Any]:
        kind = self.name.removeprefix(f"{self._cluster}-")
        profile = f"arn:{self._account.partition}:iam::{self._account.id}:instance-profile/starburst-{site.name}"
        return provider(
            site, f"{profile}-{site.region}-instance", spot=kind.endswith("-spot"), gpus=kind.startswith("gpu")
        )

    def _ask(self, asked: dict[str, Any], *, there: bool) -> None:
        if there:
            asked["managedInstancesProvider"]["instanceLaunchTemplate"].pop("capacityOptionType", "")  # is what it is
            self._ecs.update_capacity_provider(**asked)
        else:
            tags: Any = [{"key": key, "value": value} for key, value in self._account.marks.items()]
            self._ecs.create_capacity_provider(**asked, tags=tags)

    def remove(self) -> None:
        """With its instances, which have no tasks any more: they would be there for as long as they may be idle."""
        until = time.monotonic() + _PATIENCE_S
        with told_while("AWS ends instances, which takes some minutes"):
            while there := self._instances():
                for each in there:
                    with speaking("ecs:DeregisterContainerInstance"), suppress(self._unknown):
                        self._ecs.deregister_container_instance(
                            cluster=self._cluster, containerInstance=each, force=True
                        )
                if time.monotonic() > until:
                    raise Unavailable(f"{len(there)} instances of {self.name} have not ended: try again later")
                time.sleep(_LOOK_S)
            self._delete(until)

    def _delete(self, until: float) -> None:
        """Once nothing uses it: tasks are in use for some time after they have stopped."""
        with speaking(f"ecs:DeleteCapacityProvider {self.name}"):
            while True:
                try:
                    self._ecs.delete_capacity_provider(capacityProvider=self.name, cluster=self._cluster)
                    break
                except ClientError as error:
                    if "in use" not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(_LOOK_S)
            while self._found() is not None:
                if time.monotonic() > until:
                    raise Unavailable(f"{self.name} is not gone yet: try again later")
                time.sleep(_LOOK_S)

    @property
    def _unknown(self) -> Any:
        return self._ecs.exceptions.InvalidParameterException

    def _instances(self) -> list[str]:
        """ECS's names of those that it has."""
        found: list[str] = []
        with speaking("ecs:ListContainerInstances"):
            pages = self._ecs.get_paginator("list_container_instances").paginate(cluster=self._cluster)
            arns = [arn for page in pages for arn in page["containerInstanceArns"]]
            for at in range(0, len(arns), _MOST):
                told = self._ecs.describe_container_instances(
                    cluster=self._cluster, containerInstances=arns[at : at + _MOST]
                )
                mine = (each for each in told["containerInstances"] if each.get("capacityProviderName") == self.name)
                found += [each["containerInstanceArn"] for each in mine if each["status"] != "INACTIVE"]
        return found

    def _found(self) -> Any:
        with speaking(f"ecs:DescribeCapacityProviders {self.name}"):
            try:
                found = self._ecs.describe_capacity_providers(
                    capacityProviders=[self.name], cluster=self._cluster, include=["TAGS"]
                )["capacityProviders"]
            except ClientError as error:
                if error_code(error) == "ClusterNotFoundException":
                    return None
                raise
        return next((each for each in found if each["status"] != "INACTIVE"), None)
