"""One task run stands for many items: values, options, failures, cancellation, resuming, and what Prefect shows."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.events import emit_event
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry

from prefect_starburst import StarburstTaskRunner, burst
from prefect_starburst.home import artifacts
from starburst_common import Failure, Rows, Run, RunState, RunStopped, list_runs, progress
from starburst_common.errors import BadInput
from tests.leftovers import supervisors_in
from tests.prefect_bed import home
from tests.prefect_server import PATIENCE_S, until

__all__ = ["home"]  # pytest takes the fixture from here


def runner(**options: Any) -> StarburstTaskRunner:
    """Two workers on this machine."""
    return StarburstTaskRunner(**{"workers": 2, "backend": "local", **options})


def by_value() -> tuple[Callable[[int], Any], ...]:
    """Functions that travel by value: this module would bring Prefect along, which takes seconds to import."""

    def double(item: int) -> int:
        return 2 * item

    def half(item: int) -> float:
        return 1 / item

    def fussy(item: int) -> int:
        if item % 3 == 0:
            raise ValueError(f"no | {item}\n" + "x" * 1000)
        return item

    return double, half, fussy


double, half, fussy = by_value()


def noting(notes: Path, *, seconds: float = 0.0, failing_once: frozenset[int] = frozenset()) -> Callable[[int], int]:
    """A function that doubles its item and notes that it ran; some items fail at their first call."""

    def noted(item: int) -> int:
        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        if item in failing_once and not (notes / f"failed-{item}").exists():
            (notes / f"failed-{item}").touch()
            raise ValueError(f"item {item} fails once")
        time.sleep(seconds)
        return 2 * item

    return noted


def calls(notes: Path) -> Counter[int]:
    """How often each item was run."""
    return Counter(int(line) for file in notes.glob("[0-9]*") for line in file.read_text().split())


def runs_of(flow_run_id: str) -> list[Run]:
    """The starburst runs of a flow run, oldest first."""
    return [run for run in list_runs(backend="local") if run.tags.get("prefect-flow-run") == flow_run_id][::-1]


def in_flow(body: Callable[[], Any], **options: Any) -> tuple[Any, FlowRun]:
    """What the body returns as a flow on two workers, and its flow run."""
    kept: list[Any] = []

    @flow(name="bursting", task_runner=runner(**options))
    def bursting() -> None:
        kept.append(this_flow_run.id)
        kept.append(body())

    bursting()
    with get_client(sync_client=True) as client:
        return kept[1], client.read_flow_run(UUID(kept[0]))


def task_runs_of(flow_run: FlowRun, count: int) -> list[TaskRun]:
    """The task runs that Prefect's server has of a flow run, once so many have ended."""
    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:

        def had() -> list[TaskRun]:
            found = client.read_task_runs(flow_run_filter=only)
            return found if sum(run.state is not None and run.state.is_final() for run in found) >= count else []

        runs: list[TaskRun] = until(had, f"{count} task runs have ended")
        return runs


def artifacts_of(flow_run: FlowRun) -> dict[tuple[str, str], Artifact]:
    """What a flow run has, by key and the run that it tells of."""
    artifacts.wait_until_told()
    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=only)
    return {(each.key or "", str(each.description).rpartition("`")[0].rpartition("`")[2]): each for each in found}


def cost_of(flow_run: FlowRun) -> float:
    """What the flow run's runs cost so far, as Prefect's server has it."""
    return float(labels_of(flow_run.id).get(artifacts.COST_LABEL, 0))


