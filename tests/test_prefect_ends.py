"""A flow's process that is told to end, or whose flow is suspended: no worker goes on with its calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry

from tests.leftovers import processes_in
from tests.prefect_bed import home, in_turn
from tests.prefect_server import PATIENCE_S, until

__all__ = ["home"]  # pytest takes the fixture from here

FLOW = """
import sys, time
from pathlib import Path
from uuid import UUID
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.flow_runs import suspend_flow_run
from prefect.runtime import deployment
from prefect_starburst import StarburstTaskRunner, burst

notes = Path(sys.argv[2])

@task(persist_result=False)
def beats(i, seconds):
    (notes / f"called-{i}").open("a").write("x")
    for _ in range(int(seconds * 10)):
        (notes / f"beat-{i}").touch()
        time.sleep(0.1)
    return i

def noted(i):
    (notes / f"called-{i}").open("a").write("x")
    return i

def failing(i):
    if len((notes / f"called-{noted(i)}").read_text()) == 1:
        raise ValueError(i)
    return i

def whose():
    return [deployment.id, deployment.name, deployment.version, deployment.parameters]

@task(persist_result=False)
def asked(i):
    return whose()[:noted(i)]

@flow(name="ended", task_runner=StarburstTaskRunner(workers=2, backend="local"))
def ended():
    if sys.argv[3] == "long":
        return sum(f.result() for f in [beats.submit(i, 3600) for i in range(4)])
    if sys.argv[3] == "failing":
        told = asked.map([1, 2, 3, 4]).result()
        assert told == [whose()[:i] for i in [1, 2, 3, 4]], told
        return sum(burst(noted, [5])) + sum(burst(failing, [6])) + len(asked.submit(7).result())
    first = beats.submit(1, 0.2).result() + sum(burst(noted, [3]))
    suspend_flow_run(timeout=3600)
    return first + beats.submit(2, 0.2).result()

if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(sys.argv[1]))
        print("value", run_flow(ended, flow_run=run, return_type="result"), flush=True)
"""


def deployed_run(name: str) -> str:
    """The id of a new run of the flow above, deployed: only such runs can be suspended."""
    with get_client(sync_client=True) as client:
        ours = in_turn(lambda: client.create_flow(flow(lambda: None, name="ended")))
        deployment = in_turn(lambda: client.create_deployment(ours, name=name))
        return str(in_turn(lambda: client.create_flow_run_from_deployment(deployment)).id)


def started(folder: Path, flow_run: str, how: str) -> subprocess.Popen[str]:
    """A process that runs it as Prefect's own engine process would."""
    script = folder / "script.py"
    script.write_text(FLOW)
    environment = {
        **os.environ,
        "PREFECT_API_URL": PREFECT_API_URL.value() or "",
        "PREFECT_LOCAL_STORAGE_PATH": str(folder / "storage"),
        "PREFECT__FLOW_RUN_ID": flow_run,
    }
    command = [sys.executable, str(script), flow_run, str(folder), how]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.contract
def test_a_cancelled_flow_process_ends_its_calls(tmp_path: Path, home: Path) -> None:
    """SIGTERM, by which Prefect cancels a flow run, ends the process, and no worker goes on with its calls."""
    flow_run_id = deployed_run(tmp_path.name)
    process = started(tmp_path, flow_run_id, "long")
    until(lambda: len(list(tmp_path.glob("beat-*"))) >= 2 or process.poll() is not None, "two calls are under way")
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0, told
    until(lambda: not processes_in(home), lambda: f"all workers are gone: {processes_in(home)}")
    assert len(list(tmp_path.glob("beat-*"))) == 2, "no other call has begun"


@pytest.mark.contract
def test_a_failed_flow_run_is_tried_again_by_hand(tmp_path: Path, home: Path) -> None:
    """As the UI's Retry does: another process makes the call that failed and those that were not come to, no others.

    Tasks are told of the deployment as the flow is, in either attempt.
    """
    flow_run_id = deployed_run(tmp_path.name)
    failed = started(tmp_path, flow_run_id, "failing")
    told = failed.communicate(timeout=PATIENCE_S)
    assert failed.returncode != 0, told
    assert [path.read_text() for path in sorted(tmp_path.glob("called-*"))] == ["x"] * 6, told
    with get_client(sync_client=True) as client:
        answer = client.set_flow_run_state(flow_run_id, AwaitingRetry())  # type: ignore[arg-type]
        assert answer.status is SetStateStatus.ACCEPT
        printed, text = started(tmp_path, flow_run_id, "failing").communicate(timeout=PATIENCE_S)
        assert printed.strip() == "value 15", text
        state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
    assert state is not None
    assert state.is_completed()
    calls = [path.read_text() for path in sorted(tmp_path.glob("called-*"))]
    assert calls == ["x", "x", "x", "x", "x", "xx", "x"]


@pytest.mark.contract
def test_a_suspended_flow_leaves_no_worker_and_goes_on(tmp_path: Path, home: Path) -> None:
    """`suspend_flow_run` lets the workers go; the flow run, resumed in another process, completes.

    What was answered before is not called again.
    """
    flow_run_id = deployed_run(tmp_path.name)
    told = started(tmp_path, flow_run_id, "brief").communicate(timeout=PATIENCE_S)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
        assert state is not None
        assert state.name == "Suspended", told
        until(lambda: not processes_in(home), "all workers are gone")
        client.resume_flow_run(flow_run_id)  # type: ignore[arg-type]
        printed, text = started(tmp_path, flow_run_id, "brief").communicate(timeout=PATIENCE_S)
        assert printed.strip() == "value 6", text
        state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
    assert state is not None
    assert state.is_completed()
    assert [(tmp_path / f"called-{i}").read_text() for i in (1, 2, 3)] == ["x"] * 3
