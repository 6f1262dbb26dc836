"""`StarburstMapOperator` as Airflow calls it: what it returns, raises and defers, and what a killed one leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.triggers.base import BaseTrigger

from airflow_provider_starburst import StarburstMapOperator, starburst_map_task
from airflow_provider_starburst.errors import (
    StarburstDeadline,
    StarburstItemsFailed,
    StarburstRefused,
    StarburstRunEnded,
    StarburstTimeout,
)
from airflow_provider_starburst.landing import landing_of
from airflow_provider_starburst.results import StarburstResults
from airflow_provider_starburst.triggers import starburst as triggers
from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger
from starburst_common import FailureKind, NotFound, Rows, RunState, attach, list_runs
from starburst_common.ports import Backend
from starburst_common.runs.spec import read_spec
from tests.airflow.stage import again, context, deferred, event_of, operator
from tests.airflow.work import sleeps, works_when_told

NEW, TELLS = (find_spec("airflow.sdk") is not None, hasattr(BaseTrigger, "on_kill"))  # Airflow 3, and 3.3


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """A folder with which no item fails."""
    (tmp_path / "mended").touch()
    return tmp_path


def test_it_returns_results_that_are_read_when_used(place: Backend, mended: Path) -> None:
    """And tells of links at once; what goes through XCom is small and plain."""
    told = context()
    results = operator(mended).execute(told)
    assert (len(results), results[1], results[-1], results[1:3]) == (6, 10, 50, [10, 20])
    assert [*results] == [0, 10, 20, 30, 40, 50] and dict(results.succeeded())[5] == 50
    with pytest.raises(IndexError):
        results[6]
    sent = json.loads(json.dumps(results.serialize(), allow_nan=False))
    assert StarburstResults.deserialize(sent, 1) == results
    assert (sent["items"], sent["succeeded"], sent["failed"], sent["missing"]) == (6, 6, 0, 0)
    assert float(sent["estimated_usd"]) > 0 and sent["ended_at"].endswith("+00:00")
    assert set(told["ti"].pushed) >= {"starburst_links"}
    assert told["ti"].pushed["starburst_links"]["report"] == sent["report"]
    (run,) = list_runs(backend=place)
    assert run.tags == {"airflow-dag": "d", "airflow-run": "manual__1", "airflow-task": "t", "airflow-map-index": "-1"}
    assert run.label == "d.t"


def test_the_log_tells_how_it_ended(place: Backend, tmp_path: Path) -> None:
    """In a line that is read, with the report's place."""
    with pytest.raises(StarburstItemsFailed):
        operator(tmp_path).execute(context())
    line = landing_of(place, list_runs(backend=place)[0].id).line
    how = r"us-east-1, x86, on-demand, prices of 2026-\S+"
    said = rf"run run-\S+: 3 of 6 items succeeded, 3 failed, in \d+\.\d s; estimated \$\S+ \({how}\); file://\S+/report.html"
    assert re.fullmatch(said, line), line


def test_failures_are_raised_by_class_and_a_retry_runs_them_alone(place: Backend, tmp_path: Path) -> None:
    """Each class with its first traceback."""
    with pytest.raises(StarburstItemsFailed, match=r"3 items failed with ValueError, first item 1: ") as raised:
        operator(tmp_path).execute(context())
    assert "raise ValueError" in str(raised.value) and str(raised.value).count("Traceback") == 1
    (tmp_path / "mended").touch()
    assert [*operator(tmp_path).execute(context())] == [0, 10, 20, 30, 40, 50]
    assert [len((tmp_path / f"call-{item}").read_text()) for item in range(6)] == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("options", [{"fail_on_partial_error": False}, {"tolerate": "50%"}, {"tolerate": 3}])
def test_failures_that_are_tolerated_are_in_place(place: Backend, tmp_path: Path, options: dict[str, Any]) -> None:
    """As exceptions; the manifest counts them."""
    results = operator(tmp_path, **options).execute(context())
    assert isinstance(results[1], ValueError) and results[2] == 20
    assert [type(value) for value in results] == [int, ValueError] * 3
    assert results.manifest["failed"] == 3 and [failure.index for failure in results.failures()] == [1, 3, 5]


