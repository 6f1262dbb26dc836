"""Whose a bucket is: that of a site which is deleted leaves a name, which any account may then have."""

from __future__ import annotations

from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

from starburst_common.aws.clients import Clients
from starburst_common.errors import Denied


def see_whose(clients: Clients, bucket: str) -> None:
    """Raises `Denied` that says so where a bucket that may not be reached is there, and another account's."""
    with suppress(ClientError, BotoCoreError):
        clients.s3.head_bucket(Bucket=bucket)  # whosever it is
        try:
            clients.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=clients.owner)
        except ClientError as error:
            raise Denied(
                f"the bucket {bucket} is not of the account {clients.owner}, whose roles the site has: somebody else "
                "has its name, and nothing was read or written there. Set the site up anew, or name a bucket of that "
                "account in the settings"
            ) from error
