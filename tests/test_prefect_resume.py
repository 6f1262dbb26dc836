"""A flow run that is tried again redoes what is missing only, and what many calls share travels once."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry

from prefect_starburst import StarburstTaskRunner
from prefect_starburst.between.facts import CallContext
from prefect_starburst.home.former import Former
from starburst_common import RunState, StarburstExecutor, attach, list_runs
from starburst_common.backends import open_backend
from starburst_common.ports import Backend
from starburst_common.runs.replay import stored_items
from tests.leftovers import supervisors_in
from tests.prefect_bed import home
from tests.prefect_server import PATIENCE_S, until
from tests.testbed.bed import Bed as Aws

__all__ = ["home"]  # pytest takes the fixture from here

LARGE = 2 << 20


@task
def noted(item: int, notes: Path, gate: Path | None = None) -> int:
    """Twice the item; each call leaves a line. With a gate, later ones wait until it is there."""
    with (notes / str(os.getpid())).open("a") as file:
        file.write(f"{item}\n")
    while gate is not None and item >= 40 and not gate.exists():
        time.sleep(0.02)
    return 2 * item


@task
def noted_failure(item: int, notes: Path) -> int:
    """Fails at its first call for an item."""
    mark = notes / f"failed-{item}"
    if not mark.exists():
        mark.touch()
        raise ValueError(item)
    return 2 * item


def calls(notes: Path) -> Counter[int]:
    """How often each item was run."""
    return Counter(int(line) for file in notes.glob("[0-9]*") for line in file.read_text().split())


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# --- attempts of a flow run -------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_a_retried_flow_takes_what_was_answered(tmp_path: Path) -> None:
    """The second attempt makes the failed call and those the first had not come to, and no other."""
    attempts: list[int] = []

    @flow(retries=1, task_runner=StarburstTaskRunner(workers=2, backend="local"))
    def body() -> list[int]:
        attempts.append(len(attempts))
        first = noted.map(range(20), unmapped(tmp_path)).result()
        failing = noted_failure.submit(7, tmp_path).result()
        return [*first, failing, *noted.map([*range(5), 30], unmapped(tmp_path)).result()]

    assert body() == [*range(0, 40, 2), 14, *range(0, 10, 2), 60]
    assert attempts == [0, 1]
    # two calls that are equal are two calls: the last map's items 0 to 4 are not the first one's
    assert calls(tmp_path) == Counter({**dict.fromkeys(range(20), 1), **dict.fromkeys(range(5), 2), 30: 1})


@pytest.mark.contract
def test_a_changed_task_is_called_anew(tmp_path: Path) -> None:
    """An answer of other code, or for what a function closes over being another value, is not taken."""
    attempts: list[int] = []

    @flow(retries=1, task_runner=StarburstTaskRunner(workers=1, backend="local"))
    def body() -> int:
        attempts.append(len(attempts))
        by = len(attempts)

        @task
        def scaled(item: int) -> int:
            return item * by

        value = scaled.submit(10).result()
        if by == 1:
            raise ValueError("again")
        return value

    assert body() == 20


def test_resuming_can_be_turned_off(tmp_path: Path) -> None:
    """With `resume=False` every call of every attempt is made."""
    attempts: list[int] = []

    @flow(retries=1, task_runner=StarburstTaskRunner(workers=1, backend="local", resume=False))
    def body() -> list[int]:
        attempts.append(len(attempts))
        values = noted.map(range(3), unmapped(tmp_path)).result()
        if len(attempts) == 1:
            raise ValueError("again")
        return values

    assert body() == [0, 2, 4]
    assert calls(tmp_path) == Counter({0: 2, 1: 2, 2: 2})


FLOW = """
import sys
from pathlib import Path
from uuid import UUID
from prefect import flow, unmapped
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect_starburst import StarburstTaskRunner
from tests.test_prefect_resume import noted

notes = Path(sys.argv[2])