def test_more_failures_than_tolerated_fail_the_task(place: Backend, tmp_path: Path) -> None:
    """And stop the run."""
    with pytest.raises(StarburstItemsFailed, match="ValueError"):
        operator(tmp_path, tolerate=1, options={"chunk_size": 1}).execute(context())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"items": None}, "items=None"),
        ({"items": "items"}, "items='items': a text is not taken apart into characters"),
        ({"items": {"a": 1}}, "give a list"),
        ({"on_stale": "mix"}, "on_stale='mix': give one of redo, fail, keep"),
        ({"on_clear": "never"}, "on_clear='never': give one of redo, resume"),
        ({"options": {"worker": 3}}, "worker"),
        ({"options": {"workers": 3}}, "workers: give workers= to the operator itself"),
        ({"workers": 0}, "workers=0"),
        ({"deadline": "3h"}, "deadline='3h'"),
        ({"max_hourly_cost": -1}, "max_hourly_cost=-1"),
        ({"poll_interval": None}, "poll_interval=0"),
    ],
)
def test_what_is_wrong_fails_the_task_for_good(place: Backend, options: dict[str, Any], said: str) -> None:
    """A retry would only meet it again; nothing is begun."""
    with pytest.raises(StarburstRefused, match=said) as raised:
        operator(**options).execute(context())
    assert isinstance(raised.value, AirflowFailException)
    assert list_runs(backend=place) == []


def test_a_function_that_cannot_travel_fails_the_task_for_good(place: Backend) -> None:
    """Its lock cannot be pickled."""
    lock = threading.Lock()
    with pytest.raises(StarburstRefused, match="pickle"):
        operator(python_callable=lambda item: lock.locked(), op_args=None).execute(context())


def test_items_are_resolved_and_never_rendered(place: Backend) -> None:
    """Braces in an item are the user's own, and what another task returns may come as whatever sequence."""

    class Output:
        def resolve(self, context: Any) -> Any:
            return ("{{ no }}", "a {% b")

    task = operator(items=Output(), op_kwargs={"tail": "{{ tail }}"})
    task.render_template_fields({"tail": "rendered"})
    assert task.items == ("{{ no }}", "a {% b") and task.op_kwargs == {"tail": "rendered"}
    literal = operator(items=["{{ no }}", "x.sql"])
    literal.render_template_fields({})
    assert literal.items == ["{{ no }}", "x.sql"]


def test_rows_are_read_by_workers(place: Backend, tmp_path: Path) -> None:
    """Where they lie; a retry would run those that failed."""
    (tmp_path / "rows.jsonl").write_text("1\n2\n3\n")
    task = operator(python_callable=abs, op_args=None, items=Rows(str(tmp_path / "*.jsonl")))
    task.render_template_fields({})
    assert [*task.execute(context())] == [1, 2, 3]


def test_a_run_has_its_task_s_limits(place: Backend, mended: Path) -> None:
    """So that workers keep them, whoever else is dead."""
    operator(mended, budget=2.5, max_hourly_cost=10, deadline=timedelta(hours=1)).execute(context())
    (run,) = list_runs(backend=place)
    limits = read_spec(place, run.id).terms.limits
    assert (limits.budget_usd, limits.hourly_usd, limits.deadline_s) == (2.5, 10.0, 3600.0)


def test_a_trigger_waits_and_another_process_has_the_results(place: Backend, mended: Path) -> None:
    """One event, not before the scheduler can take it; all that is needed after it is in it."""
    defer = deferred(operator(mended, deferrable=True), context())
    assert (defer.method_name, defer.timeout) == ("execute_complete", None)
    began = time.monotonic()
    event = asyncio.run(event_of(again(defer.trigger)))
    assert event["status"] == "over" and time.monotonic() - began >= 5.0
    assert [*operator(mended, deferrable=True).execute_complete(context(), event)] == [0, 10, 20, 30, 40, 50]


def test_a_finished_run_is_not_deferred(place: Backend, mended: Path) -> None:
    """As where the process that was to land it was killed."""
    first = operator(mended).execute(context())
    assert operator(mended, deferrable=True).execute(context()) == first


