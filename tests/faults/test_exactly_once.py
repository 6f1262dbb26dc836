"""Ten thousand items, each answered exactly once, whatever happens to workers, drivers and messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import Cluster, NotFound, RunState, RunStopped, attach, starburst_map
from starburst_common.model import Buffer, RunId
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import ObjectStore
from starburst_common.runs.begin import recovered
from starburst_common.runs.reconcile import Finish, Resend
from starburst_common.runs.spec import read_spec
from tests.calls import its_worker, wait_for
from tests.faults.conftest import Bed, LocalBed, held_at, holding, noting, on_both

N = 10_000
DOUBLED = [2 * item for item in range(N)]


def started(bed: Bed, *, seconds: float = 0.0, lease_s: float = 0.0, **options: Any) -> tuple[Cluster, Any]:
    """A cluster of two workers and a run of N items on it, under way."""
    cluster = Cluster(workers=2, backend=bed.backend.paced(lease_s=lease_s or bed.backend.pace.lease_s), progress=False)
    run = cluster.start(noting(bed.notes, seconds=seconds), range(N), **options)
    bed.until(lambda: sum(bed.calls().values()) > 200)
    return cluster, run


@on_both
def test_a_killed_worker_costs_its_chunk_another_run_and_no_answer(bed: Bed) -> None:
    """SIGKILL in the middle of a chunk: it is leased again when its lease ends, and every item is answered once."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(held_at(bed, lambda item: item > 5000 and item % 500 == 499), range(N), chunk_size=500)
        with holding(bed, slots=2):
            bed.signal_workers(signal.SIGKILL, 1)
        assert run.results(timeout=300) == DOUBLED
        run.wait()
        settled = sum(1 for _ in bed.backend.store.list(RunNames(run.id).outcomes))
        assert run.status().attempts > settled
    assert set(bed.calls()) == set(range(N))
    assert sum(bed.calls().values()) < 2 * N


def test_a_worker_told_to_go_keeps_what_is_done_and_hands_back_the_rest(bed: Bed) -> None:
    """SIGTERM: finished items are settled and never run again, the rest is leased anew at once, not after the lease."""
    cluster, run = started(bed, seconds=0.001, lease_s=3600.0)
    with cluster:
        bed.signal_workers(signal.SIGTERM, 1)
        assert run.results(timeout=300) == DOUBLED
        run.wait()
    twice = [item for item, calls in bed.calls().items() if calls > 1]
    assert set(bed.calls()) == set(range(N))
    assert len(twice) <= 2, "only the item that was running when the signal came may run again"


DRIVER = """
import sys, time
from pathlib import Path
from starburst_common import Cluster
from tests.calls import wait_for
from tests.faults.conftest import noting
from tests.places import open_place
cluster = Cluster(workers=2, backend=open_place(sys.argv[1]).paced(idle_s=2.0), progress=False)
run = cluster.start(noting(Path(sys.argv[2]), seconds=float(sys.argv[3])), range(10_000))
print(run.id, flush=True)
time.sleep(600)
"""


