"""A runner whose containers are processes of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from tests.testbed.runners import CannotPull, Exit, Order, Running

#: in the environment of everything a task started, by which it is found however it was started
MARK = "STARBURST_BED_TASK"
#: What root may in a container, also on Fargate. Source: Docker's documentation, "Runtime privilege and Linux
#: capabilities", read 2026-11-30
_MAY = "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod"
_BOUND = ",".join(["-all", *(f"+{may}" for may in _MAY.split())])
CONTAINED = ["setpriv", "--bounding-set", _BOUND, "--"] if os.geteuid() == 0 else []  #: before a command


class ProcessRunner:
    """Runs an order's command, or the worker, with this interpreter.

    Images are names only: one that no pattern of `images()` matches cannot be pulled. Memory is not limited.
    """

    def __init__(self, images: Callable[[], list[str]]) -> None:
        self._images = images
        self._lock = threading.Lock()
        self._started: dict[str, ProcessRunning] = {}

    def pull(self, image: str) -> None:
        """Have the image at hand. Raises `CannotPull`."""
        if not any(fnmatchcase(image, pattern) for pattern in self._images()):
            raise CannotPull(
                f"pull image manifest has been retried 1 time(s): failed to resolve ref {image}: {image}: not found"
            )

    def start(self, order: Order) -> Running:
        """Start a process in a folder and a session of its own."""
        folder = Path(tempfile.mkdtemp(prefix=f"bed-{order.task_id[:8]}-"))
        command = list(order.command) or [sys.executable, "-P", "-m", "starburst_worker"]
        if command[0] in ("python", "python3"):
            command[0] = sys.executable
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        try:
            process = subprocess.Popen(
                [*CONTAINED, *command],
                cwd=folder,
                env=kept | order.environment | {MARK: f"{os.getpid()}/{order.task_id}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        running = ProcessRunning(process, order, folder)
        with self._lock:
            self._started = {i: each for i, each in self._started.items() if each.alive()} | {order.task_id: running}
        return running

    def running(self) -> list[str]:
        """Task ids of live processes, and of any they left behind."""
        with self._lock:
            alive = {task_id for task_id, each in self._started.items() if each.alive()}
        return sorted(alive | set(marked(os.getpid()).values()))

    def close(self) -> None:
        """End everything that was started."""
        with self._lock:
            started = list(self._started.values())
        for each in started:
            each.kill()


class ProcessRunning:
    """A started process and all its descendants."""

    def __init__(self, process: subprocess.Popen[bytes], order: Order, folder: Path) -> None:
        self._process = process
        self._task_id = order.task_id
        self._folder = folder
        assert process.stdout and process.stderr
        self._readers = [
            threading.Thread(target=_read, args=(pipe, order.on_line), daemon=True)
            for pipe in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def alive(self) -> bool:
        """Whether its first process runs."""
        return self._process.poll() is None

    def wait(self) -> Exit:
        """Block until it has ended; what its first process leaves behind ends with it, as in a container."""
        code = self._process.wait()
        self._kill_rest()
        for reader in self._readers:
            reader.join(5.0)
        shutil.rmtree(self._folder, ignore_errors=True)
        return Exit(128 - code if code < 0 else code)

    def signal(self, number: int) -> None:
        """Send a signal to its first process; one that has ended is no error."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        self._process.kill()
        self._kill_rest()

    def _kill_rest(self) -> None:
        for _ in range(20):  # one may start another while it is looked for
            rest = [
                pid
                for pid, task_id in marked(os.getpid()).items()
                if task_id == self._task_id and pid != self._process.pid
            ]
            if not rest:
                return
            for pid in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def marked(bed: int) -> dict[int, str]:
    """Processes that tasks of one bed's process started, by the mark in their environment: process id to task id."""
    found = {}
    wanted = f"{MARK}={bed}/".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                for variable in (entry / "environ").read_bytes().split(b"\0"):
                    if variable.startswith(wanted):
                        found[int(entry.name)] = variable[len(wanted) :].decode()
    return found


def _read(pipe: IO[bytes], on_line: Callable[[str], None]) -> None:
    with pipe:
        for line in pipe:
            on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
