"""A region, credentials and a role in; the boto3 session out that an account is spoken to with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import botocore.session
from boto3.session import Session as AwsSession
from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

__all__ = ["AwsSession", "SessionAt", "known_regions", "session_in"]


def known_regions() -> list[str]:
    """Where Amazon ECS is, in all partitions, as far as this release of boto3 knows."""
    session = AwsSession(region_name="us-east-1")
    return sorted(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ecs", partition_name=partition)
    )


class SessionAt(AwsSession):
    """A session with endpoints of its own: `endpoint_of` gives a service's by its name, or None for the usual one.

    `verify` is as of boto3's clients: a file of certificates to trust, False for whoever answers, None as is usual.
    """

    def __init__(
        self, session: AwsSession, endpoint_of: Callable[[str], str | None], verify: bool | str | None = None
    ) -> None:
        vars(self).update(vars(session))  # to make one anew would have boto3 add its methods to clients twice
        self.endpoint_of, self.verify = endpoint_of, verify

    def client(self, service_name: Any, *args: Any, **options: Any) -> Any:
        """As boto3's."""
        own = {"endpoint_url": self.endpoint_of(service_name), "verify": self.verify}
        return super().client(service_name, *args, **{**own, **options})


def session_in(
    region: str, own: Callable[[], AwsSession] | None = None, *, role: str = "", purpose: str = "starburst"
) -> AwsSession:
    """A new session: the one that `own` makes, by default of this process's credentials; with a `role`, of that.

    The role is assumed, under the name of the purpose, when credentials are first needed, and anew before they expire.
    """
    new = own or partial(AwsSession, region_name=region)
    if not role:
        return new()
    lent = own() if own else None
    session = botocore.session.Session()
    provider = _AssumedRole(new, region, role, purpose)
    session.register_component("credential_provider", CredentialResolver([provider]))
    found = AwsSession(botocore_session=session, region_name=region)
    return SessionAt(found, lent.endpoint_of, lent.verify) if isinstance(lent, SessionAt) else found


class _AssumedRole(CredentialProvider):
    """A role's credentials."""

    METHOD = "assume-role"

    def __init__(self, own: Callable[[], AwsSession], region: str, role: str, purpose: str) -> None:
        super().__init__()
        self._own, self._region, self._role, self._purpose = own, region, role, purpose

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._assumed, method=self.METHOD)

    def _assumed(self) -> dict[str, str]:
        """From a new session each time: that of another role's credentials would have expired as well by then."""
        sts = self._own().client("sts", region_name=self._region)
        try:
            found = sts.assume_role(RoleArn=self._role, RoleSessionName=self._purpose)
        finally:
            sts.close()
        got = found["Credentials"]
        return {
            "access_key": got["AccessKeyId"],
            "secret_key": got["SecretAccessKey"],
            "token": got["SessionToken"],
            "expiry_time": got["Expiration"].isoformat(),
        }
