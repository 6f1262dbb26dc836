"""Every `Compute` keeps what the port promises, with workers that really run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from starburst_common.ids import new_fleet_id
from starburst_common.local import forks
from starburst_common.local.compute import LocalCompute
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import work_queue
from starburst_common.ports import Backend, WorkerSpec
from starburst_common.resources import Resources
from tests.contracts.conftest import ComputeBed
from tests.contracts.rivals import at_once, launch
from tests.leftovers import processes_in, supervisors_in

RUNNING, STOPPED = WorkerPhase.RUNNING, WorkerPhase.STOPPED


@pytest.fixture
def spec(computes: ComputeBed) -> WorkerSpec:
    """A fleet whose queue is open, so that its workers stay."""
    return open_fleet(computes.backend, capacity=computes.capacity)


def open_fleet(
    backend: Backend, *, idle_s: float = 60.0, lifetime_s: float = 60.0, capacity: str = "fargate"
) -> WorkerSpec:
    """Small workers and a queue without work."""
    fleet = new_fleet_id()
    backend.queue.ensure(work_queue(fleet))
    return WorkerSpec(
        fleet=fleet,
        resources=Resources.of(1, capacity=capacity),
        pace=replace(backend.pace, idle_s=idle_s, lifetime_s=lifetime_s),
    )


def until(bed: ComputeBed, fleet: FleetId, there: Callable[[list[WorkerState]], bool]) -> list[WorkerState]:
    """Wait for the fleet's workers to be so."""
    deadline = time.monotonic() + 120.0
    while not there(states := bed.backend.compute.tend(fleet)):
        assert time.monotonic() < deadline, states
        time.sleep(0.02)
    return states


def launched(bed: ComputeBed, spec: WorkerSpec, *ordinals: int) -> list[WorkerState]:
    """Launch workers and wait until all obey."""
    bed.backend.compute.launch(spec, ordinals)
    return until(
        bed,
        spec.fleet,
        lambda states: all(state.phase is RUNNING and bed.ready(state.id) for state in states),
    )


def stopped(bed: ComputeBed, fleet: FleetId, *ids: WorkerId, grace_s: float = 10.0) -> list[WorkerState]:
    """Stop workers, and see them gone: as soon as `stop` returns, or soon after where the platform ends them."""
    bed.backend.compute.stop(fleet, ids, grace_s=grace_s)
    if bed.stop_waits:
        return bed.backend.compute.tend(fleet)
    return until(bed, fleet, lambda states: {state.id for state in states if state.phase is STOPPED} >= {*ids})


def phases(states: list[WorkerState]) -> dict[int, WorkerPhase]:
    """By ordinal."""
    return {state.ordinal: state.phase for state in states}


def test_a_launched_worker_runs(computes: ComputeBed, spec: WorkerSpec) -> None:
    """It is listed as soon as `launch` returns, by ordinal and with an id of its own, and then it is really there."""
    compute = computes.backend.compute
    assert compute.workers(spec.fleet) == []
    compute.launch(spec, [2, 0])
    states = compute.workers(spec.fleet)
    assert [state.ordinal for state in states] == [0, 2]
    assert len({state.id for state in states}) == 2
    assert STOPPED not in phases(states).values()
    states = until(computes, spec.fleet, lambda states: phases(states) == {0: RUNNING, 2: RUNNING})
    assert computes.alive() == 2
    for state in states:
        assert state.exit_code is None
        assert abs(state.started_at - time.time()) < 20


def test_fleets_are_apart(computes: ComputeBed, spec: WorkerSpec) -> None:
    """A fleet lists, stops and forgets its own workers."""
    compute = computes.backend.compute
    other = open_fleet(computes.backend, capacity=computes.capacity)
    compute.launch(spec, [0])
    compute.launch(other, [0])
    ids = {state.id for fleet in (spec.fleet, other.fleet) for state in compute.workers(fleet)}
    assert len(ids) == 2
    compute.stop(other.fleet, ids, grace_s=5.0)
    compute.forget(other.fleet)
    until(computes, spec.fleet, lambda states: phases(states) == {0: RUNNING})
    assert compute.workers(other.fleet) == []
    until(computes, spec.fleet, lambda _: computes.alive() == 1)


def test_an_ordinal_is_launched_once(computes: ComputeBed, spec: WorkerSpec) -> None:
    """Asking again launches only what is new, and a worker that ended is not started again."""
    compute = computes.backend.compute
    compute.launch(spec, [0])
    compute.launch(spec, range(2))
    states = until(computes, spec.fleet, lambda states: phases(states) == {0: RUNNING, 1: RUNNING})
    assert computes.alive() == 2
    stopped(computes, spec.fleet, states[0].id)
    compute.launch(spec, range(2))
    assert computes.alive() == 1
    assert phases(compute.workers(spec.fleet)) == {0: STOPPED, 1: RUNNING}


