"""An obstore store in, our `ObjectStore` out: what a folder and a bucket have in common."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from starburst_common.clock import FolderClock
from starburst_common.errors import BadInput, Denied, Exists, NotFound, Refused, StarburstError, Unavailable
from starburst_common.model import Buffer
from starburst_common.phrases import one_line
from starburst_common.ports import MEMORY_BYTES, Entry
from starburst_common.trust import owner_only

EXPIRED = "the AWS credentials have expired: renew them (as with `aws sso login`); starburst then goes on by itself"
_TRIES = 20  #: where others write or remove what we do; each but the last was undone by somebody else
_SAID = re.compile(r"<Code>(\w+)</Code>\s*<Message>([^<]*)")
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_FORBIDDEN = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled"}


class InvalidPath(Unavailable):
    """A listing met a key that obstore cannot name, and tells of none then."""


class Objects:
    """`ObjectStore` over any obstore store; see `starburst_common.ports` for what it promises."""

    def __init__(self, store: obstore.store.ObjectStore, place: str) -> None:
        self._store, self.place = store, place

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        with speaking_of(key):
            obstore.put(self._store, key, whole(body), mode="create")

    def put(self, key: str, body: Buffer) -> None:
        with speaking_of(key):
            obstore.put(self._store, key, body)

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        with speaking_of(key):
            found = obstore.get(self._store, key)
            if found.meta["size"] > most:
                raise Refused(f"{key} has {found.meta['size']:,} bytes, more than the {most:,} that are read; refused")
            return memoryview(found.bytes())

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

    def folders(self, prefix: str) -> list[str]:
        with speaking_of(prefix):
            found = obstore.list_with_delimiter(self._store, prefix.rstrip("/"))["common_prefixes"]
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
            found = [meta for page in obstore.list(self._store, prefix.rstrip("/")) for meta in page]
        return sorted(
            Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())
            for meta in found
            if meta["path"].startswith(prefix.lstrip("/"))  # else it is the folder itself, as consoles make it
        )

    def written_at(self, key: str) -> float:
        with speaking_of(key):
            return obstore.head(self._store, key)["last_modified"].timestamp()


class FolderObjects(Objects):
    """The same in a folder, where empty folders and crashed writers' drafts lie about.

    Files bear the time of a clock of their own, which has a folder beside theirs.
    """

    def __init__(self, folder: Path, clock: Path) -> None:
        from obstore.store import LocalStore

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(LocalStore(str(folder)), str(folder))
        self._folder = folder
        self._clock = FolderClock(clock)

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        self._write(key, body, os.link)

    def put(self, key: str, body: Buffer) -> None:
        self._write(key, body, os.replace)

    def folders(self, prefix: str) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._folder / prefix.strip("/")) as found:
            return sorted(entry.name for entry in found if entry.is_dir() and _holds_keys(entry.path))
        return []

    def publish(self, key: str, page: str) -> str:
        self.put(key, page.encode())
        return (self._folder / key).resolve().as_uri()

    def entries(self, prefix: str) -> Sequence[Entry]:
        """Not through obstore, which lists nothing where one name is odd."""
        with speaking_of(prefix):
            return sorted(_entries_in(str(self._folder / prefix.strip("/")), prefix.rstrip("/")))

    def delete_folder(self, prefix: str) -> None:
        remove_folder(self._folder / prefix)

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        for draft in (self._folder / prefix).rglob("*#*"):  # how obstore names a file that is being written
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime >= older_than_s:
                    draft.unlink()

    def _write(self, key: str, body: Buffer | Sequence[Buffer], take_its_name: Callable[[Path, Path], None]) -> None:
        """Not through obstore: a file must be its owner's alone from the start, whatever the umask."""
        place = self._folder / key
        parts = (body,) if isinstance(body, bytes | bytearray | memoryview) else body
        with speaking_of(key):
            for tries_left in reversed(range(_TRIES)):
                draft = place.with_name(f"{place.name}#{secrets.randbits(63)}")  # obstore lists no such names
                try:
                    with open(draft, "xb", opener=owner_only) as out:
                        out.writelines(parts)
                    now = self._clock.now()
                    os.utime(draft, (now, now))
                    take_its_name(draft, place)
                    return
                except FileNotFoundError:  # its folder is not there yet, or was removed meanwhile
                    if not tries_left:
                        raise Unavailable(
                            f"{self.place} is gone: put it back, or stop what uses it and start again"
                        ) from None
                    with suppress(FileNotFoundError):
                        for folder in reversed([each for each in place.parents if each.is_relative_to(self._folder)]):
                            folder.mkdir(mode=0o700, exist_ok=True)
                finally:
                    draft.unlink(missing_ok=True)


def _entries_in(folder: str, key: str) -> Iterator[Entry]:
    """The objects below a folder that has this key."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for each in found:
            if "#" in each.name or not is_key(each.name):
                continue
            if each.is_dir(follow_symlinks=False):
                yield from _entries_in(each.path, f"{key}/{each.name}")
            elif each.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    told = each.stat()
                    yield Entry(f"{key}/{each.name}", told.st_size, told.st_mtime_ns // 1000 / 1e6)  # as `written_at`


def _holds_keys(folder: str) -> bool:
    """Whether there is any object below a folder; drafts are none."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        return any(_holds_keys(each.path) if each.is_dir() else "#" not in each.name for each in found)
    return False


def is_key(name: str) -> bool:
    """Whether a key may be called so. Nobody of ours writes others, and obstore reads none of them.

    >>> [name for name in ("a/b", "a/", "/a", "a//b", "a/../b", "a\\n", "\\udcff", "a\\x7f") if is_key(name)]
    ['a/b']
    """
    return not _CONTROLS.search(name) and not {"", ".", ".."} & {*name.split("/")}


def remove_folder(folder: Path) -> None:
    """A folder and all in it, which others may remove, or still write to, at the same time. Raises `Unavailable`."""
    for _ in range(_TRIES):
        try:
            rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise Unavailable(f"{folder} cannot be removed: {error}") from error
        else:
            return
    raise Unavailable(f"{folder} cannot be removed: others write there")


def whole(body: Buffer | Sequence[Buffer]) -> Buffer:
    """A body in one piece."""
    return body if isinstance(body, bytes | bytearray | memoryview) else b"".join(body)


@contextmanager
def speaking_of(key: str) -> Iterator[None]:
    """Raises what obstore raises as one of our errors."""
    _stay_in_one_process()
    try:
        yield
    except (AlreadyExistsError, FileExistsError):
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
    """
    if isinstance(error, InvalidPathError):
        return InvalidPath(f"{key}: {one_line(str(error), 200)}")
    found = _SAID.search(str(error))
    code = found[1] if found else ""
    said = f"{code}: {found[2]}" if found else " ".join(str(error).partition("Debug source:")[0].split())
    if code == "NoSuchBucket":
        return BadInput(f"{key}: {said}: make the site's bucket, or correct its name in the settings")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"no object {key}")
    if code.startswith("ExpiredToken"):
        return Unavailable(f"{key}: {EXPIRED}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _FORBIDDEN:
        return Denied(f"not allowed to reach {key}: {said}: let these credentials do it, or use others")
    return Unavailable(f"{key}: {said}")
