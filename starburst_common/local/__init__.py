"""A folder in, a `Backend` out whose store, queue and workers are this machine's."""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from starburst_common.errors import BadInput, Refused
from starburst_common.local.compute import LocalCompute
from starburst_common.local.queue import LocalQueue
from starburst_common.local.store import FolderObjects
from starburst_common.ports import KEY_BYTES, Backend, Pace
from starburst_common.trust import open_own, own_file, own_folder
from starburst_common.wire.keys import KeyRing, changed, keys_in

_LONGEST_KEY = 65536  #: of all that are known


def local_backend(home: Path, *, keep_days: float = 7) -> Backend:
    """The embedded backend, kept in the folder `home`, which is made if it is not there.

    A relative one lies in the working directory as it is now: workers have another, and it may change.
    Raises `BadInput` where others could read, forge or replace what is kept there: see `starburst_common.trust`.
    """
    home = own_folder(home.expanduser())
    own_folder(home / "workers")
    return Backend(
        name="local",
        store=FolderObjects(own_folder(home / "store"), own_folder(home / "clock")),
        queue=LocalQueue(_own_database(home / "queue.sqlite3")),
        compute=LocalCompute(home),
        key=_signing_key(home / "signing.key"),
        default_workers=os.cpu_count() or 1,
        pace=Pace(lease_s=5.0, chunk_s=2.0, share_s=2.0, idle_s=20.0, lifetime_s=12 * 3600.0, inline_bytes=65536),
        tick_s=0.25,
        poll_s=1.0,
        look_s=2.0,
        keep_s=keep_days * 86400,
        machine=os.uname().machine if sys.platform == "linux" else "",
        shares_files=True,
    )


def _own_database(file: Path) -> Path:
    """The file, ours alone: SQLite gives those beside it the same mode.

    Nothing of it is opened here: closing it would end the locks of every connection that this process has.
    """
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        with suppress(FileNotFoundError):
            own_file(file.with_name(name))
    if not file.exists():
        _make(file, b"")
    return file


def _signing_key(file: Path) -> KeyRing:
    """This folder's key, made at the first use, readable by its owner alone."""
    if not file.exists():
        _make(file, secrets.token_bytes(KEY_BYTES))
    try:
        ring = KeyRing.of(_read(file), partial(_read, file))
    except Refused as error:
        raise BadInput(f"{file}: {error}: put the right one back, or remove the file") from error
    if len(ring) < KEY_BYTES:
        raise BadInput(
            f"{file} has {len(ring)} bytes, and a key has {KEY_BYTES} at least: put the right one back, or remove the "
            "file, and a new one is made, with which the runs kept there cannot be read"
        )
    return ring


def change_key(home: Path, *, revoke: bool, now: float | None = None, agreed: Collection[bytes] | None = None) -> int:
    """Have a new key sign what begins from now on; how many older ones are still known: none if they are revoked.

    `now` is by the store's clock, `agreed` the keys that may be forgotten: raises `Unavailable` where another would be.
    Raises `BadInput` as `local_backend`.
    """
    file = own_folder(home.expanduser()) / "signing.key"
    _signing_key(file)
    lock = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once neither forgets the other's
        at = time.time() if now is None else now
        secret = changed(_read(file), secrets.token_bytes(KEY_BYTES), revoke=revoke, now=at, agreed=agreed).encode()
        draft = _draft(file, secret)
        draft.replace(file)
    finally:
        os.close(lock)
    return len(keys_in(secret)) - 1


def _read(file: Path) -> bytes:
    with os.fdopen(open_own(file), "rb") as kept:
        return kept.read(_LONGEST_KEY)


def _make(file: Path, content: bytes) -> None:
    """Whole and on the disk before it has its name; of several processes that make it together, one wins."""
    draft = _draft(file, content)
    with suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()


def _draft(file: Path, content: bytes) -> Path:
    """Beside it, on the disk."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    return draft