@flow(name="killed", task_runner=StarburstTaskRunner(workers=2, backend="local"))
def killed():
    return noted.map(range(60), unmapped(notes), unmapped(notes / "gate")).result()

with get_client(sync_client=True) as client:
    run = client.read_flow_run(UUID(sys.argv[1]))
    print(sum(run_flow(killed, flow_run=run, return_type="result")), flush=True)
"""


@pytest.mark.contract
def test_a_killed_flow_process_is_started_again(tmp_path: Path, home: Path) -> None:
    """SIGKILL in the middle of a map: the same flow run, started again, attaches and redoes nothing that was done.

    What it left is found by the flow run's id; no worker outlives its idle time.
    """
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_LOGGING_LEVEL": "INFO"}

    with get_client(sync_client=True) as client:
        flow_run_id = str(client.create_flow_run(flow(lambda: None, name="killed")).id)
    command = [sys.executable, "-c", FLOW, flow_run_id, str(tmp_path)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()

    def under_way() -> bool:
        assert first.poll() is None, first.communicate()
        return sum(calls(tmp_path).values()) >= 10

    until(under_way, "ten calls")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / "gate").touch()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)
    printed, told = start().communicate(timeout=PATIENCE_S)
    assert printed.strip() == str(sum(range(0, 120, 2))), told
    assert calls(tmp_path) == Counter(range(60)), told
    runs = [run for run in list_runs(backend="local") if run.tags.get("prefect-flow-run") == flow_run_id]
    assert [run.tags["prefect-attempt"] for run in runs] == ["2", "1"]
    assert all(run.status().state.over for run in runs)
    until(lambda: not supervisors_in(home), "no worker is alive")


def gated(gate: Path, run: bytes) -> str:
    """A call as a runner's executor has it; it answers once the file is there."""
    until(gate.exists, "the gate opens")
    return "done"


def test_an_earlier_attempt_that_lives_is_left_alone(tmp_path: Path) -> None:
    """A later attempt at its flow run ends, and the calls of the earlier one go on in its own process."""
    facts = pickle.dumps(CallContext(task_run={}, tags=frozenset(), log_prints=False))
    with closing(open_backend("local")) as opened:
        backend = replace(opened, feeder_lost_s=3.0)  # so signs of life come every half second
        patient = replace(opened, feeder_lost_s=10.0)  # and may be late on a busy machine
        with StarburstExecutor(workers=1, backend=backend) as executor:
            run = executor.start()
            future = executor.submit(gated, tmp_path / "gate", facts)
            until(lambda: run.status().items != 0 and list(stored_items(backend, run.id)), "the call is sent")
            Former([attach(run.id, backend=patient)], patient).end()
            assert not run.status().state.over
            (tmp_path / "gate").touch()
            assert future.result() == "done"


def test_a_call_that_was_run_again_elsewhere_is_answered(tmp_path: Path) -> None:
    """Of an earlier attempt's run and its retries each call has one answer, and none where it has none."""
    with closing(open_backend("local")) as backend:
        with StarburstExecutor(workers=1, backend=backend) as executor:
            run = executor.start()
            for key in ("a", "b"):
                facts = pickle.dumps(CallContext(task_run={}, tags=frozenset(), log_prints=False, key=key))
                executor.submit(gated, tmp_path / key, facts)
            until(lambda: len(list(stored_items(backend, run.id))) == 2, "the calls are sent")
            (tmp_path / "a").touch()
            until(lambda: run.status().answered == 1, "one is answered")
            run.cancel()
            executor.shutdown(cancel_futures=True)
        answers = [former_answer(run.id, backend, key) for key in ("a", "b")]
        assert [Former.is_value(answer) for answer in answers] == [True, False]
        assert answers[0] == "done"
        (tmp_path / "b").touch()
        assert attach(run.id, backend=backend).retry_failed().wait().items == 1
        assert [former_answer(run.id, backend, key) for key in ("a", "b")] == ["done", "done"]