def labels_of(flow_run_id: UUID) -> dict[str, Any]:
    """The flow run's labels, as Prefect's server has them."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id).labels


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_one_task_run_stands_for_all_items() -> None:
    """In a flow, a burst is a task run of its own; the starburst run is found from it, and it from the run."""
    values, flow_run = in_flow(lambda: burst(double, range(5000)))
    assert values == [2 * item for item in range(5000)]
    (task_run,) = task_runs_of(flow_run, 1)
    assert task_run.name.startswith("burst-double-")
    (run,) = runs_of(str(flow_run.id))
    assert run.tags["prefect-task-run"] == str(task_run.id)
    assert (run.tags["prefect-attempt"], run.tags["prefect-flow"]) == ("1", "bursting")
    assert (run.label, run.function, run.workers) == (flow_run.name, double.__qualname__, 2)


@pytest.mark.contract
def test_within_a_task_it_belongs_to_that_one() -> None:
    """A task that the flow calls may burst; no further task run is made. A list of futures is taken, too."""

    @task
    def outer(items: Iterable[int]) -> tuple[str, list[int]]:
        return str(this_task_run.id), burst(double, items)

    def body() -> Any:
        return outer(range(10)), burst(double, task(double).map([1, 2]))  # type: ignore[call-overload]

    ((task_run_id, inner), outside), flow_run = in_flow(body)
    assert (inner, outside) == ([2 * item for item in range(10)], [4, 8])
    assert len(task_runs_of(flow_run, 4)) == 4  # outer, two of the map, and the burst of its results
    assert [run.tags.get("prefect-task-run") for run in runs_of(str(flow_run.id))].count(task_run_id) == 1


def test_outside_of_a_flow_it_is_a_plain_map() -> None:
    """A function that bursts can be tried without Prefect."""
    assert burst(double, range(10), workers=1, backend="local") == [2 * item for item in range(10)]


def test_options_come_from_the_runner_and_from_the_call() -> None:
    """What a call gives holds for it, tags of both are kept, and an input without a length is read as it comes."""

    def body() -> Any:
        return burst(double, (item for item in range(100)), workers=1, tags={"team": "b"}, label="mine")

    values, flow_run = in_flow(body, cpu=2, memory="8GB", tags={"team": "a", "cost": "c"})
    assert values == [2 * item for item in range(100)]
    (run,) = runs_of(str(flow_run.id))
    assert (run.workers, run.label, run.resources.cpu, run.resources.memory_mib) == (1, "mine", 2, 8192)
    assert run.tags.items() >= {"team": "b", "cost": "c"}.items()


def test_in_an_async_flow() -> None:
    """It blocks there as well, as a plain task does."""

    @flow(task_runner=runner())
    async def waiting() -> list[int]:
        return burst(double, range(3))

    assert asyncio.run(waiting()) == [0, 2, 4]


# --- refusals and failures --------------------------------------------------------------------------------------------


def test_on_a_worker_it_is_refused() -> None:
    """A submitted task has no workers of its own."""

    @task
    def nested() -> list[int]:
        return burst(double, range(3))

    state, _ = in_flow(lambda: nested.submit().wait() or nested.submit(return_state=True))
    with pytest.raises(BadInput, match=r"burst\(double, …\) was called on a starburst worker.*in the flow"):
        state.result()


def test_wrong_arguments_are_named() -> None:
    """Before anything is launched."""
    before = len(list_runs(backend="local"))
    with pytest.raises(BadInput, match=r"'named' is a task.*named\.fn"):
        burst(task(double, name="named"), [1])
    with pytest.raises(BadInput, match="ordered"):
        burst(double, [1], ordered=False)
    with pytest.raises(BadInput, match=r"results_to: .*starburst_map takes it"):
        burst(double, [1], results_to="out/*.jsonl")
    with pytest.raises(BadInput, match=r"items=Rows\(.*starburst_map takes it"):
        burst(double, Rows("calls.jsonl"))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="chunk_size"):
        in_flow(lambda: burst(double, [1], chunk_size=0))
    with pytest.raises(BadInput, match=r"tags=.*dictionary"):
        in_flow(lambda: burst(double, [1], tags=["a"]))
    assert len(list_runs(backend="local")) == before


def emits(item: int) -> int:
    emitted(item)
    return item


def emitted(item: int) -> None:
    if item < 0:
        emit_event("test.burst", resource={"prefect.resource.id": f"test.{item}"})


def test_events_of_items_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """They have no way home; of a function that emits none nothing is said."""
    assert in_flow(lambda: burst(emits, range(3)) + burst(double, range(2)))[0] == [0, 1, 2, 0, 2]
    assert [text.partition(":")[0] for text in caplog.messages if "on AWS it is lost" in text] == ["burst of emits"]


def test_a_failing_item_fails_the_task_run() -> None:
    """Its own exception is raised, with what the worker printed as its cause."""

    def body() -> tuple[str, str]:
        with pytest.raises(ZeroDivisionError) as caught:
            burst(half, range(100))
        return str(caught.value.__cause__), this_flow_run.id

    (cause, flow_run_id), flow_run = in_flow(body)
    assert "in half" in cause
    (task_run,) = task_runs_of(flow_run, 1)
    assert task_run.state is not None
    assert task_run.state.is_failed()
    (run,) = runs_of(flow_run_id)
    assert run.status().state is RunState.STOPPED


def test_failures_that_are_wanted_take_the_place_of_values() -> None:
    """As in `starburst_map`: all of them, or as many as tolerated."""

    def body() -> list[Any]:
        kept = burst(half, range(3), return_exceptions=True)
        with pytest.raises(RunStopped):
            burst(half, [0, 0, 1], tolerate=1)
        return [*kept, *burst(half, [0, 1], tolerate=1)]

    values, _ = in_flow(body)
    assert [type(value) for value in values] == [ZeroDivisionError, float, float, ZeroDivisionError, float]


# --- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_a_retried_flow_runs_what_is_left(tmp_path: Path) -> None:
    """The second attempt runs the item that failed and those that had no turn, and no other twice."""
    attempts: list[str] = []
    noted = noting(tmp_path, failing_once=frozenset({70}))

    @flow(retries=1, task_runner=runner())
    def retried() -> list[int]:
        attempts.append(str(this_flow_run.id))
        return burst(noted, range(100), chunk_size=5)

    assert retried() == [2 * item for item in range(100)]
    assert len(attempts) == 2
    assert calls(tmp_path) == Counter({**dict.fromkeys(range(100), 1), 70: 2})
    assert [run.tags["prefect-attempt"] for run in runs_of(attempts[0])] == ["1", "2"]


def test_what_is_left_keeps_its_numbers(tmp_path: Path) -> None:
    """Each item draws what its number in the burst has it draw, also in the second attempt, which runs fewer.

    That is a retry of the first one's run: whoever reads either has all answers.
    """
    attempts: list[str] = []
    mark = tmp_path / "failed"

    def draw(item: int) -> float:
        if item == 30 and not mark.exists():
            mark.touch()
            raise ValueError(item)
        return random.random()

    @flow(retries=1, task_runner=runner())
    def retried() -> list[float]:
        attempts.append(str(this_flow_run.id))
        return burst(draw, range(60), seed=7, chunk_size=2)

    values = retried()
    assert len(attempts) == 2
    assert values == burst(draw, range(60), seed=7, workers=1, backend="local")
    first, retry = runs_of(attempts[0])
    assert retry.parent == first.id
    assert first.results() == retry.results() == values


def test_what_is_left_stands_where_the_attempt_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of an earlier attempt may be gone, as where a deployment's worker makes one for each."""
    attempts: list[Path] = []

    def stood(item: int) -> str:
        if not (tmp_path / "2").exists():
            raise ValueError(item)
        return str(Path.cwd())

    @flow(retries=1, task_runner=runner())
    def retried() -> list[str]:
        here = tmp_path / str(len(attempts) + 1)
        here.mkdir()
        monkeypatch.chdir(here)
        for before in attempts:
            before.rmdir()
        attempts.append(here)
        return burst(stood, [0])

    assert retried() == [str(tmp_path / "2")]