def driver_process(bed: Bed, *, seconds: float = 0.0005) -> tuple[subprocess.Popen[str], str]:
    """Another process that started a run and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, bed.text, str(bed.notes), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_killed_driver_is_replaced_by_whoever_attaches(bed: Bed) -> None:
    """The driver dies by SIGKILL; the workers go on; another process attaches and gets every answer, none run twice."""
    process, run_id = driver_process(bed)
    with process:
        bed.until(lambda: sum(bed.calls().values()) > 200)
        process.kill()
    run = attach(run_id, backend=bed.backend)
    assert run.status().state is RunState.RUNNING
    assert run.results(timeout=300) == DOUBLED
    assert run.wait().state is RunState.SUCCEEDED
    assert bed.calls() == dict.fromkeys(range(N), 1)
    bed.backend.store.delete([f"fleets/{run._spec.fleet}/held-by/cluster"])  # the dead cluster's hold
    run._held.driver.fleet.close()  # type: ignore[union-attr]


@on_both
def test_driver_and_workers_may_all_die(bed: Bed) -> None:
    """Nothing is alive any more: whoever attaches launches workers and finishes the run."""
    process, run_id = driver_process(bed)
    with process:
        bed.until(lambda: sum(bed.calls().values()) > 200)
        process.kill()
        bed.signal_workers(signal.SIGKILL, 2)
    run = attach(run_id, backend=bed.backend)
    assert run.results(timeout=300) == DOUBLED
    run.wait()
    run._held.driver.fleet.release("cluster")  # type: ignore[union-attr]


def test_who_cancels_may_die_before_the_run_ends(bed: Bed) -> None:
    """Nobody drives the run any more: its workers stop at the mark, and whoever attaches finds it cancelled."""
    process, run_id = driver_process(bed, seconds=0.05)
    with process:
        bed.until(lambda: sum(bed.calls().values()) > 10)
        process.kill()
    bed.backend.store.put(RunNames(RunId(run_id)).cancel, b"")
    bed.until(lambda: not bed.workers())
    assert sum(bed.calls().values()) < N
    run = attach(run_id, backend=bed.backend)
    assert run.wait(120).state is RunState.CANCELLED
    run._held.driver.fleet.release("cluster")  # type: ignore[union-attr]


def test_two_drivers_at_once_share_one_run(bed: Bed) -> None:
    """A second process's driver beside the first: both see every answer, and neither launches workers too many."""
    cluster, run = started(bed, seconds=0.0005)
    with cluster:
        other = attach(run.id, backend=bed.backend)
        assert other.results(timeout=300) == DOUBLED
        assert run.results(timeout=300) == DOUBLED
        assert len(run._held.driver.fleet.states()) == 2
        run.wait()
        other.wait()


def test_duplicate_deliveries_are_not_seen(bed: Bed) -> None:
    """Every chunk's message is there twice: items may run twice and are answered once."""
    cluster, run = started(bed, seconds=0.0005)
    with cluster:
        run._held.driver.hands.act(Resend())
        run._held.driver.hands.act(Resend())
        seen = sorted(run.iter_completed(timeout=300))
        assert seen == list(enumerate(DOUBLED))
        run.wait()


