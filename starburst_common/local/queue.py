"""Queues in one SQLite file (WAL), with SQS's semantics, for processes of one machine.

Leases are measured on the machine's monotonic clock, which all its processes share and nobody can set: a wrong or
jumping wall clock neither loses nor doubles a lease. After a reboot that clock starts anew, and all leases are over.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from starburst_common.errors import NotFound
from starburst_common.local.bells import Bells
from starburst_common.local.database import Database
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
_HEARD_POLL_S = 0.02  #: where a bell should ring
_LATER = 0.05  #: a message is met later than it came by at most this part of the time since the one before it


class LocalQueue:
    """`WorkQueue` on SQLite; see `starburst_common.ports` for what it promises."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._database, self._bells = Database(file), Bells(file.with_name("bells"))
        self._met: dict[str, float] = {}  # when each queue had a message for us, or was first asked for one
        self._forget_leases_of_last_boot()

    def ensure(self, queue: str, *, max_receives: int | None = None, tags: Mapping[str, str] | None = None) -> None:
        with self._database.writing() as db:
            db.execute("INSERT OR IGNORE INTO queues VALUES (?, ?)", (queue, max_receives))
            if max_receives is not None:
                db.execute("INSERT OR IGNORE INTO queues VALUES (?, NULL)", (self.dead(queue),))
        self._bells.hang(queue)

    def dead(self, queue: str) -> str:
        return f"{queue}-dead"

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        visible_at = self._clock() + delay_s if delay_s else 0.0
        with self._database.writing() as db:
            self._known(db, queue)
            db.executemany(
                "INSERT INTO messages (queue, grp, body, visible_at) VALUES (?, ?, ?, ?)",
                ((queue, group, body, visible_at) for body in bodies),
            )
        if not delay_s:
            self._bells.ring(queue, len(bodies))

    def receive(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        if not 1 <= limit <= 10:
            raise ValueError(f"limit={limit}: a receive leases 1 to 10 messages")
        start = self._clock()
        met = self._met.setdefault(queue, start)
        with self._database.connection() as db, self._bells.heard(queue) as rang:
            while True:
                (version,) = db.execute("PRAGMA data_version").fetchone()
                if leased := self._lease(db, queue, limit, lease_s):
                    self._met[queue] = self._clock()
                    return leased
                looked = self._clock()
                while True:
                    now = self._clock()
                    left = wait_s - (now - start)
                    if left <= 0 or self._database.waits:
                        return []
                    deaf_s = min(max(_LEAST_POLL_S, _LATER * (now - met)), _MOST_POLL_S, left)
                    if rang(min(_HEARD_POLL_S, left), deaf_s):
                        break
                    if db.execute("PRAGMA data_version").fetchone() != (version,) or now - looked > _RECHECK_S:
                        break

    def extend(self, queue: str, receipts: Sequence[str], lease_s: float) -> list[str]:
        until, lost = (self._clock() + lease_s if lease_s else 0.0), []
        with self._database.writing() as db:
            for receipt in receipts:
                found = db.execute(
                    "UPDATE messages SET visible_at = ? WHERE id = ? AND queue = ? AND receipt = ? AND visible_at > ?",
                    (until, _id(receipt), queue, receipt, self._clock()),
                )
                if found.rowcount == 0:
                    lost.append(receipt)
        if not lease_s:
            self._bells.ring(queue, len(receipts))
        return lost

    def delete(self, queue: str, receipts: Sequence[str]) -> None:
        with self._database.writing() as db:
            db.executemany(
                "DELETE FROM messages WHERE id = ? AND queue = ? AND receipt = ?",
                ((_id(receipt), queue, receipt) for receipt in receipts),
            )

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        with self._database.connection() as db:
            waiting, leased = db.execute(
                "SELECT count(*) FILTER (WHERE visible_at <= :now OR receipt IS NULL),"
                " count(*) FILTER (WHERE visible_at > :now AND receipt IS NOT NULL)"
                " FROM messages WHERE queue = :queue AND (:grp IS NULL OR grp = :grp)",
                {"now": self._clock(), "queue": queue, "grp": group},
            ).fetchone()
        return Depth(waiting, leased)

    def drop(self, queue: str) -> None:
        self._met.pop(queue, None)
        self._bells.take_down(queue)
        with self._database.writing() as db:
            for name in (queue, self.dead(queue)):
                db.execute("DELETE FROM messages WHERE queue = ?", (name,))
                db.execute("DELETE FROM queues WHERE name = ?", (name,))

    def drop_group(self, queue: str, group: str) -> None:
        with self._database.writing() as db:
            db.execute("DELETE FROM messages WHERE queue IN (?, ?) AND grp = ?", (queue, self.dead(queue), group))

    def names(self) -> list[str]:
        """Every queue there is, dead-letter queues apart."""
        with self._database.connection() as db:
            rows = db.execute("SELECT name FROM queues WHERE name NOT LIKE '%-dead' ORDER BY name").fetchall()
        return [name for (name,) in rows]

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _lease(self, db: sqlite3.Connection, queue: str, limit: int, lease_s: float) -> list[Leased]:
        now = self._clock()
        if db.execute(_TURN, {"queue": queue, "now": now}).fetchone() is None:
            self._known(db, queue)
            return []
        with self._database.transaction(db):
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
        with self._database.connection() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
        with self._database.writing() as db:
            if db.execute("SELECT boot FROM machine").fetchone() == (boot,):
                return
            db.execute("DELETE FROM machine")
            db.execute("INSERT INTO machine VALUES (?)", (boot,))
            db.execute("UPDATE messages SET visible_at = 0")


def _id(receipt: str) -> int:
    number = receipt.partition("-")[0]
    return int(number) if number.isdecimal() else -1
