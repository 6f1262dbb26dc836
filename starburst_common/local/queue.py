"""Queues in one SQLite file (WAL), with SQS's semantics, for processes of one machine.

Leases are measured on the machine's monotonic clock, which all its processes share and nobody can set: a wrong or
jumping wall clock neither loses nor doubles a lease. After a reboot that clock starts anew, and all leases are over.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from weakref import WeakSet, finalize

from starburst_common.errors import BadInput, NoSpace, NotFound, StarburstError, Unavailable
from starburst_common.ports import Depth, Leased

_SCHEMA = """
CREATE TABLE IF NOT EXISTS machine (boot TEXT);
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, max_receives INTEGER);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, grp TEXT NOT NULL, body TEXT NOT NULL,
  visible_at REAL NOT NULL, receives INTEGER NOT NULL DEFAULT 0, receipt TEXT);
CREATE INDEX IF NOT EXISTS by_turn ON messages (queue, grp, visible_at);
"""
#: Whose turn it is: the group with something to lease and the fewest leases. Steps from group to group by the index.
_TURN = """
WITH RECURSIVE groups (grp) AS (
  SELECT min(grp) FROM messages WHERE queue = :queue
  UNION ALL
  SELECT (SELECT min(grp) FROM messages WHERE queue = :queue AND grp > groups.grp) FROM groups WHERE grp IS NOT NULL)
SELECT grp FROM groups
WHERE grp IS NOT NULL
  AND EXISTS (SELECT 1 FROM messages m WHERE m.queue = :queue AND m.grp = groups.grp AND visible_at <= :now)
ORDER BY (SELECT count(*) FROM messages m
          WHERE m.queue = :queue AND m.grp = groups.grp AND visible_at > :now AND receipt IS NOT NULL), grp