def test_a_task_that_is_marked_while_deferred_ends_its_run(place: Backend) -> None:
    """And the next try resumes it."""
    slow = {"python_callable": sleeps, "op_args": None, "items": [0.0, 60.0], "options": {"chunk_size": 1}}
    defer = deferred(operator(deferrable=True, **slow), context())
    asyncio.run(again(defer.trigger).on_kill())
    (run,) = list_runs(backend=place)
    assert run.status().state is RunState.CANCELLED
    second = deferred(operator(deferrable=True, **slow), context())
    assert second.trigger.run_id == defer.trigger.run_id and run.status().state is RunState.RUNNING
    asyncio.run(again(defer.trigger).on_kill())
    time.sleep(1)
    assert run.status().state is RunState.RUNNING, "the old trigger has nothing to say any more"
    run.cancel()


def test_a_run_that_is_to_outlive_its_task_does(place: Backend) -> None:
    """With cancel_on_kill=False."""
    task = operator(deferrable=True, python_callable=sleeps, op_args=None, items=[60.0], cancel_on_kill=False)
    asyncio.run(again(deferred(task, context()).trigger).on_kill())
    task.on_kill()
    (run,) = list_runs(backend=place)
    assert run.status().state is RunState.RUNNING
    run.cancel()


def in_a_while(call: Callable[[], None], ready: Callable[[], bool]) -> threading.Thread:
    """Call this from another thread once that is so."""

    def body() -> None:
        while not ready():
            time.sleep(0.1)
        call()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_a_task_that_is_told_to_go_keeps_what_is_answered(place: Backend, tmp_path: Path) -> None:
    """By SIGTERM, as by a deploy or a mark: its run ends, and the next try runs what lacks and nothing else.

    Airflow calls `on_kill` in the signal's handler, which then raises in Airflow 2, and else goes on with `execute`.
    """

    def handler(number: int, frame: Any) -> None:
        task.on_kill()
        if not NEW:
            raise RuntimeError("cancelled by SIGTERM")

    given = {"python_callable": works_when_told, "items": [0, 1, 2], "slots": 2, "options": {"chunk_size": 1}}
    task, before = operator(tmp_path, **given), signal.signal(signal.SIGTERM, handler)
    killer = in_a_while(
        lambda: os.kill(os.getpid(), signal.SIGTERM),
        lambda: (tmp_path / "call-2").exists() and any(run.status().answered == 2 for run in list_runs(backend=place)),
    )
    with pytest.raises((StarburstRunEnded, RuntimeError), match="cancelled"):
        task.execute(context())
    killer.join()
    signal.signal(signal.SIGTERM, before)
    (run,) = list_runs(backend=place)
    assert attach(run.id, backend=place).wait(30).state is RunState.CANCELLED
    (tmp_path / "told").touch()
    assert [*operator(tmp_path, **given).execute(context())] == [0, 10, 20]
    assert [found.id for found in list_runs(backend=place)] == [run.id]
    assert [len((tmp_path / f"call-{item}").read_text()) for item in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"execution_timeout": timedelta(seconds=2)}, StarburstTimeout), ({"deadline": 2.0}, StarburstDeadline)],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_run_ends_when_its_time_is_over(
    place: Backend, options: dict[str, Any], error: type[Exception], deferrable: bool
) -> None:
    """The try's, after which a retry goes on, or that of all tries."""
    slow = {"python_callable": sleeps, "op_args": None, "items": [60.0], "deferrable": deferrable, **options}
    end: Callable[[], Any] = partial(operator(**slow).execute, context())
    if deferrable:
        defer = deferred(operator(**slow), context())
        assert defer.timeout is not None and timedelta(minutes=10) < defer.timeout < timedelta(minutes=11)
        event = asyncio.run(event_of(again(defer.trigger)))
        end = partial(operator(**slow).execute_complete, context(), event)
    with pytest.raises(error, match="0 of 1 items"):
        end()
    (run,) = list_runs(backend=place)
    ended = attach(run.id, backend=place).wait(30)  # a deadline is the run's too, which may end it first
    by_itself = error is StarburstDeadline and ended.limit is FailureKind.DEADLINE
    assert ended.state is (RunState.STOPPED if by_itself else RunState.CANCELLED)


