"""A Prefect server as people start one: a process of its own on a port, which may be stopped and started again."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_starburst.artifacts import wait_until_told

_DRAINED_S = 30.0


@dataclass
class PrefectServer:
    """One server with a folder of its own."""

    home: Path
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
        variables |= {"PREFECT_HOME": str(self.home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=self.home)
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self.home / "server.log").read_text()
            assert time.monotonic() < deadline, "the Prefect server did not come up"
            time.sleep(0.2)

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
        try:
            with urllib.request.urlopen(f"{self.api}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def started_server(home: Path, port: int = 0) -> Iterator[PrefectServer]:
    """A server that runs for as long as the context."""
    home.mkdir(parents=True, exist_ok=True)
    server = PrefectServer(home, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def speaking_to(server: PrefectServer, settings: dict[Any, Any] | None = None) -> Iterator[None]:
    """This process's flows speak to the server; what tells it of events and logs ends with that, for the next server.

    As `prefect_test_harness` does for its own. One that was cut off by its server may never say that it is done.
    """
    with temporary_settings({**(settings or {}), PREFECT_API_URL: server.api}):
        yield
        run_coro_as_sync(_drain())


@contextmanager
def ephemeral_server() -> Iterator[None]:
    """Prefect's own server for tests; events that it has not had, as with Prefect 3.4.25, would break the next one."""
    with prefect_test_harness(server_startup_timeout=90):
        yield
        run_coro_as_sync(_drain())


async def _drain() -> None:
    await asyncio.to_thread(wait_until_told)
    for drained in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
        if inspect.isawaitable(drained):
            with suppress(TimeoutError):
                await asyncio.wait_for(drained, _DRAINED_S)
