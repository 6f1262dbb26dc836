"""What a power cut leaves of the store: objects that are not whole cost time, or items that nobody can make anew."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import Cluster, ItemFailed, RunState, RunStopped, attach, list_runs
from starburst_common.errors import AnswersLost, InputLost, Refused
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import (
    Buffer,
    Chunk,
    Failure,
    FailureKind,
    Outcome,
    PackRef,
    RunId,
    Span,
    WorkerId,
)
from starburst_common.names import GENERATIONS, PRUNED, RunNames
from starburst_common.options import Options
from starburst_common.ports import ObjectStore
from starburst_common.runs.outcomes import Summary, outcome_parts
from starburst_common.runs.prune import prune, prune_now_and_then
from starburst_common.runs.stored import create_outcome, find_outcome
from starburst_common.runs.tally import Tally
from starburst_worker.duty import Duty
from starburst_worker.parts import Part
from starburst_worker.settle import Settler
from tests.faults.conftest import Bed, LocalBed, noting

_START = """
import os, sys
from dataclasses import replace
os.environ["HELD_ITEM"] = "39"
from starburst_common import Cluster
from tests.faults.test_damage import double
from tests.places import open_place
cluster = Cluster(workers=2, backend=open_place(sys.argv[1]).paced(lease_s=2.0), progress=False)
run = cluster.start(double, range(40), chunk_size=4)
for _ in zip(run.iter_completed(), range(20)):
    pass
print(run.id, flush=True)
os._exit(0)
"""


def double(item: int) -> int:
    """Twice the item; one is never done by the workers of who is about to be gone."""
    if os.environ.get("HELD_ITEM") == str(item):
        time.sleep(3600)
    return item * 2


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LocalBed]:
    """This machine; a driver that is killed leaves its cluster's fleet to pruning, so nobody looks what is left."""
    bed = LocalBed(tmp_path / "home", tmp_path / "notes")
    yield bed
    bed.end()
    bed.backend.close()


def emptied(body: bytes) -> bytes:
    """Created, and its bytes not yet on the disk."""
    return b""


