"""Fleets that stay warm: found by the next run of any process, shared, closed once, and gone when nobody needs them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from starburst_common import Cluster, StarburstExecutor, starburst_map
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.warm import open_fleet
from starburst_common.local import local_backend
from starburst_common.model import FleetId, RunState, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import FLEETS, WARM, work_queue
from starburst_common.options import Options
from starburst_common.ports import Backend, Wait, WorkerSpec
from starburst_common.runs.prune import prune
from starburst_common.runs.standing import held_fleets, stop_fleet
from tests.faults.conftest import Bed, on_both
from tests.stage import Actor, Stage, Staged

WARM_S = 3.0  #: where a test waits for it to be over
IDLE_S = 0.5  #: of workers that nobody keeps warm


def who(_: int) -> str:
    """Which worker, or slot of one, this is."""
    return os.environ.get("ECS_CONTAINER_METADATA_URI_V4", "") or str(os.getsid(0))


def slow(item: int) -> int:
    """Takes a while."""
    time.sleep(0.1)
    return item


def fleets_of(backend: Backend) -> list[str]:
    """Those there are, with and without workers."""
    return sorted({*backend.store.folders(FLEETS), *backend.compute.fleets()})


def gone(bed: Bed) -> None:
    """It ends by itself: workers by their own clocks, the rest with the next pruning, and nothing is left."""
    bed.until(lambda: not bed.workers())
    prune(bed.backend)
    nothing_warm(bed)


def nothing_warm(bed: Bed) -> None:
    """No fleet is left, nor an entry of one."""
    assert fleets_of(bed.backend) == [] and [*bed.backend.store.list(WARM)] == []


@on_both
def test_the_next_run_has_the_workers_of_the_last(bed: Bed) -> None:
    """Whatever began it: a map, another cluster, an executor; no worker is launched for it, and others find none."""
    warm = {"workers": 2, "keep_warm": 600, "backend": bed.backend.paced(idle_s=IDLE_S), "progress": False}
    first = {*starburst_map(who, range(20), chunk_size=1, **warm)}
    (fleet,) = fleets_of(bed.backend)
    before = [worker.id for worker in bed.backend.compute.workers(FleetId(fleet))]
    with Cluster(**warm) as cluster:
        assert {*cluster.map(who, range(20), chunk_size=1)} <= first
    with StarburstExecutor(**{name: value for name, value in warm.items() if name != "progress"}) as executor:
        assert executor.submit(who, 1).result(60) in first
    assert [worker.id for worker in bed.backend.compute.workers(FleetId(fleet))] == before
    for other in (
        {"cpu": 2},
        {"slots": 3},
        {"env": {"A": "b"}},
        {"keep_warm": 2.0},
        {"spot": True} if bed.backend.name == "aws" else {},
    ):
        if other:
            held = open_fleet(warm["backend"], Options.of(workers=1, **{"keep_warm": 600, **other}), "other")
            assert held.id != fleet
            assert held.release("other") is False
    assert len(fleets_of(bed.backend)) > 3
    assert all(stop_fleet(bed.backend, each) for each in held_fleets(bed.backend))
    nothing_warm(bed)


@on_both
def test_runs_share_a_fleet_fairly(bed: Bed) -> None:
    """A short one is over long before a long one that came first; the first to end takes no worker from the other."""
    warm = {"workers": 2, "keep_warm": WARM_S, "backend": bed.backend.paced(idle_s=IDLE_S), "progress": False}
    with Cluster(**warm) as cluster:
        long = cluster.start(slow, range(300), chunk_size=1)
        bed.until(lambda: long.status().answered > 2)
        with Cluster(**warm) as other:
            short = other.start(slow, range(4), chunk_size=1)
            bed.until(lambda: short.status().answered > 0)
            before = long.status().answered
            assert short.results() == [*range(4)]
        assert long.status().answered < before + 100
        assert len(fleets_of(bed.backend)) == 1
        assert len(bed.backend.compute.workers(FleetId(fleets_of(bed.backend)[0]))) == 2
        long.cancel()
        assert long.wait(60).state is RunState.CANCELLED
    gone(bed)


# --- races ------------------------------------------------------------------------------------------------------------


class Standing:
    """`Compute` of which only that matters whether a fleet has workers."""

    def __init__(self) -> None:
        self.alive: set[FleetId] = set()

    def prepare(self, spec: WorkerSpec) -> None:
        pass

    def alike(self, spec: WorkerSpec) -> str:
        return "all"

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        self.alive.add(spec.fleet)
        return None

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        return [WorkerState(id=WorkerId("w"), ordinal=0, phase=WorkerPhase.RUNNING)] if fleet in self.alive else []

    def stop(self, fleet: FleetId, ids: Sequence[WorkerId], *, grace_s: float) -> None:
        self.alive.discard(fleet)

    def forget(self, fleet: FleetId) -> None:
        self.alive.discard(fleet)

    def fleets(self) -> list[FleetId]:
        return sorted(self.alive)


OPTIONS = Options.of(workers=1, keep_warm=60)


class Race:
    """A warm fleet, and processes that find it, close it and let go of it, call by call."""

    def __init__(self, folder: Path, *, alive: bool) -> None:
        self.stage, self.compute, home = Stage(), Standing(), local_backend(folder)
        store = Staged(self.stage, home.store, ("put", "create", "get", "delete", "delete_folder", "list"))
        queue = Staged(self.stage, home.queue, ("ensure", "send", "drop"))
        self.real = replace(home, compute=self.compute)
        self.backend = replace(self.real, store=store, queue=queue)
        self.fleet = open_fleet(self.real, OPTIONS, "first")
        if alive:
            self.compute.launch(self.fleet.spec, [0])
        self.kept: list[FleetId] = []

    def finds(self, holder: str) -> None:
        """Opens one, hands it work, and lets go of it."""
        fleet = open_fleet(self.backend, OPTIONS, holder)
        fleet.hold(f"run-of-{holder}")
        self.backend.compute.launch(fleet.spec, [0])
        self.backend.queue.send(work_queue(fleet.id), ["work"], group=holder)
        assert fleet.id in self.compute.alive, "somebody has closed it under our hands"
        self.kept.append(fleet.id)
        fleet.release(f"run-of-{holder}")
        fleet.release(holder)

    def closes(self) -> None:
        """Takes what nobody needs."""
        prune(self.backend)

    def lets_go(self) -> None:
        """Is the last that has it."""
        Fleet(self.backend, self.fleet.spec, 1).release("first")

    def ends(self) -> None:
        """All have let go, and workers stop: nothing is left when a crash's remains would be taken away, too."""
        self.compute.alive.clear()
        prune(self.real, now=time.time() + 7200)
        assert fleets_of(self.real) == [] and [*self.real.store.list(WARM)] == []

    def goes(self, names: Sequence[str], *steps: int) -> list[int]:
        """The first of two goes so far, then the second so far, then each to its end; how many calls they made."""
        bodies = {"finds": lambda: self.finds("one"), "finds too": lambda: self.finds("two")}
        bodies |= {"closes": self.closes, "lets go": self.lets_go}
        actors = [self.stage.add(name, bodies[name]) for name in names]
        made = [_go(self.stage, actor, most) for actor, most in zip(actors, steps, strict=True)]
        made = [done + _go(self.stage, actor, 1000) for actor, done in zip(actors, made, strict=True)]
        assert [actor.error for actor in actors] == [None, None], (steps, self.stage.story)
        return made


