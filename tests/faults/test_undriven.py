"""A driver's lease: where nobody drives a run any more, its workers stop, and whoever comes back goes on with it."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common import Cluster, attach, costs
from starburst_common.cli.costs import _figures, fields_of
from starburst_common.code.pack import pack_function
from starburst_common.ids import new_run_id
from starburst_common.money.estimate import charge
from starburst_common.options import Options
from starburst_common.runs.begin import begin
from starburst_common.runs.records import Spec
from starburst_common.spi import driver_of
from tests.faults.conftest import AwsBed, Bed, LocalBed

N, WORKERS = 400, 2
DOUBLED = [*range(0, 2 * N, 2)]
DRIVER = """
import sys, time
from pathlib import Path

import pytest
from starburst_common import Cluster
from tests.faults.test_undriven import slowly
from tests.places import open_place
cluster = Cluster(workers=2, backend=open_place(sys.argv[1]).paced(idle_s=2.0), progress=False)
run = cluster.start(slowly(Path(sys.argv[2])), range(int(sys.argv[3])), driver_ttl=float(sys.argv[4]))
print(run.id, flush=True)
time.sleep(600)
"""


def slowly(notes: Path) -> Callable[[int], int]:
    """A function that doubles its item and notes that it ran, and takes its time until it is told to hurry."""

    def double(item: int) -> int:
        import os
        import time

        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        if not notes.with_name("hurry").exists():
            time.sleep(0.2)
        return item * 2

    return double


@contextmanager
def abandoned(bed: Bed, ttl_s: float = 0.0) -> Iterator[str]:
    """A run whose driver's process is killed while all its workers are busy, for longer than a test takes."""
    command = [sys.executable, "-c", DRIVER, bed.text, str(bed.notes), str(N), str(ttl_s or short_s(bed))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        bed.until(lambda: len([*bed.notes.iterdir()]) == WORKERS)
        process.kill()
    yield name
    bed.backend.store.delete([key for key in bed.objects() if key.endswith("/held-by/cluster")])  # the dead cluster's
    attach(name, backend=bed.backend)._held.driving().fleet.close()


def short_s(bed: Bed) -> float:
    """Some looks of a worker, whose pace is another one there."""
    return 2.0 if isinstance(bed, LocalBed) else 8.0


def hurry(bed: Bed) -> None:
    """Items take no time any more."""
    bed.notes.with_name("hurry").touch()


def test_workers_stop_where_nobody_drives_their_run(bed: Bed) -> None:
    """Though they are busy: soon after `driver_ttl` all are gone, and who attaches has the rest run, and no more."""
    with abandoned(bed) as name:
        bed.until(lambda: not bed.workers(), within_s=30.0)
        assert 0 < len(bed.calls()) < N
        looked = attach(name, backend=bed.backend)
        assert looked.status().reason.endswith(f": its workers have stopped: `starburst attach {name}` goes on with it")
        hurry(bed)
        assert looked.results(timeout=120) == DOUBLED
        twice = [item for item, calls in bed.calls().items() if calls > 1]
        assert len(twice) <= WORKERS, "only items that ran when the workers left may run again"


def test_who_comes_back_in_time_keeps_them(local_bed: LocalBed) -> None:
    """Another process, as a trigger's, drives by steps, for longer than that: the workers that are there go on."""
    bed = local_bed
    with abandoned(bed, ttl_s=5.0) as name:
        driver, before = driver_of(name, bed.backend), len(bed.calls())
        while not driver.step(0.1):
            if len(bed.calls()) > before + 60:  # they have worked on for longer
                hurry(bed)
        assert bed.calls() == dict.fromkeys(range(N), 1)
        assert len([*bed.notes.iterdir()]) == WORKERS


def test_what_a_run_cost_is_the_sum_over_all_its_workers_whoever_drove_it(aws_bed: AwsBed) -> None:
    """Also one that ended while nobody did: by the second from its pull on, a minute at least, as ECS has its times."""
    bed = aws_bed
    with abandoned(bed) as name:
        bed.signal_workers(signal.SIGKILL, 1)
        bed.until(lambda: len(bed.workers()) < WORKERS)
        hurry(bed)
        run = attach(name, backend=bed.backend)
        assert run.results(timeout=120) == DOUBLED
        status = run.wait()
    bed.until(lambda: not bed.workers())
    (row,) = costs(since=0.0, backend=bed.backend)
    ids, cluster = [task["id"] for task in bed.aws.tasks()], bed.aws.site["cluster"]
    tasks = bed.aws.boto("ecs").describe_tasks(cluster=cluster, tasks=ids)["tasks"]
    assert len(tasks) > WORKERS, "one took the place of who was lost"
    lasted_s = [(task["stoppedAt"] - task["pullStartedAt"]).total_seconds() for task in tasks]
    seconds = [max(math.ceil(each), 60) for each in lasted_s]
    each_s = charge(run.resources, Decimal(1), bed.backend.tariff).usd or Decimal(0)
    by_hand = each_s / 3600 * sum(seconds)
    of_workers = row.parts["compute"] + row.parts["public addresses"]
    assert of_workers == pytest.approx(by_hand, abs=Decimal("0.000001"))
    assert status.spent_usd is not None and abs(status.spent_usd - by_hand) < each_s / 3600 * 30 * len(tasks)


def test_a_run_that_is_cancelled_without_a_driver_costs_what_its_workers_did(aws_bed: AwsBed) -> None:
    """In all sums, once they have stopped, though the dead driver's fleet is open still, and nothing is answered.

    Until then the sums say that they are provisional.
    """
    bed = aws_bed
    with abandoned(bed) as name:
        attach(name, backend=bed.backend).cancel()
        (going,) = costs(since=0.0, backend=bed.backend)
        assert (going.provisional, fields_of(going)["provisional_runs"], _figures(going)[-1][0]) == (1, 1, "~")
        bed.until(lambda: not bed.workers())
        assert any(key.endswith("/held-by/cluster") for key in bed.objects())
        (row,) = costs(since=0.0, backend=bed.backend)
        run = attach(name, backend=bed.backend)
        usd, of_workers = run.estimate(run.status()).usd, row.parts["compute"] + row.parts["public addresses"]
        each_s = (charge(run.resources, Decimal(1), bed.backend.tariff).usd or Decimal(0)) / 3600
    assert row.provisional == 0 and "~" not in _figures(row)[-1]
    assert row.worker_hours * 3600 == pytest.approx(60 * WORKERS) and usd is not None
    assert of_workers == pytest.approx(each_s * 60 * WORKERS, abs=Decimal("0.000001"))
    assert row.usd == pytest.approx(usd, abs=Decimal("0.000001"))


@pytest.mark.rest
def test_who_comes_back_while_they_leave_gets_every_answer(local_bed: LocalBed) -> None:
    """One worker has left, and the other is about to or sees that somebody drives: the run goes on either way."""
    bed = local_bed
    with abandoned(bed) as name:
        bed.until(lambda: len(bed.workers()) < WORKERS)
        hurry(bed)
        assert attach(name, backend=bed.backend).results(timeout=120) == DOUBLED
        assert sum(bed.calls().values()) <= N + WORKERS


@pytest.mark.rest
def test_workers_that_have_another_run_stay_for_that(local_bed: LocalBed) -> None:
    """They take no more of the one that nobody drives, whose messages they keep meeting; then they go."""
    bed = local_bed
    with Cluster(workers=1, slots=2, backend=bed.backend, progress=False) as cluster:
        driven = cluster.start(slowly(bed.notes), range(N, N + 60), chunk_size=1)
        fleet = cluster._fleet
        assert fleet is not None
        spec = Spec.of(new_run_id(), fleet, "double", Options.of(driver_ttl=2), stop_at_first=False)
        feed = begin(fleet, spec, planned=lambda chunks: None, over=lambda: None)
        function = feed.function(pack_function(slowly(bed.notes), style="one", retry_on=(), samples=[]))
        for item in range(60):
            feed.add(function, item)
            feed.close_chunk()
        feed.end()
        feed.stop()
        assert driven.results(timeout=120) == [*range(2 * N, 2 * N + 120, 2)]
    left = attach(spec.run, backend=bed.backend)
    bed.until(lambda: not bed.workers())
    done = {item for item in bed.calls() if item < 60}
    assert 0 < len(done) < 40 and "no driver for" in left.status().reason
    hurry(bed)
    assert left.results(timeout=120) == [*range(0, 120, 2)]
    assert sum(bed.calls().values()) <= 120 + 2
