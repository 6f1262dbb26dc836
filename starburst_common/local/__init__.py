"""A folder in, a `Backend` out whose store, queue and workers are this machine's."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from starburst_common.local.compute import LocalCompute
from starburst_common.local.queue import LocalQueue
from starburst_common.objects import FolderObjects
from starburst_common.ports import Backend


def local_backend(home: Path, *, keep_days: float = 7) -> Backend:
    """The embedded backend, kept in the folder `home`, which is made if it is not there."""
    home.mkdir(parents=True, exist_ok=True)
    return Backend(
        name="local",
        store=FolderObjects(home / "store"),
        queue=LocalQueue(home / "queue.sqlite3"),
        compute=LocalCompute(home),
        key=_signing_key(home / "signing.key"),
        default_workers=os.cpu_count() or 1,
        lease_s=5.0,
        chunk_s=2.0,
        tick_s=0.25,
        poll_s=1.0,
        look_s=2.0,
        idle_s=20.0,
        lifetime_s=12 * 3600.0,
        keep_s=keep_days * 86400,
        inline_bytes=65536,
    )


def _signing_key(file: Path) -> bytes:
    """This folder's key, made at the first use, readable by its owner alone."""
    if not file.exists():
        draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(draft, file)  # of several processes that make the key together, one wins
        draft.unlink()
    return file.read_bytes()
