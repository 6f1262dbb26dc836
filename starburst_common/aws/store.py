"""Objects on Amazon S3: conditional creates that know their own retries, multipart for big bodies, bulk deletes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast

import obstore
from botocore.exceptions import BotoCoreError, ClientError

from starburst_common.aws.abreast import abreast
from starburst_common.aws.access import RETRY_FOR
from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.console import console_url
from starburst_common.aws.lent import Lent
from starburst_common.aws.objects import EXPIRED, InvalidPath, Objects, speaking_of, whole
from starburst_common.aws.parts import Parts
from starburst_common.aws.tolls import LISTED, S3_BYTES, S3_GET, S3_PUT
from starburst_common.aws.whose import see_whose
from starburst_common.errors import Denied, Exists, NotFound, Unavailable
from starburst_common.model import Buffer
from starburst_common.ports import MEMORY_BYTES, SMALL_BYTES, Entry, is_key
from starburst_common.wire.seals import nbytes_of

T = TypeVar("T")
Listing = TypeVar("Listing", bound=Sequence[Any])

_OURS_S = 60.0  #: a name is nobody else's so soon after its bucket is gone
_WRITER = "starburst-writer"  #: metadata that names who wrote an object
_SMALL_BYTES = 1 << 20
_BIG_BYTES = 64 << 20
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_DELETE_MOST = 1000  #: keys a call. Source: Amazon S3 API reference, DeleteObjects
#: What S3 says to a conditional write that is late, meets another one, or is sent again after it went through.
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"}


class S3Objects(Objects):
    """`ObjectStore` on one bucket; see `starburst_common.ports` for what it promises."""

    def __init__(self, bucket: str, clients: Clients) -> None:
        access, owner = Lent(clients), clients.owner
        owned = {"x-amz-expected-bucket-owner": owner} if owner else {}
        # obstore signs it, as S3 wants, but not where it lists (findings/obstore_signs_no_headers_of_listings.sh)
        listing = access.store(bucket, clients.region)
        super().__init__(access.store(bucket, clients.region, owned), f"s3://{bucket}", listing)
        self.bucket, self.owner, self._clients, self._access = bucket, owner, clients, access
        self._ours_until = 0.0  # by this process's clock: so long it need not be looked at whose the bucket is

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        self._renewing(lambda: self._create(key, body))

    def put(self, key: str, body: Buffer) -> None:
        self._renewing(lambda: self._put(key, body))

    def swap(self, key: str, body: Buffer, tag: str | None) -> str | None:
        self._clients.tolls.add(S3_PUT)
        self._clients.tolls.add(S3_BYTES, nbytes_of([body]))
        return self._renewing(lambda: super(S3Objects, self).swap(key, body, tag))

    def tagged(self, key: str, most: int = SMALL_BYTES) -> tuple[bytes, str | None]:
        self._clients.tolls.add(S3_GET)
        return self._renewing(lambda: super(S3Objects, self).tagged(key, most))

    def publish(self, key: str, page: str) -> str:
        self._renewing(lambda: self._put(key, page.encode(), "text/html; charset=utf-8"))
        return console_url(self._clients.region, self.bucket, key)

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        self._clients.tolls.add(S3_GET)
        found = self._renewing(lambda: super(S3Objects, self).get(key, most))
        self._clients.tolls.add(S3_BYTES, len(found))
        return found

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        self._clients.tolls.add(S3_GET)
        self._clients.tolls.add(S3_BYTES, length)
        return self._renewing(lambda: super(S3Objects, self).get_range(key, offset, length))

    def written_at(self, key: str) -> float:
        self._clients.tolls.add(S3_GET)
        return self._renewing(lambda: super(S3Objects, self).written_at(key))

    def folders(self, prefix: str) -> list[str]:
        with suppress(InvalidPath):
            return self._listed(lambda: super(S3Objects, self).folders(prefix))
        under = f"{folder}/" if (folder := prefix.strip("/")) else ""
        found = [each["Prefix"] for page in self._pages(under, "/") for each in page.get("CommonPrefixes", ())]
        return sorted(key[len(under) : -1] for key in found if is_key(key[:-1]))

    def entries(self, prefix: str) -> Sequence[Entry]:
        with suppress(InvalidPath):
            return self._listed(lambda: super(S3Objects, self).entries(prefix))
        found = [
            Entry(each["Key"], each["Size"], each["LastModified"].timestamp())
            for page in self._pages(prefix)
            for each in page.get("Contents", ())
        ]
        return sorted(entry for entry in found if is_key(entry.key))

    def delete(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), _DELETE_MOST):
            self._renewing(partial(self._delete, [*keys[at : at + _DELETE_MOST]]))

    def delete_folder(self, prefix: str) -> None:
        self._renewing(lambda: self._delete_folder(prefix))

    def _delete_folder(self, prefix: str) -> None:
        found = [each["Key"] for page in self._pages(prefix) for each in page.get("Contents", ())]
        self.delete([key for key in found if is_key(key)])
        for key in found:
            if not is_key(key):  # others made it, and obstore cannot name it
                with speaking(f"s3:DeleteObject {key}"):
                    self._clients.s3.delete_object(Bucket=self.bucket, Key=key)

    def _pages(self, prefix: str, delimiter: str = "") -> Iterator[Any]:
        """A listing of whatever keys there are, from boto3, which is several times slower than obstore."""
        with speaking(f"s3:ListObjectsV2 {prefix}"):
            lists = self._clients.s3.get_paginator("list_objects_v2")
            yield from lists.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter=delimiter)

    def _listed(self, ask: Callable[[], Listing]) -> Listing:
        """What obstore lists; whose bucket that is, is asked before."""
        if self.owner and time.monotonic() > self._ours_until:
            try:
                self._clients.s3.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=self.owner)
                self._ours_until = time.monotonic() + _OURS_S
            except ClientError:
                see_whose(self._clients, self.bucket)
            except BotoCoreError:  # which the listing meets as well
                pass
        found = self._renewing(ask)
        self._clients.tolls.add(S3_PUT, max(-(-len(found) // LISTED), 1))
        return found

    def _renewing(self, ask: Callable[[], T]) -> T:
        try:
            return self._access.renewing(ask)
        except Denied:
            see_whose(self._clients, self.bucket)
            raise

    def _create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        """A write that was retried may meet itself: the object's metadata tells whether it was ours.

        obstore reports a conflict with another write under way (409) as a taken key; if the key then proves free, that
        write came to nothing, and ours is tried again.
        """
        writer, until = secrets.token_hex(8), time.monotonic() + RETRY_FOR.total_seconds()
        parts = Parts([body] if isinstance(body, bytes | bytearray | memoryview) else body)
        for attempt in count():
            try:
                if parts.nbytes > _BIG_BYTES:
                    self._create_big(key, parts, writer)
                elif parts.nbytes > _SMALL_BYTES:
                    self._create_unjoined(key, parts, writer)
                else:
                    self._clients.tolls.add(S3_PUT)
                    self._clients.tolls.add(S3_BYTES, parts.nbytes)
                    with speaking_of(key):
                        obstore.put(self._store, key, whole(body), mode="create", attributes={_WRITER: writer})
                return
            except Exists:
                with suppress(NotFound):
                    if self._writer(key) == writer:
                        return
                    raise
                if time.monotonic() > until:
                    raise Unavailable(f"s3:PutObject {key}: other writers were in the way all the time") from None
            except Unavailable as error:  # obstore does not send again what may have been done when a connection broke
                if time.monotonic() > until or EXPIRED in str(error):
                    raise
            time.sleep(_pause_s(attempt))

    def _put(self, key: str, body: Buffer, content_type: str = "application/octet-stream") -> None:
        """A conflict with another write under way (409) comes from obstore as a taken key here too: tried again."""
        until, parts = time.monotonic() + RETRY_FOR.total_seconds(), Parts([body])
        for attempt in count():
            try:
                if parts.nbytes > _SMALL_BYTES:
                    with speaking(f"s3:PutObject {key}"):
                        whole_of_it = cast(Any, parts.window(0, parts.nbytes))
                        self._clients.s3.put_object(
                            Bucket=self.bucket, Key=key, Body=whole_of_it, ContentType=content_type
                        )
                else:
                    self._clients.tolls.add(S3_PUT)
                    self._clients.tolls.add(S3_BYTES, parts.nbytes)
                    with speaking_of(key):
                        obstore.put(self._store, key, body, attributes={"Content-Type": content_type})
                return
            except Exists:
                if time.monotonic() > until:
                    raise Unavailable(f"s3:PutObject {key}: other writers were in the way all the time") from None
            time.sleep(_pause_s(attempt))

    def _delete(self, batch: list[str]) -> None:
        until = time.monotonic() + RETRY_FOR.total_seconds()
        for attempt in count():
            try:
                with speaking_of(batch[0]), suppress(FileNotFoundError):
                    obstore.delete(self._store, batch)
                return
            except Unavailable as error:
                if time.monotonic() > until or EXPIRED in str(error):
                    raise
                time.sleep(_pause_s(attempt))

    def _writer(self, key: str) -> str | None:
        """Who wrote an object. Raises `NotFound`."""
        self._clients.tolls.add(S3_GET)
        with speaking_of(key):
            return obstore.get(self._store, key, options={"head": True}).attributes.get(_WRITER)

    def _create_unjoined(self, key: str, parts: Parts, writer: str) -> None:
        """One call, whose body is read from the parts as it is sent.

        obstore would want a copy of it all, and takes for silence what it takes to send.
        """
        with speaking(f"s3:PutObject {key}"), _taken(key):
            self._clients.s3.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=cast(Any, parts.window(0, parts.nbytes)),
                IfNoneMatch="*",
                Metadata={_WRITER: writer},
            )

    def _create_big(self, key: str, parts: Parts, writer: str) -> None:
        """Parts side by side, put together on the condition that the key is free."""
        s3 = self._clients.s3
        at: Any = {"Bucket": self.bucket, "Key": key}

        def send(number: int) -> Any:
            body = parts.window((number - 1) * _PART_BYTES, min(number * _PART_BYTES, parts.nbytes))
            sent = s3.upload_part(**at, UploadId=upload, PartNumber=number, Body=cast(Any, body))
            return {"PartNumber": number, "ETag": sent["ETag"]}

        with speaking(f"s3:PutObject {key}"), _taken(key):
            upload = s3.create_multipart_upload(**at, Metadata={_WRITER: writer})["UploadId"]
            try:
                numbers = range(1, -(-parts.nbytes // _PART_BYTES) + 1)
                sent = abreast(send, numbers, at_once=_PARTS_AT_ONCE)
                s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": sent}, IfNoneMatch="*")
            except BaseException:
                with suppress(ClientError, BotoCoreError):
                    s3.abort_multipart_upload(**at, UploadId=upload)
                raise


def _pause_s(attempt: int) -> float:
    return min(0.05 * 2.0**attempt, 2.0)


@contextmanager
def _taken(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error_code(error) in _TAKEN:
            raise Exists(f"{key} is already there") from None
        raise
