"""A flow while what it depends on fails: its workers are killed, its server goes away and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from prefect_starburst import StarburstTaskRunner
from starburst_common import list_runs
from tests.leftovers import supervisors_in
from tests.prefect_bed import speaking_to
from tests.prefect_server import PATIENCE_S, PrefectServer, Way, started_server, until


@pytest.fixture(scope="module", autouse=True)
def server(prefect_server: PrefectServer) -> Iterator[None]:
    """This process's flows speak to the Prefect server."""
    with speaking_to(prefect_server.api):
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of starburst's own, so that no other test's workers are there."""
    monkeypatch.setenv("STARBURST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@task
def slowly(item: int, notes: Path) -> int:
    """Twice the item; each call leaves a byte. Later ones wait for the end of what disturbs the flow, for a while each.

    Not for good: it may wait for calls that a killed worker has left to the slots in which these wait.
    """
    with (notes / str(os.getpid())).open("a") as file:
        file.write(".")
    until = time.monotonic() + (3.0 if item >= 60 else 0.0)
    time.sleep(0.02)
    while time.monotonic() < until and not notes.with_name("over").exists():
        time.sleep(0.02)
    return 2 * item


def called(notes: Path) -> int:
    """Calls so far."""
    return sum(file.stat().st_size for file in notes.iterdir())


def until_called(notes: Path, times: int) -> None:
    """Wait for so many calls."""
    until(lambda: called(notes) >= times, f"{times} calls")


def state_of(flow_run_id: str) -> State[Any]:
    """The state that the API has of a flow run."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run_id)).state
    assert state is not None
    return state


def meanwhile(disturb: Callable[[], None], items: int, notes: Path) -> State[Any]:
    """How a flow of so many task runs ends that is disturbed, and has each one's value, as the API has it.

    The flow ends when the disturbance has: a refused connection at its own last call is for Prefect's client to try
    again, which not all of its releases do.
    """

    def to_its_end() -> None:
        try:
            disturb()
        finally:
            notes.with_name("over").touch()

    disturbing, ids = threading.Thread(target=to_its_end), list[str]()

    @flow(task_runner=StarburstTaskRunner(workers=2, backend="local"))
    def body() -> list[int]:
        ids.append(str(flow_run.id))
        disturbing.start()
        values: list[int] = slowly.map(range(items), unmapped(notes)).result()
        disturbing.join()
        return values

    assert body() == [2 * item for item in range(items)]
    return state_of(*ids)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where calls are noted."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


SCRIPT = """
from prefect import flow, task
from prefect_starburst import StarburstTaskRunner
from prefect.runtime import flow_run

@task
def double(item):
    return 2 * item

@flow(name="of a script", task_runner=StarburstTaskRunner(workers=1, backend="local"))
def body():
    print(flow_run.id)
    return double.map(range(3)).result()

print(body())
"""


@pytest.mark.contract
def test_a_script_ends_without_a_complaint(prefect_server: PrefectServer, home: Path, tmp_path: Path) -> None:
    """What Prefect is told as the interpreter ends arrives while it still listens: nobody sees a traceback."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    variables = os.environ | {"PREFECT_API_URL": prefect_server.api}
    done = subprocess.run([sys.executable, script], env=variables, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    flow_run_id, values = done.stdout.splitlines()
    assert values == "[0, 2, 4]"
    assert "Traceback" not in done.stderr
    assert " ERROR " not in done.stderr
    (run,) = (run for run in list_runs(backend="local") if run.tags["prefect-flow-run"] == flow_run_id)
    only = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))
    with get_client(sync_client=True) as client:
        told = {each.key: each.description or "" for each in client.read_artifacts(flow_run_filter=only)}
    for kind in ("progress", "summary"):
        assert str(run.id) in told[f"starburst-{kind}-of-a-script-task-runs"]


LARGE = """
import sys, time
from pathlib import Path
from prefect import flow, task, unmapped
from prefect.runtime import flow_run
from prefect_starburst import StarburstTaskRunner

@task
def slowly(item, notes):
    (notes / str(item)).write_text(".")
    time.sleep(0.1 if item < 40 else 3600)  # none is to end for having been quick

@flow(name="a large one", task_runner=StarburstTaskRunner(workers=2, backend="local"))
def body():
    print(flow_run.id, flush=True)
    slowly.map(range(int(sys.argv[2])), unmapped(Path(sys.argv[1]))).wait()

body()
"""


@pytest.mark.rest
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.contract
def test_a_large_flow_that_is_told_to_end_does(
    prefect_server: PrefectServer, home: Path, notes: Path, number: int
) -> None:
    """With hundreds of task runs under way: the workers go, and nothing hangs.

    After SIGTERM the flow run's state is for who sent it to set: not all releases do it here.
    """
    items = 300
    script = notes.parent / "script.py"
    script.write_text(LARGE)
    command = [sys.executable, script, notes, str(items)]
    variables = os.environ | {"PREFECT_API_URL": prefect_server.api}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until_called(notes, 20)
            process.send_signal(number)
            printed, told = process.communicate(timeout=PATIENCE_S)  # Prefect tells of each task run that crashed
        finally:
            process.kill()
    assert process.returncode != 0, told
    assert called(notes) < items
    assert supervisors_in(home) == []
    if number == signal.SIGINT:
        assert state_of(printed.strip()).is_crashed(), told


def test_killed_workers_are_replaced(home: Path, notes: Path) -> None:
    """SIGKILL of both workers, one after the other: every task run completes, and few calls are made twice."""
    items, killed = 100, list[int]()

    def kill() -> None:
        for times in (20, 50):
            until_called(notes, times)
            victim = supervisors_in(home)[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    assert meanwhile(kill, items, notes).is_completed()
    assert len(killed) == 2
    assert called(notes) < 2 * items


@pytest.mark.contract
def test_a_server_that_cannot_be_reached_for_a_while_costs_the_flow_nothing(
    prefect_server: PrefectServer, home: Path, notes: Path
) -> None:
    """Connections break and new ones are closed, in the middle: the flow completes, and the API has its final state."""
    with Way(prefect_server.api) as way, speaking_to(way.api):

        def interrupt() -> None:
            until_called(notes, 20)
            way.close()
            until(lambda: way.refused >= 3, "Prefect's clients have tried")
            way.open()

        assert meanwhile(interrupt, 100, notes).is_completed()


@pytest.mark.rest
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_goes_and_comes_back_costs_the_flow_nothing(
    prefect_server: PrefectServer, home: Path, notes: Path, number: int, tmp_path: Path
) -> None:
    """The Prefect server is restarted in the middle: the flow completes, and the API has its final state."""
    with started_server(tmp_path / "prefect", prefect_server.database) as server, speaking_to(server.api):

        def restart() -> None:
            until_called(notes, 50)
            server.stop(number)
            server.start()

        assert meanwhile(restart, 300, notes).is_completed()
