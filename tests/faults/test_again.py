"""A run that ended early goes on, and what failed is run again: each item keeps its number and has one answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from starburst_common import BadInput, Cluster, FailureKind, RunCancelled, RunState, attach
from starburst_common.names import RunNames
from starburst_common.runs.prune import prune
from tests.faults.conftest import Bed, on_both

ATTACH = """
import sys
from starburst_common import attach
from tests.places import open_place
run = attach(sys.argv[2], backend=open_place(sys.argv[1]))
run.resume()
assert run.results() == [2 * item for item in range(12)]
"""


def gated(notes: Path, gate: Path) -> Callable[[int], int]:
    """Doubles its item and notes it; from item 6 on it waits for the gate."""

    def double(item: int) -> int:
        import os
        import time

        while item >= 6 and not gate.exists():
            time.sleep(0.02)
        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        return 2 * item

    return double


@on_both
def test_a_cancelled_run_goes_on_with_what_has_no_answer(bed: Bed, tmp_path: Path) -> None:
    """Under its id, in this process or another, twice too: what was answered is not run again, nor has two answers."""
    gate = tmp_path / "gate"
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(gated(bed.notes, gate), range(12), chunk_size=1)
        bed.until(lambda: run.status().answered == 6)
        run.cancel()
        with pytest.raises(RunCancelled):
            run.results()
        other = attach(run.id, backend=bed.backend)
        other.resume()
        assert other.status().state is RunState.RUNNING
        other.cancel()
        assert attach(run.id, backend=bed.backend).status().state is RunState.CANCELLED
    before = bed.calls()
    gate.touch()
    subprocess.run([sys.executable, "-c", ATTACH, bed.text, run.id], check=True, timeout=120)
    ended = attach("last", backend=bed.backend)
    assert ended.id == run.id
    assert ended.status().state is RunState.SUCCEEDED
    assert [ended.results()[item] for item in (0, 11)] == [0, 22]
    assert all(bed.calls()[item] == 1 for item in before)
    objects = bed.objects()
    ended.resume()  # nothing is left to be done
    assert bed.objects() == objects
    assert RunNames(run.id, 2).resumed in objects
    assert RunNames(run.id, 3).resumed not in objects


def test_a_run_whose_driver_died_in_a_cancel_goes_on(local_bed: Bed, tmp_path: Path) -> None:
    """There is the mark of a cancel, and no end: whoever resumes the run ends it first."""
    bed, gate = local_bed, tmp_path / "gate"
    command = """
import os, sys
from pathlib import Path
from starburst_common import Cluster
from starburst_common.names import RunNames
from starburst_common.runs.prune import prune
from tests.faults.test_again import gated
from tests.places import open_place
backend = open_place(sys.argv[1])
cluster = Cluster(workers=1, backend=backend, progress=False)
run = cluster.start(gated(Path(sys.argv[2]), Path(sys.argv[3])), range(12))
cluster._fleet.release("cluster")
while run.status().workers == 0:
    pass
backend.store.put(RunNames(run.id).cancel, b"")
print(run.id, flush=True)
os._exit(0)
"""
    made = subprocess.run(
        [sys.executable, "-c", command, bed.text, str(bed.notes), str(gate)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    run = attach(made.stdout.strip(), backend=bed.backend)
    gate.touch()
    run.resume()
    assert run.results() == [2 * item for item in range(12)]


def test_a_run_that_was_stopped_goes_on_with_failures_forgiven(local_bed: Bed, tmp_path: Path) -> None:
    """What had failed is known to whoever resumes it; further failures count anew."""

    def picky(item: int) -> int:
        import time

        if item in (0, 4):
            raise ValueError(item)
        while not (tmp_path / ("one" if item < 4 else "two")).exists():
            time.sleep(0.01)
        return item

    with Cluster(workers=1, backend=local_bed.backend, progress=False, tolerate=0) as cluster:
        run = cluster.start(picky, range(8), chunk_size=1)
        assert run.wait().state is RunState.STOPPED
        (tmp_path / "one").touch()
        run.resume()
        assert run.wait().state is RunState.STOPPED
        assert "1 of 8 items failed since it was resumed, more than the 0 tolerated" in run.status().reason
        (tmp_path / "two").touch()
        run.resume()
        assert (run.wait().state, run.status().failed) == (RunState.FAILED, 2)


@on_both
def test_what_failed_is_run_again_and_merges(bed: Bed, tmp_path: Path) -> None:
    """Failed and unanswered items alone, under their numbers; by another process, with other code, and once more."""
    gate = tmp_path / "gate"

    def picky(item: int) -> int:
        import time

        print("looking at", item)
        while item >= 9 and not gate.exists():
            time.sleep(0.02)
        if item % 4 == 2:
            raise ValueError(item)
        return item

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(picky, range(12), chunk_size=1, label="nightly")
        bed.until(lambda: run.status().answered == 9)
        with pytest.raises(BadInput, match="goes on"):
            run.retry_failed()
        run.cancel()
    found = attach(run.id, backend=bed.backend)
    told = found.results(return_exceptions=True)
    *_, nine, ten, eleven = found.whole(ordered=False)
    assert [(index, failure.kind) for index, failure in (nine, ten, eleven)] == [
        (index, FailureKind.CANCELLED) for index in (9, 10, 11)
    ]
    assert [type(each).__name__ for each in told if isinstance(each, Exception)] == ["ValueError"] * 2 + [
        "ItemCancelled"
    ] * 3
    gate.touch()
    again = found.retry_failed(timeout=60)
    assert (again.parent, again.label, again.wait().items) == (run.id, "nightly", 5)
    assert [failure.index for failure in again.failures()] == [2, 6, 10]
    assert sorted(index for index, _ in again.iter_completed()) == [2, 6, 9, 10, 11]
    assert [text.split()[-1] for _, text in again.logs(11)] == ["11"]
    found = attach(run.id, backend=bed.backend)
    assert [failure.index for failure in found.failures()] == [2, 6, 10]
    with pytest.raises(ValueError, match="2"):
        found.results()
    with pytest.raises(BadInput, match=r"items=\{12: …\}: run .* has items 0 to 11"):
        found.retry_failed(items={2: 22, 12: 0})
    other = found.retry_failed(items={1: 21, 2: 23})
    assert (other.wait().items, list(other.answers())) == (1, [(2, 23)])
    mended = attach(again.id, backend=bed.backend).retry_failed(lambda item: -item)
    assert (mended.parent, mended.wait().items) == (run.id, 2)
    whole = [0, 1, 23, 3, 4, 5, -6, 7, 8, 9, -10, 11]
    assert sorted(run.whole(ordered=False)) == [*enumerate(whole)]
    assert mended.results() == attach(again.id, backend=bed.backend).results() == whole
    found = attach(run.id, backend=bed.backend)
    assert (found.results(), found.failures(), found.unanswered()) == (whole, [], [])
    assert found.retry_failed().id == run.id
    assert prune(bed.backend) == []
