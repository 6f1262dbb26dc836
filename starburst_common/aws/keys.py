"""The address of a site's secret in; the key that signs out."""

from __future__ import annotations

import json

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.errors import BadInput, NotFound
from starburst_common.ports import KEY_BYTES


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


def signing_key(clients: Clients, arn: str) -> bytes:
    """Read it. Raises `BadInput` where it is not there, or too short; `Denied` or `Unavailable` where it cannot be."""
    try:
        if ":ssm:" in arn:
            name = arn.split(":parameter", 1)[-1]
            with speaking(f"ssm:GetParameter {arn}"):
                value = clients.parameters.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        else:
            with speaking(f"secretsmanager:GetSecretValue {arn}"):
                value = _secret(clients, arn)
    except NotFound as error:
        raise BadInput(f"{error} Correct the site's region or signing_secret in the settings") from error
    key = value.encode()
    if len(key) < KEY_BYTES:
        raise BadInput(
            f"{arn} has {len(key)} bytes, and a signing key has {KEY_BYTES} at least: put a longer one there"
        )
    return key
