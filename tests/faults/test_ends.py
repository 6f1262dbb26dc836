"""How a run ends on its driver's side: whoever takes the last answer leaves nothing, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, active_count
from typing import Any

import pytest

from starburst_common import Cluster, RunCancelled, RunState, StarburstExecutor, attach, list_runs, starburst_map
from starburst_common.errors import Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import Chunk, Failure, FailureKind, PackRef, RunId, Span, WorkerId
from starburst_common.names import FLEETS, RUNS, RunNames
from starburst_common.options import Options
from starburst_common.runs.drive import Driver
from starburst_common.runs.follow import in_order
from starburst_common.runs.legs import End
from starburst_common.runs.messages import read_notice
from starburst_common.runs.outcomes import Summary
from starburst_common.runs.spec import read_end
from starburst_common.runs.view import Policy
from starburst_common.spi import driver_of
from starburst_common.tolerance import Tolerance
from starburst_worker.duty import Duty
from starburst_worker.parts import Part
from starburst_worker.settle import Settler
from tests.calls import add, after
from tests.faults.conftest import AwsBed, Bed, LocalBed, noting, on_both
from tests.ports import Port, counting, slow_to_write

WAYS = {
    "results in a with block": """
with Cluster(workers=2, backend=backend, progress=False) as cluster:
    assert cluster.start(noting(notes), range(8)).results() == [*range(0, 16, 2)]
""",
    "some of the answers in a with block": """
with Cluster(workers=2, backend=backend, progress=False) as cluster:
    answers = cluster.start(noting(notes), range(8)).iter_completed()
    assert len([next(answers) for _ in range(8)]) == 8
""",
    "an attached reader, and an exit that nobody hears of": """
cluster = Cluster(workers=2, backend=backend, progress=False)
run = cluster.start(noting(notes), range(8))
cluster._fleet.release("cluster")
assert attach(run.id, backend=backend).results() == [*range(0, 16, 2)]
os._exit(0)
""",
    "a failure, and an exit that nobody hears of": """
cluster = Cluster(workers=2, backend=backend, progress=False)
run = cluster.start(partial(fail_on, 5), range(8), chunk_size=8)
cluster._fleet.release("cluster")
try:
    run.results()
except ValueError:
    os._exit(0)
""",
    "nothing but the wait for it, in a cluster that nobody closes": """
run = Cluster(workers=2, backend=backend, progress=False).start(noting(notes), range(8))
while run.status().answered < 8:
    time.sleep(0.001)
""",
}
SCRIPT = """
import os, sys, time
from functools import partial
from pathlib import Path
from starburst_common import Cluster, StarburstExecutor, attach, starburst_map
from tests.calls import add, fail_on
from tests.faults.conftest import noting
from tests.places import open_place
from tests.ports import slow_to_write
backend, notes = slow_to_write(open_place(sys.argv[1]), "/end", seconds=0.5), Path(sys.argv[2])
"""


def script(bed: Bed, text: str) -> list[str]:
    """A process of its own that does as it is told."""
    return [sys.executable, "-c", SCRIPT + text, bed.text, str(bed.notes)]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_whose_answers_were_taken_is_closed(bed: Bed, way: str) -> None:
    """However they were taken and the process ended: the run is over, and its fleet is gone with its workers."""
    subprocess.run(script(bed, WAYS[way]), check=True, timeout=300)
    (run,) = bed.backend.store.folders(RUNS)
    assert attach(run, backend=bed.backend).status().state.over
    assert [*bed.backend.store.list(FLEETS)] == []


def test_a_run_comes_to_its_end_by_the_steps_of_who_has_a_loop_already(local_bed: LocalBed) -> None:
    """As of a trigger, on an event loop: what a process left that died is driven, and cleaned up, without a thread."""
    bed = local_bed
    left = """
