"""Credentials and a region in; the account that they reach, and what all that is made there is given, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.requests import tags
from starburst_common.sites.policies import partition_of


class AdminClients(Clients):
    """With the services that only setup speaks to."""

    @cached_property
    def iam(self) -> Any:
        """AWS Identity and Access Management."""
        return self._client("iam")

    @cached_property
    def kms(self) -> Any:
        """AWS Key Management Service."""
        return self._client("kms")

    @cached_property
    def sts(self) -> Any:
        """AWS Security Token Service."""
        return self._client("sts")


@dataclass(frozen=True, kw_only=True)
class AwsAccount:
    """Where a site is made, and by whom."""

    clients: AdminClients
    id: str  #: twelve digits
    caller: str  #: the ARN of who makes it
    site: str
    marks: Mapping[str, str]  #: the tags of all that is made: the site's, and those the user wants
    tags_once: Sequence[str] = ()  #: the names of those that were wanted at any time
    bounds_once: Sequence[str] = ()  #: the boundaries of roles that were

    @classmethod
    def of(cls, clients: AdminClients, site: str, more: Sequence[str] = ()) -> AwsAccount:
        """Raises `Denied` where there are no credentials, or AWS does not take them."""
        with speaking("sts:GetCallerIdentity"):
            found = clients.sts.get_caller_identity()
        clients.owner = found["Account"]
        return cls(clients=clients, id=found["Account"], caller=found["Arn"], site=site, marks=tags(site, more))

    def called(self, site: str) -> AwsAccount:
        """The same, for another site."""
        return replace(self, site=site, marks=tags(site))

    def marking(self, more: Sequence[str]) -> AwsAccount:
        """The same, with these tags of the user's for all that is made."""
        return replace(self, marks=tags(self.site, more))

    @property
    def region(self) -> str:
        """Where."""
        return self.clients.region

    @property
    def partition(self) -> str:
        """The part of AWS that the region lies in."""
        return partition_of(self.region)

    @property
    def pairs(self) -> list[dict[str, str]]:
        """The tags as most services take them."""
        return [{"Key": key, "Value": value} for key, value in self.marks.items()]

    def is_ours(self, pairs: Any) -> bool:
        """Whether tags, as most services give them, mark a thing as this site's."""
        return {each["Key"]: each["Value"] for each in pairs}.get("starburst:site") == self.site

    def arn(self, service: str, name: str) -> str:
        """Of one of its things."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.id}:{name}"