def torn(body: bytes) -> bytes:
    """Its first block only."""
    return body[: len(body) // 2]


def zeroed(body: bytes) -> bytes:
    """Of its length, without content."""
    return bytes(len(body))


def abandoned(bed: LocalBed) -> RunId:
    """A run of 40 items in chunks of 4, half answered or more, whose driver and workers are gone."""
    done = subprocess.run([sys.executable, "-c", _START, bed.text], check=True, capture_output=True, text=True)
    bed.end()
    bed.until(lambda: not bed.workers())
    return RunId(done.stdout.strip())


def damage(bed: Bed, key: str, how: Callable[[bytes], bytes]) -> None:
    """Leave of an object what a power cut may."""
    bed.backend.store.put(key, how(bytes(bed.backend.store.get(key))))


def test_objects_that_are_too_large_to_be_ours_are_not_read(alone: LocalBed) -> None:
    """One of a terabyte of each kind that a run keeps: to look, go on and prune costs what it did."""
    run = abandoned(alone)
    names, folder = RunNames(run), alone.home / "store"
    for key in (names.history, names.feeding, names.expires, names.suspect(0), names.outcome(Span(0, 1), 1), PRUNED):
        (folder / key).parent.mkdir(exist_ok=True)
        with (folder / key).open("wb") as file:
            file.truncate(1 << 40)
    assert attach(run, backend=alone.backend).status().state is RunState.RUNNING
    assert attach(run, backend=alone.backend).results() == [2 * item for item in range(40)]
    for key in (names.cancel, names.spec, names.end, next(alone.backend.store.list(names.outcomes))):
        with (folder / key).open("wb") as file:
            file.truncate(1 << 40)
    assert [each.status().state for each in list_runs(backend=alone.backend)] == [RunState.DAMAGED]
    prune_now_and_then(alone.backend)
    assert prune(alone.backend, now=time.time() + 8 * 86400.0) == [run]


@pytest.mark.parametrize("how", [torn, *(pytest.param(how, marks=pytest.mark.rest) for how in (emptied, zeroed))])
def test_a_damaged_outcome_is_answered_again(
    alone: LocalBed, how: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever attaches gets every value, once and in order; one warning tells of it, and others' answers are kept."""
    run = abandoned(alone)
    keys = [*alone.backend.store.list(RunNames(run).outcomes)]
    for key in keys[:3]:
        damage(alone, key, how)
    with caplog.at_level(logging.WARNING, "starburst"):
        assert attach(run, backend=alone.backend).results() == [2 * item for item in range(40)]
    told = [record for record in caplog.records if "is damaged, its items run again" in record.getMessage()]
    assert len(told) == 1
    again = [key for key in alone.backend.store.list(RunNames(run).outcomes) if key.endswith(".1")]
    assert again == [f"{key}.1" for key in keys[:3]]
    late = attach(run, backend=alone.backend)
    assert late.results() == [2 * item for item in range(40)]
    assert late.status().state is RunState.SUCCEEDED and late.failures() == []


def test_a_generation_counts_once_the_one_before_it_is_damaged(bed: Bed) -> None:
    """The outcome of a chunk is the first that is whole; nobody writes a second beside it, and not for ever."""
    store, run, span = bed.backend.store, RunId("run-x"), Span(0, 1)
    names = RunNames(run)

    def body(worker: str) -> bytes:
        failed = Failure(index=0, kind=FailureKind.USER, error="E", message="", traceback="")
        outcome = Outcome(span=span, worker=worker, seconds=0.0, batches=(), failures=(failed,), rest=(), logs={})
        return b"".join(outcome_parts(bed.backend.key, names.outcome(span), outcome))

    try:
        for generation in range(GENERATIONS):
            assert create_outcome(bed.backend, run, span, body(f"w{generation}"))
            assert not create_outcome(bed.backend, run, span, body("late"))
            assert find_outcome(bed.backend, run, span)[0].worker == f"w{generation}"
            damage(bed, names.outcome(span, generation), torn)
            with pytest.raises(Refused, match=f"outcomes/{span}"):
                find_outcome(bed.backend, run, span)
        with pytest.raises(Refused, match="10 of them were damaged"):
            create_outcome(bed.backend, run, span, body("too late"))
        assert {names.settled(key) for key in store.list(names.outcomes)} == {span}
    finally:
        store.delete_folder(names.folder)


@pytest.mark.parametrize("how", [torn, pytest.param(emptied, marks=pytest.mark.rest)])
def test_a_damaged_part_of_the_plan_is_made_anew(alone: LocalBed, how: Callable[[bytes], bytes]) -> None:
    """The packs, stored before it, say which items there are."""
    run = abandoned(alone)
    (plan,) = alone.backend.store.list(RunNames(run).plans)
    damage(alone, plan, how)
    assert attach(run, backend=alone.backend).results() == [2 * item for item in range(40)]


def test_items_that_are_lost_are_told_and_the_others_answered(alone: LocalBed) -> None:
    """Plan and pack are damaged: the run ends, says why, and keeps its answers."""
    run = abandoned(alone)
    for key in alone.backend.store.list(RunNames(run).folder):
        if "plan/" in key or "packs/" in key:
            damage(alone, key, torn)
    held = attach(run, backend=alone.backend)
    with pytest.raises(InputLost, match="items are lost: "):
        held.results(timeout=60)
    assert held.status().state is RunState.STOPPED


def test_how_many_items_there_are_is_told_by_the_plan_too(alone: LocalBed) -> None:
    """Where it is damaged they are counted anew; where the plan is damaged as well, the run ends and says so."""
    for more in ("", "plan/"):
        run = abandoned(alone)
        for key in alone.backend.store.list(RunNames(run).folder):
            if key.endswith("/input") or (more and more in key):
                damage(alone, key, torn)
        held = attach(run, backend=alone.backend)
        if more:
            with pytest.raises(InputLost, match="how many items there are is lost: "):
                held.results(timeout=60)
            assert held.status().answered == 40
        else:
            assert held.results(timeout=60) == [2 * item for item in range(40)]


@pytest.mark.parametrize("kind", ["packs/", "functions/"])
def test_what_cannot_be_made_anew_fails_its_items_alone(alone: LocalBed, kind: str) -> None:
    """A damaged pack or function: those items have a failure that says so, and the run ends as runs do."""
    run = abandoned(alone)
    for key in alone.backend.store.list(RunNames(run).folder):
        if kind in key:
            damage(alone, key, torn)
    for key in [*alone.backend.store.list(RunNames(run).outcomes)][-2:]:
        damage(alone, key, torn)
    held = attach(run, backend=alone.backend)
    with pytest.raises(ItemFailed, match=r"refused|has \d+ bytes"):
        held.results()
    assert held.wait(60).state in (RunState.STOPPED, RunState.FAILED)


def gated(gate: Path, notes: Path) -> Callable[[int], int]:
    """Twice the item, and a word in its log; item 7 waits until the gate is there."""

    def double(item: int) -> int:
        import time

        print(f"this is {item}")
        with (notes / f"{item}").open("a") as file:
            file.write(f"{item}\n")
        while item == 7 and not gate.exists():
            time.sleep(0.02)
        if item == 5:
            raise ValueError("five")
        return item * 2

    return double


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("inline", [True, False])
def test_an_outcome_that_is_damaged_while_the_run_goes_on_is_answered_again(
    bed: Bed, tmp_path: Path, *, ordered: bool, inline: bool
) -> None:
    """Whoever reads it waits for the next generation; who had its values before has them once."""
    gate = tmp_path / "gate"
    backend = bed.backend if inline else bed.backend.paced(inline_bytes=0)
    wanted = {item: 2 * item for item in range(8) if item != 5}
    with Cluster(workers=2, backend=backend, tolerate=1, progress=False) as cluster:
        run = cluster.start(gated(gate, bed.notes), range(8), chunk_size=2)
        names = RunNames(run.id)
        try:
            first = run.iter_completed(ordered=ordered)
            early = [next(first) for _ in range(6)]
            damage(bed, names.outcome(Span(2, 4)), torn)
            damage(bed, names.outcome(Span(4, 6)), zeroed)
            second = run.iter_completed(ordered=ordered)
            again = [next(second) for _ in range(6)]
            assert names.outcome(Span(2, 4), 1) in bed.backend.store.list(names.outcomes)
        finally:
            gate.touch()
        for found in ([*early, *first], [*again, *second]):
            assert len(found) == 8
            assert {item: value for item, value in found if item != 5} == wanted
        assert [failure.index for failure in run.failures()] == [5]
        assert sorted(run.logs()) == [(item, f"this is {item}\n") for item in range(8)]
        assert run.wait().answered == 8
    assert bed.calls() == {0: 1, 1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 1, 7: 1}


REMOVED = {
    "runs/{run}/spec": r"runs/{run}/spec is gone from {store}; \d+ items were answered: start a new run",
    "runs/{run}": r"its store is gone: somebody removed it: nothing of it is kept in {store}; \d+ items were answered",
    ".": r"its store is gone: somebody removed it: nothing of it is kept in {store}; \d+ items were answered",
    "..": r"its store is gone: somebody removed it: nothing of it is kept in {store}; \d+ items were answered",
}


@pytest.mark.parametrize(
    "what", [*[*REMOVED][:2], *(pytest.param(what, marks=pytest.mark.rest) for what in [*REMOVED][2:])]
)
@pytest.mark.parametrize("inline", [True, pytest.param(False, marks=pytest.mark.rest)])
def test_who_removes_what_a_run_needs_ends_it(alone: LocalBed, what: str, *, inline: bool) -> None:
    """No item fails: the run stops at once and says what is gone, and where. Nothing else of it is removed by us."""
    backend = alone.backend if inline else alone.backend.paced(inline_bytes=0)
    alone.notes.mkdir()
    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        run = cluster.start(noting(alone.notes, seconds=0.1), range(1000), chunk_size=2)
        alone.until(lambda: run.status().answered > 10)
        store = alone.home / "store"
        gone = store / what.format(run=run.id)
        gone.resolve().rename(alone.home.parent / "gone")
        with pytest.raises(RunStopped, match=REMOVED[what].format(run=run.id, store=store)) as raised:
            run.results(timeout=60)
        assert not isinstance(raised.value, InputLost)
    if what.endswith("spec"):
        held = attach(run.id, backend=alone.backend)
        assert held.status().state is run.status().state is RunState.DAMAGED
        assert len([*alone.backend.store.list(RunNames(run.id).outcomes)]) > 5
        with pytest.raises(Refused, match="spec is gone"):
            held.results()
        held.cancel()
        held.remove()
        assert [*alone.backend.store.list(RunNames(run.id).folder)] == []


def test_two_that_answer_a_damaged_outcome_again_agree(bed: Bed) -> None:
    """Both meet it, and cut the chunk otherwise: one of them holds, and each item is answered once."""
    run, fleet = RunId("run-x"), Fleet.new(bed.backend, Options.of(workers=1, slots=1))
    names, store = RunNames(run), bed.backend.store
    chunk = Chunk(span=Span(0, 6), function="runs/run-x/functions/f", ref=PackRef(names.pack(0), 0, 10))

    def settler(worker: str, store: ObjectStore) -> Settler:
        duty = Duty(
            fleet=fleet.id, worker=WorkerId(worker), backend="local", memory_mib=None, slots=0, pace=fleet.spec.pace
        )
        return Settler(replace(bed.backend, store=store), duty)

    def settle(by: Settler, of: Chunk, at: int) -> Sequence[Chunk]:
        """Its items up to `at` are answered, the others are delegated."""
        part = Part(chunk=of)
        for index in range(of.span.lo, at):
            part.fail(Failure(index=index, kind=FailureKind.USER, error="E", message="", traceback=""))
        rest = [of.narrowed(Span(at, of.span.hi), deaths=0)] if at < of.span.hi else []
        return by.settle(run, part, rest)

    class Meanwhile:
        """A store; once it has shown the damage, somebody else is quicker."""

        def get(self, key: str, *most: int) -> Buffer:
            """As asked, and then the other answers."""
            body = store.get(key)
            if key == names.outcome(chunk.span) and not others:
                others.extend(settle(settler("quick", store), chunk, 4))
            return body

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    others: list[Chunk] = []
    tally = Tally()
    tally.plan([chunk])
    try:
        settle(settler("first", store), chunk, 5)
        tally.settle(Summary.of(find_outcome(bed.backend, run, chunk.span)[0]))
        settle(settler("first", store), chunk.narrowed(Span(5, 6), deaths=0), 6)
        damage(bed, names.outcome(chunk.span), torn)
        rest = settle(settler("slow", cast("ObjectStore", Meanwhile())), chunk, 2)
        assert [part.span for part in rest] == [part.span for part in others] == [Span(4, 6)]
        assert find_outcome(bed.backend, run, chunk.span)[0].worker == "quick"
        settle(settler("third", store), others[0], 6)
        tally.reopen(chunk)
        for span in {span for key in store.list(names.outcomes) if (span := names.settled(key)) is not None}:
            tally.settle(Summary.of(find_outcome(bed.backend, run, span)[0]))
        assert [(settled.span, settled.worker) for settled in tally.spans()] == [
            (Span(0, 6), "quick"),
            (Span(4, 6), "third"),
        ]
        assert tally.answered == tally.failed == 6
        assert tally.owed == {}
    finally:
        store.delete_folder(names.folder)


def test_an_answer_that_is_damaged_after_the_end_is_named(local_bed: LocalBed, tmp_path: Path) -> None:
    """A run that is over is not driven any more: the error names items and what to do; others' answers are given."""
    backend = local_bed.backend
    (gate := tmp_path / "gate").touch()
    with Cluster(workers=1, backend=backend.paced(inline_bytes=0), tolerate=1, progress=False) as cluster:
        run = cluster.start(gated(gate, local_bed.notes), range(8), chunk_size=2)
        assert run.wait().state is RunState.FAILED
        damage(local_bed, RunNames(run.id).outcome(Span(2, 4)), torn)
        for held in (run, attach(run.id, backend=backend)):
            with pytest.raises(AnswersLost, match=rf"items 2-3 are damaged: .*start a new run .*replay {run.id} 2`"):
                held.results(return_exceptions=True)
            found: set[int] = set()
            with pytest.raises(AnswersLost):
                found.update(item for item, _ in held.iter_completed())
            assert found == {0, 1, 4, 5, 6, 7}
            assert held.unanswered() == [Span(2, 4)]
            assert [failure.index for failure in held.failures()] == [5]
            assert {item for item, _ in held.logs()} == {0, 1, 4, 5, 6, 7}
            assert held.status().state is RunState.DAMAGED
            assert "the stored answers of items 2-3 are damaged" in held.status().reason
            merely = attach(run.id, backend=backend).status()
            assert (merely.state, merely.answered) == (RunState.DAMAGED, 8)
            assert "the stored answers of items 2-3 are damaged" in merely.reason