cluster = Cluster(workers=1, backend=backend, progress=False)
cluster.start(noting(notes), range(8))
cluster._fleet.release("cluster")
os._exit(0)
"""
    subprocess.run(script(bed, left), check=True, timeout=60)
    (name,) = bed.backend.store.folders(RUNS)
    driver, before = driver_of(name, bed.backend), active_count()

    async def drive() -> None:
        while not driver.step():
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(drive(), 120))
    assert active_count() == before
    assert (driver.books.state, driver.join(0)) == (RunState.SUCCEEDED, True)
    assert attach(name, backend=bed.backend).results() == [*range(0, 16, 2)]
    bed.until(lambda: bed.left() == [])
    assert driver_of(name, bed.backend).step()


def test_who_only_looks_changes_nothing(local_bed: LocalBed) -> None:
    """A run that is answered but for its end, as a driver that died leaves it: only who takes its answers ends it."""
    bed = local_bed
    going = slow_to_write(bed.backend, "/end", seconds=3600)
    cluster = Cluster(workers=1, backend=going, progress=False)
    run = cluster.start(noting(bed.notes), range(4))
    bed.until(lambda: run.status().answered == 4)
    looked = attach(run.id, backend=bed.backend)
    before = bed.objects()
    assert "every item is answered" in looked.status().reason
    assert (looked.failures(), [*looked.logs()]) == ([], [])
    assert bed.objects() == before
    assert looked.results() == [0, 2, 4, 6]
    assert read_end(bed.backend, run.id) is not None
    cluster._fleet.release("cluster")  # type: ignore[union-attr]


def test_what_nobody_cleaned_up_is_cleaned_up_by_who_takes_the_answers(local_bed: LocalBed) -> None:
    """A driver died when it had written the end: queue, fleet and workers go with the next one."""
    bed = local_bed
    cluster = Cluster(workers=1, backend=bed.backend, progress=False)
    run = cluster.start(noting(bed.notes), range(4))
    assert run.results() == [0, 2, 4, 6]
    Fleet.of(bed.backend, run.resources, 1, run._spec.fleet).hold(run.id)
    bed.backend.queue.ensure(RunNames(run.id).notices)
    cluster._fleet.release("cluster")  # type: ignore[union-attr]
    assert attach(run.id, backend=bed.backend).results() == [0, 2, 4, 6]
    assert bed.left() == []


@on_both
def test_a_second_ctrl_c_loses_nothing(bed: Bed) -> None:
    """It comes while the first is being written down: that is written all the same, and who attaches finds it ended."""
    text = """
backend = slow_to_write(open_place(sys.argv[1]), "/cancel", "/end", seconds=2.0, tell=True)
starburst_map(noting(notes, seconds=0.1), range(2000), workers=2, backend=backend, progress=False)
"""
    to, silent = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(script(bed, text), stdout=to, stderr=silent, text=True) as process:
        bed.until(lambda: sum(bed.calls().values()) > 4)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("writes ")
        process.send_signal(signal.SIGINT)
        process.wait(120)
    (name,) = bed.backend.store.folders(RUNS)
    run = attach(name, backend=bed.backend)
    with pytest.raises(RunCancelled):
        run.results(timeout=120)
    assert sum(bed.calls().values()) < 2000
    bed.until(lambda: not bed.workers())
    run._held.driver.fleet.release("cluster")  # type: ignore[union-attr]


def test_the_driver_looks_at_its_pace_whatever_fails(local_bed: LocalBed) -> None:
    """Failures that decide nothing do not make it look at workers, queues and marks for each notice."""

    def odd_fails(item: int) -> int:
        if item % 2:
            raise ValueError("odd")
        return item

    backend, calls = counting(replace(local_bed.backend, tick_s=5.0))
    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        run = cluster.start(odd_fails, range(400), chunk_size=1, return_exceptions=True)
        assert len(run.failures()) <= 200 and len(run.results()) == 400
        assert run.status().state is RunState.FAILED
    assert calls["workers"] < 40


def test_a_driver_learns_what_only_another_has_heard(local_bed: LocalBed) -> None:
    """Two share the notices of one run: each sees every answer while it goes on, and hears of others."""
    bed = local_bed
    end = bed.notes.parent / "end"

    def trickle(item: int) -> int:
        until = time.monotonic() + 0.1
        while item > 20 and time.monotonic() < until and not end.exists():
            time.sleep(0.01)
        return item

    stolen: list[Span] = []
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(trickle, range(3000), chunk_size=1)
        thief = Thread(target=steal, args=(bed, run.id, stolen, end))
        thief.start()
        driver = run._held.driver
        assert driver is not None
        try:
            bed.until(lambda: len(stolen) > 30)
            first = stolen[:30]
            bed.until(lambda: all(driver.books.tally.settled(span) for span in first), within_s=60.0)
            assert run.status().answered < 3000
        finally:
            end.touch()
            thief.join()
        assert run.results() == [*range(3000)]


def steal(bed: Bed, run: RunId, stolen: list[Span], end: Path) -> None:
    """Hear half of a run's notices, as another driver does."""
    queue, notices = bed.backend.queue, RunNames(run).notices
    while not end.exists():
        for message in queue.receive(notices, limit=1, lease_s=60.0, wait_s=0.1):
            stolen.append(read_notice(bed.backend.key, run, message.body).span)
            queue.delete(notices, [message.receipt])


