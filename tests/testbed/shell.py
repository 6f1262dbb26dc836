"""Commands in, one after another in one bash; their lines and exit codes out."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

_LOOK_S = 0.05
_DRAIN_S = 2.0


class Halted(Exception):
    """The command was killed because it should not go on."""


class Shell:
    """What a command exports, and where it goes, the next one finds; after one that exits, the next has a new shell."""

    def __init__(self, folder: Path, environment: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._on_line = on_line
        self._mark = f"ended {secrets.token_hex(16)} "
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, halted: Callable[[], bool]) -> int:
        """Run a command to its end; its exit code. Raises `Halted`, with everything killed, once `halted()` is true."""
        process = self._started()
        assert process.stdin
        # within eval, standard input is empty: what follows there is ours
        script = f"eval {shlex.quote(command)} </dev/null\nprintf '{self._mark}%s\\n' $?\n"
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(script.encode())
            process.stdin.flush()
        while True:
            if halted():
                self.close()
                raise Halted
            try:
                code = self._codes.get(timeout=_LOOK_S)
            except queue.Empty:
                if process.poll() is None:
                    continue
                code = None  # it has ended, though something it started keeps its output open
            if code is None:
                code = process.wait()
                self.close()
                return 128 - code if code < 0 else code
            return code

    def close(self) -> None:
        """Kill what runs, and wait until its lines are delivered."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self._reader.join(_DRAIN_S)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._codes: queue.Queue[int | None] = queue.Queue()
            self._process = subprocess.Popen(
                ["bash"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._reader = threading.Thread(target=self._read, args=(self._process, self._codes), daemon=True)
            self._reader.start()
        return self._process

    def _read(self, process: subprocess.Popen[bytes], codes: queue.Queue[int | None]) -> None:
        assert process.stdout
        with process.stdout as output:
            for line in output:
                text, mark, code = line.decode("utf-8", "replace").rstrip("\r\n").partition(self._mark)
                if text or not mark:
                    self._on_line(text)
                if mark:
                    codes.put(int(code))
        codes.put(None)
