"""The address of a site's secret in; the key that signs out."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.errors import BadInput, NotFound, Refused
from starburst_common.ports import KEY_BYTES
from starburst_common.wire.keys import KeyRing

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import ParameterTypeDef


_ANEW = "put back what it was, or have `starburst rotate-key --revoke` make a new one, which reads no earlier run"


def lacking(error: NotFound) -> BadInput:
    """What to do where there is no key."""
    return BadInput(
        f"{str(error).rstrip('.')}: put it back, or have `starburst setup` make a new one, which reads no earlier run; "
        "or correct the site's region or signing_secret in the settings"
    )


def _secret(clients: Clients, arn: str) -> str:
    """Of an ARN as task definitions take it, which may go on with a key of JSON, a stage and a version.

    Source: Amazon ECS Developer Guide, "Pass Secrets Manager secrets through Amazon ECS environment variables".
    """
    *parts, key, stage, version = [*arn.split(":"), "", "", ""][:10]
    more = {name: text for name, text in (("VersionStage", stage), ("VersionId", version)) if text}
    value = str(clients.secrets.get_secret_value(SecretId=":".join(parts), **more)["SecretString"])
    try:
        return str(json.loads(value)[key]) if key else value
    except (ValueError, LookupError, TypeError):
        raise BadInput(f"{arn}: the secret is no JSON with a text {key!r}: correct either") from None


def signing_key(clients: Clients, arn: str) -> KeyRing:
    """Read it. Raises `BadInput` where it is not there, or too short; `Denied` or `Unavailable` where it cannot be."""
    try:
        secret = read_secret(clients, arn)
    except NotFound as error:
        raise lacking(error) from error
    try:
        ring = KeyRing.of(secret, partial(read_secret, clients, arn))
    except Refused as error:
        raise BadInput(f"{arn}: {error}: {_ANEW}") from error
    if len(ring) < KEY_BYTES:
        raise BadInput(f"{arn} has {len(ring)} bytes, and a signing key has {KEY_BYTES} at least, as text: {_ANEW}")
    return ring


def read_secret(clients: Clients, arn: str) -> bytes:
    """As it lies there. Raises `NotFound` where it does not, `BadInput`."""
    if ":ssm:" in arn:
        return parameter(clients, arn)["Value"].encode()
    with speaking(f"secretsmanager:GetSecretValue {arn}"):
        return _secret(clients, arn).encode()


def parameter(clients: Clients, arn: str) -> ParameterTypeDef:
    """One of Systems Manager, asked for by its ARN, which does not tell whether its name begins with a slash."""
    with speaking(f"ssm:GetParameter {arn}"):
        return clients.parameters.get_parameter(Name=arn, WithDecryption=True)["Parameter"]