def former_answer(run_id: str, backend: Backend, key: str) -> Any:
    """What a later attempt has for a call."""
    future = Former([attach(run_id, backend=backend)], backend).take(key)
    assert future is not None
    return future.result(timeout=PATIENCE_S)


# --- what travels -----------------------------------------------------------------------------------------------------


@task
def head(item: int, common: bytes) -> tuple[int, bytes]:
    """The item, and the first bytes of what all calls share."""
    return item, common[:4]


@task
def spoils(item: int, common: bytearray) -> int:
    """Changes what it was given."""
    common.append(item)
    return len(common)


def stored(home: Path, body: Any) -> tuple[Any, int]:
    """What a flow of this body returns, and the bytes it has added to the store."""
    before = size_of(home / "store")
    value = flow(task_runner=StarburstTaskRunner(workers=2, backend="local"))(body)()
    return value, size_of(home / "store") - before


def test_what_a_map_has_in_common_travels_once(home: Path) -> None:
    """A large unmapped parameter is stored once for all runs of a map."""
    common = os.urandom(LARGE)
    value, nbytes = stored(home, lambda: head.map(range(40), unmapped(common)).result())
    assert value == [(item, common[:4]) for item in range(40)]
    assert LARGE < nbytes < 3 * LARGE


def test_what_submits_share_travels_once_from_its_second_use(home: Path) -> None:
    """Large parameters that are equal are stored by the first call that has them, and once more for all others."""
    common = os.urandom(LARGE)

    def body() -> list[Any]:
        loaded = noted_load.submit(common)
        return [head.submit(item, loaded).result() for item in range(10)]

    value, nbytes = stored(home, body)
    assert value == [(item, common[:4]) for item in range(10)]
    assert nbytes < 5 * LARGE


@task
def noted_load(value: bytes) -> bytes:
    """What it was given."""
    return value


@pytest.mark.contract
def test_each_call_has_what_is_shared_for_itself(home: Path) -> None:
    """A function that changes a shared parameter changes it for its own call only."""
    common = bytearray(100_000)
    value, _ = stored(home, lambda: spoils.map(range(6), unmapped(common)).result())
    assert value == [100_001] * 6
    assert len(common) == 100_000


def test_a_class_of_a_shared_parameter_travels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of a shared parameter's class goes with it, although only the parameter names it."""
    (tmp_path / "large_things.py").write_text("class Thing:\n    def __init__(self, data): self.data = data\n")
    monkeypatch.syspath_prepend(tmp_path)
    import large_things  # type: ignore[import-not-found]

    @task
    def length(item: int, thing: Any) -> int:
        return item + len(thing.data)

    @flow(task_runner=StarburstTaskRunner(workers=1, backend="local"))
    def body() -> list[int]:
        return length.map(range(3), unmapped(large_things.Thing(os.urandom(200_000)))).result()

    assert body() == [200_000, 200_001, 200_002]
    assert [run.status().state for run in list_runs(backend="local")][:1] == [RunState.SUCCEEDED]


def test_tasks_cost_chunks_on_aws(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hundred task runs are sent and answered by chunks: with far fewer writes than one each."""
    monkeypatch.setenv("STARBURST_CONFIG", aws.env["STARBURST_CONFIG"])

    @flow(task_runner=StarburstTaskRunner(workers=2, backend="aws"))
    def body() -> list[int]:
        return doubled.map(range(400)).result()

    aws.requests(reset=True)
    assert body() == [2 * item for item in range(400)]
    asked = aws.requests()
    writes = sum(times for (_, operation), times in asked.items() if operation in ("PutObject", "SendMessageBatch"))
    assert writes < 120, asked  # the chunks follow the pace at which the engine comes to the calls


@task
def doubled(item: int) -> int:
    """Twice the item."""
    return 2 * item