def _go(stage: Stage, actor: Actor, steps: int) -> int:
    """So many calls of an actor, or as many as it makes."""
    for made in range(steps):
        if actor.over:
            return made
        stage.step(actor)
    return steps


@pytest.mark.parametrize(
    ("names", "alive"),
    [
        pytest.param(("finds", "closes"), False, marks=pytest.mark.rest),
        pytest.param(("closes", "finds"), False, marks=pytest.mark.rest),
        pytest.param(("finds", "finds too"), True, marks=pytest.mark.rest),
        pytest.param(("finds", "finds too"), False, marks=pytest.mark.rest),
        (("lets go", "finds"), True),
        (("lets go", "closes"), False),
        pytest.param(("finds", "lets go"), False, marks=pytest.mark.rest),
    ],
)
def test_nobody_is_given_a_fleet_that_is_about_to_be_closed(
    tmp_path: Path, names: tuple[str, str], alive: bool
) -> None:
    """Whoever comes between any two calls of another: work is never sent to a queue that is gone, nothing is left."""

    def race(number: int) -> Race:
        at = Race(tmp_path / str(number), alive=alive)
        if "lets go" not in names:
            at.fleet.release("first")
        return at

    first, second = race(0).goes(names, 1000, 1000)
    every = [(ahead, between) for ahead in range(first + 1) for between in range(second + 3)]
    for number, steps in enumerate(every, 1):
        at = race(number)
        at.goes(names, *steps)
        if alive and "closes" not in names:
            assert {*at.kept} == {at.fleet.id}
        at.ends()
        at.real.close()
