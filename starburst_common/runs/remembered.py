"""A backend in; the same out, whose accounts are read from the store once: an index on this machine keeps them.

Entries are sealed and small, and few are ever written anew. So what was read is kept as it was, with its size and when
it was written: what a listing tells of otherwise is fetched again, and who reads looks at the seal as ever. An
index that cannot be read or written costs time only.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, cast

from platformdirs import user_cache_path

from starburst_common.model import Buffer
from starburst_common.names import ACCOUNTS
from starburst_common.ports import MEMORY_BYTES, Backend, Entry, ObjectStore

_TABLE = """CREATE TABLE IF NOT EXISTS accounts (
  place TEXT, key TEXT, size INTEGER, written_at REAL, body BLOB, PRIMARY KEY (place, key)) WITHOUT ROWID"""
_SETTLED_S = 60.0  #: stores tell whole seconds, so what was written so lately may be written anew unseen
_WAIT_S = 5.0  #: for another process that writes


def remembered(backend: Backend, file: Path | None = None) -> Backend:
    """The same; as it is where its store is on this machine anyway."""
    if backend.name == "local":
        return backend
    file = file or user_cache_path("starburst") / "accounts.sqlite"
    return replace(backend, store=cast(ObjectStore, _Remembering(backend.store, file)))


class _Remembering:
    """A store of which accounts are read so, after their folder was listed; everything else goes to the store."""

    def __init__(self, store: ObjectStore, file: Path) -> None:
        self._store, self._file = store, file
        self._lock = Lock()
        self._listed: dict[str, Entry] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str) -> Iterator[str]:
        """As of the store."""
        if not prefix.startswith(ACCOUNTS):
            return self._store.list(prefix)
        found = self._store.entries(prefix)
        with self._lock:
            self._listed.update((entry.key, entry) for entry in found)
        return iter([entry.key for entry in found])

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        """As of the store; what is kept here is not asked for."""
        entry = self._listed.get(key)
        if entry is None or entry.size > most or time.time() - entry.written_at < _SETTLED_S:
            return self._store.get(key, most)
        known = (self._store.place, key, entry.size, entry.written_at)
        with suppress(sqlite3.Error, OSError):
            find = "SELECT body FROM accounts WHERE place = ? AND key = ? AND size = ? AND written_at = ?"
            if (kept := self._asked(find, known)) is not None:
                return kept
        body = bytes(self._store.get(key, most))
        if len(body) == entry.size:  # else it was written anew since it was listed
            with suppress(sqlite3.Error, OSError):
                self._asked("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?)", (*known, body))
        return body

    def _asked(self, what: str, values: tuple[Any, ...]) -> bytes | None:
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=_WAIT_S)) as database, database:
                database.execute("PRAGMA synchronous = OFF")  # what a power cut takes is fetched again
                database.execute(_TABLE)
                found = database.execute(what, values).fetchone()
        return None if found is None else bytes(found[0])
