"""Variables of a process in; where S3 is for it, whom it trusts there and as whom it speaks, for obstore, out.

It needs no boto3, which slots do not have. `lent` has the same of a session of boto3's.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from obstore.store import S3Store

from starburst_common.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ClientConfig, S3Credential

T = TypeVar("T")

RETRY_FOR = timedelta(seconds=90)
#: What bounds a request is how long nothing comes, not how long it takes: links are slow, and objects are large.
_SILENT_FOR, _WHOLE_FOR = timedelta(seconds=30), timedelta(hours=12)
#: A wait is drawn from `init_backoff` to the last one times `base`: by less than e they would not grow.
_BACKOFF: BackoffConfig = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 4}
_RETRIES = 1000  #: the time is what limits them
_LINKS = "http://169.254.170.2"  #: where a task's credentials are. Source: Amazon ECS developer guide, task IAM role
_TASKS = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
#: Domains of regions that are not AWS's usual one. Source: botocore 1.44, data/partitions.json
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
_USUAL = "amazonaws.com"
_LOOK_S = 10.0


class S3Access:
    """As this process's variables have it, and in a task as its role."""

    unverified = False  #: whoever answers is believed

    def __init__(self) -> None:
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    @property
    def certificates(self) -> bytes | None:
        """Whom it trusts beside those that the system does."""
        named = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        if not named:
            return None
        try:
            return Path(named).read_bytes()
        except OSError as error:
            raise BadInput(f"the certificates in {named}, as AWS_CA_BUNDLE names it: {error}") from None

    def endpoint(self, region: str) -> str | None:
        """Where S3 is; None where AWS usually has it."""
        if said := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            return said
        host = _host(region)
        return f"https://{host}" if host != f"s3.{region}.{_USUAL}" else None

    def base(self, region: str) -> str:
        """Where S3 is, in any case."""
        return self.endpoint(region) or f"https://s3.{region}.{_USUAL}"

    def credentials(self, region: str) -> Callable[[], S3Credential] | None:
        """What gives them, for requests in a region; None has obstore look for them."""
        return _of_task if is_task() else None

    def renewing(self, ask: Callable[[], T]) -> T:
        """What a call gives; asked once more where its credentials were refused as expired and others can be had."""
        return ask()

    def store(self, bucket: str, region: str, headers: dict[str, str] | None = None) -> S3Store:
        """A bucket, as obstore has it; all requests have the headers, which are signed but in listings."""
        options: ClientConfig = {
            "allow_http": True,  # where an endpoint says so; AWS itself is spoken to by https
            "timeout": _WHOLE_FOR,
            "read_timeout": _SILENT_FOR,
        }
        if headers:
            options["default_headers"] = headers
        if (certificates := self.certificates) is not None:
            options["root_certificate"] = certificates
        if self.unverified:
            options["allow_invalid_certificates"] = True
        given = self.credentials(region)
        lent: dict[str, Any] = {} if given is None else {"credential_provider": given}
        return S3Store(
            bucket,
            region=region,
            config={"endpoint": endpoint} if (endpoint := self.endpoint(region)) else None,
            client_options=options,
            retry_config={"backoff": _BACKOFF, "max_retries": _RETRIES, "retry_timeout": RETRY_FOR},
            **lent,
        )

    def region_of(self, bucket: str) -> str | None:
        """The region that S3 says a bucket is in, which it tells whoever asks; None where it does not.

        Source: Amazon S3 API reference, HeadBucket; its header comes with refusals and redirections, too.
        """
        base = self.base(self.region)
        asked = urllib.request.Request(f"{base}/{bucket}", method="HEAD")
        handlers: list[Any] = [urllib.request.HTTPSHandler(context=self._tls())] if base.startswith("https") else []
        opener = urllib.request.build_opener(_Stays, *handlers)
        headers: Any = {}
        with suppress(OSError):
            try:
                with opener.open(asked, timeout=_LOOK_S) as answer:
                    headers = answer.headers
            except urllib.error.HTTPError as refusal:
                headers = refusal.headers
                refusal.close()
        found: str | None = headers.get("x-amz-bucket-region")
        return found

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if (certificates := self.certificates) is not None:
            context.load_verify_locations(cadata=certificates.decode())
        if self.unverified:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def _host(region: str) -> str:
    """Where AWS has S3, as a process's variables want it. Source: botocore 1.44, the endpoint rules of S3."""
    fips, dual = (
        (os.environ.get(f"AWS_USE_{kind}_ENDPOINT") or "").lower() == "true" for kind in ("FIPS", "DUALSTACK")
    )
    domain = next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), _USUAL)
    begin = "s3-fips" if fips else "s3"
    if dual and domain == "amazonaws.eu":
        return f"{begin}.{region}.api.amazonwebservices.eu"
    return f"{begin}{'.dualstack' if dual else ''}.{region}.{domain}"


class _Stays(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: it is the first answer that tells."""

    def redirect_request(self, *_: Any) -> None:
        return None


def is_task() -> bool:
    """Whether this process is in a container whose role is known where ECS tells it."""
    return any(name in os.environ for name in _TASKS)


def _of_task() -> S3Credential:
    """Those of this task's role, as any SDK has them."""
    relative = os.environ.get(_TASKS[0])
    where = f"{_LINKS}{relative}" if relative else os.environ[_TASKS[1]]
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(where, timeout=_LOOK_S) as answer:
            found = json.load(answer)
        return {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "token": found["Token"],
            "expires_at": datetime.fromisoformat(found["Expiration"]),
        }
    except (OSError, ValueError, LookupError) as error:
        raise Unavailable(f"this task's credentials: {error}") from None
