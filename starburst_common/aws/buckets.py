"""A bucket of the user's in; what lies there, read where it lies by a slot or by the user's own process, out.

In a task its role is what reads; elsewhere what boto3 finds, or else obstore. Slots have no boto3 but the user's.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import obstore
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from starburst_common.aws.objects import speaking_of
from starburst_common.errors import BadInput, NotFound, Unavailable
from starburst_common.model import Buffer

if TYPE_CHECKING:
    from obstore.store import S3Credential

_BUFFER_BYTES = 1 << 20
_LINKS = "http://169.254.170.2"  #: where a task's credentials are. Source: Amazon ECS developer guide, task IAM role


class Listed(NamedTuple):
    """An object of a listing."""

    key: str
    nbytes: int
    etag: str


@lru_cache(maxsize=8)
def bucket(name: str) -> UserBucket:
    """One whose connections are kept, of this process."""
    return UserBucket(name)


class UserBucket:
    """A bucket as whoever runs this process may see it; errors are ours."""

    def __init__(self, name: str) -> None:
        self.name = name
        options: dict[str, Any] = {"client_options": {"allow_http": True}}  # where AWS_ENDPOINT_URL says so
        if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
            options["region"] = region
        try:
            self._store = S3Store(name, **options, **_credentials())
        except Exception as error:
            raise BadInput(f"s3://{name}: {error}") from None

    def entries(self, prefix: str, *, deep: bool) -> list[Listed]:
        """Objects whose keys begin so; without `deep`, only those in the folder that it names."""
        folder = prefix.rpartition("/")[0]
        with self._speaking(prefix):
            if deep:
                found: list[Any] = [meta for page in obstore.list(self._store, folder or None) for meta in page]
            else:
                found = list(obstore.list_with_delimiter(self._store, folder or None)["objects"])
        return [
            Listed(meta["path"], meta["size"], meta["e_tag"] or "") for meta in found if meta["path"].startswith(prefix)
        ]

    def read(self, key: str, lo: int, hi: int, etag: str) -> Buffer:
        """Bytes of an object that has this ETag still. Raises `NotFound` where it has another, or is gone."""
        with self._speaking(key):
            found = obstore.get(self._store, key, options={"range": (lo, hi), "if_match": etag})
            return memoryview(found.bytes())

    def opened(self, key: str, nbytes: int, etag: str) -> BinaryIO:
        """An object of so many bytes as a file that is open for reading; what is read of it is read as by `read`."""
        return io.BufferedReader(_Ranges(partial(self.read, key, etag=etag), nbytes), _BUFFER_BYTES)

    def write(self, key: str, body: bytes, *, new: bool) -> str:
        """Write an object; its ETag. Raises `Exists` where it is to be `new` and is not."""
        with self._speaking(key):
            return obstore.put(self._store, key, body, mode="create" if new else "overwrite")["e_tag"] or ""

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        with suppress(NotFound), self._speaking(key):
            obstore.delete(self._store, key)

    @contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        try:
            with speaking_of(f"s3://{self.name}/{key}"):
                try:
                    yield
                except PreconditionError:
                    raise NotFound.written_anew(f"s3://{self.name}/{key}") from None
        except BadInput:
            raise BadInput(f"s3://{self.name}: there is no such bucket, or it is in another region") from None


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


def _credentials() -> dict[str, Any]:
    """What the store is made with, so that it has credentials."""
    if "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in os.environ or "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ:
        return {"credential_provider": _of_task}
    try:
        from boto3.session import Session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}
    session = Session()
    if session.get_credentials() is None:
        return {}
    return {"credential_provider": Boto3CredentialProvider(session)}


def _of_task() -> S3Credential:
    """Those of this task's role, as any SDK has them."""
    import urllib.error
    import urllib.request

    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    where = f"{_LINKS}{relative}" if relative else os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(where, timeout=10) as answer:
            found = json.load(answer)
        return {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "token": found["Token"],
            "expires_at": datetime.fromisoformat(found["Expiration"]),
        }
    except (OSError, ValueError, LookupError) as error:
        raise Unavailable(f"this task's credentials: {error}") from None
