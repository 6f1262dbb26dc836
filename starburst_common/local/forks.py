"""The process from which workers are forked, one for each environment: that of whoever launches them, and a fleet's.

It has imported what workers need, once for all of them and while its starter does other things. It runs nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any
from weakref import finalize

_SOON_S = 0.1
_ENDED_S = 10.0  #: for a process that has closed its socket to end


class CannotFork(Exception):
    """It ended instead: with this exit code, having printed this."""

    def __init__(self, pid: int, code: int, printed: bytes) -> None:
        super().__init__(code)
        self.pid, self.code, self.printed = pid, code, printed


class ForkServer:
    """One such process; it ends when this end is closed and its workers have ended."""

    def __init__(self, folder: Path, more: Mapping[str, str]) -> None:
        _bury()
        self._for = (os.getpid(), dict(os.environ))
        self._lock = Lock()
        self.worked = False  #: it has forked somebody
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  kept as long as the process may print
        env = {"PYTHONHASHSEED": "0", **os.environ, **_absolute("PYTHONPATH"), **more}  # the first, or sets differ
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "starburst_worker", "forks"],
                env=env,
                cwd=folder,
                stdin=theirs.fileno(),
                stdout=self._printed,
                stderr=self._printed,
                start_new_session=True,
            )
        self._answers = self._ours.makefile("rb")
        #: Let it end; it is so, too, where nobody has this any more.
        self.close = finalize(self, _let_end, self._ours, self._answers, self._printed, self._process)
        self.close.atexit = False  # workers may be launched until the very end, which closes all

    @property
    def fits(self) -> bool:
        """Whether what it forks would be as if started from this process now."""
        return self._for == (os.getpid(), dict(os.environ))

    def fork(self, orders: dict[str, Any], scratch: Path, log: Path) -> int:
        """A new worker in its folder, printing to its log; its process id. Raises `CannotFork`, or `OSError`."""
        asked = {"orders": json.dumps(orders), "scratch": str(scratch), "log": str(log)}
        with self._lock:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._ours.sendall(json.dumps(asked).encode() + b"\n")
            with suppress(ConnectionResetError):
                if line := self._answers.readline():
                    answer = json.loads(line)
                    if "errno" in answer:
                        raise OSError(answer["errno"], f"no worker can be forked: {os.strerror(answer['errno'])}")
                    self.worked = True
                    return int(answer["pid"])
            code = self._process.wait(_ENDED_S)
            self._printed.seek(0)
            raise CannotFork(self._process.pid, code, self._printed.read())


#: Variables that tell where a process was started from, and nothing of what its workers would do.
_OF_SHELLS = {"_", "SHLVL", "PWD", "OLDPWD"}


def alike_here() -> list[Any]:
    """What makes workers of this process what they are: its interpreter, packages and environment."""
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    changed = [Path(folder).stat().st_mtime_ns for folder in sorted(filter(None, folders)) if Path(folder).is_dir()]
    told = sorted((name, value) for name, value in os.environ.items() if name not in _OF_SHELLS)
    return [sys.executable, sys.version, changed, told, _absolute("PYTHONPATH")]


def _let_end(ours: socket.socket, answers: IO[bytes], printed: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    for each in answers, ours, printed:
        each.close()
    with suppress(subprocess.TimeoutExpired):  # none of its workers lives, as a rule
        process.wait(_SOON_S)
    if process.returncode is None:
        process.returncode = 0  # it is waited for by its id, which outlives this object
        _leaving.append(process.pid)


def _bury() -> None:
    """Those that have ended since they were let go."""
    for pid in list(_leaving):
        with suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        with suppress(ValueError):  # another thread has met its end, too
            _leaving.remove(pid)


_leaving: list[int] = []
os.register_at_fork(after_in_child=_leaving.clear)


def _absolute(variable: str) -> dict[str, str]:
    """A list of folders in the environment, as it is from any working directory."""
    folders = os.environ.get(variable, "").split(os.pathsep)
    with suppress(FileNotFoundError):  # the working directory is gone, and what lay in it
        return {variable: os.pathsep.join(map(os.path.abspath, folders))} if any(folders) else {}
    return {}
