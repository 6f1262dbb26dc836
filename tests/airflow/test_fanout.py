"""Tries of one task: what each of them finds, and that no item is run for nothing, and none is left at work."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_starburst.calls import ItemCall
from airflow_provider_starburst.course import Now
from airflow_provider_starburst.fanout import Held, Lost, Wanted, awaited, held
from airflow_provider_starburst.triggers import starburst as trigger
from starburst_common import BadInput, Cluster, RunState, attach
from starburst_common.ids import new_run_id
from starburst_common.ports import Backend
from starburst_common.runs.claims import Claims, Stage
from starburst_common.spi import start_as
from tests.airflow.work import sleeps, works

NAME = "0" * 64
NOW = Now(code="code", input="input", tries=1, on_stale="redo", on_clear="redo")
LATE = float("inf")


@pytest.fixture
def asked(tmp_path: Path) -> Wanted:
    """What a first try asks for: six items, three of which fail."""
    return Wanted(
        name=NAME,
        by="first",
        fn=ItemCall(works, (str(tmp_path),), {}),
        items=range(6),
        now=NOW,
        options={"workers": 1, "progress": False},
        tell=logging.getLogger("tests").info,
    )


def calls(folder: Path) -> list[int]:
    """How often each item was called."""
    return [len((folder / f"call-{item}").read_text()) for item in range(6)]


def ended(mine: Held) -> RunState:
    """How its run ends."""
    assert awaited(mine.run, every_s=1.0, until=LATE, tell=print)
    return mine.run.status().state


def test_a_retry_runs_what_failed_and_nothing_else(
    place: Backend, asked: Wanted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answers and those of the first try are one run's; it tells of how many items."""
    caplog.set_level("INFO", logger="tests")
    first = held(place, asked)
    assert ended(first) is RunState.FAILED
    (tmp_path / "mended").touch()
    second = held(place, asked)
    assert f"run {second.run.id} runs again the 3 items that failed" in caplog.messages[-1]
    assert ended(second) is RunState.SUCCEEDED
    assert calls(tmp_path) == [1, 2, 1, 2, 1, 2]
    assert attach(second.claim.run, backend=place).results() == [0, 10, 20, 30, 40, 50]
    assert first.claim.run == second.claim.run and first.run.id != second.run.id
    assert held(place, asked).run.id == second.run.id, "a third try has nothing to run"
    assert calls(tmp_path) == [1, 2, 1, 2, 1, 2]


def test_a_clear_runs_all_anew_or_what_is_missing(place: Backend, asked: Wanted, tmp_path: Path) -> None:
    """As it is told; a clear is known by the number of tries, which it raises and a retry does not."""
    (tmp_path / "mended").touch()
    first = held(place, asked)
    ended(first)
    cleared = replace(asked, now=replace(NOW, tries=2))
    again = held(place, cleared)
    assert again.claim.run != first.claim.run and ended(again) is RunState.SUCCEEDED
    assert calls(tmp_path) == [2] * 6
    resumed = held(place, replace(asked, now=replace(NOW, tries=3, on_clear="resume")))
    assert resumed.claim.run == again.claim.run and calls(tmp_path) == [2] * 6
    assert held(place, replace(asked, now=replace(NOW, tries=3))).claim.run == again.claim.run, "and now it is a retry"


@pytest.mark.parametrize("changed", [{"code": "other"}, {"input": "other"}])
def test_changed_code_or_items_are_never_mixed_with_the_old(
    place: Backend, asked: Wanted, changed: dict[str, str], tmp_path: Path
) -> None:
    """They are run anew, or refused, or the old ones go on."""
    (tmp_path / "mended").touch()
    first = held(place, asked)
    ended(first)
    now = replace(NOW, **changed)
    assert held(place, replace(asked, now=replace(now, on_stale="keep"))).claim.run == first.claim.run
    with pytest.raises(BadInput, match=r"the (function|items) changed since run"):
        held(place, replace(asked, now=replace(now, on_stale="fail")))
    anew = held(place, replace(asked, now=now))
    assert anew.claim.run != first.claim.run and ended(anew) is RunState.SUCCEEDED