def test_answers_across_many_gaps_come_at_once(backend: Any) -> None:
    """A run that was stopped with every other item unanswered: what it has comes in order, in one pass."""
    n = 50_000
    chunks = [Chunk(span=Span(i, i + 1), function="f", ref=PackRef("p", 0, 0)) for i in range(n)]
    fleet = Fleet.of(backend, Options.of().resources, 1)
    policy = Policy(workers=1, slots=1, tolerate=Tolerance(), resend_after_s=5.0)
    driver = Driver(backend, RunId("run-of-gaps"), fleet, policy)
    driver.books.plan(chunks)
    for i in range(1, n, 2):
        driver.books.tally.settle(
            Summary(span=Span(i, i + 1), worker="w", seconds=0, failed=0, first_failure=None, alike=(), rest=())
        )
    driver.books.over(End(state=RunState.STOPPED, ended_at=0.0))
    assert [part.lo for _, part in in_order(driver.books, None, stop_early=False)] == [*range(1, n, 2)]
    assert [*in_order(driver.books, None, stop_early=True)] == []


def test_a_callers_patience_ends_also_where_an_answer_cannot_be_read(local_bed: LocalBed) -> None:
    """The store gives no outcomes: `timeout` holds, the answers are kept, and are there once the store is."""
    away = Event()
    away.set()

    def before(method: str, key: Any) -> None:
        if method == "get" and "/outcomes/" in key and away.is_set():
            raise Unavailable("no answers today")

    backend = local_bed.backend.paced(inline_bytes=0, store=Port(local_bed.backend.store, before))
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(noting(local_bed.notes), range(4))
        local_bed.until(lambda: run.status().answered == 4)
        with pytest.raises(TimeoutError, match="no answers today"):
            run.results(timeout=0.5)
        away.clear()
        assert run.results(timeout=120) == [0, 2, 4, 6]


def failing(bed: Bed) -> tuple[Any, Event]:
    """A backend whose workers cannot be looked at in a way that nobody expects, once the event is set."""
    broken = Event()

    def before(method: str, first: Any) -> None:
        if method in ("workers", "tend") and broken.is_set():
            raise ZeroDivisionError("who could expect that")

    return replace(bed.backend, compute=Port(bed.backend.compute, before)), broken


@pytest.mark.parametrize("who", ["the same process", "another"])
def test_a_run_whose_driver_failed_can_be_cancelled_and_driven(local_bed: LocalBed, who: str) -> None:
    """Its error is told to who waits; any process's next call drives anew: a cancel ends it and stops its workers."""
    bed = local_bed
    backend, broken = failing(bed)
    cluster = Cluster(workers=2, backend=backend, progress=False)
    run = cluster.start(noting(bed.notes, seconds=0.05), range(5000))
    bed.until(lambda: sum(bed.calls().values()) > 10)
    broken.set()
    with pytest.raises(ZeroDivisionError):
        run.wait(120)
    broken.clear()
    assert run.status().state is RunState.RUNNING
    (run if who == "the same process" else attach(run.id, backend=bed.backend)).cancel()
    assert attach(run.id, backend=bed.backend).status().state is RunState.CANCELLED
    cluster.close()
    assert sum(bed.calls().values()) < 5000


def test_futures_end_whatever_becomes_of_the_driver(local_bed: LocalBed) -> None:
    """It fails as nobody expects: calls that are answered have their value, others a `BrokenExecutor`; none is left."""
    backend, broken = failing(local_bed)
    executor = StarburstExecutor(1, backend=backend)
    assert executor.submit(add, 1, 2).result(120) == 3
    futures = [executor.submit(time.sleep, 0.05) for _ in range(500)]
    broken.set()
    assert isinstance(futures[-1].exception(120), BrokenExecutor)
    broken.clear()
    executor.shutdown()
    assert all(future.done() for future in futures)
    # the executor may have given its run up while no driver could go on: it is cancelled, and who looks next ends it
    assert attach(executor.run_id or "", backend=local_bed.backend).wait(120).state is RunState.CANCELLED


