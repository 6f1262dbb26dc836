"""Fan-outs in a whole Airflow, whose components, tasks and people do what they do: what is run, how often, what ends.

What items were called is counted by files that they write; runs are looked at in the store, where Airflow has no say.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from starburst_common import Run, RunState, list_runs
from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests.airflow.conftest import EXAMPLES
from tests.airflow.standalone import Airflow, DagRun, started, until
from tests.leftovers import processes_in
from tests.places import aws_text, environment, open_place
from tests.testbed.bed import Bed as Aws

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
pytestmark = pytest.mark.skipif(AIRFLOW < (3, 3), reason="a deferred task says how it goes from Airflow 3.3 on")
HERE = {"at": "starburst_here"}  #: on this machine; the default connection names the test bed's site


@dataclass
class Whole:
    """An Airflow, and the two places where its connections say that runs are done."""

    airflow: Airflow
    aws: Aws
    home: Path
    site: Backend
    here: Backend
    _numbers: Iterator[int] = field(default_factory=count)

    def begin(self, dag: str, *, held: bool = False, failing: int = 0, **conf: str) -> tuple[DagRun, Path]:
        """A run of a DAG, and the folder of its items, which are held there, or of which so many fail."""
        folder = self.home / f"{dag}-{next(self._numbers)}"
        folder.mkdir()
        if held:
            (folder / "held").touch()
        if failing:
            (folder / "failing").write_text(str(failing))
        return self.airflow.begin(dag, folder=str(folder), **conf), folder

    def runs(self, of: DagRun, place: Backend | None = None) -> list[Run]:
        """What was begun for the tasks of a DAG's run, the oldest first."""
        found = list_runs(backend=place or self.here, tags={"airflow-dag": of.dag, "airflow-run": of.id})
        return sorted(found, key=lambda run: run.id)

    def states(self, of: DagRun, place: Backend | None = None) -> list[RunState]:
        """How they stand."""
        return [run.status().state for run in self.runs(of, place)]

    def gone(self, place: Path) -> None:
        """Wait for nothing on this machine to be at work for this place."""
        until(lambda: not processes_in(place), lambda: processes_in(place))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One for all tests here, each of which has a DAG's run of its own."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    for file in (Path(__file__).parent / "dags" / "fanouts.py", EXAMPLES / "starburst_nightly.py"):
        shutil.copy(file, home / "dags")
    with ExitStack() as stack:
        aws = Aws()

        def variables() -> dict[str, str]:
            stack.enter_context(aws)
            said = {"STARBURST_DEFAULT": aws.site, "STARBURST_HERE": {"backend": "local", "home": str(home / "here")}}
            connections = {
                f"AIRFLOW_CONN_{name}": json.dumps({"conn_type": "starburst_ecs", "extra": extra})
                for name, extra in said.items()
            }
            return {**connections, **{name: value for name, value in aws.env.items() if name.startswith("AWS_")}}

        airflow = stack.enter_context(started(home, home / "dags", variables))
        stack.enter_context(environment({name: text for name, text in aws.env.items() if name.startswith("AWS_")}))
        site, here = open_place(aws_text(aws.site)), local_backend(home / "here")
        stack.callback(site.close)
        stack.callback(here.close)
        airflow.until_ready("whole", "starburst_morning")
        yield Whole(airflow, aws, home, site, here)


def calls(folder: Path) -> dict[int, int]:
    """How often each item was called."""
    file = folder / "calls"
    return dict(Counter(map(int, file.read_text().split()))) if file.exists() else {}


def page(url: str | None) -> str:
    """What a report of this machine's says."""
    return Path(unquote(urlsplit(url or "").path)).read_text()


def once(items: range | list[int]) -> dict[int, int]:
    """Each of them once."""
    return dict.fromkeys(items, 1)


