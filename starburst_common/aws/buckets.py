"""A bucket of the user's in; what lies there, read where it lies by a slot or by whoever looks for its user, out.

Who looks does so with a backend's session, else as this process would by default: in a task as its role, elsewhere as
boto3 does, or, where there is none, obstore. Slots have no boto3 but the user's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from threading import Lock
from typing import Any, BinaryIO, TypeVar

import obstore
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from starburst_common.aws.access import S3Access, is_task
from starburst_common.aws.objects import OtherRegion, speaking_of
from starburst_common.buckets import Listed
from starburst_common.errors import BadInput, NotFound
from starburst_common.model import Buffer

T = TypeVar("T")

_BUFFER_BYTES = 1 << 20


class UserBuckets:
    """`Buckets` of one access: each is opened once."""

    def __init__(self, access: S3Access) -> None:
        self._access, self._lock = access, Lock()
        self._opened: dict[str, UserBucket] = {}

    def __call__(self, name: str) -> UserBucket:
        with self._lock:
            if (found := self._opened.get(name)) is None:
                found = self._opened[name] = UserBucket(name, self._access)
            return found


class UserBucket:
    """`SeenBucket` by an access; in another region than its own too, which S3 tells."""

    def __init__(self, name: str, access: S3Access) -> None:
        self.name, self._access, self._region = name, access, access.region
        try:
            self._store = access.store(name, access.region)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"s3://{name}: {error}") from None

    def entries(self, prefix: str, *, deep: bool) -> list[Listed]:
        folder = prefix.rpartition("/")[0]

        def found(store: S3Store) -> list[Any]:
            if deep:
                return [meta for page in obstore.list(store, folder or None) for meta in page]
            return list(obstore.list_with_delimiter(store, folder or None)["objects"])

        return [
            Listed(meta["path"], meta["size"], meta["e_tag"] or "")
            for meta in self._asked(prefix, found)
            if meta["path"].startswith(prefix)
        ]

    def read(self, key: str, lo: int, hi: int, etag: str) -> Buffer:
        def found(store: S3Store) -> Buffer:
            return memoryview(obstore.get(store, key, options={"range": (lo, hi), "if_match": etag}).bytes())

        return self._asked(key, found)

    def opened(self, key: str, nbytes: int, etag: str) -> BinaryIO:
        return io.BufferedReader(_Ranges(partial(self.read, key, etag=etag), nbytes), _BUFFER_BYTES)

    def write(self, key: str, body: bytes, *, new: bool) -> str:
        mode: Any = "create" if new else "overwrite"
        return self._asked(key, lambda store: obstore.put(store, key, body, mode=mode)["e_tag"] or "")

    def remove(self, key: str) -> None:
        with suppress(NotFound):
            self._asked(key, lambda store: obstore.delete(store, key))

    def _asked(self, key: str, ask: Callable[[S3Store], T]) -> T:
        try:
            return self._told(key, ask)
        except OtherRegion as error:
            found = self._access.region_of(self.name)
            if found is None or found == self._region:
                raise BadInput(f"s3://{self.name}: it is in another region, which S3 does not tell: {error}") from None
        self._region, self._store = found, self._access.store(self.name, found)
        return self._told(key, ask)

    def _told(self, key: str, ask: Callable[[S3Store], T]) -> T:
        def once() -> T:
            with speaking_of(f"s3://{self.name}/{key}"):
                try:
                    return ask(self._store)
                except PreconditionError:
                    raise NotFound.written_anew(f"s3://{self.name}/{key}") from None

        try:
            return self._access.renewing(once)
        except OtherRegion:
            raise
        except BadInput:
            raise BadInput(f"s3://{self.name}: there is no such bucket") from None


def own_buckets() -> UserBuckets:
    """As this process sees them by default, which its variables may change."""
    return _own(frozenset((name, said) for name, said in os.environ.items() if name.startswith("AWS_")))


@lru_cache(maxsize=8)
def _own(_: frozenset[tuple[str, str]]) -> UserBuckets:
    if is_task():
        return UserBuckets(S3Access())
    try:
        import boto3.session

        from starburst_common.aws.clients import Clients
        from starburst_common.aws.lent import Lent
    except ImportError:
        return UserBuckets(S3Access())
    session = boto3.session.Session()
    if session.get_credentials() is None:
        return UserBuckets(S3Access())
    region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
    return UserBuckets(Lent(Clients(region)))


class _Ranges(io.RawIOBase):
    """A file whose pieces are asked for as they are read."""

    def __init__(self, read: Callable[[int, int], Buffer], nbytes: int) -> None:
        self._read, self._nbytes, self._at = read, nbytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._nbytes}[whence], 0)
        return self._at

    def readinto(self, into: Any) -> int:
        room = memoryview(into).cast("B")
        hi = min(self._at + len(room), self._nbytes)
        if hi <= self._at:
            return 0
        room[: hi - self._at] = self._read(self._at, hi)
        count, self._at = hi - self._at, hi
        return count
