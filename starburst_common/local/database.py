"""A SQLite file (WAL) in; connections to it out, of which none is open while this process is forked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from weakref import WeakSet, finalize

from starburst_common.errors import BadInput, NoSpace, StarburstError, Unavailable

_BESIDE_BYTES = 1 << 16  #: what SQLite needs beside its file to open it
_FORK_S = 2.0  #: a fork waits at most so long for those who use a connection


class _Forks:
    """No connection is open while this process is forked: SQLite would take its locks for the child's own.

    In the child `unfit` is true if somebody could not let go in time; nothing may be opened there then.
    """

    def __init__(self) -> None:
        self._moved = Condition()
        self._used = self._forking = 0
        self.unfit = False

    @contextmanager
    def using(self) -> Iterator[None]:
        """A connection is open."""
        with self._moved:
            self._moved.wait_for(lambda: not self._forking)
            self._used += 1
        try:
            yield
        finally:
            with self._moved:
                self._used -= 1
                self._moved.notify_all()

    @property
    def waits(self) -> bool:
        """Whoever only waits for a message lets go now."""
        return self._forking > 0

    def begin(self) -> None:
        """This process is about to be forked."""
        with self._moved:
            self._forking += 1
            self._moved.wait_for(lambda: not self._used, _FORK_S)
        for database in list(_open):
            database.close()

    def end(self) -> None:
        """It was."""
        with self._moved:
            self._forking -= 1
            self._moved.notify_all()

    def begin_anew(self) -> None:
        """This is the fork."""
        unfit = self._used > 0
        self.__init__()  # type: ignore[misc]  # whoever held its lock is not here
        self.unfit = unfit


_forks = _Forks()


class Database:
    """One file's connections, each used by one thread at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        _open.add(self)
        finalize(self, _close, self._lock, self._idle)  # who only looks, by `attach` or `list_runs`, closes nothing

    @property
    def waits(self) -> bool:
        """Whether this process is about to be forked: whoever only waits for a row lets go now."""
        return _forks.waits

    def close(self) -> None:
        """Close every connection that is not used now."""
        _close(self._lock, self._idle)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """One that nobody else uses meanwhile."""
        with _forks.using(), self._opened() as db:
            yield db

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Raises `Unavailable` where the disk is full or the file cannot be had: that may pass, so it is waited for.

        `BadInput` where the file is no database.
        """
        if _forks.unfit:
            raise StarburstError(
                "this process was forked from one that was busy with starburst: start it otherwise, as with "
                "multiprocessing.get_context('spawn') or 'forkserver', or while no run is under way"
            )
        with self._lock:
            db = self._idle.pop() if self._idle else None
        try:
            if db is None:
                db = sqlite3.connect(self._file, timeout=30, isolation_level=None, check_same_thread=False)
                _into_wal(db)
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA journal_size_limit = 4194304")
            yield db
        except sqlite3.OperationalError as error:
            if db is not None:
                db.close()  # whatever it was in the midst of
                db = None
            if _is_full(error, self._file):
                raise NoSpace.on(str(self._file.parent)) from error
            raise Unavailable(f"the queue in {self._file}: {error}") from error
        except sqlite3.DatabaseError as error:
            if db is not None:
                db.close()
                db = None
            raise BadInput(
                f"the queue in {self._file} is damaged, or is none: {error}: move this file away, with those whose "
                "names begin so, and `starburst attach` sends anew what a run is owed; or set STARBURST_HOME to "
                "another folder"
            ) from error
        finally:
            if db is not None:
                with self._lock:
                    self._idle.append(db)

    @contextmanager
    def transaction(self, db: sqlite3.Connection) -> Iterator[None]:
        """What is done to the file meanwhile is done whole, or not at all."""
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if db.in_transaction:  # a full disk has ended it
                db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection, in a transaction."""
        with self.connection() as db, self.transaction(db):
            yield db


def _is_full(error: sqlite3.OperationalError, file: Path) -> bool:
    """Whether it is for want of space: the files beside the database meet that as an error of reading or writing."""
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        return shutil.disk_usage(file.parent).free < _BESIDE_BYTES
    return code == sqlite3.SQLITE_FULL


def _close(lock: Lock, idle: list[sqlite3.Connection]) -> None:
    with lock:
        while idle:
            idle.pop().close()


def _into_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait its turn for this one switch, so processes that make the file together must try again."""
    for attempt in range(100):
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.02)


_open: WeakSet[Database] = WeakSet()
os.register_at_fork(before=_forks.begin, after_in_parent=_forks.end, after_in_child=_forks.begin_anew)
