"""Items that run out of memory go on with more, once, on workers of the next size; nothing else of a run changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from starburst_common import BadInput, Cluster, EventKind, FailureKind, RunState, StarburstExecutor
from starburst_common.ids import new_fleet_id, new_run_id
from starburst_common.money.estimate import billed_hours, charge
from starburst_common.names import RunNames, account
from starburst_common.runs.accounts import read_entry
from starburst_common.runs.bills import bill_of
from starburst_common.runs.ledger import past_items
from starburst_common.runs.legs import End, Resumed
from starburst_common.runs.spec import is_cancelled, last_end, legs_of, mark_cancelled, read_spec, write_end
from tests.calls import hungry
from tests.faults.conftest import AwsBed, Bed, on_both

MIB = 1 << 20
SMALL = {"cpu": 0.25, "memory": "512MB", "slots": 1}


def greedy(notes: Path) -> Callable[[int], int]:
    """A function whose item of 5 needs 700 MiB, and that of 6 more than there ever is; it notes who ran what."""

    def double(item: int) -> int:
        with (notes / str(os.getpid())).open("a") as file:
            file.write(f"{item}\n")
        if item in (5, 6):
            hoard = [os.urandom(MIB) * 50 for _ in range(12 if item == 5 else 60)]
            time.sleep(0.5 if item == 5 else len(hoard))
        return item * 2

    return double


@on_both
def test_what_ran_out_of_memory_goes_on_with_twice_as_much_once(bed: Bed) -> None:
    """A second leg on a larger fleet answers what the first could not; what is too much for that, too, fails then."""
    with Cluster(workers=2, backend=bed.backend, progress=False, **SMALL) as cluster:
        run = cluster.start(greedy(bed.notes), range(12), escalate=True, budget=1.0)
        status = run.wait(timeout=120)
        values = [value for value in run.results(return_exceptions=True) if not isinstance(value, Exception)]
    assert values == [item * 2 for item in range(12) if item != 6]
    assert status.state is RunState.FAILED and (status.answered, status.failed) == (12, 1)
    (failure,) = run.failures()
    assert (failure.index, failure.kind) == (6, FailureKind.OOM) and "of its 1024 MiB" in failure.message
    told = [event.text for event in run.events() if event.kind in (EventKind.ESCALATED, EventKind.ENDED)]
    assert told[0] == "2 items ran out of memory with 512 MB, and go on with 1 GB" and len(told) == 2
    assert all(count == 1 for item, count in bed.calls().items() if item not in (5, 6))
    entry, legs = read_entry(bed.backend, account(run.id)), [*legs_of(bed.backend, read_spec(bed.backend, run.id))]
    workers = [leg.end.workers for leg in legs if leg.end is not None]
    each = [
        charge(leg.resources, billed_hours(stint.slot_seconds, count), bed.backend.tariff).usd or 0
        for leg, stint, count in zip(legs, entry.stints, [workers[0], workers[1] - workers[0]], strict=True)
    ]
    told = entry.usd["compute"] + entry.usd.get("public addresses", 0)
    assert float(told) == pytest.approx(float(sum(each)), rel=1e-9) and all(each)
    (past,) = past_items(bed.backend, entry.function, 0.0)
    assert 1 < past.dearer < 2, "some of its time was on larger workers"
    if isinstance(bed, AwsBed):  # both are in its costs, and the second had what the first left of the budget
        hours = [bill_of(bed.backend, stint.fleet).hours for stint in entry.stints]
        assert [{size.memory_mib for size, _ in each} for each in hours] == [{512}, {1024}]
        first, second = legs
        assert first.end is not None and first.end.spent_usd
        assert second.limits.budget_usd == pytest.approx(1.0 - first.end.spent_usd, abs=1e-6)


def test_who_cancels_while_it_moves_has_cancelled_what_goes_on(bed: Bed) -> None:
    """Whether the mark comes before that leg's end or after it."""
    backend, run = bed.backend, new_run_id()
    onward = Resumed(fleet=new_fleet_id(), forgiven=0, memory_mib=1024, cpu=0.25)
    write_end(backend, run, 0, End(state=RunState.STOPPED, ended_at=1.0, onward=onward))
    assert last_end(backend, run) is None
    mark_cancelled(backend, run, 0)
    assert is_cancelled(backend, run, 0) and is_cancelled(backend, run, 1) and not is_cancelled(backend, run, 2)
    backend.store.delete_folder(RunNames(run).folder)


@pytest.mark.rest
def test_the_next_size_is_as_former_runs_took(bed: Bed) -> None:
    """Who has run the function with enough knows how much that is."""
    with Cluster(workers=1, backend=bed.backend, progress=False, slots=1, cpu=1, memory="4GB") as cluster:
        assert cluster.map(hungry, [5]) == [5]
    with Cluster(workers=1, backend=bed.backend, progress=False, slots=1, cpu=0.25, memory="512MB") as cluster:
        run = cluster.start(hungry, [5], escalate=True)
        assert run.results(timeout=120) == [5]
    _, leg = legs_of(bed.backend, read_spec(bed.backend, run.id))
    assert leg.resources.memory_mib == 2048  # a quarter more than 700 MiB and the worker's own is above 1 GiB


def test_a_call_that_ran_out_of_memory_goes_on_while_others_come(bed: Bed) -> None:
    """An executor's run has no end of its input: it goes on with larger workers when nothing else is owed."""
    with StarburstExecutor(workers=1, backend=bed.backend, escalate=True, **SMALL) as executor:
        double = greedy(bed.notes)
        first = [executor.submit(double, item) for item in (1, 5, 2)]
        assert [future.result(timeout=120) for future in first] == [2, 10, 4]
        assert executor.submit(double, 3).result(timeout=120) == 6
    assert bed.calls() == {1: 1, 2: 1, 3: 1, 5: bed.calls()[5]}


@pytest.mark.rest
def test_an_endless_input_is_read_on_with_larger_workers(bed: Bed) -> None:
    """Who consumes answers in order waits for the one that ran out of memory, and the input for him."""
    with Cluster(workers=1, backend=bed.backend, progress=False, **SMALL) as cluster:
        run = cluster.start(greedy(bed.notes), iter([*range(6), *range(7, 400)]), escalate=True, chunk_size=5)
        assert [value for _, value in run.iter_completed(ordered=True, timeout=120)][3:8] == [6, 8, 10, 14, 16]


def test_a_size_without_a_larger_is_refused(bed: Bed) -> None:
    """At once: there is nothing to go on with."""
    with (
        pytest.raises(BadInput, match="no worker with more memory than 120 GB"),
        Cluster(workers=1, backend=bed.backend, progress=False, cpu=16, memory="120GB") as cluster,
    ):
        cluster.start(len, [[1]], escalate=True)
