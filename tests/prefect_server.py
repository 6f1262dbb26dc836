"""Prefect servers as people start them, each a process on a port: one for a process of tests, and others to stop.

Nothing here imports Prefect, so every test may ask for a server.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

PATIENCE_S = 300.0  #: for what comes of itself: many times what it takes on a machine that has nothing else to do


def until(holds: Callable[[], Any], what: Any = "") -> Any:
    """Wait for something true, which is returned; what is missing is said by the text, or by what a function gives."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)
    return found


@dataclass
class PrefectServer:
    """One server with a folder of its own."""

    home: Path
    database: Path  #: of a server that has seen no flow, to begin with a copy
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def api(self) -> str:
        """What `PREFECT_API_URL` must be."""
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        """Start it, on the port it had before if it had one, and wait until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        variables |= {
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "1",  # what waits for a tag asks again so soon
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=self.home)
        until(self._answers, lambda: f"the Prefect server did not come up: {(self.home / 'server.log').read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is None or self._process.poll() is None, (self.home / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.api}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def started_server(home: Path, database: Path) -> Iterator[PrefectServer]:
    """A server that runs for as long as the context, with a copy of a new server's database.

    The first to ask for it, of all processes, makes it: the tables cost 5 CPU seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    server = PrefectServer(home, database)
    try:
        with _alone(database.parent):
            if made := database.exists():
                shutil.copy(database, home / "prefect.db")
            else:
                server.start()
                _copy(home / "prefect.db", database)
        if made:
            server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all processes, only this one is here."""
    with (folder / "prefect.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(database: Path, to: Path) -> None:
    """As one file, while a server may write there."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)


class Way:
    """The way to a server, which may be closed: connections break, new ones are closed at once and counted."""

    def __init__(self, api: str) -> None:
        self.refused = 0
        self._to = urlsplit(api)
        self._open = True
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept)

    @property
    def api(self) -> str:
        """What `PREFECT_API_URL` must be for those who go this way."""
        return self._to._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}").geturl()

    def open(self) -> None:
        """Let them pass again."""
        self._open = True

    def close(self) -> None:
        """Let nothing pass."""
        self._open = False
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        with ExitStack() as stack:
            while True:
                try:
                    here = stack.enter_context(self._listener.accept()[0])
                except OSError:  # the end
                    break
                if not self._open:
                    self.refused += 1
                    here.close()
                    continue
                there = stack.enter_context(socket.create_connection((self._to.hostname, self._to.port)))
                self._connections += [here, there]
                for pair in (here, there), (there, here):
                    stack.callback(_forwarding(*pair).join)


def _forwarding(source: socket.socket, to: socket.socket) -> threading.Thread:
    def forward() -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                to.sendall(data)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=forward)
    thread.start()
    return thread