def test_calls_end_on_aws_as_the_standard_has_them(aws_bed: AwsBed) -> None:
    """A single one's answer is not lost, its run has it, too; so do `map`, `as_completed`, asyncio and a cluster."""
    with StarburstExecutor(2, backend=aws_bed.backend) as executor:
        assert executor.submit(add, 1, 2).result(120) == 3
        run = executor.run_id
    assert run is not None
    assert [*attach(run, backend=aws_bed.backend).results()] == [3]

    async def awaited(executor: StarburstExecutor) -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, add, item) for item in range(5)))

    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        with StarburstExecutor(2, backend=aws_bed.backend) as executor:
            futures = {executor.submit(add, item, 1): item for item in range(20)}
            assert [*executor.map(add, range(20), range(20))] == [2 * item for item in range(20)]
            assert {futures[each]: each.result() for each in as_completed(futures, 120)} == {
                n: n + 1 for n in range(20)
            }
            assert asyncio.run(awaited(executor)) == [*range(5)]
        assert cluster.submit(add, 3, 4).result(120) == 7
        assert cluster.map(add, range(4)) == [0, 1, 2, 3]
    assert [*aws_bed.backend.store.list(FLEETS)] == []


class Quits:
    """Ends its process when it is pickled."""

    def __reduce__(self) -> Any:
        raise SystemExit("not me")


def test_a_call_whose_argument_ends_the_thread_ends_alone(local_bed: LocalBed) -> None:
    """Pickling raises what is no `Exception`: that future has it, the calls beside it their values."""
    with StarburstExecutor(1, backend=local_bed.backend) as executor:
        futures: list[Any] = [executor.submit(add, item) for item in (1, Quits(), 3)]  # type: ignore[arg-type]
        assert futures[0].result(120) == 1
        assert isinstance(futures[1].exception(120), SystemExit)
        assert futures[2].result(120) == 3