def test_what_was_run_again_elsewhere_is_taken(tmp_path: Path) -> None:
    """Somebody runs again what had failed in a burst, as with `starburst map --retry-failed`: so no attempt need."""
    attempts: list[str] = []
    noted = noting(tmp_path, failing_once=frozenset({3}))

    @flow(retries=1, task_runner=runner())
    def retried() -> list[int]:
        attempts.append(str(this_flow_run.id))
        try:
            return burst(noted, range(10), chunk_size=1)
        except ValueError:
            (run,) = runs_of(attempts[0])
            run.retry_failed().wait()
            raise

    assert retried() == [2 * item for item in range(10)]
    assert calls(tmp_path) == Counter({**dict.fromkeys(range(10), 1), 3: 2})
    assert len(runs_of(attempts[0])) == 2


def test_each_burst_takes_its_own_answers() -> None:
    """Two equal bursts of a function that draws differ, and have the same values in the next attempt."""
    seen: list[list[list[float]]] = []

    def draw(item: int) -> float:
        return random.SystemRandom().random()

    @task(retries=1)
    def twice() -> list[list[float]]:
        drawn = [burst(draw, [0, 0, 0]), burst(draw, [0, 0, 0])]
        seen.append(drawn)
        if len(seen) == 1:
            raise ValueError("the task is tried again")
        return drawn

    @flow(retries=1, task_runner=runner())
    def retried() -> None:
        drawn = [*twice(), burst(draw, [0, 0, 0]), burst(draw, [0, 0, 0])]
        seen.append(drawn)
        if len(seen) == 3:
            raise ValueError("the flow is tried again")

    retried()
    assert [len(drawn) for drawn in seen] == [2, 2, 4, 2, 4]
    first, second, whole, third, again = seen
    assert first == second == third == whole[:2]
    assert again == whole
    assert len({value for drawn in whole for value in drawn}) == 12


