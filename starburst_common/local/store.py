"""A folder in, our `ObjectStore` out: plain files, so that a process that is forked from another has it too."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from starburst_common.errors import Exists, NoSpace, NotFound, Refused, Unavailable
from starburst_common.local.clock import FolderClock
from starburst_common.mapped import mapped_from
from starburst_common.model import Buffer
from starburst_common.ports import MEMORY_BYTES, Entry, is_key
from starburst_common.trust import owner_only
from starburst_common.wire.seals import nbytes_of

_DRAFT = "#"  #: in the name of a file that is being written, and in no key
_MAPPED_BYTES = 1 << 20  #: what has so many is not read, but mapped: whoever gets it may write to it, for himself
_TRIES = 20  #: where others write or remove what we do; each but the last was undone by somebody else


class FolderObjects:
    """`ObjectStore` in a folder; see `starburst_common.ports` for what it promises.

    Empty folders and crashed writers' drafts lie about there, which are no objects. Files bear the time of a clock of
    their own, which has a folder beside theirs.
    """

    def __init__(self, folder: Path, clock: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self.place = folder, str(folder)
        self._clock = FolderClock(clock)

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        self._write(key, body, os.link)

    def put(self, key: str, body: Buffer) -> None:
        self._write(key, body, os.replace)

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        with _speaking_of(key), self._place(key).open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > most:
                raise Refused(f"{key} has {size:,} bytes, more than the {most:,} that are read; refused")
            return memoryview(file.read()) if size < _MAPPED_BYTES else mapped_from(file.fileno(), ours=True, name=key)

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        with _speaking_of(key), self._place(key).open("rb") as file:
            if offset + length > (size := os.fstat(file.fileno()).st_size):
                raise NotFound(f"{key} has {size} bytes, none are at {offset} to {offset + length}")
            if length >= _MAPPED_BYTES:
                return mapped_from(file.fileno(), ours=True, name=key)[offset : offset + length]
            file.seek(offset)
            return memoryview(file.read(length))

    def file(self, key: str) -> Path:
        with _speaking_of(key):
            place = self._place(key)
            place.stat()
        return place

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(NotFound), _speaking_of(key):
                self._place(key).unlink()

    def folders(self, prefix: str) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._folder / prefix.strip("/")) as found:
            return sorted(entry.name for entry in found if entry.is_dir() and _holds_keys(entry.path))
        return []

    def list(self, prefix: str) -> Iterator[str]:
        yield from (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Sequence[Entry]:
        with _speaking_of(prefix):
            return sorted(_entries_in(str(self._folder / prefix.strip("/")), prefix.rstrip("/")))

    def written_at(self, key: str) -> float:
        with _speaking_of(key):
            return self._place(key).stat().st_mtime

    def publish(self, key: str, page: str) -> str:
        self.put(key, page.encode())
        return (self._folder / key).resolve().as_uri()

    def delete_folder(self, prefix: str) -> None:
        remove_folder(self._folder / prefix)

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        for folder, _, names in os.walk(self._folder / prefix):  # over what another process removes meanwhile
            for draft in (Path(folder, name) for name in names if _DRAFT in name):
                with suppress(FileNotFoundError):
                    if time.time() - draft.stat().st_mtime >= older_than_s:
                        draft.unlink()

    def _place(self, key: str) -> Path:
        if not is_key(key):
            raise NotFound(f"no object {key}")
        return self._folder / key

    def _write(self, key: str, body: Buffer | Sequence[Buffer], take_its_name: Callable[[Path, Path], None]) -> None:
        """A draft that gets its name: its owner's alone from the start, whatever the umask."""
        place = self._place(key)
        parts = (body,) if isinstance(body, bytes | bytearray | memoryview) else body
        with _speaking_of(key):
            for tries_left in reversed(range(_TRIES)):
                draft = place.with_name(f"{place.name}{_DRAFT}{secrets.randbits(63)}")
                try:
                    with open(draft, "xb", opener=owner_only) as out:
                        _make_room(out.fileno(), nbytes_of(parts))
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
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise NoSpace.on(self.place) from error
                    raise
                finally:
                    draft.unlink(missing_ok=True)


def _make_room(handle: int, nbytes: int) -> None:
    """For a large file, at once: ext4 takes ten times as long where it finds room for each page as that is written."""
    if nbytes >= _MAPPED_BYTES and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise


def _entries_in(folder: str, key: str) -> Iterator[Entry]:
    """The objects below a folder that has this key."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for each in found:
            if _DRAFT in each.name or not is_key(each.name):
                continue
            if each.is_dir(follow_symlinks=False):
                yield from _entries_in(each.path, f"{key}/{each.name}")
            elif each.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    told = each.stat()
                    yield Entry(f"{key}/{each.name}", told.st_size, told.st_mtime)


def _holds_keys(folder: str) -> bool:
    """Whether there is any object below a folder; drafts are none."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        return any(_holds_keys(each.path) if each.is_dir() else _DRAFT not in each.name for each in found)
    return False


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


@contextmanager
def _speaking_of(key: str) -> Iterator[None]:
    """Raises what the system raises as one of our errors."""
    try:
        yield
    except Unavailable:
        raise
    except FileExistsError:
        raise Exists(f"{key} is already there") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"no object {key}") from error
    except OSError as error:
        raise Unavailable(f"{key}: {error}") from error
