"""A slot's guard: the process between a worker and its slot, with which all goes that the slot has started.

The worker may be killed outright, the slot may hang in C code, and what it started may have left its session and lost
its parent. So the slot's parent is a process that runs nobody's code. On Linux every orphan below it becomes its child,
and it goes on killing until it has none. Elsewhere it ends the slot's process group; who leaves that, stays.
"""

from __future__ import annotations

import atexit
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

_SUBREAPER, _PARENT_DEATH = 36, 1  # <linux/prctl.h>
QUIET = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  #: for a guard, the worker decides
_TRACKERS_S = 0.5  #: multiprocessing's resource tracker removes shared memory when all others are gone
_GIVE_UP_S = 10.0  #: a process that the kernel does not end, for a disk that does not answer, is left
_WAIT_S = 15.0  #: for a guard that does not end, as it is frozen
_AGAIN_S = 0.005


def adopt_orphans() -> None:
    """From now on whoever loses its parent below this process becomes its child. Linux only."""
    _prctl(_SUBREAPER, 1)


def guarded(handle: int) -> None:
    """Come back as the slot, in a new process; this one stays its guard and ends as the slot does.

    The worker holds the other end of this process's standard input: when that closes, all is to end. `handle` is the
    slot's alone.
    """
    adopt_orphans()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    before = [signal.signal(number, lambda *_: None) for number in QUIET]
    guard = os.getpid()
    slot = os.fork()
    if slot:
        os.close(handle)
        _end_as(_outlast(slot, woken))
    signal.set_wakeup_fd(-1)
    for number, handler in zip(QUIET, before, strict=True):
        signal.signal(number, handler)
    os.close(woken)
    os.close(waker)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.set_inheritable(handle, False)  # no program that it starts holds it
    os.setpgid(0, 0)  # what it does to its group must not reach the worker
    _prctl(_PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)


class Forked:
    """A child that was forked, as `subprocess` would have it."""

    def __init__(self, pid: int, stdin: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = os.fdopen(stdin, "wb")
        self._lock = Lock()

    def poll(self) -> int | None:
        """Its exit code, once it has one."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, when it has. Raises `subprocess.TimeoutExpired`."""
        until, pause_s = time.monotonic() + (math.inf if timeout is None else timeout), _AGAIN_S / 10
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("slot", timeout or 0.0)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        return code

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


Guard = subprocess.Popen[bytes] | Forked


class Guards:
    """The guards that this process has started."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pids: set[int] = set()
        self._forked: list[Forked] = []  # with what lets go of each in another process
        self._leaves: list[Callable[[], None]] = []

    def start(self, handle: int, board_file: Path) -> Guard:
        """A new guard, with its slot. It ends when it is told to, or this process does."""
        env = {name: value for name, value in os.environ.items() if name != "STARBURST_WORKER"}
        env.setdefault("PYTHONHASHSEED", "0")  # or a set has another order on each worker
        command = [sys.executable, "-P", "-m", "starburst_worker", "slot", str(handle), str(board_file)]
        with self._lock:  # or a guard just born would be taken for a stray
            process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(handle,), env=env)
            self._pids.add(process.pid)
        return process

    def fork(self, handle: int, slot: Callable[[], None], leave: Callable[[], None]) -> Guard:
        """The same without a new interpreter, from a process that has no other thread.

        `slot` is what serves there, `leave` what lets go of its seat there and in those that are forked later.
        """
        held, holds = os.pipe()
        self._leaves.append(leave)
        pid = os.fork()
        if pid == 0:
            os.dup2(held, 0)
            os.close(held)
            os.close(holds)
            for other in self._forked:
                other.stdin.close()
            for let_go in self._leaves:
                let_go()
            guarded(handle)
            slot()
            _leave()
        os.close(held)
        self._pids.add(pid)
        self._forked.append(process := Forked(pid, holds))
        return process

    def end(self, process: Guard) -> int:
        """End a guard with all that is below it, if it has not ended; the slot's exit code."""
        assert process.stdin is not None
        process.stdin.close()
        try:
            code = process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with self._lock:
            self._pids.discard(process.pid)
            if code == -signal.SIGKILL:  # perhaps the guard itself: then what it guarded has come to us
                self._end_strays()
        return code

    def _end_strays(self) -> None:
        until = time.monotonic() + _GIVE_UP_S
        while strays := list(_below(os.getpid(), spare=self._pids)):
            _kill(strays)
            for pid in strays:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > until:
                return
            time.sleep(_AGAIN_S)


def _outlast(slot: int, woken: int) -> int:
    """Wait until the slot has ended, or is to; then end all that is left of it. Its wait status."""
    status, left = None, True
    while status is None:
        told, _, _ = select.select([0, woken], [], [])
        if 0 in told:  # it has closed
            break
        os.read(woken, 512)
        status, left = _reap(slot, status)
    if status is None:
        _kill([slot])
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(slot, signal.SIGKILL)
    began = time.monotonic()
    while left and (since := time.monotonic() - began) < _GIVE_UP_S:
        _kill(pid for pid in _below(os.getpid()) if since > _TRACKERS_S or not _tracks(pid))
        status, left = _reap(slot, status)
        if left:
            time.sleep(_AGAIN_S)
    return signal.SIGKILL if status is None else status


def _reap(slot: int, status: int | None) -> tuple[int | None, bool]:
    """How the slot ended, if it has; whether there is any child left."""
    while True:
        try:
            pid, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if pid == 0:
            return status, True
        if pid == slot:
            status = how


def _leave() -> None:
    """End as an interpreter does, for what the user's code has asked of its end, but take nothing apart."""
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing's children do
    atexit._run_exitfuncs()
    for stream in sys.stdout, sys.stderr:
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def _end_as(status: int) -> None:
    """End as another process did."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _below(root: int, spare: Collection[int] = ()) -> Iterator[int]:
    """All that descend from a process, but for those spared and what is below them. None where /proc does not tell."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in spare:
                yield pid
                todo.append(pid)


def _tracks(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _kill(pids: Iterator[int] | list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
