"""What a run costs who keeps it going by steps, while nothing happens to it: many such are looked at by one process."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from pathlib import Path

from starburst_common import NotFound, RunState, attach
from starburst_common.model import WorkerEnd
from starburst_common.names import RunNames
from starburst_common.runs.driven import Driven
from tests.ports import counting
from tests.simulator import TICK_S, Simulation


def test_a_look_at_a_run_that_lacks_nothing_is_two_requests(tmp_path: Path) -> None:
    """Who answered, and who cancelled. Now and then, when answers are listed, it is looked at as a whole."""
    simulation = Simulation(tmp_path, item_s=3600.0)
    spec = simulation.begin(4, chunk=1, workers=2)
    simulation.backend, calls = counting(simulation.backend)
    costs = []
    for _ in islice(simulation.steps(simulation.driver(spec)), 100):
        costs.append(calls.total())
        calls.clear()
    costs = costs[-60:]  # five minutes, in which both workers are at work
    assert costs.count(2) >= 50 and max(costs) <= 9


def test_what_befalls_it_then_is_seen_soon(tmp_path: Path) -> None:
    """A worker that is lost at the next look at the whole; answers, and a cancel, at the next tick."""
    simulation = Simulation(tmp_path, item_s=200.0)
    spec = simulation.begin(40, chunk=1, workers=2)
    driver, clock, store = simulation.driver(spec), simulation.clock, simulation.backend.store
    steps, workers = simulation.steps(driver), simulation.place.workers_of
    for _ in islice(steps, 100):
        assert len([*store.list(RunNames(spec.run).outcomes)]) == driver.books.tally.answered
    assert driver.books.tally.answered and driver.books.at_work == 2

    simulation.worker(spec, 0).stop(WorkerEnd.CRASHED, 137)
    lost_at = clock.now
    while len(workers[spec.fleet]) < 3:
        next(steps)
    assert clock.now - lost_at <= simulation.backend.look_s / 2 + 2 * TICK_S

    for _ in islice(steps, 20):
        assert driver.books.state is RunState.RUNNING
    attach(spec.run, backend=simulation.backend).cancel()
    assert [*steps] == [] and driver.books.state is RunState.CANCELLED


def test_hours_of_a_driver_never_look_like_none(tmp_path: Path) -> None:
    """To a worker of a run with `driver_ttl`, at three marks in it; after its last step it does, until one is back."""
    simulation, ttl_s = Simulation(tmp_path, item_s=600.0), 900.0
    spec = simulation.begin(40, chunk=1, workers=2, driver_ttl=ttl_s)
    clock, driven, found = simulation.clock, Driven(ttl_s=ttl_s), list[bool]()
    store, marks = simulation.backend.store, set[float]()

    def looks() -> None:
        with suppress(NotFound):
            marks.add(store.written_at(RunNames(spec.run).driven))
        driven.saw(max(marks, default=None), clock.now)
        found.append(driven.lost)
        clock.after(ttl_s / 4, looks)

    looks()
    for hours in simulation.steps(simulation.driver(spec)):
        if hours > 2.0:
            break
    assert not any(found) and 20 <= len(marks) <= 26
    clock.sleep(ttl_s + ttl_s / 4)
    assert driven.lost
    simulation.driver(spec).step()
    clock.sleep(ttl_s / 4)
    assert not driven.lost
