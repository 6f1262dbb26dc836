"""A site in; its secret with a new key in it, which signs what begins from now on, out."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.keys import lacking, parameter, read_secret
from starburst_common.aws.setup.account import AdminClients, AwsAccount
from starburst_common.aws.setup.inventory import Inventory
from starburst_common.aws.site_tasks import SiteTasks, key_of
from starburst_common.errors import BadInput, NotFound, StarburstError, Unavailable
from starburst_common.ports import KEY_BYTES
from starburst_common.sites.site import Site
from starburst_common.wire.keys import MOST_KEYS, changed, key_id, keys_in

_PLAIN = 7  #: parts of a secret's ARN; what follows is a key of its JSON, a stage and a version


def change_key(
    site: Site,
    *,
    revoke: bool,
    tell: Callable[[str], None],
    now: float | None = None,
    agreed: Collection[bytes] | None = None,
) -> int:
    """Have a new key sign what begins from now on; how many older ones are still known: none if they are revoked.

    Workers of a key that is known no more are told to end. `now` is by the store's clock, `agreed` the keys that may be
    forgotten. Of two who do so at once neither forgets the other's. Raises `Unavailable` where another key would be
    forgotten, `BadInput` where the settings name a version, which never changes.
    """
    refuse_version(site)
    clients = AdminClients(site.region)
    try:
        account = AwsAccount.of(clients, site.name)
        with Inventory(account, site.bucket).held(tell) as still:
            before, at = _before(clients, site), time.time() if now is None else now
            new = secrets.token_hex(KEY_BYTES).encode()
            after = changed(before, new, revoke=revoke, now=at, agreed=agreed)
            if not still():
                raise Unavailable(
                    "somebody else works on this site since: no key was changed: run `starburst rotate-key` again"
                )
            _write(clients, site, after)
            known = keys_in(after.encode())
            if revoke or len(known) == MOST_KEYS:
                _end_workers(site, clients, {key_id(key) for key in known}, tell)
    finally:
        clients.close()
    return len(known) - 1


def _before(clients: AdminClients, site: Site) -> bytes:
    try:
        return read_secret(clients, site.signing_secret)
    except NotFound as error:
        raise lacking(error) from error


def refuse_version(site: Site) -> None:
    """Raise `BadInput` for a secret that is named with a stage or a version: who reads it sees no other."""
    *_, stage, version = _parts(site.signing_secret)
    if stage or version:
        raise BadInput(
            f"signing_secret={site.signing_secret}: it names a stage or a version of the secret: leave that out, and "
            "try again"
        )


def _parts(arn: str) -> list[str]:
    """Those of a secret's ARN, and a key of its JSON, a stage and a version, each empty where none is named."""
    return [*arn.split(":"), "", "", ""][: _PLAIN + 3] if ":ssm:" not in arn else [arn, "", "", ""]


def _end_workers(site: Site, clients: AdminClients, known: Collection[str], tell: Callable[[str], None]) -> None:
    """Those that ECS was told to start by a key that nobody knows; what is not done here, `starburst gc` does."""
    try:
        for task in SiteTasks(site, clients).alive():
            if (key := key_of(task)) and key not in known:
                with speaking("ecs:StopTask"), suppress(clients.ecs.exceptions.InvalidParameterException):
                    why = "starburst rotate-key: nobody knows its key any more"
                    clients.ecs.stop_task(cluster=site.cluster, task=task["taskArn"], reason=why)
    except StarburstError as error:
        tell(f"workers that sign by an earlier key end when they are idle, or by `starburst gc`: {error}")


def _write(clients: AdminClients, site: Site, secret: str) -> None:
    arn = site.signing_secret
    if ":ssm:" in arn:
        encrypted: dict[str, Any] = {"KeyId": site.kms_key} if site.kms_key else {}
        with speaking(f"ssm:PutParameter {arn}"):
            clients.parameters.put_parameter(
                Name=parameter(clients, arn)["Name"], Value=secret, Type="SecureString", Overwrite=True, **encrypted
            )
        return
    *parts, key, _, _ = _parts(arn)
    named = ":".join(parts)
    with speaking(f"secretsmanager:PutSecretValue {named}"):
        if key:
            whole = json.loads(clients.secrets.get_secret_value(SecretId=named)["SecretString"])
            secret = json.dumps({**whole, key: secret})
        clients.secrets.put_secret_value(SecretId=named, SecretString=secret)
