"""boto3's clients in; how obstore is to reach S3 as they do, with their session's credentials, out."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from obstore.auth.boto3 import Boto3CredentialProvider

from starburst_common.aws.access import S3Access
from starburst_common.aws.clients import Clients
from starburst_common.aws.objects import EXPIRED, UNHAD
from starburst_common.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Credential

T = TypeVar("T")

_CREDENTIALS_FOR = timedelta(seconds=15)
_CREDENTIALS_KEPT_S = 0.2  #: obstore asks for no new ones within a tenth of a second, however long they last


class Lent(S3Access):
    """As a session of boto3's has it: its credentials, endpoints, certificates."""

    def __init__(self, clients: Clients) -> None:
        super().__init__()
        self.region, self._clients = clients.region, clients
        self.unverified = clients.unverified

    @property
    def certificates(self) -> bytes | None:
        return self._clients.certificates

    def endpoint(self, region: str) -> str | None:
        if region == self.region:
            return self._clients.s3_endpoint
        there = Clients(region, lambda: self._clients.session)
        try:
            return there.s3_endpoint
        finally:
            there.close()

    def credentials(self, region: str) -> Callable[[], S3Credential] | None:
        return _Credentials(self._clients, region)

    def renewing(self, ask: Callable[[], T]) -> T:
        session = self._clients.session
        try:
            return ask()
        except Unavailable as error:
            if not any(words in str(error) for words in (EXPIRED, UNHAD)):
                raise
        self._clients.renew(session)
        time.sleep(_CREDENTIALS_KEPT_S)
        return ask()


class _Credentials(Boto3CredentialProvider):
    """Those of the clients' present session; asked for often, since obstore would keep them beyond their end."""

    def __init__(self, clients: Clients, region: str) -> None:
        super().__init__(clients.session, ttl=_CREDENTIALS_FOR)
        self.config = {"region": region}  # a session may be of another region, or of none
        self._clients = clients

    def __call__(self) -> S3Credential:
        self.credentials = self._clients.session.get_credentials() or self.credentials
        return super().__call__()