def test_only_equal_items_are_taken(tmp_path: Path) -> None:
    """An input that has changed from one attempt to the next has the new items run; kept failures stay."""
    attempts: list[int] = []
    noted = noting(tmp_path, failing_once=frozenset({3}))

    @flow(retries=1, task_runner=runner())
    def retried() -> list[Any]:
        attempts.append(len(attempts))
        items = range(5) if len(attempts) == 1 else [9, *range(4, -1, -1)]
        values = burst(noted, items, return_exceptions=True)
        if len(attempts) == 1:
            raise ValueError("again")
        return [values]

    (values,) = retried()
    assert [str(value) for value in values] == ["18", "8", "item 3 fails once", "4", "2", "0"]
    assert calls(tmp_path) == Counter([*range(5), 9])


@pytest.mark.parametrize("change", ["code", "resume"])
def test_what_is_not_the_same_is_run_anew(tmp_path: Path, change: str) -> None:
    """A function that closes over another value; and everything, with `resume=False`."""
    attempts: list[int] = []

    @flow(retries=1, task_runner=runner(resume=change != "resume"))
    def retried() -> list[int]:
        attempts.append(len(attempts))
        by = len(attempts) if change == "code" else 2
        noted = noting(tmp_path)
        values = burst(lambda item: noted(item) * by, range(5))
        if len(attempts) == 1:
            raise ValueError("again")
        return values

    assert retried() == [4 * item for item in range(5)]
    assert calls(tmp_path) == Counter(dict.fromkeys(range(5), 2))


FLOW = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect_starburst import StarburstTaskRunner, burst
from tests.test_prefect_burst import noting

@dataclass
class Scenario:
    number: int

noted, gate = noting(Path(sys.argv[2]), seconds=0.1), Path(sys.argv[2]) / "gate"

def scored(scenario):
    assert isinstance(scenario, Scenario), "both are of one process"
    value = noted(scenario.number)
    while scenario.number >= 40 and not gate.exists():
        time.sleep(0.02)
    return value

@flow(name="killed", task_runner=StarburstTaskRunner(workers=2, backend="local"))
def killed():
    scenarios = (Scenario(number) for number in range(60))
    return burst(scored, list(scenarios) if sys.argv[3] == "list" else scenarios, chunk_size=2)

if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(sys.argv[1]))
        print(sum(run_flow(killed, flow_run=run, return_type="result")), flush=True)
