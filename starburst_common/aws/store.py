"""Objects on Amazon S3: conditional creates that know their own retries, multipart for big bodies, bulk deletes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import obstore
from botocore.exceptions import ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from starburst_common.aws.clients import Clients, error_code, speaking
from starburst_common.errors import Exists, NotFound, Unavailable
from starburst_common.model import Buffer
from starburst_common.objects import Objects, speaking_of

_RETRIES = 12
_RETRY_FOR = timedelta(seconds=90)
_WRITER = "starburst-writer"  #: metadata that names who wrote an object
_BIG_BYTES = 64 << 20
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_CONFLICTS = 8
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}  #: the second may prove to be nothing


class S3Objects(Objects):
    """`ObjectStore` on one bucket; see `starburst_common.ports` for what it promises."""

    def __init__(self, bucket: str, clients: Clients) -> None:
        store = S3Store(
            bucket,
            region=clients.region,
            credential_provider=Boto3CredentialProvider(clients.session),
            client_options={"allow_http": True},  # where AWS_ENDPOINT_URL says so; AWS itself is spoken to by https
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_FOR},
        )
        super().__init__(store)
        self._bucket, self._clients = bucket, clients

    def create(self, key: str, body: Buffer) -> None:
        """A write that was retried may meet itself: the object's metadata tells whether it was ours.

        obstore reports a conflict with another write under way (409) as a taken key; if the key then proves free, that
        write came to nothing, and ours is tried again.
        """
        writer = secrets.token_hex(8)
        for attempt in range(_CONFLICTS):
            try:
                if len(body) > _BIG_BYTES:
                    self._create_big(key, memoryview(body), writer)
                else:
                    with speaking_of(key):
                        obstore.put(self._store, key, body, mode="create", attributes={_WRITER: writer})
                return
            except Exists:
                try:
                    with speaking_of(key):
                        found = obstore.get(self._store, key, options={"head": True}).attributes
                except NotFound:
                    time.sleep(0.05 * 2**attempt)
                    continue
                if found.get(_WRITER) != writer:
                    raise
                return
        raise Unavailable(f"s3:PutObject {key}: another writer was in the way {_CONFLICTS} times")

    def delete(self, keys: Sequence[str]) -> None:
        if keys:
            with speaking_of(keys[0]), suppress(FileNotFoundError):
                obstore.delete(self._store, [*keys])

    def _create_big(self, key: str, body: memoryview, writer: str) -> None:
        """Parts side by side, put together on the condition that the key is free."""
        s3 = self._clients.s3
        at: Any = {"Bucket": self._bucket, "Key": key}

        def send(number: int) -> Any:
            part = body[(number - 1) * _PART_BYTES : number * _PART_BYTES]
            sent = s3.upload_part(**at, UploadId=upload, PartNumber=number, Body=cast(Any, part))
            return {"PartNumber": number, "ETag": sent["ETag"]}

        with speaking(f"s3:PutObject {key}"):
            upload = s3.create_multipart_upload(**at, Metadata={_WRITER: writer})["UploadId"]
            try:
                with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
                    parts = [*pool.map(send, range(1, -(-len(body) // _PART_BYTES) + 1))]
                s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
            except BaseException as error:
                with suppress(ClientError):
                    s3.abort_multipart_upload(**at, UploadId=upload)
                if isinstance(error, ClientError) and error_code(error) in _TAKEN:
                    raise Exists(f"{key} is already there") from None
                raise
