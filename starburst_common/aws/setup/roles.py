"""The roles of a site, each with the least policy; and the one of ECS itself that an account's first cluster wants."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.drift import Drift, mended, of_tags, pairs, plain
from starburst_common.sites.policies import POLICIES, trust
from starburst_common.sites.site import Site

_POLICY = "starburst"
_GONE = "NoSuchEntity"
_KNOWN_S = 60.0  #: so long a new role may be unknown
_LOOK_S = 1.0


class Role:
    """One role of a site, by its name, which ends with its kind."""

    def __init__(self, account: AwsAccount, name: str) -> None:
        self._account, self.name, self._iam = account, name, account.clients.iam
        self._kind = name.rpartition("-")[2]
        self.mended: list[str] = []

    def there(self) -> bool:
        """Whether it is."""
        return self._found() is not None

    def ours(self) -> bool:
        """Whether it is marked as this site's."""
        found = self._found()
        return found is not None and self._account.is_ours(found.get("Tags", []))

    def make(self, site: Site, boundary: str) -> None:
        """Have it, with its trust, boundary, tags and policy as they are to be."""
        if self.there():
            self.mended = mended(self.drifts(site, boundary))
            return
        bounded = {"PermissionsBoundary": boundary} if boundary else {}
        with (
            speaking(f"iam:CreateRole {self.name}"),
            suppress(self._iam.exceptions.EntityAlreadyExistsException),  # somebody else was first
        ):
            self._iam.create_role(
                RoleName=self.name,
                AssumeRolePolicyDocument=json.dumps(self._trust()),
                Tags=self._account.pairs,
                **bounded,
            )
        self._put(POLICIES[self._kind](site))

    def drifts(self, site: Site, boundary: str) -> Iterator[Drift]:
        """What of it is not as it is to be. A boundary that nobody has asked for here is somebody else's, and stays."""
        found = self._found() or {}
        if found.get("AssumeRolePolicyDocument") != (trusted := self._trust()):
            yield Drift("whom it trusts", lambda: self._do("update_assume_role_policy", PolicyDocument=trusted))
        bound = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
        if boundary and bound != boundary:
            yield Drift("its boundary", lambda: self._do("put_role_permissions_boundary", PermissionsBoundary=boundary))
        elif bound and bound != boundary and bound in self._account.bounds_once:
            yield Drift("its boundary, which is no more", lambda: self._do("delete_role_permissions_boundary"))
        yield from of_tags(
            self._account,
            plain(found.get("Tags", [])),
            lambda tags: self._do("tag_role", Tags=pairs(tags)),
            lambda names: self._do("untag_role", TagKeys=names),
        )
        with speaking(f"iam:GetRolePolicy {self.name}"):
            try:
                there = self._iam.get_role_policy(RoleName=self.name, PolicyName=_POLICY)["PolicyDocument"]
            except self._iam.exceptions.NoSuchEntityException:
                there = None
        if there != (policy := POLICIES[self._kind](site)):
            yield Drift("its policy", lambda: self._put(policy))

    def _trust(self) -> Any:
        account = self._account
        return trust(self._kind, account.id, account.partition, account.region)

    def _put(self, policy: Any) -> None:
        self._do("put_role_policy", PolicyName=_POLICY, PolicyDocument=policy)

    def _do(self, operation: str, **asked: Any) -> None:
        """A change of it."""
        if "PolicyDocument" in asked:
            asked["PolicyDocument"] = json.dumps(asked["PolicyDocument"])
        action = "".join(word.capitalize() for word in operation.split("_"))
        with speaking(f"iam:{action} {self.name}"):
            _once_known(partial(getattr(self._iam, operation), RoleName=self.name, **asked))

    def remove(self) -> None:
        """With its policies, also those that its user has added: a role that still has some cannot go."""
        name = self.name
        with speaking(f"iam:DeleteRole {name}"):
            for page in self._iam.get_paginator("list_role_policies").paginate(RoleName=name):
                for policy in page["PolicyNames"]:
                    self._iam.delete_role_policy(RoleName=name, PolicyName=policy)
            for page in self._iam.get_paginator("list_attached_role_policies").paginate(RoleName=name):
                for attached in page["AttachedPolicies"]:
                    self._iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
            self._iam.delete_role(RoleName=name)

    def _found(self) -> Any:
        with speaking(f"iam:GetRole {self.name}"):
            try:
                return self._iam.get_role(RoleName=self.name)["Role"]
            except ClientError as error:
                if error_code(error) == _GONE:
                    return None
                raise


def _once_known(do: Callable[[], Any]) -> None:
    """Do something to a role that was just made, of which not all of IAM may know yet.

    Source: IAM User Guide, "Changes that I make are not always immediately visible".
    """
    until = time.monotonic() + _KNOWN_S
    while True:
        try:
            do()
            return
        except ClientError as error:
            if error_code(error) != _GONE or time.monotonic() > until:
                raise
        time.sleep(_LOOK_S)


def ensure_role_of_ecs(account: AwsAccount) -> None:
    """The service-linked role, which an account gets with its first cluster, and which is never taken away.

    Source: Amazon ECS Developer Guide, "Using service-linked roles for Amazon ECS", read 2026-11-30.
    """
    with speaking("iam:CreateServiceLinkedRole"):
        try:
            account.clients.iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
        except ClientError as error:
            if error_code(error) not in ("InvalidInput", "InvalidInputException") or "taken" not in str(error):
                raise