def test_two_processes_launch_the_same_ordinals_once(computes: ComputeBed, spec: WorkerSpec) -> None:
    """Whoever drives the run, and if it is two at once, every ordinal is one worker, which others see too."""
    at_once(launch, (computes.opener, spec, range(3)), (computes.opener, spec, range(3)))
    states = until(computes, spec.fleet, lambda states: set(phases(states).values()) == {RUNNING})
    assert [state.ordinal for state in states] == [0, 1, 2]
    assert computes.alive() == 3


def test_a_stopped_worker_ends_in_good_order(computes: ComputeBed, spec: WorkerSpec) -> None:
    """Told to stop, it ends by itself well within its grace, and then it is gone. The others stay."""
    first, second = launched(computes, spec, 0, 1)
    began = time.monotonic()
    ended, running = stopped(computes, spec.fleet, first.id, grace_s=300.0)
    assert time.monotonic() - began < 120.0
    assert computes.alive() == 1
    assert (ended.phase, ended.end, ended.exit_code) == (STOPPED, WorkerEnd.DONE, 143)
    assert running.phase is RUNNING
    assert running.id == second.id


def test_a_deaf_worker_is_killed_after_its_grace(computes: ComputeBed, spec: WorkerSpec) -> None:
    """And no earlier; then it is gone."""
    (worker,) = launched(computes, spec, 0)
    computes.freeze(worker.id)
    began = time.monotonic()
    (killed,) = stopped(computes, spec.fleet, worker.id, grace_s=0.4)
    assert 0.4 <= time.monotonic() - began < 120.0
    assert computes.alive() == 0
    assert killed.phase is STOPPED
    assert killed.exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert "killed" in killed.reason


def test_stopping_twice_or_what_never_was_is_no_error(computes: ComputeBed, spec: WorkerSpec) -> None:
    """Whoever comes second finds nothing to do, at once."""
    compute = computes.backend.compute
    compute.launch(spec, [0])
    (worker,) = compute.workers(spec.fleet)
    compute.stop(spec.fleet, [worker.id], grace_s=300.0)
    began = time.monotonic()
    compute.stop(spec.fleet, [worker.id], grace_s=300.0)
    compute.stop(FleetId("fleet-none"), [worker.id], grace_s=300.0)
    compute.stop(spec.fleet, [], grace_s=300.0)
    assert time.monotonic() - began < 120.0


def test_any_process_can_stop_a_worker(computes: ComputeBed, spec: WorkerSpec) -> None:
    """One that did not launch it sees it run, stops it, and sees it gone."""
    launched(computes, spec, 0)
    other = computes.opener()
    (seen,) = other.compute.workers(spec.fleet)
    assert seen.phase is RUNNING
    (seen,) = stopped(replace(computes, backend=other), spec.fleet, seen.id)
    assert seen.phase is STOPPED
    assert computes.alive() == 0
    other.close()


def test_a_worker_of_a_closed_fleet_ends_by_itself(computes: ComputeBed, spec: WorkerSpec) -> None:
    """With exit code 0, and it says when."""
    compute = computes.backend.compute
    compute.launch(spec, [0])
    computes.backend.queue.drop(work_queue(spec.fleet))
    (ended,) = until(computes, spec.fleet, lambda states: phases(states) == {0: STOPPED})
    assert ended.exit_code == 0
    assert ended.started_at <= ended.stopped_at <= time.time() + 1


@pytest.mark.parametrize("limits", [{"idle_s": 0.2}, {"lifetime_s": 0.5}])
def test_a_worker_ends_when_idle_or_too_old(computes: ComputeBed, limits: dict[str, float]) -> None:
    """Whoever launched it may be dead: nothing runs for ever, and everybody sees that it ended in good order."""
    spec = open_fleet(computes.backend, capacity=computes.capacity, **limits)
    at_once(launch, (computes.opener, spec, [0]))
    (ended,) = until(computes, spec.fleet, lambda states: phases(states) == {0: STOPPED})
    assert (ended.end, ended.exit_code) == (WorkerEnd.DONE, 0)
    assert ended.ran_s >= min(limits.values())
    assert computes.alive() == 0


def test_the_tail_is_what_the_worker_printed_last(computes: ComputeBed, spec: WorkerSpec) -> None:
    """While it runs and after; of one that never was, nothing."""
    compute = computes.backend.compute
    (worker,) = launched(computes, spec, 0)
    until(computes, spec.fleet, lambda _: f"worker {worker.id}: 1 slots" in compute.tail(spec.fleet, worker.id))
    stopped(computes, spec.fleet, worker.id)
    assert compute.tail(spec.fleet, worker.id).rstrip().endswith("ends with 143")
    never = WorkerId(worker.id[:-1] + ("8" if worker.id.endswith("9") else "9"))
    assert compute.tail(spec.fleet, never) == ""