LIMIT 1
"""
_LEAST_POLL_S, _MOST_POLL_S, _RECHECK_S = 0.002, 0.01, 0.1
_FORK_S = 2.0  #: a fork waits at most so long for those who use a connection
_LATER = 0.05  #: a message is met later than it came by at most this part of the time since the one before it


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
        for queue in list(_queues):
            queue.close()

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


class LocalQueue:
    """`WorkQueue` on SQLite; see `starburst_common.ports` for what it promises."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        _queues.add(self)
        finalize(self, _close, self._lock, self._idle)  # who only looks, by `attach` or `list_runs`, closes nothing
        self._met: dict[str, float] = {}  # when each queue had a message for us, or was first asked for one
        self._forget_leases_of_last_boot()

    def ensure(self, queue: str, *, max_receives: int | None = None) -> None:
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO queues VALUES (?, ?)", (queue, max_receives))
            if max_receives is not None:
                db.execute("INSERT OR IGNORE INTO queues VALUES (?, NULL)", (self.dead(queue),))

    def dead(self, queue: str) -> str:
        return f"{queue}-dead"

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        visible_at = self._clock() + delay_s if delay_s else 0.0
        with self._writing() as db:
            self._known(db, queue)
            db.executemany(
                "INSERT INTO messages (queue, grp, body, visible_at) VALUES (?, ?, ?, ?)",
                ((queue, group, body, visible_at) for body in bodies),
            )

    def receive(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        if not 1 <= limit <= 10:
            raise ValueError(f"limit={limit}: a receive leases 1 to 10 messages")
        start = self._clock()
        met = self._met.setdefault(queue, start)
        with self._connection() as db:
            while True:
                (version,) = db.execute("PRAGMA data_version").fetchone()
                if leased := self._lease(db, queue, limit, lease_s):
                    self._met[queue] = self._clock()
                    return leased
                looked = self._clock()
                while True:
                    now = self._clock()
                    left = wait_s - (now - start)
                    if left <= 0 or _forks.waits:
                        return []
                    time.sleep(min(max(_LEAST_POLL_S, _LATER * (now - met)), _MOST_POLL_S, left))
                    if db.execute("PRAGMA data_version").fetchone() != (version,) or now - looked > _RECHECK_S:
                        break

    def extend(self, queue: str, receipts: Sequence[str], lease_s: float) -> list[str]:
        until, lost = (self._clock() + lease_s if lease_s else 0.0), []
        with self._writing() as db:
            for receipt in receipts:
                found = db.execute(
                    "UPDATE messages SET visible_at = ? WHERE id = ? AND queue = ? AND receipt = ? AND visible_at > ?",
                    (until, _id(receipt), queue, receipt, self._clock()),
                )
                if found.rowcount == 0:
                    lost.append(receipt)
        return lost

    def delete(self, queue: str, receipts: Sequence[str]) -> None:
        with self._writing() as db:
            db.executemany(
                "DELETE FROM messages WHERE id = ? AND queue = ? AND receipt = ?",
                ((_id(receipt), queue, receipt) for receipt in receipts),
            )

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        with self._connection() as db:
            waiting, leased = db.execute(
                "SELECT count(*) FILTER (WHERE visible_at <= :now OR receipt IS NULL),"
                " count(*) FILTER (WHERE visible_at > :now AND receipt IS NOT NULL)"
                " FROM messages WHERE queue = :queue AND (:grp IS NULL OR grp = :grp)",
                {"now": self._clock(), "queue": queue, "grp": group},
            ).fetchone()
        return Depth(waiting, leased)

    def drop(self, queue: str) -> None:
        self._met.pop(queue, None)
        with self._writing() as db:
            for name in (queue, self.dead(queue)):
                db.execute("DELETE FROM messages WHERE queue = ?", (name,))
                db.execute("DELETE FROM queues WHERE name = ?", (name,))

    def drop_group(self, queue: str, group: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM messages WHERE queue IN (?, ?) AND grp = ?", (queue, self.dead(queue), group))

    def names(self) -> list[str]:
        """Every queue there is, dead-letter queues apart."""
        with self._connection() as db:
            rows = db.execute("SELECT name FROM queues WHERE name NOT LIKE '%-dead' ORDER BY name").fetchall()
        return [name for (name,) in rows]

    def close(self) -> None:
        """Close every connection."""
        _close(self._lock, self._idle)

    def _lease(self, db: sqlite3.Connection, queue: str, limit: int, lease_s: float) -> list[Leased]:
        now = self._clock()
        if db.execute("SELECT 1 FROM queues WHERE name = ?", (queue,)).fetchone() is None:
            raise NotFound(f"no queue {queue}")
        if db.execute(_TURN, {"queue": queue, "now": now}).fetchone() is None:
            return []
        with self._transaction(db):
            (limit_receives,) = self._known(db, queue)
            group = db.execute(_TURN, {"queue": queue, "now": now}).fetchone()
            if group is None:
                return []
            rows = db.execute(
                "SELECT id, body, receives FROM messages WHERE queue = ? AND grp = ? AND visible_at <= ?"
                " ORDER BY visible_at, id LIMIT ?",
                (queue, *group, now, limit),
            ).fetchall()
            leased = []
            for number, body, receives in rows:
                if limit_receives is not None and receives >= limit_receives:
                    db.execute("UPDATE messages SET queue = ?, receipt = NULL WHERE id = ?", (self.dead(queue), number))
                    continue
                receipt = f"{number}-{secrets.token_hex(8)}"
                db.execute(
                    "UPDATE messages SET visible_at = ?, receives = ?, receipt = ? WHERE id = ?",
                    (now + lease_s, receives + 1, receipt, number),
                )
                leased.append(Leased(body, receipt, receives + 1))
        return leased

    @staticmethod
    def _known(db: sqlite3.Connection, queue: str) -> tuple[int | None]:
        row: tuple[int | None] | None = db.execute(
            "SELECT max_receives FROM queues WHERE name = ?", (queue,)
        ).fetchone()
        if row is None:
            raise NotFound(f"no queue {queue}")
        return row

    def _forget_leases_of_last_boot(self) -> None:
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        boot = boot_id.read_text().strip() if boot_id.exists() else ""
        with self._connection() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
        with self._writing() as db:
            if db.execute("SELECT boot FROM machine").fetchone() == (boot,):
                return
            db.execute("DELETE FROM machine")
            db.execute("INSERT INTO machine VALUES (?)", (boot,))
            db.execute("UPDATE messages SET visible_at = 0")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
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
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
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
    def _transaction(self, db: sqlite3.Connection) -> Iterator[None]:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if db.in_transaction:  # a full disk has ended it
                db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db, self._transaction(db):
            yield db


def _close(lock: Lock, idle: list[sqlite3.Connection]) -> None:
    with lock:
        while idle:
            idle.pop().close()


def _id(receipt: str) -> int:
    number = receipt.partition("-")[0]
    return int(number) if number.isdecimal() else -1


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


_queues: WeakSet[LocalQueue] = WeakSet()
os.register_at_fork(before=_forks.begin, after_in_parent=_forks.end, after_in_child=_forks.begin_anew)
