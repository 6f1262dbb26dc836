"""What a run must not leave behind."""

from __future__ import annotations

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
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                where = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            of_worker = b"starburst_worker" in words and any(word.startswith(b"%b/" % bytes(folder)) for word in words)
            if of_worker or Path(where).is_relative_to(folder):
                found.append(int(entry.name))
    return sorted(found)


def supervisors_in(folder: Path) -> list[int]:
    """The workers among them: each leads a session, and stands in its scratch."""
    workers, found = (folder / "workers").absolute(), []
    for pid in processes_in(folder):
        with suppress(OSError):
            where = Path(str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)"))
            if where.parent.parent == workers and os.getsid(pid) == pid:
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
