"""A session in; whether S3 is elsewhere for it than AWS has it, and whom it trusts there, as boto3 has both, out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3.session
import botocore.session
from botocore.exceptions import ProfileNotFound

from starburst_common.errors import BadInput

#: What moves an endpoint. Source: AWS SDKs and Tools Reference Guide, "Service-specific endpoints", "Dual-stack and
#: FIPS endpoints", read 2026-11-30.
_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
_KEYS = ("endpoint_url", "services", "use_fips_endpoint", "use_dualstack_endpoint", "s3")
#: Regions of other partitions have hosts of other domains, or may have.
_ELSEWHERE = ("cn-", "us-iso", "eu-iso", "eusc-")


def is_moved(session: boto3.session.Session, region: str) -> bool:
    """Whether S3 is elsewhere than at `s3.<region>.amazonaws.com`, or may be: then a client of boto3's knows where."""
    if region.startswith(_ELSEWHERE) or any(os.environ.get(name) for name in _VARIABLES):
        return True
    said = _profile(session)
    return any(name in said for name in _KEYS)


def named_endpoint() -> str | None:
    """Where variables have S3, as boto3 takes it from them, if they do and are not to be ignored."""
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return None
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def root_certificates(session: boto3.session.Session, given: str = "") -> bytes | None:
    """Those of the file that is given, or that AWS_CA_BUNDLE, the profile's ca_bundle or REQUESTS_CA_BUNDLE names."""
    named = (
        given
        or os.environ.get("AWS_CA_BUNDLE")
        or _profile(session).get("ca_bundle")
        or os.environ.get("REQUESTS_CA_BUNDLE")
    )
    if not named:
        return None
    try:
        return Path(named).expanduser().read_bytes()
    except OSError as error:
        raise BadInput(f"the certificates in {named}, as AWS_CA_BUNDLE or ca_bundle names it: {error}") from None


def _profile(session: boto3.session.Session) -> dict[str, Any]:
    """What the session's profile says in AWS's own configuration file."""
    name = session.profile_name
    try:
        return dict(botocore.session.Session(profile=None if name == "default" else name).get_scoped_config())
    except ProfileNotFound:
        return {}
