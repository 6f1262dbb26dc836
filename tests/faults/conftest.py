"""Whole runs with real processes under faults; after each, nothing may be left."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from starburst_common.local import local_backend
from starburst_common.ports import Backend


def nothing_left(home: Path, within_s: float = 3.0) -> None:
    """No worker or slot of this home, no queue, no message, no fleet and no half-written file."""
    deadline = time.monotonic() + within_s
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(home) == []
    with sqlite3.connect(home / "queue.sqlite3") as db:
        assert db.execute("SELECT name FROM queues").fetchall() == []
        assert db.execute("SELECT queue, body FROM messages").fetchall() == []
    db.close()
    assert list((home / "workers").glob("*")) == []
    assert [path for path in (home / "store" / "fleets").rglob("*") if path.is_file()] == []
    runs_over = [end.parent for end in (home / "store" / "runs").glob("*/end")]
    assert [path for run in runs_over for path in run.rglob("*#*")] == []


def processes_of(home: Path) -> list[int]:
    """Processes that this home's workers are, or run in."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if b"starburst_worker" in command and where.startswith(str(home)):
                found.append(int(entry.name))
    return found


@dataclass
class Bed:
    """A home of its own, and a folder in which functions note their calls."""

    home: Path
    backend: Backend
    notes: Path

    def workers(self) -> list[int]:
        """Process ids of the supervisors alive now."""
        return [pid for pid in processes_of(self.home) if b"slot" not in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def signal_workers(self, number: int, count: int) -> None:
        """Signal so many workers."""
        for pid in self.workers()[:count]:
            os.kill(pid, number)

    def calls(self) -> Counter[int]:
        """How often each item was run."""
        return Counter(int(line) for file in self.notes.glob("*") for line in file.read_text().split())

    def until(self, there: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + within_s
        while not there():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.01)


def noting(notes: Path, *, seconds: float = 0.0) -> Callable[[int], int]:
    """A function that doubles its item and notes that it ran."""

    def double(item: int) -> int:
        import os
        import time

        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        if seconds:
            time.sleep(seconds)
        return item * 2

    return double


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """A local backend in a folder of its own, with nothing left in it at the end."""
    home, notes = tmp_path / "home", tmp_path / "notes"
    notes.mkdir()
    backend = local_backend(home)
    yield Bed(home, backend, notes)
    try:
        nothing_left(home)
    finally:
        for pid in processes_of(home):
            os.kill(pid, signal.SIGKILL)
        backend.close()