def test_whatever_went_wrong_is_an_event_that_can_be_sent(place: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Airflow would run the trigger a second time, and then end the run. A name of no encoding is in its text."""

    def broken(*_: Any) -> Any:
        raise NotFound(f"/data/\udcff{'x' * 9000}")

    monkeypatch.setattr(triggers, "driving", broken)
    monkeypatch.setattr(triggers, "_FIRST_EVENT_S", 0.0)
    event = asyncio.run(event_of(again(StarburstRunTrigger("name", "by", "run-1"))))
    assert event["status"] == "error" and len(event["message"].encode()) == 4000


def test_outages_are_waited_for_and_told_if_they_last(place: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that raised would fail the task and leave the run alone."""
    defer = deferred(operator(deferrable=True, python_callable=sleeps, op_args=None, items=[0.0]), context())
    real, looks = triggers.driving, []

    def fails(*args: Any) -> Any:
        looks.append(args)
        if len(looks) < fail_until:
            raise OSError("throttled")
        return real(*args)

    monkeypatch.setattr(triggers, "driving", fails)
    fail_until = 3
    assert asyncio.run(event_of(again(defer.trigger)))["status"] == "over"
    fail_until = 1000
    event = asyncio.run(event_of(again(defer.trigger)))
    assert event["status"] == "error" and "throttled" in event["message"]
    with pytest.raises(StarburstRunEnded, match="throttled"):
        operator(deferrable=True).execute_complete(context(), event)


class Worded:
    """An argument with a template field of its own, as a function may take one."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def both(item: str, worded: Worded) -> str:
    """What would be called with them."""
    return f"{item} {worded.text}"


@pytest.mark.parametrize("decorated", [False, True])
def test_arguments_are_rendered_and_items_are_not(decorated: bool) -> None:
    """Also what lies within an argument; items are as they were given, whichever way."""
    items, argument = ["{{ 1 + 1 }}", "{% no template"], Worded("{{ 1 + 1 }}")
    with DAG("d", schedule=None):
        if decorated:
            task = starburst_map_task(both)(items, argument).operator
        else:
            task = StarburstMapOperator(task_id="t", python_callable=both, items=items, op_args=[argument])
    task.render_template_fields(context())
    assert (task.items, [each.text for each in task.op_args]) == (items, ["2"])


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, None if TELLS else 900.0), ({"driver_ttl": timedelta(minutes=20)}, 1200.0)],
)
def test_workers_of_a_task_that_nobody_looks_after_stop(
    place: Backend, given: dict[str, Any], seconds: float | None
) -> None:
    """After a while that the run is told: by default where no trigger hears that its task is marked or cleared."""
    deferred(operator(deferrable=True, python_callable=sleeps, op_args=None, items=[60.0], **given), context())
    (run,) = list_runs(backend=place)
    assert run._spec.terms.driver_ttl_s == seconds
    run.cancel()


DEFERS = """
import json, sys
from tests.airflow.stage import context, deferred, operator
from tests.airflow.work import works_when_told
given = {"python_callable": works_when_told, "items": [0, 1, 2], "slots": 2, "driver_ttl": 2}
print(json.dumps(deferred(operator(sys.argv[1], deferrable=True, **given), context()).trigger.serialize()[1]))
"""


@pytest.mark.rest
def test_a_trigger_that_is_cancelled_leaves_its_run_to_who_comes_next(place: Backend, tmp_path: Path) -> None:
    """As Airflow does before 3.3 where a task is marked, and where a triggerer stops: workers stop, a retry goes on."""
    command = [sys.executable, "-c", DEFERS, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    trigger = StarburstRunTrigger(**json.loads(said.splitlines()[-1]))

    async def looks_for_a_while() -> None:
        looking = asyncio.ensure_future(event_of(trigger))
        await asyncio.sleep(4.0)  # twice as long as workers would go on alone
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    asyncio.run(looks_for_a_while())
    (run,) = list_runs(backend=place)
    assert run.status().workers == 1
    in_a_while(lambda: None, lambda: run.status().workers == 0).join(60)
    assert re.search("no driver for .*: its workers have stopped: `starburst attach", run.status().reason)
    (tmp_path / "told").touch()
    task = operator(tmp_path, python_callable=works_when_told, items=[0, 1, 2])
    assert [*task.execute(context())] == [0, 10, 20]
    assert [found.id for found in list_runs(backend=place)] == [run.id]


def test_a_trigger_that_looks_seldom_is_no_driver(place: Backend) -> None:
    """Else workers would stop between two of its looks."""
    with pytest.raises(StarburstRefused, match=r"driver_ttl=60: its trigger looks every 30 s: give 4 times that"):
        operator(deferrable=True, driver_ttl=60, poll_interval=30).execute(context())
