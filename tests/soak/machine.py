"""A folder in; a backend on this machine, and what can happen to it, out.

The folder is a small file system of its own where we may mount one, so that it can be full or read-only; the wall clock
can be moved where there is a compiler. Troubles that cannot be made here are not among the kinds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from tests.leftovers import processes_in, staging_files, supervisors_in
from tests.soak.schedules import Trouble, stopped

_SIZE_MIB = 96
_PACE = {"lease_s": 3.0, "chunk_s": 0.5, "look_s": 1.0, "idle_s": 4.0}
_ABANDONED_S = 2 * 3600.0  #: by then nobody holds a fleet whose workers have gone
_CLOCKS = (864_000, -864_000, 5, -3600)  #: seconds by which the wall clock jumps


class Machine:
    """This machine's processes and a home of their own."""

    def __init__(self, folder: Path) -> None:
        self._disk, self._clock = folder / "disk", folder / "clock"
        self._disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MIB}m", "tmpfs", str(self._disk)]
        self._mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._home = self._disk / "home"
        self.text = json.dumps({"home": str(self._home), "pace": _PACE})
        self.env = {"STARBURST_HOME": str(self._home), "STARBURST_BACKEND": "local"}
        clock = folder / "clock.so"
        compiler = ["cc", "-shared", "-fPIC", "-O1", "-o", str(clock), str(Path(__file__).with_name("clock.c"))]
        self._movable = shutil.which("cc") is not None and not subprocess.run(compiler, check=False).returncode
        if self._movable:
            self._set_clock(0)
            self.env |= {"LD_PRELOAD": str(clock), "SOAK_CLOCK": str(self._clock)}

    def kinds(self) -> list[str]:
        """As the machine allows."""
        found = ["worker killed", "worker stopped", "worker told to go", "slot killed", "slot stopped", "prune"]
        if self._mounted:
            found += ["disk full", "read-only"]
        if self._movable:
            found.append("clock moved")
        return found

    def strike(self, trouble: Trouble) -> Callable[[], object] | None:
        """Make it, if there is somebody to strike; how it is ended."""
        if trouble.kind == "disk full":
            return self._full()
        if trouble.kind == "read-only":
            return self._read_only()
        if trouble.kind == "clock moved":
            self._set_clock(_CLOCKS[trouble.who % len(_CLOCKS)])
            return lambda: self._set_clock(0)
        if trouble.kind == "prune":
            from starburst_common.local import local_backend

            with suppress(Exception):  # it meets the others
                backend = local_backend(self._home)
                prune(backend)
                backend.close()
            return None
        whom, _, what = trouble.kind.partition(" ")
        workers = supervisors_in(self._home)
        pids = workers if whom == "worker" else [pid for pid in processes_in(self._home) if pid not in workers]
        if not pids:
            return None
        pid = pids[trouble.who % len(pids)]
        if what == "stopped":
            return stopped(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if what == "killed" else signal.SIGTERM)
        return None

    def left(self, backend: Backend, *, pruned: bool) -> list[str]:
        """Processes first; what a killed driver left is there until somebody prunes."""
        if found := [f"process {pid}: {_command(pid)}" for pid in processes_in(self._home)]:
            return found
        if pruned:
            prune(backend, now=time.time() + _ABANDONED_S)
        with closing(sqlite3.connect(self._home / "queue.sqlite3")) as db:
            found += [f"queue {name}" for (name,) in db.execute("SELECT name FROM queues")]
            found += [f"message in {name}" for (name,) in db.execute("SELECT queue FROM messages")]
        found += [f"workers' folder {path.name}" for path in (self._home / "workers").glob("*")]
        found += [f"object {key}" for key in backend.store.list("fleets/")]
        return found + [f"draft {path.name}" for path in staging_files(self._home / "store")]

    def close(self) -> None:
        """End whatever was started, and take the disk away."""
        for pid in processes_in(self._disk):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while not subprocess.run(["umount", "-l", str(self._disk)], capture_output=True, check=False).returncode:
            pass  # it may be mounted twice

    def _set_clock(self, ahead_s: int) -> None:
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("=q", ahead_s))

    def _full(self) -> Callable[[], object]:
        filler = self._disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            for block in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(b"x" * block) == block:
                        pass
        return lambda: filler.unlink(missing_ok=True)

    def _read_only(self) -> Callable[[], object] | None:
        """As files are opened from now on, seen through a second mount over the first."""
        over = [["mount", "--bind", str(self._disk), str(self._disk)]]
        over.append(["mount", "-o", "remount,bind,ro", str(self._disk)])
        for command in over:
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return None

        def writable() -> None:
            subprocess.run(["umount", "-l", str(self._disk)], capture_output=True, check=False)

        return writable


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
    except OSError:
        return "(gone)"
