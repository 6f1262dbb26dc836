"""What a run must not leave behind."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from starburst_common.local.compute import LocalCompute
from starburst_common.ports import Backend


def home_of(backend: Backend) -> Path:
    """The folder of a local backend."""
    compute = backend.compute
    assert isinstance(compute, LocalCompute)
    return compute._home


def nothing_left(backend: Backend, *, within_s: float = 60.0) -> None:
    """No process, queue, message, worker's record, fleet or half-written object of this backend is left.

    A slot whose supervisor was killed has a moment to notice.
    """
    home = home_of(backend)
    until = time.monotonic() + within_s
    while processes_in(home) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes_in(home) == []
    with closing(sqlite3.connect(home / "queue.sqlite3")) as db:
        assert db.execute("SELECT name FROM queues").fetchall() == []
        assert db.execute("SELECT queue, body FROM messages").fetchall() == []
    assert list((home / "workers").glob("*")) == []
    assert list(backend.store.list("fleets/")) == []
    assert staging_files(home / "store") == []


def processes_in(folder: Path) -> list[int]:
    """Live processes of the workers whose scratch is in the folder, and whatever else stands there.

    Slots, and what is forked from them, stand where the run was started, but their command line names their scratch.
    Where a worker itself stands, only root is told.
    """
    found, recorded = [], set(workers_of(folder).values())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            is_worker = b"starburst_worker" in words
            named = int(entry.name) in recorded or any(word.startswith(b"%b/" % bytes(folder)) for word in words)
            if (is_worker and named) or _stands_in(int(entry.name), folder):
                found.append(int(entry.name))
    return sorted(found)


def workers_of(home: Path) -> dict[str, int]:
    """The process ids of the workers in a home, by their names, as their records tell them."""
    found = {}
    for record in (home / "workers").glob("*/[0-9]*.json"):
        with suppress(OSError, ValueError):  # its launch is under way
            found[f"{record.parent.name}-{record.stem}"] = int(json.loads(record.read_text())["pid"])
    return found


def _stands_in(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        return _place_of(pid).is_relative_to(folder)
    return False


def _place_of(pid: int) -> Path:
    return Path(str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)"))


def supervisors_in(folder: Path) -> list[int]:
    """The workers among them: each leads a session, and is recorded or stands in its scratch."""
    workers, found, recorded = (folder / "workers").absolute(), [], set(workers_of(folder).values())
    for pid in processes_in(folder):
        with suppress(OSError):
            if os.getsid(pid) == pid and (pid in recorded or _place_of(pid).parent.parent == workers):
                found.append(pid)
    return found


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def staging_files(folder: Path) -> list[Path]:
    """What writers killed in the middle of an object leave."""
    return [Path(at, name) for at, _, names in os.walk(folder) for name in names if "#" in name]
