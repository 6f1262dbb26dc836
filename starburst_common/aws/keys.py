"""The address of a site's secret in; the key that signs out."""

from __future__ import annotations

from starburst_common.aws.clients import Clients, speaking
from starburst_common.errors import BadInput, NotFound
from starburst_common.ports import KEY_BYTES


def signing_key(clients: Clients, arn: str) -> bytes:
    """Read it. Raises `BadInput` where it is not there, or too short; `Denied` or `Unavailable` where it cannot be."""
    try:
        if ":ssm:" in arn:
            name = arn.split(":parameter", 1)[-1]
            with speaking(f"ssm:GetParameter {arn}"):
                value = clients.parameters.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        else:
            with speaking(f"secretsmanager:GetSecretValue {arn}"):
                value = clients.secrets.get_secret_value(SecretId=arn)["SecretString"]
    except NotFound as error:
        raise BadInput(f"{error} Correct the site's region or signing_secret in the settings") from error
    key = value.encode()
    if len(key) < KEY_BYTES:
        raise BadInput(
            f"{arn} has {len(key)} bytes, and a signing key has {KEY_BYTES} at least: put a longer one there"
        )
    return key
