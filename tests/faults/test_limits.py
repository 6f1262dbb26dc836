"""A deadline and a budget with real workers: they stop by themselves, answers are kept, and a resume goes on."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from starburst_common import BadInput, Cluster, RunStopped, attach
from starburst_common.model import FailureKind, RunState
from starburst_common.names import RunNames
from starburst_common.runs.legs import Until
from starburst_common.runs.stored import read_until
from tests.faults.conftest import Bed, LocalBed
from tests.faults.test_undriven import hurry, slowly

N, WORKERS = 400, 2
DRIVER = """
import sys, time
from pathlib import Path

from starburst_common import Cluster
from tests.faults.test_undriven import slowly
from tests.places import open_place
cluster = Cluster(workers=2, backend=open_place(sys.argv[1]), progress=False)
run = cluster.start(slowly(Path(sys.argv[2])), range(int(sys.argv[3])), deadline=3600)
print(run.id, flush=True)
time.sleep(600)
"""


def test_a_deadline_ends_a_run_and_a_resume_goes_on(local_bed: LocalBed) -> None:
    """With exactly what has no answer, which says why; under the same deadline anew, if no other is given."""
    bed = local_bed
    with Cluster(workers=WORKERS, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(slowly(bed.notes), range(N), deadline=5)
        with pytest.raises(RunStopped, match=r"its deadline has passed, 5 s after it began: \d+ of 400 items are"):
            run.results()
    status = attach(run.id, backend=bed.backend).status()
    assert (status.state, status.limit) == (RunState.STOPPED, FailureKind.DEADLINE)
    answers = [value for _, value in attach(run.id, backend=bed.backend).whole()]
    lacking = [value for value in answers if not isinstance(value, int)]
    assert {value.kind for value in lacking} == {FailureKind.DEADLINE} and len(lacking) == N - status.answered < N
    with pytest.raises(BadInput, match="deadline: it was"):
        attach(run.id, backend=bed.backend).resume(deadline="2020-01-01T00:00+00:00")
    before = bed.calls()
    hurry(bed)
    run = attach(run.id, backend=bed.backend)
    run.resume(deadline=600)
    assert run.results() == [*range(0, 2 * N, 2)]
    again = {item for item, calls in bed.calls().items() if calls > 1}
    assert again <= before.keys() and len(again) <= WORKERS, "only what was running then may run twice"


def test_workers_whose_driver_is_dead_stop_at_the_end_that_it_told(bed: Bed) -> None:
    """Whatever that is of, deadline or budget; who attaches later meets it, too."""
    command = [sys.executable, "-c", DRIVER, bed.text, str(bed.notes), str(N)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        bed.until(lambda: len([*bed.notes.iterdir()]) == WORKERS)
        process.kill()
    names, backend = RunNames(name), bed.backend  # type: ignore[arg-type]
    told = read_until(backend, names.run, 0)
    assert told is not None and told.kind is FailureKind.DEADLINE
    spec = attach(name, backend=backend).status()
    assert abs(told.at - spec.created_at - 3600) < 30
    soon = Until(at=time.time() + 1, kind=FailureKind.BUDGET)
    backend.store.put(names.until, soon.sealed(backend.key, names.until))
    bed.until(lambda: not bed.workers(), within_s=60.0)
    assert 0 < len(bed.calls()) < N
    backend.store.delete([key for key in bed.objects() if key.endswith("/held-by/cluster")])  # the dead cluster's
    attach(name, backend=backend).cancel()


def test_a_budget_that_pays_for_no_worker_is_refused(bed: Bed) -> None:
    """Where workers are charged for, before anything is stored; elsewhere it stops nothing."""
    with Cluster(workers=1, cpu=0.25, backend=bed.backend, progress=False) as cluster:
        if not bed.backend.charged:
            assert cluster.map(abs, [-1], budget=1e-6) == [1]
        else:
            with pytest.raises(BadInput, match=r"budget=1e-06: to begin and end a worker of .* costs \$0\.00058"):
                cluster.map(abs, [-1], budget=1e-6)
