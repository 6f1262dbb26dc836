"""The driver dies at any step of its way: another one finishes the run, or there was none yet; nothing stays."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

from starburst_common import InputLost, NotFound, Run, RunState, attach, starburst_map
from starburst_common.model import RunId, WorkerPhase, WorkerState
from starburst_common.names import ACCOUNTS, FLEETS, RUNS, WARM
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from starburst_common.runs.sign import unfed
from tests.calls import add
from tests.faults.conftest import AwsBed, Bed, LocalBed
from tests.faults.dying import IDLE_S, MONTH_S, WARM_S, N, mapped, pruned

REST = pytest.mark.rest
#: Points of a driver's way at which it dies, in their order, and what whoever comes then finds. Between two calls that
#: change nothing a crash leaves what it leaves at the next one that does, so those have no points of their own.
#: "Halfway" is for calls that do several things. What a driver hears or starts goes on without it: hence "after".
NOTHING, NO_RUN, NO_ITEM, ALL_ITEMS, WHOLE = (
    *("nothing", "a sign of life, but no run", "no item of the run", "the run's items, but not their end"),
    "the run",
)
LOST_S = 1.0  #: a driver that is dead is known to be after so long
POINTS = {
    "before compute.prepare": NOTHING,
    "before store.put fleets/fleet/held-by/cluster": NOTHING,
    "before queue.ensure fleet-work": NOTHING,
    "before store.put runs/run/feeding": NOTHING,
    "before store.put fleets/fleet/held-by/run": NO_RUN,
    "before queue.ensure run-notices": NO_RUN,
    "before store.create runs/run/spec": NO_RUN,
    "before store.create runs/run/code": NO_ITEM,
    "before store.create runs/run/functions": NO_ITEM,
    "before store.create runs/run/packs": NO_ITEM,
    "before store.create runs/run/plan": NO_ITEM,
    "before queue.send fleet-work": ALL_ITEMS,
    "halfway queue.send fleet-work": ALL_ITEMS,
    "before store.create runs/run/input": ALL_ITEMS,
    "before store.delete runs/run/feeding": WHOLE,
    "before compute.launch": WHOLE,
    "halfway compute.launch": WHOLE,
    "after compute.launch": WHOLE,
    "before store.put runs/run/history": WHOLE,
    "after store.put runs/run/history": WHOLE,
    "after queue.receive run-notices": WHOLE,
    "before queue.delete run-notices": WHOLE,
    "after queue.delete run-notices": WHOLE,
    "before store.create runs/run/end": WHOLE,
    "before store.create accounts/run": WHOLE,
    "before queue.drop run-notices": WHOLE,
    "before queue.drop_group fleet-work": WHOLE,
    "before store.delete fleets/fleet/held-by/run": WHOLE,
    "before store.sweep runs/run/": WHOLE,
    "before store.delete fleets/fleet/held-by/cluster": WHOLE,
    "before queue.drop fleet-work": WHOLE,
    "before compute.stop fleet": WHOLE,
    "before compute.forget fleet": WHOLE,
    "before store.delete_folder fleets/fleet/": WHOLE,
    "before store.put pruned-at": WHOLE,
    "after store.put pruned-at": WHOLE,
}
#: The same of one whose fleet is kept warm, where its way is another: nobody closes it, and the next prunes.
WARM_POINTS = {
    "before store.put fleets/fleet/held-by/warm": NOTHING,
    "before store.create warm/kind/fleet": NOTHING,
    "before store.put runs/run/feeding": NOTHING,
    "before compute.launch": WHOLE,
    "halfway compute.launch": WHOLE,
    "before store.delete fleets/fleet/held-by/run": WHOLE,
    "before store.delete fleets/fleet/held-by/cluster": WHOLE,
    "before store.put fleets/fleet/left": WHOLE,
    "before store.put pruned-at": WHOLE,
}
#: And of one who finds it.
FINDING = {
    "before store.put fleets/fleet/held-by/cluster": NOTHING,
    "before store.put runs/run/feeding": NOTHING,
    "before store.put fleets/fleet/held-by/run": NO_RUN,
    "before queue.send fleet-work": ALL_ITEMS,
    "halfway queue.send fleet-work": ALL_ITEMS,
    "before store.create runs/run/end": WHOLE,
    "before store.delete fleets/fleet/held-by/run": WHOLE,
    "before store.delete fleets/fleet/held-by/cluster": WHOLE,
    "before store.put fleets/fleet/left": WHOLE,
}
#: And of one of whose items one runs out of memory, and goes on with more.
ESCALATING = [
    "before store.create runs/run/end",
    "before store.create runs/run/resumed.1",
    "before queue.ensure run-notices-1",
    "before queue.drop run-notices",
    "before queue.drop_group fleet-work",
    "before store.delete fleets/fleet/held-by/run",
    "before store.sweep runs/run/",
    "before store.put runs/run/history.1",
    "after queue.receive run-notices-1",
    "before store.create runs/run/end.1",
    "before store.put accounts/run",
    "before queue.drop run-notices-1",
]
#: The same of whoever prunes what a dead driver has left.
PRUNING = [
    "before store.put pruned-at",
    "before queue.drop run-notices",
    "before store.delete_folder runs/run/",
    "before queue.drop fleet-work",
    "before compute.forget fleet",
    "before store.delete_folder fleets/fleet/",
]
#: And of whoever prunes a fleet that is warm no more.
COOLING = [
    "before store.delete warm/kind/fleet",
    "before store.delete fleets/fleet/held-by/warm",
    "before queue.drop fleet-work",
    "before compute.forget fleet",
    "before store.delete_folder fleets/fleet/",
]
#: Calls that change nothing.
LOOKS = {
    *(
        "store.get",
        "store.get_range",
        "store.list",
        "store.entries",
        "store.written_at",
        "store.folders",
        "queue.depth",
        "queue.dead",
    ),
    *("compute.alike", "compute.workers", "compute.tend", "compute.ended", "compute.tail", "compute.fleets"),
}
#: A call that may come or not: a deletion of nothing.
AT_TIMES = {"store.delete"}


def changes(calls: list[str]) -> set[str]:
    """Those of the calls that change something."""
    return {call for call in calls if call.split()[0] not in LOOKS} - AT_TIMES


def steps(points: Iterable[str]) -> set[str]:
    """The calls at which there are points."""
    return {point.partition(" ")[2] for point in points}


def pruned_at_each(bed: Bed, points: Iterable[str]) -> set[str]:
    """One after another prunes and dies at the next of these, and the last dies nowhere; what those before changed."""
    came_by = set()
    for point in points:
        died = pruned(bed.text, point)
        assert died.at == point, f"it never came there, but by {died.calls}"
        came_by |= changes(died.calls)
    assert pruned(bed.text, "").at == ""
    return came_by


def answered(run: Run) -> list[tuple[int, int]]:
    """Every answer there is, though the rest of the input is lost."""
    found = []
    with suppress(InputLost):
        found += run.answers()
    return sorted(found)


def died_at(bed: Bed, point: str, found: str, *, warm: bool = False, escalates: bool = False) -> None:
    """A driver dies there; what comes of it."""
    before = bed.backend.store.folders(RUNS)
    died = mapped(bed.text, point, warm=warm, escalates=escalates)
    assert died.at == point, f"the driver never came there, but by {died.calls}"
    backend = bed.backend.paced(idle_s=IDLE_S, feeder_lost_s=LOST_S)
    names = [RunId(name) for name in backend.store.folders(RUNS) if name not in before]
    assert len(names) == (found != NOTHING)
    assert unfed(backend, names) == (set() if found == WHOLE else {*names})
    if warm:  # who comes next has the fleet, or another one
        assert starburst_map(
            add, range(N), workers=1, chunk_size=1, keep_warm=WARM_S, backend=backend, progress=False
        ) == [*range(N)]
    for name in names:
        if found == NO_RUN:
            with pytest.raises(NotFound):
                attach(name, backend=backend)
            continue
        run, items = attach(name, backend=backend), 0 if found == NO_ITEM else N
        if found == WHOLE:
            assert run.results(timeout=120) == [*range(N)]
        else:
            with pytest.raises(InputLost, match=f" {items} items were stored"):
                run.results(timeout=120)
        assert run.wait(60).state is (RunState.SUCCEEDED if found == WHOLE else RunState.STOPPED)
        assert answered(attach(name, backend=backend)) == [(item, item) for item in range(items)]
    bed.until(lambda: not bed.workers() and not running(backend))  # they stop by themselves when nobody needs them
    prune(backend, now=time.time() + MONTH_S)
    assert nothing_kept(backend) == [] and fleets_kept(backend) == []
    told = [name for name in in_the_accounts(backend) if warm is False or name in names]
    assert told == (names if found not in (NOTHING, NO_RUN) else [])


def in_the_accounts(backend: Backend) -> list[str]:
    """The runs that are."""
    return [name for key in backend.store.list(ACCOUNTS) if (name := key.rpartition("/")[2]).startswith("run-")]


def running(backend: Backend) -> list[WorkerState]:
    """Workers that are not known to have stopped yet."""
    states = (state for fleet in backend.compute.fleets() for state in backend.compute.workers(fleet))
    return [state for state in states if state.phase is not WorkerPhase.STOPPED]


def fleets_kept(backend: Backend) -> list[str]:
    """What is kept of fleets, which should be nothing."""
    return [*backend.store.list(FLEETS), *backend.store.list(WARM), *backend.compute.fleets()]


def nothing_kept(backend: Backend) -> list[str]:
    """What is kept of runs, which should be nothing."""
    return [*backend.store.list(RUNS)]


@pytest.mark.parametrize("point", POINTS)
def test_a_driver_that_dies_loses_and_leaks_nothing(local_bed: LocalBed, point: str) -> None:
    """An attached one answers every item once, or says that the input was never whole; what is left is pruned.

    What is left of a driver nobody replaces is idle workers, which stop themselves, and records.
    """
    died_at(local_bed, point, POINTS[point])


@pytest.mark.parametrize(
    "point",
    [
        point if point in ("after compute.launch", "before queue.drop run-notices") else pytest.param(point, marks=REST)
        for point in POINTS
    ],
)
def test_a_driver_that_dies_on_aws_does_not_either(aws_bed: AwsBed, point: str) -> None:
    """The same of queues, tasks and objects of AWS."""
    died_at(aws_bed, point, POINTS[point])


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
def test_whoever_prunes_may_die_too(request: pytest.FixtureRequest, place: str) -> None:
    """One after another dies at the next step: each takes up what the one before it left, and the last has it all."""
    bed: Bed = request.getfixturevalue(f"{place}_bed")
    assert mapped(bed.text, "before queue.drop run-notices").at  # leaves a run, its code, its queues and its fleet
    bed.until(lambda: not bed.workers())
    came_by = pruned_at_each(bed, PRUNING)
    assert nothing_kept(bed.backend) == []
    assert came_by == steps(PRUNING), "every step has a point"


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
def test_every_step_of_a_run_has_a_point(request: pytest.FixtureRequest, place: str) -> None:
    """A call that is new in a run that nothing happens to wants a point in the table above."""
    bed: Bed = request.getfixturevalue(f"{place}_bed")
    ran = mapped(bed.text, "")
    assert ran.at == ""
    assert changes(ran.calls) <= steps(POINTS)


def few(points: Iterable[str], *first: str) -> list[Any]:
    """All points, of which only these are looked at before every commit."""
    return [point if point in first else pytest.param(point, marks=REST) for point in points]


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
@pytest.mark.parametrize("point", few(WARM_POINTS, "before store.create warm/kind/fleet", "halfway compute.launch"))
def test_a_driver_whose_fleet_is_kept_warm_may_die(request: pytest.FixtureRequest, place: str, point: str) -> None:
    """Who comes next has its fleet, if it was found to be one; and when that is warm no more nothing is left of it."""
    died_at(request.getfixturevalue(f"{place}_bed"), point, WARM_POINTS[point], warm=True)


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
@pytest.mark.parametrize("point", few(FINDING, "halfway queue.send fleet-work"))
def test_who_finds_a_warm_fleet_may_die(request: pytest.FixtureRequest, place: str, point: str) -> None:
    """Others go on with it, and its end is as ever."""
    bed: Bed = request.getfixturevalue(f"{place}_bed")
    assert mapped(bed.text, "", warm=True).at == ""
    died_at(bed, point, FINDING[point], warm=True)


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
def test_who_closes_a_fleet_that_is_warm_no_more_may_die(request: pytest.FixtureRequest, place: str) -> None:
    """One after another dies at the next step; nobody finds it meanwhile, and who looks takes away what is left."""
    bed: Bed = request.getfixturevalue(f"{place}_bed")
    assert mapped(bed.text, "", warm=True).at == ""
    bed.until(lambda: not bed.workers())
    pruned_at_each(bed, COOLING)
    assert fleets_kept(bed.backend) == []


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
def test_every_step_on_a_warm_fleet_has_a_point(request: pytest.FixtureRequest, place: str) -> None:
    """The first that opens one, and the next that finds it."""
    bed: Bed = request.getfixturevalue(f"{place}_bed")
    for points in (POINTS | WARM_POINTS, POINTS | FINDING):
        ran = mapped(bed.text, "", warm=True)
        assert ran.at == ""
        assert changes(ran.calls) <= steps(points)
    bed.until(lambda: not bed.workers())
    prune(bed.backend)


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
@pytest.mark.parametrize("point", few(ESCALATING, "before store.create runs/run/resumed.1"))
def test_a_driver_may_die_while_what_ran_out_of_memory_moves(
    request: pytest.FixtureRequest, place: str, point: str
) -> None:
    """Before the leg on larger workers has begun, in the midst of that, or after it: each item is answered once."""
    died_at(request.getfixturevalue(f"{place}_bed"), point, WHOLE, escalates=True)


@pytest.mark.parametrize("place", ["local", pytest.param("aws", marks=REST)])
def test_every_step_to_larger_workers_has_a_point(request: pytest.FixtureRequest, place: str) -> None:
    """A call that is new there wants a point in the table above."""
    ran = mapped(request.getfixturevalue(f"{place}_bed").text, "", escalates=True)
    assert ran.at == ""
    assert changes(ran.calls) <= steps(POINTS) | steps(ESCALATING)