def test_a_run_that_is_redone_while_it_is_at_work_ends(place: Backend, asked: Wanted) -> None:
    """Nothing of the old one goes on billing."""
    slow = replace(asked, fn=sleeps, items=[60.0])
    first = held(place, slow)
    second = held(place, replace(slow, items=[0.0], now=replace(NOW, tries=2)))
    assert ended(second) is RunState.SUCCEEDED
    assert attach(first.claim.run, backend=place).status().state is RunState.CANCELLED


def test_a_try_that_died_before_it_began_the_run_is_followed_by_one_that_does(place: Backend, asked: Wanted) -> None:
    """Its claim names a run that is not there."""
    Claims(place, NAME, "gone").add(None, run=new_run_id(), stage=Stage.INTENDED, about=NOW.about(0, 0.0))
    assert ended(held(place, asked)) is RunState.FAILED


def test_a_try_that_died_before_it_wrote_down_its_run_is_followed_by_one_that_finds_it(
    place: Backend, asked: Wanted, tmp_path: Path
) -> None:
    """The run's id was written down before it began."""
    name = new_run_id()
    Claims(place, NAME, "gone").add(None, run=name, stage=Stage.INTENDED, about=NOW.about(0, 0.0))
    with Cluster(backend=place, **asked.options) as cluster:
        start_as(name, cluster, asked.fn, asked.items)
    found = held(place, asked)
    assert found.run.id == name and ended(found) is RunState.FAILED
    assert calls(tmp_path) == [1] * 6


def test_a_try_that_is_overtaken_while_it_begins_leaves_no_run(place: Backend, asked: Wanted) -> None:
    """Airflow may have given it up, and the next one is at work."""
    later = Claims(place, NAME, "later")

    def items() -> Any:
        assert later.add(later.last(), run=new_run_id(), stage=Stage.INTENDED, about=NOW.about(1, 0.0))
        yield 60.0

    with pytest.raises(Lost):
        held(place, replace(asked, fn=sleeps, items=items()))
    (run,) = place.store.folders("runs/")
    assert attach(run, backend=place).status().state is RunState.CANCELLED


def test_a_run_that_was_cancelled_is_resumed(place: Backend, asked: Wanted) -> None:
    """As after a deploy's SIGTERM: what was answered stays, under the same id."""
    slow = replace(asked, fn=sleeps, items=[0.0, 0.0, 60.0], options={**asked.options, "chunk_size": 1})
    first = held(place, slow)
    answers = first.run.iter_completed()
    next(answers), next(answers)
    assert Claims(place, NAME, "first").cancel()
    assert ended(first) is RunState.CANCELLED
    second = held(place, slow)
    assert second.run.id == first.run.id
    assert second.run.status().state is RunState.RUNNING and second.run.status().answered == 2
    second.run.cancel()


def test_the_old_tries_trigger_does_not_end_the_new_tries_run(place: Backend, asked: Wanted) -> None:
    """Airflow tells it of a clear when the next try may be at work already."""
    slow = replace(asked, fn=sleeps, items=[1.0])
    first = held(place, slow)
    second = held(place, replace(slow, by="second"))
    assert not trigger.cancelled(_where(place), NAME, "first")
    assert second.run.id == first.run.id and ended(second) is RunState.SUCCEEDED


def test_a_trigger_ends_its_own_run_with_its_workers(place: Backend, asked: Wanted) -> None:
    """When it returns nothing of the run is at work."""
    first = held(place, replace(asked, fn=sleeps, items=[60.0]))
    assert trigger.cancelled(_where(place), NAME, "first")
    assert first.run.wait(30).state is RunState.CANCELLED


def test_a_run_is_kept_going_by_steps(place: Backend, asked: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a trigger, where the process that began it is gone."""
    first = held(place, asked)
    driver, run = trigger.driving(_where(place), first.claim.run)
    while not (told := trigger.stepped(driver, run))[0]:
        time.sleep(0.1)
    assert told[1].state is RunState.FAILED and told[1].failed == 3


def _where(place: Backend) -> Any:
    from airflow_provider_starburst.where import Where

    return Where.of({"backend": "local"}, "a test")
