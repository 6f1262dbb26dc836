"""A flow while what it depends on fails: its workers are killed, its server goes away and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from prefect_starburst import StarburstTaskRunner
from starburst_common import list_runs
from tests.leftovers import supervisors_in
from tests.prefect_server import PrefectServer, speaking_to, started_server

ITEMS = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server of its own."""
    with (
        started_server(tmp_path_factory.mktemp("prefect")) as started,
        speaking_to(started),
    ):
        yield started


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of starburst's own."""
    monkeypatch.setenv("STARBURST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@task
def slowly(item: int, notes: Path) -> int:
    """Twice the item; each call leaves a byte."""
    with (notes / str(os.getpid())).open("a") as file:
        file.write(".")
    time.sleep(0.02)
    return 2 * item


def called(notes: Path) -> int:
    """Calls so far."""
    return sum(file.stat().st_size for file in notes.iterdir())


def until_called(notes: Path, times: int) -> None:
    """Wait for so many calls."""
    deadline = time.monotonic() + 60
    while called(notes) < times:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def newest_state() -> State[Any]:
    """The state that the API has of the flow run that was made last."""
    with get_client(sync_client=True) as client:
        newest = max(client.read_flow_runs(), key=lambda each: each.created)
    assert newest.state is not None
    return newest.state


def meanwhile(disturb: threading.Thread, notes: Path) -> list[int]:
    """What a flow of 300 task runs gives while it is disturbed.

    The flow ends when the disturbance has: a refused connection at its own last call is for Prefect's client to try
    again, which not all of its releases do.
    """

    @flow(task_runner=StarburstTaskRunner(workers=2, backend="local"))
    def body() -> list[int]:
        disturb.start()
        values: list[int] = slowly.map(range(ITEMS), unmapped(notes)).result()
        disturb.join()
        return values

    return body()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where calls are noted."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


SCRIPT = """
from prefect import flow, task
from prefect_starburst import StarburstTaskRunner
from starburst_common import list_runs

@task
def double(item):
    return 2 * item

@flow(name="of a script", task_runner=StarburstTaskRunner(workers=1, backend="local"))
def body():
    return double.map(range(3)).result()

print(body())
"""


def test_a_script_ends_without_a_complaint(server: PrefectServer, home: Path) -> None:
    """What Prefect is told as the interpreter ends arrives while it still listens: nobody sees a traceback."""
    script = home.parent / "script.py"
    script.write_text(SCRIPT)
    variables = os.environ | {"PREFECT_API_URL": server.api}
    done = subprocess.run([sys.executable, script], env=variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4]\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert " ERROR " not in done.stderr
    (run,) = list_runs(backend="local")
    with get_client(sync_client=True) as client:
        keys = {each.key for each in client.read_artifacts()}
    assert keys >= {f"starburst-progress-{run.id}", f"starburst-summary-{run.id}"}


LARGE = """
import sys, time
from pathlib import Path
from prefect import flow, task, unmapped
from prefect_starburst import StarburstTaskRunner

@task
def slowly(item, notes):
    (notes / str(item)).write_text(".")
    time.sleep(0.1)

@flow(name="a large one", task_runner=StarburstTaskRunner(workers=2, backend="local"))
def body():
    slowly.map(range(int(sys.argv[2])), unmapped(Path(sys.argv[1]))).wait()

body()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_large_flow_that_is_told_to_end_does(server: PrefectServer, home: Path, notes: Path, number: int) -> None:
    """With hundreds of task runs under way: the workers go, and nothing hangs.

    After SIGTERM the flow run's state is for who sent it to set: not all releases do it here.
    """
    script = home.parent / "script.py"
    script.write_text(LARGE)
    command = [sys.executable, script, notes, str(ITEMS)]
    variables = os.environ | {"PREFECT_API_URL": server.api}
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            until_called(notes, 20)
            process.send_signal(number)
            _, told = process.communicate(timeout=300)  # Prefect tells its API of each task run that crashed
        finally:
            process.kill()
    assert process.returncode != 0, told
    assert called(notes) < ITEMS
    assert supervisors_in(home) == []
    if number == signal.SIGINT:
        assert newest_state().is_crashed(), told


def test_killed_workers_are_replaced(server: PrefectServer, home: Path, notes: Path) -> None:
    """SIGKILL of both workers, one after the other: every task run completes, and few calls are made twice."""
    killed: list[int] = []

    def kill() -> None:
        for times in (50, 150):
            until_called(notes, times)
            victim = supervisors_in(home)[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    assert meanwhile(threading.Thread(target=kill), notes) == [2 * item for item in range(ITEMS)]
    assert len(killed) == 2
    assert called(notes) < 2 * ITEMS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_goes_and_comes_back_costs_the_flow_nothing(
    server: PrefectServer, home: Path, notes: Path, number: int
) -> None:
    """The Prefect server is restarted in the middle: the flow completes, and the API has its final state."""

    def restart() -> None:
        until_called(notes, 50)
        server.stop(number)
        time.sleep(2)
        server.start()

    assert meanwhile(threading.Thread(target=restart), notes) == [2 * item for item in range(ITEMS)]
    assert newest_state().is_completed()
