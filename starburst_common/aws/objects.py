"""An obstore store in, our `ObjectStore` out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from starburst_common.aws.refusals import NOT_TAKEN, RENEW
from starburst_common.errors import BadInput, Denied, Exists, NotFound, Refused, StarburstError, Unavailable
from starburst_common.model import Buffer
from starburst_common.phrases import one_line
from starburst_common.ports import MEMORY_BYTES, SMALL_BYTES, Entry

EXPIRED = "the AWS credentials have expired: renew them, as with `aws login`; a run that waits for them then goes on"
UNHAD = "the AWS profile gives no credentials: renew them, as with `aws sso login`, or correct it"
_SAID = re.compile(r"<Code>([\w.]+)</Code>\s*<Message>([^<]*)")
#: How S3 says that a bucket is in another region, and obstore where it is not told so. Source: Amazon S3 API reference,
#: "Error responses"
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_REDIRECTED = "incorrectly configured region"
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", *NOT_TAKEN}
#: A status that says that the same request will fail again, and codes of which that is not so. Source: Amazon S3
#: API reference, "Error responses"; the statuses are in obstore's text.
_FINAL = re.compile(r"\b4(?!08|09|29)\d\d (Bad Request|Forbidden|Method Not Allowed|Unprocessable)|<Code>KMS\.")
_LATER = re.compile(r"Timeout|Throttl|SlowDown|TooMany|LimitExceeded|Internal|Busy|Conflict|OperationAborted")


class InvalidPath(Unavailable):
    """A listing met a key that obstore cannot name, and tells of none then."""


class OtherRegion(BadInput):
    """A bucket is not in the region in which it was asked for."""


class Objects:
    """`ObjectStore` over any obstore store; see `starburst_common.ports` for what it promises."""

    def __init__(
        self, store: obstore.store.ObjectStore, place: str, listing: obstore.store.ObjectStore | None = None
    ) -> None:
        self._store, self.place, self._listing = store, place, listing or store

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        with speaking_of(key):
            obstore.put(self._store, key, whole(body), mode="create")

    def put(self, key: str, body: Buffer) -> None:
        with speaking_of(key):
            obstore.put(self._store, key, body)

    def swap(self, key: str, body: Buffer, tag: str | None) -> str | None:
        """`put` if the object is as it was under that tag, or not there for None: its new tag; else None."""
        try:
            with speaking_of(key):
                put = obstore.put(self._store, key, body, mode="create" if tag is None else {"e_tag": tag})
        except Exists:
            return None
        return put["e_tag"]

    def tagged(self, key: str, most: int = SMALL_BYTES) -> tuple[bytes, str | None]:
        """An object with its tag, for `swap`. Raises `NotFound`, `Refused`."""
        with speaking_of(key):
            found = _bounded(obstore.get(self._store, key), most)
            return bytes(found.bytes()), found.meta["e_tag"]

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        with speaking_of(key):
            return memoryview(_bounded(obstore.get(self._store, key), most).bytes())

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        with speaking_of(key):
            try:
                if length and len(found := obstore.get_range(self._store, key, start=offset, length=length)) == length:
                    return memoryview(found)
            except GenericError:  # how obstore says, among much else, that the object ends before the range begins
                if offset < obstore.head(self._store, key)["size"]:
                    raise
            size = obstore.head(self._store, key)["size"]  # no store can be asked for nothing
        if offset + length > size:
            raise NotFound(f"{key} has {size} bytes, none are at {offset} to {offset + length}")
        return b""

    def file(self, key: str) -> None:
        return None

    def folders(self, prefix: str) -> list[str]:
        with speaking_of(prefix):
            found = obstore.list_with_delimiter(self._listing, prefix.rstrip("/"))["common_prefixes"]
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(NotFound), speaking_of(key):
                obstore.delete(self._store, key)

    def delete_folder(self, prefix: str) -> None:
        self.delete([*self.list(prefix)])

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        return  # a bucket has a lifecycle rule for it

    def list(self, prefix: str) -> Iterator[str]:
        yield from (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Sequence[Entry]:
        with speaking_of(prefix):
            found = [meta for page in obstore.list(self._listing, prefix.rstrip("/")) for meta in page]
        return sorted(
            Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())
            for meta in found
            if meta["path"].startswith(prefix.lstrip("/"))  # else it is the folder itself, as consoles make it
        )

    def written_at(self, key: str) -> float:
        with speaking_of(key):
            return obstore.head(self._store, key)["last_modified"].timestamp()


def _bounded(found: obstore.GetResult, most: int) -> obstore.GetResult:
    if (size := found.meta["size"]) > most:
        raise Refused(f"{found.meta['path']} has {size:,} bytes, more than the {most:,} that are read; refused")
    return found


def whole(body: Buffer | Sequence[Buffer]) -> Buffer:
    """A body in one piece."""
    return body if isinstance(body, bytes | bytearray | memoryview) else b"".join(body)


@contextmanager
def speaking_of(key: str) -> Iterator[None]:
    """Raises what obstore raises as one of our errors."""
    _stay_in_one_process()
    try:
        yield
    except (AlreadyExistsError, FileExistsError, PreconditionError):
        raise Exists(f"{key} is already there") from None
    except (BaseError, OSError) as error:
        raise _meaning(error, key) from error


_user: list[int] = []  # the process whose threads obstore has started


def _stay_in_one_process() -> None:
    """Raises rather than wait for ever for threads that a fork has not taken along."""
    if not _user:
        _user.append(os.getpid())
    elif _user[0] != os.getpid():
        raise StarburstError(
            "this process was forked from one that had used starburst, whose threads it lacks: start it otherwise, as "
            "with multiprocessing.get_context('spawn') or 'forkserver'"
        )


def _meaning(error: Exception, key: str) -> StarburstError:
    """What obstore's error means to us. S3's own code is in its text only.

    >>> _meaning(BaseError("<Error><Code>NoSuchBucket</Code><Message>No bucket</Message></Error>"), "runs/")
    BadInput("runs/: NoSuchBucket: No bucket: make the site's bucket, or correct its name in the settings")
    >>> text = "Server returned non-2xx status code: 400 Bad Request: <Code>{}</Code><Message>no</Message>"
    >>> [_meaning(GenericError(text.format(code)), "a") for code in ("KMS.DisabledException", "RequestTimeout")]
    [StarburstError('a: KMS.DisabledException: no'), Unavailable('a: RequestTimeout: no')]
    """
    if isinstance(error, InvalidPathError):
        return InvalidPath(f"{key}: {one_line(str(error), 200)}")
    found = _SAID.search(str(error))
    code = found[1] if found else ""
    said = f"{code}: {found[2]}" if found else " ".join(str(error).partition("Debug source:")[0].split())
    if code == "NoSuchBucket":
        return BadInput(f"{key}: {said}: make the site's bucket, or correct its name in the settings")
    if code in _ELSEWHERE or _REDIRECTED in str(error):
        return OtherRegion(
            f"{key}: the bucket is not in the site's region{f' ({said})' if found else ''}: correct `region`, or "
            "`bucket`, in the settings"
        )
    if isinstance(error, FileNotFoundError):
        return NotFound(f"no object {key}")
    if code.startswith("ExpiredToken"):
        return Unavailable(f"{key}: {EXPIRED}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _FORBIDDEN:
        advice = RENEW if code in NOT_TAKEN else "let these credentials do it, or use others"
        return Denied(f"not allowed to reach {key}: {said}: {advice}")
    if code and _FINAL.search(str(error)) and not _LATER.search(code):
        return StarburstError(f"{key}: {said}")
    return Unavailable(f"{key}: {said}")