def test_a_forgotten_fleet_leaves_no_trace(computes: ComputeBed, spec: WorkerSpec) -> None:
    """No worker is listed and no record is kept; forgetting again, or what never was, is no error."""
    compute = computes.backend.compute
    launched(computes, spec, 0)
    stopped(computes, spec.fleet, *(state.id for state in compute.workers(spec.fleet)))
    compute.forget(spec.fleet)
    compute.forget(spec.fleet)
    compute.forget(FleetId("fleet-none"))
    assert compute.workers(spec.fleet) == []
    assert spec.fleet not in compute.fleets()
    assert computes.records() == []
    computes.backend.queue.drop(work_queue(spec.fleet))
    computes.nothing_left()


# --- the local compute's own ------------------------------------------------------------------------------------------


def test_a_killed_worker_takes_its_slots_along(local_computes: ComputeBed, tmp_path: Path) -> None:
    """Killed after its grace, nothing of it is left: no slot goes on without its supervisor, however busy it is."""
    compute, spec, home = local_computes.backend.compute, open_fleet(local_computes.backend), tmp_path / "home"
    (worker,) = launched(local_computes, spec, 0)
    until = time.monotonic() + 60.0
    while len(processes_in(home)) < 3:  # itself, a slot, and that one's guard
        assert time.monotonic() < until
        time.sleep(0.01)
    local_computes.freeze(worker.id)
    compute.stop(spec.fleet, [worker.id], grace_s=0.1)
    compute.forget(spec.fleet)
    until = time.monotonic() + 60.0
    while processes_in(home) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes_in(home) == []


def test_how_a_worker_ended_is_known_to_any_process(local_computes: ComputeBed, tmp_path: Path) -> None:
    """Not only to the one that launched it: it writes down how it ends itself, and is written down where it is killed.

    So it is, too, in a program that waits for all its children.
    """
    backend, elsewhere = local_computes.backend, LocalCompute(tmp_path / "home")
    spec = open_fleet(backend)
    (worker,) = launched(local_computes, spec, 0)
    backend.queue.drop(work_queue(spec.fleet))
    (ended,) = until(local_computes, spec.fleet, lambda states: states[0].phase is STOPPED)
    assert (ended.id, ended.end, ended.exit_code) == (worker.id, WorkerEnd.DONE, 0)
    assert elsewhere.workers(spec.fleet) == [ended]
    other = open_fleet(backend)
    launched(local_computes, other, 0)
    (pid,) = supervisors_in(tmp_path / "home")
    os.kill(pid, signal.SIGKILL)
    (killed,) = until(local_computes, other.fleet, lambda states: states[0].phase is STOPPED)
    assert (killed.end, killed.exit_code, killed.reason) == (WorkerEnd.CRASHED, -9, "killed by signal 9")
    assert elsewhere.workers(other.fleet) == [killed]


def test_workers_are_forked_again_where_what_they_were_forked_from_is_gone(
    local_computes: ComputeBed, tmp_path: Path
) -> None:
    """It may be killed: the workers that it has forked go on, and the next ones are forked from another."""
    backend = local_computes.backend
    spec = open_fleet(backend)
    launched(local_computes, spec, 0)
    (server,) = {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in supervisors_in(tmp_path / "home")}
    os.kill(server, signal.SIGKILL)
    first, second = launched(local_computes, spec, 1)
    assert (first.phase, second.phase) == (RUNNING, RUNNING)


def test_several_threads_may_meet_the_end_of_what_was_let_go() -> None:
    """Each that starts a process to fork workers from looks who of the former ones has ended: none is in the way."""
    ended = [subprocess.Popen(["true"]) for _ in range(100)]
    for each in ended:
        os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
        each.returncode = 0  # it is waited for by its id
    forks._leaving.extend(each.pid for each in ended)
    with ThreadPoolExecutor(8) as pool:
        for looked in [pool.submit(forks._bury) for _ in range(8)]:
            looked.result()
    assert forks._leaving == []


def test_a_launch_cut_short_is_starting_then_stopped(tmp_path: Path) -> None:
    """Its driver died after claiming the ordinal, before starting the process: at first nobody can know."""
    compute = LocalCompute(tmp_path)
    record = tmp_path / "workers" / "fleet-1" / "000000.json"
    record.parent.mkdir(parents=True)
    record.touch()
    (state,) = compute.workers(FleetId("fleet-1"))
    assert state.phase is WorkerPhase.STARTING
    os.utime(record, (0, 0))
    (state,) = compute.workers(FleetId("fleet-1"))
    assert (state.phase, state.reason) == (STOPPED, "its launch did not finish")


def test_a_reused_process_id_is_not_taken_for_the_worker(tmp_path: Path) -> None:
    """The id in the record is alive, but born at another time: the worker is gone, and `stop` spares the stranger."""
    compute = LocalCompute(tmp_path)
    record = tmp_path / "workers" / "fleet-1" / "000000.json"
    record.parent.mkdir(parents=True)
    record.write_text(f'{{"pid": {os.getpid()}, "born": 1, "started_at": 0}}')
    (state,) = compute.workers(FleetId("fleet-1"))
    assert state.phase is STOPPED
    compute.stop(FleetId("fleet-1"), [state.id], grace_s=0.0)
