"""Pruning beside what goes on, and after what died: only what has ended goes, and nothing that anybody counts on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import Cluster, InputLost, RunState, attach, starburst_map
from starburst_common.names import RUNS
from starburst_common.ports import Backend, Compute, ObjectStore, Wait
from starburst_common.runs.prune import prune
from tests.calls import add
from tests.faults.conftest import Bed, LocalBed, on_both
from tests.faults.dying import IDLE_S, N, mapped
from tests.places import open_place

DAY_S = 86400.0


def later(days: float) -> float:
    """The time in so many days."""
    return time.time() + days * DAY_S


def left_behind(bed: Bed, point: str) -> str:
    """The run of a driver that died there, once its workers are gone too."""
    assert mapped(bed.text, point).at == point
    bed.until(lambda: not bed.workers())
    (run,) = bed.backend.store.folders(RUNS)
    return run


@on_both
def test_a_run_that_nobody_closed_is_ended_and_then_kept(bed: Bed) -> None:
    """All its items are answered and its driver is dead: pruning ends it as what it is, and keeps it from then on."""
    run = left_behind(bed, "before store.create runs/run/end")
    assert prune(bed.backend, now=later(0.1)) == []
    assert attach(run, backend=bed.backend).status().state is RunState.SUCCEEDED
    assert bed.left() == []
    assert prune(bed.backend, now=later(6.9)) == []
    assert attach(run, backend=bed.backend).results() == [*range(N)]
    assert prune(bed.backend, now=later(7.1)) == [run]
    assert bed.objects() == []


def test_a_run_that_nobody_drives_is_stopped_and_then_kept(bed: Bed) -> None:
    """After a week without any change it is ended as abandoned, and a week later it goes; till then all can attach."""
    run = left_behind(bed, "before compute.launch")
    assert prune(bed.backend, now=later(6.9)) == []
    assert attach(run, backend=bed.backend).status().state is RunState.RUNNING
    assert prune(bed.backend, now=later(7.1)) == []
    now = attach(run, backend=bed.backend).status()
    assert now.state is RunState.STOPPED
    assert now.reason.startswith("abandoned: ")
    assert prune(bed.backend, now=later(6.9)) == []
    assert prune(bed.backend, now=later(7.1)) == [run]
    assert bed.objects() == []


@on_both
def test_a_run_whose_feeder_died_is_ended_in_hours(bed: Bed) -> None:
    """Its input is not whole and nobody gives signs: with neither driver nor worker it ends as one of lost input."""
    run = left_behind(bed, "before store.create runs/run/input")
    assert prune(bed.backend, now=later(0.5 / 24)) == []
    assert attach(run, backend=bed.backend).status().state is RunState.RUNNING
    assert prune(bed.backend, now=later(2 / 24)) == []
    now = attach(run, backend=bed.backend).status()
    assert now.state is RunState.STOPPED
    assert now.reason.startswith("abandoned: the driver died while reading its input")
    with pytest.raises(InputLost):
        attach(run, backend=bed.backend).results()
    assert bed.left() == []
    assert prune(bed.backend, now=later(6.9)) == []
    assert prune(bed.backend, now=later(7.1)) == [run]
    assert bed.objects() == []


def test_what_a_crashed_start_left_goes_in_hours(bed: Bed) -> None:
    """A sign of life and no run: it goes with the first pruning after an hour, unless something is there beside it."""
    run = left_behind(bed, "before store.create runs/run/spec")
    assert prune(bed.backend, now=later(0.5 / 24)) == []
    strange = f"{RUNS}{run}/packs/000000000000"
    bed.backend.store.put(strange, b"of a run whose spec is gone")
    assert prune(bed.backend, now=later(2 / 24)) == []
    bed.backend.store.delete([strange])
    assert prune(bed.backend, now=later(2 / 24)) == [run]
    assert bed.left() == []
    assert bed.objects() == []


def test_a_run_that_goes_on_is_never_pruned(bed: Bed) -> None:
    """However old it is, and however seldom it says anything."""
    gate = Path(f"{bed.notes}.gate")

    def held(item: int) -> int:
        while not gate.exists():
            time.sleep(0.02)
        return -item

    with Cluster(workers=1, backend=bed.backend.paced(idle_s=IDLE_S), progress=False) as cluster:
        run = cluster.start(held, range(8), chunk_size=2)
        bed.until(lambda: bool(bed.workers()))
        with pytest.raises(TimeoutError):
            run.results(timeout=0.1)
        assert run.extend(1.0) > time.time() + bed.backend.keep_s - 60  # no wait and no extension makes it end sooner
        assert prune(bed.backend, now=later(400)) == []
        gate.touch()
        assert run.results(timeout=120) == [-item for item in range(8)]


class Nobody:
    """A compute that has no worker yet."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compute, name)

    def launch(self, spec: Any, ordinals: Any) -> Wait:
        """As where the account's quota is used up."""
        return Wait("a quota", 3600.0)


def test_a_run_that_is_driven_is_never_pruned(local_bed: LocalBed) -> None:
    """Though it has had no worker for weeks: its driver says that it is there. Once nobody says so, it is abandoned."""
    run = left_behind(local_bed, "before compute.launch")

    def in_a_week() -> Backend:
        """The backend as other processes see it when so much more has passed."""
        (clock,) = (local_bed.home / "clock").iterdir()
        clock.write_text(repr(float(clock.read_text()) + 8 * DAY_S))
        return open_place(local_bed.text)

    with closing(in_a_week()) as backend:
        driven = attach(run, backend=replace(backend, compute=cast("Compute", Nobody(backend.compute))))
        with pytest.raises(TimeoutError):
            driven.results(timeout=0.0)
        assert prune(backend) == []
        assert driven.status().state is RunState.RUNNING
    with closing(in_a_week()) as backend:
        assert prune(backend) == []
        assert attach(run, backend=backend).status().reason.startswith("abandoned: nobody drove it on")
    driven.wait(60)


class Between:
    """A store in which something else happens before and after each write of a run's input."""

    def __init__(self, store: ObjectStore, act: Callable[[], Any]) -> None:
        self._store, self._act = store, act
        self.written: list[str] = []

    def create(self, key: str, body: Any) -> None:
        """As asked."""
        if key.endswith("/end"):
            self._store.create(key, body)
            return
        self._act()
        self._store.create(key, body)
        self.written.append(key.split("/")[2])
        self._act()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@on_both
def test_pruning_takes_no_code_from_a_run_that_begins(bed: Bed) -> None:
    """Unchanged code is run again while the earlier run of it expires, at any step of the start."""
    assert starburst_map(add, range(N), workers=1, backend=bed.backend, progress=False) == [*range(N)]
    (before,) = bed.backend.store.folders(RUNS)
    assert any(bed.backend.store.list(f"{RUNS}{before}/code/"))
    at_once = replace(bed.backend, keep_s=0.0)
    store = Between(bed.backend.store, lambda: prune(at_once, now=later(0.01)))
    beside = replace(bed.backend, store=store)  # type: ignore[arg-type]
    assert starburst_map(add, range(N), workers=1, backend=beside, progress=False) == [*range(N)]
    assert {"spec", "code", "functions", "packs", "plan", "input"} <= set(store.written)
    assert before not in bed.backend.store.folders(RUNS)