@on_both
def test_nothing_is_raised_when_the_interpreter_ends(bed: Bed) -> None:
    """An executor that nobody shut down: its calls are waited for, its workers stopped, and nothing is printed."""
    text = """
executor = StarburstExecutor(2, backend=open_place(sys.argv[1]))
futures = [executor.submit(add, item) for item in range(20)]
"""
    done = subprocess.run(script(bed, text), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = bed.backend.store.folders(RUNS)
    assert attach(run, backend=bed.backend).status().state is RunState.SUCCEEDED
    assert [*bed.backend.store.list(FLEETS)] == []


EXECUTORS = {
    "in a with block": """
with Told(2, backend=backend) as executor:
    [executor.submit(double, item) for item in range(400)][-1].result()
""",
    "that nobody shut down": """
executor = Told(2, backend=backend)
[executor.submit(double, item) for item in range(400)][-1].result()
""",
}


@pytest.mark.parametrize("way", [*EXECUTORS][:1] + [pytest.param(way, marks=pytest.mark.rest) for way in EXECUTORS][1:])
def test_ctrl_c_ends_an_executor_and_the_next_one_its_process(local_bed: LocalBed, way: str) -> None:
    """The first comes to the caller, whose calls are waited for; the second cancels their run, and the process ends."""
    bed = local_bed
    text = f"""
class Told(StarburstExecutor):
    def shutdown(self, *args, **kwargs):
        print("waits", flush=True)
        super().shutdown(*args, **kwargs)
double = noting(notes, seconds=0.5)
{EXECUTORS[way]}
"""
    pipe = subprocess.PIPE
    with subprocess.Popen(script(bed, text), stdout=pipe, stderr=pipe, text=True) as process:
        bed.until(lambda: len(bed.calls()) > 2)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None and process.stdout.readline() == "waits\n"
        before = len(bed.calls())
        bed.until(lambda: len(bed.calls()) > before + 2)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in said and "Exception ignored" not in said
    (run,) = bed.backend.store.folders(RUNS)
    assert attach(run, backend=bed.backend).status().state is RunState.CANCELLED
    assert len(bed.calls()) < 400


@pytest.mark.rest
def test_ctrl_c_in_the_block_of_a_cluster_withdraws_its_calls(local_bed: LocalBed) -> None:
    """Who leaves it by an exception wants no more answers: one is enough."""
    bed = local_bed
    text = """
with Cluster(workers=2, backend=backend, progress=False) as cluster:
    [cluster.submit(noting(notes, seconds=0.5), item) for item in range(400)][-1].result()
"""
    with subprocess.Popen(script(bed, text), stderr=subprocess.PIPE, text=True) as process:
        bed.until(lambda: len(bed.calls()) > 2)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in said and "Exception ignored" not in said
    (run,) = bed.backend.store.folders(RUNS)
    assert attach(run, backend=bed.backend).status().state.over
    assert len(bed.calls()) < 400


@pytest.mark.rest
def test_many_ctrl_c_end_a_process_at_once(local_bed: LocalBed) -> None:
    """Whatever the end of the process waits for, another one ends it; the run ends by itself, and nothing is said."""
    bed = local_bed
    text = """
backend = slow_to_write(open_place(sys.argv[1]), "/end", seconds=600.0, tell=True)
with StarburstExecutor(2, backend=backend) as executor:
    [executor.submit(noting(notes, seconds=0.5), item) for item in range(400)][-1].result()
"""
    with subprocess.Popen(script(bed, text), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        bed.until(lambda: len(bed.calls()) > 2)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        said = process.communicate()[1]
    assert "Exception ignored" not in said
    (run,) = bed.backend.store.folders(RUNS)
    with pytest.raises(RunCancelled):
        attach(run, backend=bed.backend).results(timeout=60)
    assert len(bed.calls()) < 400


def test_an_outage_at_the_end_takes_no_answers_along(bed: Bed) -> None:
    """The fleet cannot be let go of at first: that is tried again, and what was answered is returned."""
    outages = iter(range(3))

    def before(method: str, first: Any) -> None:
        if method == "delete" and first and first[0].endswith("/cluster") and next(outages, None) is not None:
            raise Unavailable("the store is away")

    away = replace(bed.backend, store=Port(bed.backend.store, before))
    assert starburst_map(abs, [-1, 2], workers=1, backend=away, progress=False) == [1, 2]
    assert next(outages, None) is None


@on_both
def test_a_run_that_is_removed_at_once_is_worked_on_no_more(bed: Bed) -> None:
    """However soon after it was cancelled, on workers that stay for others; what they still store of it goes, too."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(noting(bed.notes, seconds=0.2), range(300), chunk_size=150)
        bed.until(lambda: bool(bed.calls()))
        run.cancel()
        run.remove()
        assert cluster.map(abs, [-1] * 20, chunk_size=1) == [1] * 20
        before = sum(bed.calls().values())
        assert cluster.map(after, [0.5] * 6, chunk_size=1) == [None] * 6
        assert sum(bed.calls().values()) == before
        assert run.id not in [kept.id for kept in list_runs(backend=bed.backend)]


def test_what_is_answered_after_an_early_end_counts_for_whoever_looks(local_bed: LocalBed) -> None:
    """A worker may have been at a chunk when its run was cancelled: `status` has as many answers as readers find."""
    bed = local_bed
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(noting(bed.notes, seconds=0.2), range(40), chunk_size=4)
        bed.until(lambda: run.status().answered >= 4)
        run.cancel()
        ended = run.wait()
        late = max(driver_of(run.id, bed.backend).books.tally.owed.values(), key=lambda chunk: chunk.span)
        pace, fleet = cluster._fleet.spec.pace, cluster._fleet.id
        duty = Duty(fleet=fleet, worker=WorkerId("late"), backend="local", memory_mib=None, slots=0, pace=pace)
        part = Part(chunk=late)
        for index in range(late.span.lo, late.span.hi):
            part.fail(Failure(index=index, kind=FailureKind.USER, error="E", message="", traceback=""))
        Settler(bed.backend, duty).settle(run.id, part, [])
    now, found = attach(run.id, backend=bed.backend).status(), list[Any]()
    with pytest.raises(RunCancelled):
        found.extend(attach(run.id, backend=bed.backend).answers())
    assert (now.answered, now.failed) == (len(found), late.span.size)
    assert now.answered >= ended.answered + late.span.size
    assert (now.state, now.ended_at, now.items) == (ended.state, ended.ended_at, ended.items)