"""


def started(folder: Path, flow_run_id: str, kind: str) -> subprocess.Popen[str]:
    """A process that runs a run of the flow above."""
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_LOGGING_LEVEL": "INFO"}
    script = folder / "killed.py"
    script.write_text(FLOW)
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    command = [sys.executable, str(script), flow_run_id, str(folder / "notes"), kind]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped_midway(folder: Path, kind: str, number: int) -> str:
    """The flow run's id, after its process had a signal while the burst was under way."""
    (folder / "notes").mkdir()
    with get_client(sync_client=True) as client:
        flow_run_id = str(client.create_flow_run(flow(lambda: None, name="killed")).id)
    process = started(folder, flow_run_id, kind)

    def under_way() -> bool:
        assert process.poll() is None, process.communicate()
        return sum(calls(folder / "notes").values()) >= 10

    until(under_way, "ten calls")
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    (folder / "notes" / "gate").touch()
    return flow_run_id


@pytest.mark.parametrize("kind", ["list", pytest.param("generator", marks=pytest.mark.rest)])
def test_a_killed_flow_process_is_started_again(tmp_path: Path, home: Path, kind: str) -> None:
    """SIGKILL in the middle of a burst: the same flow run, started again, runs nothing twice.

    Of a list every item was stored, so the second process finishes the first one's run. A generator was read in part:
    that part is answered, and a second run has the rest.
    """
    flow_run_id = stopped_midway(tmp_path, kind, signal.SIGKILL)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run_id), AwaitingRetry(), force=True)
    printed, told = started(tmp_path, flow_run_id, kind).communicate(timeout=PATIENCE_S)
    assert printed.strip() == str(sum(range(0, 120, 2))), told
    assert calls(tmp_path / "notes") == Counter(range(60)), told
    runs = runs_of(flow_run_id)
    assert [run.tags["prefect-attempt"] for run in runs] == (["1"] if kind == "list" else ["1", "2"])
    assert all(run.status().state.over for run in runs)
    assert labels_of(UUID(flow_run_id))[artifacts.RUNS_LABEL] == ",".join(run.id for run in runs)
    until(lambda: not supervisors_in(home), "no worker is alive")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.rest)])
@pytest.mark.contract
def test_an_interrupted_flow_cancels_the_run(tmp_path: Path, home: Path, number: int) -> None:
    """Ctrl-C, and the signal with which Prefect's workers cancel a flow run, leave no worker behind.

    Tried again, it runs what has no answer, as a retry of that run; objects of the script are those of its process.
    """
    flow_run_id = stopped_midway(tmp_path, "list", number)
    (run,) = runs_of(flow_run_id)
    assert run.status().state is RunState.CANCELLED
    until(lambda: not supervisors_in(home), "no worker is alive")
    answered = {index for index, value in run.whole() if not isinstance(value, Failure)}
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run_id), AwaitingRetry(), force=True)
    printed, told = started(tmp_path, flow_run_id, "list").communicate(timeout=PATIENCE_S)
    assert printed.strip() == str(sum(range(0, 120, 2))), told
    run, retry = runs_of(flow_run_id)
    assert (retry.parent, retry.status().items) == (run.id, 60 - len(answered))
    assert {item for item, times in calls(tmp_path / "notes").items() if times == 1} >= answered, told
    assert run.results() == [*range(0, 120, 2)]


# --- what Prefect shows -----------------------------------------------------------------------------------------------


@pytest.mark.contract
def test_a_summary_the_progress_and_labels() -> None:
    """Each of them tells where the run is found; the flow run's labels name all its runs and what they cost."""
    _, flow_run = in_flow(lambda: (burst(double, range(1500)), burst(double, range(3))))
    first, second = runs_of(str(flow_run.id))
    found = artifacts_of(flow_run)
    keys = "starburst-progress-bursting-double", "starburst-summary-bursting-double"
    assert set(found) == {(key, str(run.id)) for key in keys for run in (first, second)}
    summary = found["starburst-summary-bursting-double", first.id]
    assert re.fullmatch(
        r"\*\*burst of `double`\*\*: succeeded · 1,500 items · 0 failed · [\d.]+ s · \$0\.\d+ on Fargate .*",
        summary.description or "",
    )
    assert summary.type == "markdown"
    assert str(summary.task_run_id) == first.tags["prefect-task-run"]
    for text in (
        "### burst of `double`: succeeded",
        "1,500 items answered in ",
        f"| run | `{first.id}` |\n|---|---|\n",
        "| backend | local |",
        "| workers | 2 at most, each 1 vCPU, 2 GB, 1 slot |",
        " on Fargate in us-east-1 (prices of 20",
        f"/runs/{first.id}/report.html",
        f"```\nstarburst status {first.id}\nstarburst logs {first.id} --item 0\nstarburst replay {first.id} 0\n```",
    ):
        assert text in summary.data
    progress = found["starburst-progress-bursting-double", first.id]
    assert (progress.type, progress.data) == ("progress", 100)
    assert progress.description is not None
    assert progress.description.startswith("**burst of `double`**: 1,500 of 1,500 items · succeeded after ")
    assert set(str(labels_of(flow_run.id)[artifacts.RUNS_LABEL]).split(",")) == {str(first.id), str(second.id)}
    assert 0.0001 < cost_of(flow_run) < 0.1