def test_a_deferred_fan_out_is_seen_while_it_goes_on_and_its_results_are_used(whole: Whole) -> None:
    """In AWS: links and progress while it is deferred; a small manifest, and values, in the tasks that follow."""
    dag_run, folder = whole.begin("whole", held=True)
    until(lambda: "starburst_progress" in dag_run.xcoms(), dag_run.told)
    progress, links = dag_run.xcom("starburst_progress"), dag_run.links()
    assert dag_run.task("scores")["state"] == "deferred"
    assert (progress["items"], progress["failed"]) == (2, 0) and "of 2 items" in progress["text"]
    (folder / "held").unlink()
    dag_run.ended()
    assert calls(folder) == once([1, 2])
    (run,) = whole.runs(dag_run, whole.site)
    assert whole.states(dag_run, whole.site) == [RunState.SUCCEEDED] and run.id in (links["Starburst report"] or "")
    assert set(links) == {"Starburst report", "Worker logs", "ECS cluster"} and dag_run.links() == links
    manifest = dag_run.xcom("return_value")
    assert len(json.dumps(manifest)) < 1500 and manifest["__data__"]["run_id"] == run.id
    assert dag_run.xcom("return_value", "total") == 30
    assert [dag_run.xcom("return_value", "shown", index) for index in range(2)] == ["10 points", "20 points"]
    log = "\n".join(dag_run.log())
    for told in ("starburst: site bed in us-east-1", f"a trigger waits for run {run.id}", progress["text"]):
        assert told in log, log


@pytest.mark.rest
def test_a_retry_runs_what_failed_and_nothing_else(whole: Whole) -> None:
    """Ten items of ten thousand."""
    dag_run, folder = whole.begin("ten_thousand", failing=10, **HERE)
    until(lambda: len(calls(folder)) == 10_000, dag_run.told)
    (folder / "failing").unlink()
    dag_run.ended()
    counted = calls(folder)
    assert sum(counted.values()) == 10_010 and [counted[item] for item in range(11)] == [2] * 10 + [1]
    assert dag_run.task("scores")["try_number"] == 2
    data, link = dag_run.xcom("return_value")["__data__"], dag_run.links()["Starburst report"]
    assert (data["items"], data["succeeded"], len(data["runs"])) == (10_000, 10_000, 2)
    assert [
        page(url).count(f"{share} answered") for url, share in ((link, "10 of 10"), (data["report"], "10,000"))
    ] == [1, 1]


@pytest.mark.rest
def test_a_clear_while_it_is_deferred_begins_anew(whole: Whole) -> None:
    """The old run is cancelled with its tasks; the old trigger, which hears of it late, leaves the new run alone."""
    dag_run, folder = whole.begin("deferred", held=True)
    dag_run.until("deferred")
    until(lambda: len(calls(folder)) > 2, dag_run.told)
    dag_run.clear("scores")
    until(lambda: whole.states(dag_run, whole.site) == [RunState.CANCELLED, RunState.RUNNING], dag_run.told)
    dag_run.until("deferred", tries=2)
    (folder / "held").unlink()
    dag_run.ended()
    _, new = whole.runs(dag_run, whole.site)
    assert whole.states(dag_run, whole.site) == [RunState.CANCELLED, RunState.SUCCEEDED]
    assert dag_run.xcom("return_value")["__data__"]["run_id"] == new.id
    assert new.id in (dag_run.links()["Starburst report"] or "")


@pytest.mark.rest
def test_a_deferred_task_that_is_marked_ends_its_run_and_its_workers(whole: Whole) -> None:
    """In AWS: no task goes on."""
    dag_run, folder = whole.begin("deferred", held=True)
    until(lambda: len(calls(folder)) > 2, dag_run.told)
    dag_run.mark("failed")
    dag_run.ended("failed")
    until(lambda: whole.states(dag_run, whole.site) == [RunState.CANCELLED], dag_run.told)
    until(lambda: not [each for each in whole.aws.tasks() if each["last_status"] != "STOPPED"], whole.aws.tasks)


@pytest.mark.rest
@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_a_component_that_is_killed_loses_nothing_and_does_nothing_twice(whole: Whole, component: str) -> None:
    """While a task is deferred, with another of its kind after it."""
    dag_run, folder = whole.begin("deferred", held=True, **HERE)
    dag_run.until("deferred")
    until(lambda: len(calls(folder)) > 2, dag_run.told)
    whole.airflow.stop(component, signal.SIGKILL)
    (folder / "held").unlink()
    whole.airflow.start(component)
    dag_run.ended()
    assert calls(folder) == once(range(6))
    assert whole.states(dag_run) == [RunState.SUCCEEDED]