def test_a_wrong_clock_loses_no_lease(local_bed: LocalBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker's wall clock is an hour ahead, another's an hour behind: no lease is lost, no item runs twice."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "real, shift = time.time, 0\n"
        "def other():\n"  # each time that one is forked
        "    global shift\n"
        "    shift = -3600 if shift > 0 else 3600\n"
        "if 'starburst_worker' in sys.orig_argv:\n"
        "    os.register_at_fork(before=other)\n"
        "    time.time = lambda: real() + shift\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bed = local_bed
    assert starburst_map(noting(bed.notes), range(N), workers=2, backend=bed.backend, progress=False) == DOUBLED
    assert bed.calls() == dict.fromkeys(range(N), 1)


def kills_its_worker(item: int) -> int:
    """Item 4321 takes the whole worker with it."""
    if item == 4321:
        os.kill(its_worker(), signal.SIGKILL)
        time.sleep(60)
    return item * 2


def test_an_item_that_always_kills_its_worker_fails_alone(bed: Bed) -> None:
    """Its chunk is cut up until it stands alone; it fails as LOST, and its neighbours have their values."""
    backend = bed.backend.paced(lease_s=2.0)
    got = starburst_map(
        kills_its_worker, range(N), workers=2, backend=backend, progress=False, return_exceptions=True, label="poison"
    )
    assert [item for item, value in enumerate(got) if isinstance(value, Exception)] == [4321]
    assert "item 4321: its worker died, 3 times" in str(got[4321])
    assert got[:4321] + got[4322:] == DOUBLED[:4321] + DOUBLED[4322:]


def test_an_item_whose_message_went_astray_is_not_taken_for_a_killer(bed: Bed) -> None:
    """Its message was given to clients that died before they had it, so often that it looks like what killed them."""
    answer, go = noting(bed.notes), f"{bed.notes}.go"

    def first_is_slow(item: int) -> int:
        doubled = answer(item)
        return doubled if item else wait_for(go, doubled)

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(first_is_slow, range(2), chunk_size=1)
        bed.until(lambda: bed.calls()[0] == 1)
        (fleet,) = bed.backend.compute.fleets()
        lease = partial(bed.backend.queue.receive, work_queue(fleet), limit=1, lease_s=1.0, wait_s=1.0)
        bed.until(lambda: any(message.receives >= 4 for message in lease()))
        assert bed.calls()[1] == 0
        Path(go).touch()
        assert run.results(timeout=300) == [0, 2]
        run.wait()


def test_five_thousand_outcomes(bed: Bed) -> None:
    """One outcome an item: more than any listing gives at once, all collected."""
    n = 5000 if isinstance(bed, LocalBed) else 1200  # S3 lists a thousand at a time
    got = starburst_map(noting(bed.notes), range(n), chunk_size=1, workers=2, backend=bed.backend, progress=False)
    assert got == DOUBLED[:n]
    assert bed.calls() == dict.fromkeys(range(n), 1)


@on_both
def test_two_runs_at_once_on_one_fleet(bed: Bed) -> None:
    """They share the workers fairly, and neither sees the other's items."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        one = cluster.start(noting(bed.notes), range(N))
        two = cluster.start(lambda item: -item, range(N))
        assert two.results(timeout=300) == [-item for item in range(N)]
        assert one.results(timeout=300) == DOUBLED
        one.wait()
        two.wait()


INTERRUPTED = """
import sys
from pathlib import Path
from starburst_common import starburst_map
from tests.calls import wait_for
from tests.faults.conftest import noting
from tests.places import open_place
starburst_map(noting(Path(sys.argv[2]), seconds=0.01), range(10_000), workers=2,
              backend=open_place(sys.argv[1]), progress=False)
"""


def test_ctrl_c_cancels_and_leaves_nothing(bed: Bed) -> None:
    """SIGINT in the middle: KeyboardInterrupt at home, the run is cancelled, its workers are gone within seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, bed.text, str(bed.notes)], stderr=subprocess.PIPE, text=True
    )
    bed.until(lambda: sum(bed.calls().values()) > 50)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert "\nKeyboardInterrupt\n" in said and "starburst results run-" in said
    (run,) = bed.backend.store.folders("runs/")
    assert attach(run, backend=bed.backend).status().state is RunState.CANCELLED


def test_a_run_that_ends_while_another_process_attaches_is_over_for_both(bed: Bed) -> None:
    """Between the second driver's look for an end and its first step the first driver ends the run and drops it all."""

    class Late:
        """The store as a process meets it that is held up after it saw no end."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bed.backend.store, name)

        def get(self, key: str, *most: int) -> Buffer:
            try:
                return bed.backend.store.get(key)
            except NotFound:
                if key == RunNames(run.id).end:
                    run.cancel()
                    run.wait()
                raise

    cluster = Cluster(workers=1, backend=bed.backend, progress=False)
    run = cluster.start(noting(bed.notes, seconds=0.01), range(N))
    bed.until(lambda: run.status().answered > 0)
    cluster.close()  # lets go of the fleet, so that the run is the last to hold it
    late = attach(run.id, backend=replace(bed.backend, store=cast("ObjectStore", Late())))
    assert late.wait().state is RunState.CANCELLED


@on_both
def test_a_driver_notices_that_another_has_ended_its_run(bed: Bed) -> None:
    """It launches no worker for a run that is over, and ends as the run did, with the answers that there are."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(noting(bed.notes, seconds=0.01), range(N))
        bed.until(lambda: run.status().answered > 0)
        other = recovered(bed.backend, read_spec(bed.backend, run.id))
        other.hands.carry_out([Finish(RunState.STOPPED, "somebody else says so")])
        with pytest.raises(RunStopped, match="somebody else says so"):
            run.results(timeout=120)
        assert run.wait(120).answered >= other.books.tally.answered > 0
        assert len(run._held.driver.fleet.states()) == 1  # type: ignore[union-attr]
