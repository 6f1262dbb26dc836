"""A site in; its secret with a new key in it, which signs what begins from now on, out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.keys import parameter, read_secret
from starburst_common.aws.setup.account import AdminClients, AwsAccount
from starburst_common.aws.setup.inventory import Inventory
from starburst_common.errors import BadInput, Unavailable
from starburst_common.ports import KEY_BYTES
from starburst_common.sites.site import Site
from starburst_common.wire.keys import MOST_KEYS, keys_in, secret_of

_PLAIN = 7  #: parts of a secret's ARN; what follows is a key of its JSON, a stage and a version


def change_key(site: Site, *, revoke: bool, tell: Callable[[str], None]) -> int:
    """Have a new key sign what begins from now on; how many older ones are still known: none if they are revoked.

    Of two who do so at once neither forgets the other's. Raises `BadInput` where the settings name a version, which
    never changes.
    """
    clients = AdminClients(site.region)
    try:
        account = AwsAccount.of(clients, site.name)
        with Inventory(account, site.bucket).held(tell) as still:
            old = [] if revoke else keys_in(read_secret(clients, site.signing_secret))
            keys = [secrets.token_hex(KEY_BYTES).encode(), *old][:MOST_KEYS]
            if not still():
                raise Unavailable(
                    "somebody else works on this site since: no key was changed: run `starburst rotate-key` again"
                )
            _write(clients, site, secret_of(keys))
    finally:
        clients.close()
    return len(keys) - 1


def _write(clients: AdminClients, site: Site, secret: str) -> None:
    arn = site.signing_secret
    if ":ssm:" in arn:
        encrypted: dict[str, Any] = {"KeyId": site.kms_key} if site.kms_key else {}
        with speaking(f"ssm:PutParameter {arn}"):
            clients.parameters.put_parameter(
                Name=parameter(clients, arn)["Name"], Value=secret, Type="SecureString", Overwrite=True, **encrypted
            )
        return
    *_, key, stage, version = [*arn.split(":"), "", "", ""][: _PLAIN + 3]
    if stage or version:
        raise BadInput(
            f"signing_secret={arn}: it names a stage or a version of the secret: leave that out, and try again"
        )
    named = ":".join(arn.split(":")[:_PLAIN])
    with speaking(f"secretsmanager:PutSecretValue {named}"):
        if key:
            whole = json.loads(clients.secrets.get_secret_value(SecretId=named)["SecretString"])
            secret = json.dumps({**whole, key: secret})
        clients.secrets.put_secret_value(SecretId=named, SecretString=secret)