@pytest.mark.rest
def test_a_tasks_process_that_is_killed_is_followed_by_one_that_goes_on(whole: Whole) -> None:
    """Which is not deferred; no item is run for nothing."""
    dag_run, folder = whole.begin("waiting", held=True, **HERE)
    until(lambda: len(calls(folder)) > 2, dag_run.told)
    os.kill(dag_run.task("scores")["pid"], signal.SIGKILL)
    dag_run.until("running", tries=2)
    (folder / "held").unlink()
    dag_run.ended()
    assert calls(folder) == once(range(6)) and len(whole.runs(dag_run)) == 1
    assert dag_run.xcom("return_value")["__data__"]["succeeded"] == 6


@pytest.mark.rest
def test_more_results_than_a_task_may_be_mapped_over_are_refused(whole: Whole) -> None:
    """With the setting as it comes, by a word on it; the run is whole, so once it is raised nothing is run again."""
    dag_run, folder = whole.begin("wide", **HERE)
    dag_run.ended("failed")
    assert "max_map_length" in "\n".join(dag_run.log()), dag_run.told()
    whole.airflow.stop("api-server")
    whole.airflow.start("api-server", AIRFLOW__CORE__MAX_MAP_LENGTH="2000")
    whole.airflow.until_ready()
    dag_run.clear("scores", "shown")
    until(lambda: dag_run.mapped("shown") == 1500, dag_run.told)
    until(lambda: dag_run.task("shown", 0)["state"] == "success", dag_run.told)
    dag_run.give_up()
    assert dag_run.xcom("return_value", "shown", 0) == "0 points" and calls(folder) == once(range(1500))


@pytest.mark.rest
def test_a_mapped_fan_out_is_a_run_for_each_element(whole: Whole) -> None:
    """By operator and by decorator; each with links and results of its own."""
    dag_run, folder = whole.begin("mapped", **HERE)
    dag_run.ended()
    assert len(whole.runs(dag_run)) == 5
    assert calls(folder) == {1: 2, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1}


@pytest.mark.rest
def test_a_deferred_try_has_its_time_and_the_next_one_goes_on(whole: Whole) -> None:
    """Airflow itself does not look at `execution_timeout` meanwhile."""
    dag_run, folder = whole.begin("timed", held=True, **HERE)
    until(lambda: whole.states(dag_run) == [RunState.CANCELLED], dag_run.told)
    (folder / "held").unlink()
    dag_run.ended()
    assert len(whole.runs(dag_run)) == 1 and dag_run.task("scores")["try_number"] == 2
    counted = calls(folder)
    assert [counted[item] for item in range(2)] == [1, 1] and set(counted) == set(range(6))


@pytest.mark.rest
@pytest.mark.parametrize(("dag", "failing", "again"), [("deferred", 0, range(6)), ("resumed", 2, range(2))])
def test_a_clear_after_success_does_as_it_is_told(whole: Whole, dag: str, failing: int, again: range) -> None:
    """All anew in a new run, or what failed and was tolerated, alone."""
    dag_run, folder = whole.begin(dag, failing=failing, **HERE)
    dag_run.ended()
    first = dag_run.xcom("return_value")["__data__"]
    assert first["failed"] == failing
    (folder / "failing").unlink(missing_ok=True)
    dag_run.clear("scores")
    until(lambda: dag_run.task("scores")["try_number"] > 1, dag_run.told)
    dag_run.ended()
    assert calls(folder) == {item: 1 + (item in again) for item in range(6)}
    second = dag_run.xcom("return_value")["__data__"]
    assert second["failed"] == 0 and (second["run_id"] == first["run_id"]) is bool(failing)


@pytest.mark.rest
def test_a_nights_batch_is_scheduled_and_schedules_who_reads_it(whole: Whole) -> None:
    """The example as it stands; cleared, it has nothing to run again, and its reader is told anew."""
    for dag in ("starburst_morning", "starburst_nightly"):
        whole.airflow.unpause(dag)
    first = _morning_after(whole, 0)
    (night,) = whole.airflow.runs("starburst_nightly")
    night.clear("forecasts")
    assert _morning_after(whole, 1) == first == ["30 of 30 shops"]
    assert whole.states(night, whole.site) == [RunState.SUCCEEDED]


def _morning_after(whole: Whole, earlier: int) -> Any:
    """What the reader tells in the run that follows so many others."""
    until(lambda: len(whole.airflow.runs("starburst_morning")) > earlier, lambda: whole.airflow.told("scheduler"))
    morning = whole.airflow.runs("starburst_morning")[earlier]
    morning.ended()
    return morning.xcom("return_value", "report")