def test_a_table_of_failures() -> None:
    """The first hundred, each on a line, and how many more there are."""
    _, flow_run = in_flow(lambda: burst(fussy, range(1000), return_exceptions=True))
    (run,) = runs_of(str(flow_run.id))
    found = artifacts_of(flow_run)
    table = found["starburst-failures-bursting-fussy", f"starburst failures {run.id} -n 0"]
    assert table.type == "table"
    assert table.description == (
        f"**burst of `fussy`**: 334 failed items (the first 100; all: `starburst failures {run.id} -n 0`)"
    )
    rows = json.loads(table.data)
    assert [row["item"] for row in rows] == list(range(0, 300, 3))
    assert rows[1] == {
        "item": 3,
        "kind": "user",
        "error": "ValueError",
        "message": r"no \| 3 " + "x" * (200 - len("no | 3 ") - 1) + "…",
    }
    summary = found["starburst-summary-bursting-fussy", run.id].data
    assert "1,000 items answered in " in summary
    assert "**334 failed**" in summary
    assert f"starburst failures {run.id}\nstarburst logs {run.id} --item 0\n" in summary


@pytest.mark.contract
def test_progress_is_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The artifact moves while the burst is under way: half of the items wait until that was seen.

    Where no terminal is, as in the log of a work pool's worker, nothing is printed beside it.
    """
    for every in ("_FIRST_S", "_EVERY_S"):
        monkeypatch.setattr(artifacts, every, 0.1)
    monkeypatch.setattr(progress, "_LINE_S", 0.1)
    gate, seen = tmp_path / "gate", set[float]()

    def held(item: int) -> None:
        while item >= 20 and not gate.exists():
            time.sleep(0.02)

    def watch(flow_run_id: str) -> None:
        only = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))
        with get_client(sync_client=True, httpx_settings={"timeout": PATIENCE_S}) as client:

            def moving() -> bool:
                found = client.read_artifacts(flow_run_filter=only)
                seen.update(each.data for each in found if each.type == "progress")
                return any(0 < share < 100 for share in seen)

            try:
                until(moving)
            finally:
                gate.touch()

    def body() -> None:
        watching = threading.Thread(target=copy_context().run, args=(watch, this_flow_run.id))
        watching.start()
        burst(held, range(40), chunk_size=1)
        watching.join()

    in_flow(body)
    assert any(0 < share < 100 for share in seen), seen
    assert " of 40 items" not in capsys.readouterr().err


@pytest.mark.contract
def test_a_prefect_that_is_away_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Artifacts that cannot be made are told of once, and the values come all the same."""

    def body() -> list[int]:
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):  # nobody listens there
            return in_task()

    @task
    def in_task() -> list[int]:
        return burst(double, range(100))

    with caplog.at_level("WARNING", logger="prefect.task_runner.starburst"):
        values, flow_run = in_flow(body)
    assert values == [2 * item for item in range(100)]
    assert artifacts_of(flow_run) == {}
    (run,) = runs_of(str(flow_run.id))
    ours = f"run {run.id} has ended, but Prefect does not show all of it"
    told = [record for record in caplog.records if ours in record.getMessage()]
    assert len(told) == 1
