"""Workers look after themselves: slots kept, chunks resized, idle and old ones gone."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from starburst_common import Cluster, RunState, StarburstExecutor, WorkerLost, attach, checkpoint, starburst_map
from starburst_common.errors import EnvironmentMismatch, Unavailable
from starburst_common.runs.events import EventKind
from starburst_common.wire.seals import WIRE_VERSION, misfit_exit
from starburst_worker.duty import own_task
from tests.calls import its_worker, wait_for
from tests.faults.conftest import AwsBed, Bed, LocalBed, held_at, holding, noting, on_both


def test_slots_are_started_once_and_all_are_used(bed: Bed) -> None:
    """One worker of cpu=4 runs 400 chunks on its four slots, which are the same processes all along.

    The first items end when there are four processes that run some.
    """
    notes = bed.notes

    def slot_and_worker(_: int) -> tuple[int, int, str]:
        (notes / str(os.getpid())).touch()
        until = time.monotonic() + 300
        while len(list(notes.iterdir())) < 4 and time.monotonic() < until:
            time.sleep(0.005)
        return os.getpid(), its_worker(), os.environ["OMP_NUM_THREADS"]

    got = starburst_map(
        slot_and_worker, range(400), workers=1, cpu=4, chunk_size=1, backend=bed.backend, progress=False
    )
    assert len({slot for slot, _, _ in got}) == 4
    assert len({worker for _, worker, _ in got}) == 1
    assert {threads for _, _, threads in got} == {"1"}


def test_a_long_chunk_hands_back_what_it_has_not_started(bed: Bed) -> None:
    """Six chunks of which one is slow: it ends up spread over both workers.

    An item in its midst ends only when there is a slow one that another slot has begun.
    """
    backend = bed.backend.paced(chunk_s=0.5)
    notes = bed.notes

    def slow_first(item: int) -> tuple[int, int]:
        if item < 8:
            (notes / str(os.getpid())).touch()
            time.sleep(0.5)
        until = time.monotonic() + 300
        while item == 4 and len(list(notes.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        return item, os.getpid()

    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        cluster.map(abs, range(100))  # warm
        run = cluster.start(slow_first, range(48))  # chunks of eight
        got = run.results()
        run.wait()
    assert [item for item, _ in got] == list(range(48))
    assert len({pid for _, pid in got[:8]}) == 2


def test_a_planned_chunk_is_shared_soon_and_its_pieces_are_not(local_bed: LocalBed) -> None:
    """Three chunks of 0.8 s: each is one outcome for what it had after 0.2 s, and for each of its pieces."""
    backend = local_bed.backend.paced(chunk_s=30.0, share_s=0.2)
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(time.sleep, [0.1] * 24)
        run.results()
        spans = [settled.span for settled in run._held.settled()]
    pieces = [span.size for span in spans if span.size < 8]
    assert len(spans) - len(pieces) == 3
    assert 6 <= len(pieces) <= 12 and max(pieces) <= 2


@on_both
def test_an_item_goes_on_from_what_it_saved_as_its_worker_had_to_go(bed: Bed) -> None:
    """It has time to save when its worker is told to go, whoever runs it next loads that; nothing is done twice."""
    notes = bed.notes

    def long(item: int) -> tuple[int, list[int]]:
        done: list[int] = checkpoint.load([])
        if item == 2 and len(done) < 2:
            (notes / f"from-{len(done)}").touch()
            while not checkpoint.leaving():
                time.sleep(0.01)
            time.sleep(1.0)  # longer than others are given
            checkpoint.save([*done, item])
            (notes / "never").touch()
        return item, done

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(long, range(4), chunk_size=4)
        for at in range(2):
            bed.until((notes / f"from-{at}").exists)
            bed.signal_workers(signal.SIGTERM, 1)
        assert run.results(timeout=300) == [(0, []), (1, []), (2, [2, 2]), (3, [])]
        run.wait()
    assert sorted(path.name for path in notes.iterdir()) == ["from-0", "from-1"]


@on_both
def test_what_takes_far_longer_near_the_end_is_given_to_an_idle_worker_too(bed: Bed) -> None:
    """Whoever has an item first never ends it; whoever has it second does. Each item has one answer."""
    notes = bed.notes

    def stuck_once(item: int) -> int:
        if item == 5:
            with suppress(FileExistsError):
                (notes / "stuck").mkdir()
                time.sleep(3600)
        return item

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(stuck_once, range(12), chunk_size=1, speculate=True)
        assert run.results(timeout=300) == [*range(12)]
        run.wait()
        assert [event.text for event in run.events() if event.kind is EventKind.SPECULATED] == [
            "1 chunk far behind: given to idle workers, too"
        ]


class Fatal:
    """Takes longer to arrive than a chunk may take, as what has large imports does, notes that, and dies."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        time.sleep(0.3)
        (self.notes / f"load-{os.getpid()}").touch()
        os._exit(3)

    def __call__(self, item: int) -> int:
        return item


def test_functions_that_load_slowly_are_all_run(
    local_bed: LocalBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three modules that take longer to import than a chunk may take, and one slot: none is given back unbegun.

    The time for a chunk is counted from its first item, and the slot keeps what it has imported for others.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (names := ("slow_one", "slow_two", "slow_three")):
        (tmp_path / f"{name}.py").write_text("import os, time\ntime.sleep(1.0)\ndef same(x): return x, os.getpid()\n")
    functions = [import_module(name).same for name in names]
    with StarburstExecutor(workers=1, chunk_size=1, backend=local_bed.backend.paced(chunk_s=0.5)) as executor:
        futures = [executor.submit(functions[number % 3], number) for number in range(9)]
        got = [future.result(timeout=120) for future in futures]
    assert [number for number, _ in got] == list(range(9))
    assert len({slot for _, slot in got}) == 1


def test_what_ends_its_process_while_it_is_loaded_is_to_blame(bed: Bed) -> None:
    """Each end counts. A function's fails all its items, after two tries, then one a chunk; an item is lost alone."""
    backend = bed.backend.paced(chunk_s=0.2)
    with Cluster(workers=1, return_exceptions=True, backend=backend, progress=False) as cluster:
        got = cluster.map(Fatal(bed.notes), range(100), chunk_size=50)
        assert {type(value) for value in got} == {EnvironmentMismatch}
        assert "exited with code 3 while the function was loaded, with what it imports, 2 times" in str(got[99])
        assert len(list(bed.notes.glob("load-*"))) == 3
        got = cluster.map(type, [Fatal(bed.notes), 0, 1])
        assert got[1:] == [int, int] and type(got[0]) is WorkerLost
        assert "exited with code 3 while the item was unpickled, 2 times" in str(got[0])


def test_a_call_does_not_wait_behind_a_slow_one_it_was_sent_with(bed: Bed) -> None:
    """Many small calls share messages; one that takes long gives the others of its message away while it runs on."""
    backend = bed.backend.paced(chunk_s=0.3)
    with StarburstExecutor(workers=2, backend=backend) as executor:
        assert list(executor.map(abs, range(50))) == list(range(50))
        go = f"{bed.notes}.go"
        futures = [
            executor.submit(wait_for, go) if number == 3 else executor.submit(time.sleep, 0.01) for number in range(100)
        ]
        for number, future in enumerate(futures):
            if number != 3:
                future.result()
        assert not futures[3].done()
        Path(go).touch()


class Held:
    """Holds up whoever pickles it until it is let go."""

    def __init__(self) -> None:
        self.go = Event()

    def __reduce__(self) -> Any:
        self.go.wait(120)
        return int, ()


def test_calls_sent_with_the_one_that_runs_are_withdrawn_while_it_does(bed: Bed) -> None:
    """Nobody who waits for them waits for that one too, and none of them, nor of those behind, is run."""
    go, held, note = f"{bed.notes}.go", Held(), noting(bed.notes)

    def work(number: int) -> Any:  # one function, since calls of two share no message
        return note(number) if number else wait_for(go)

    with StarburstExecutor(workers=1, chunk_size=200, backend=bed.backend) as executor:
        assert executor.submit(abs, -1).result() == 1
        first = executor.submit(abs, held)
        futures = [executor.submit(work, number) for number in range(600)]
        held.go.set()
        assert first.result() == 0
        bed.until(Path(f"{go}.started").exists)
        executor.shutdown(wait=False, cancel_futures=True)
        bed.until(futures[1].done)
        assert not futures[0].done()
        Path(go).touch()
    assert futures[0].exception() is None
    assert all(future.cancelled() for future in futures[1:])
    assert not bed.calls()


@on_both
def test_idle_workers_stop_themselves(bed: Bed) -> None:
    """A warm worker without work is gone after `idle_s`, though its cluster is still open; more work starts another."""
    with Cluster(workers=2, backend=bed.backend.paced(idle_s=0.5), progress=False) as cluster:
        assert cluster.map(abs, range(100)) == list(range(100))
        bed.until(lambda: not bed.workers())
        assert cluster.map(abs, range(100)) == list(range(100))


def test_a_worker_past_its_lifetime_ends_in_good_order_and_is_replaced(bed: Bed) -> None:
    """Lifetimes of a second, five seconds of work: nothing is run twice, and the workers that did it are many."""
    with Cluster(workers=2, backend=bed.backend.paced(lifetime_s=1.0), progress=False) as cluster:
        run = cluster.start(noting(bed.notes, seconds=0.01), range(1000), chunk_size=10)
        assert run.results() == [2 * item for item in range(1000)]
        run.wait()
        assert len(run._held.driver.fleet.states()) > 4  # type: ignore[union-attr]
    assert bed.calls() == dict.fromkeys(range(1000), 1)


@on_both
def test_any_process_can_cancel_and_the_workers_notice(bed: Bed) -> None:
    """A cancelled run's items stop, also the one that is running; what was answered stays readable."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(noting(bed.notes, seconds=0.05), range(10_000))
        bed.until(lambda: run.status().answered > 0)
        other = attach(run.id, backend=bed.backend)
        other.cancel()
        assert run.wait(120).state is RunState.CANCELLED
        bed.until(lambda: not _moving(bed))
        assert 0 < other.status().answered < 10_000


def _moving(bed: Bed) -> bool:
    before: Any = sum(bed.calls().values())
    time.sleep(0.3)
    return sum(bed.calls().values()) != before


def test_functions_are_let_go(local_bed: LocalBed) -> None:
    """Of ten functions of 20 MB, a slot, its worker and the executor each hold a few; one let go is had again."""

    def holding() -> Any:
        data = os.urandom(20 << 20)

        def held(_: int) -> tuple[float, float]:
            return mib(os.getpid()), mib(its_worker(), len(data))

        return held

    def mib(pid: int, _: int = 0) -> float:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    functions = [holding() for _ in range(10)]
    with StarburstExecutor(workers=1, backend=local_bed.backend) as executor:
        got = [executor.submit(function, 0).result(timeout=300) for function in [*functions, functions[0]]]
        assert sum(stored.nbytes for stored in executor._submitted.functions.held.values()) < 100 << 20
    assert max(slot for slot, _ in got) < 250 and max(worker for _, worker in got) < 200


@on_both
@pytest.mark.parametrize("code", [0, pytest.param(1, marks=pytest.mark.rest)])
def test_workers_that_end_at_once_are_started_ever_later_and_end_the_run(
    bed: Bed, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an image that holds no worker: what the run waits for, and why it ended, are the workers' own words.

    A run that is started on the same fleet afterwards is none the worse for it.
    """
    with Cluster(workers=2, backend=bed.backend.paced(lease_s=1.0), progress=False) as cluster:
        bed.spoil_workers(monkeypatch, "no disk\x1b[31m is left", code)
        run = cluster.start(abs, range(100))
        said = f"ended within .* s without an answer: (.*: )?exit code {code}: no disk.*31m is left"
        bed.until(lambda: re.search(f"^waiting for workers: the last . {said}", run.status().reason) is not None)
        bed.until(lambda: re.search(said, attach(run.id, backend=bed.backend).status().reason) is not None)
        assert run.wait(300).state is RunState.STOPPED
        assert re.search(rf"workers in a row .*exit code {code}: no disk.*mend that, and start", run.status().reason)
        launched = run._held.driver.fleet.states()  # type: ignore[union-attr]
        assert 6 <= len(launched) <= 16
        bed.mend_workers()
        began = len(launched)
        again = cluster.start(abs, range(-3, 0))
        assert again.results(timeout=300) == [3, 2, 1]
        again.wait()
        assert len(again._held.driver.fleet.states()) <= began + 2  # type: ignore[union-attr]


def test_workers_of_another_release_are_waited_out(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while an upgrade is under way: the run says what it waits for, and goes on with workers of the right kind."""
    backend = bed.backend.paced(lease_s=5.0)
    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        bed.spoil_workers(monkeypatch, "", misfit_exit() + 1)
        run = cluster.start(abs, range(-9, 0))
        said = (
            f"^waiting for workers: the last . ended .* a worker speaks wire version {WIRE_VERSION + 1} and was given"
        )
        bed.until(lambda: re.search(said, run.status().reason) is not None)
        bed.mend_workers()
        assert run.results(timeout=300) == [*range(9, 0, -1)]


@pytest.mark.rest
def test_an_image_that_is_pushed_late_costs_time_only(aws_bed: AwsBed) -> None:
    """Workers that cannot pull it are tried ever later; what they wait for is told."""
    with Cluster(workers=2, backend=aws_bed.backend.paced(lease_s=20.0), progress=False) as cluster:
        aws_bed.aws.set(images=["another:*"])
        run = cluster.start(abs, range(-9, 0))
        said = "^waiting for workers: .*CannotPullContainerError.*correct the site's image, or push it"
        aws_bed.until(lambda: re.search(said, run.status().reason) is not None)
        aws_bed.aws.set(images=["*"])
        assert run.results(timeout=300) == [*range(9, 0, -1)]


@on_both
def test_a_log_that_may_not_be_read_stops_no_run(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """What a worker that died said last is only told; that it cannot be is told instead."""
    caplog.set_level(logging.WARNING, "starburst")
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(held_at(bed, lambda item: item >= 20), range(300), chunk_size=10)
        with holding(bed, slots=1):
            bed.hide_logs()
            bed.signal_workers(signal.SIGKILL, 1)
        assert run.results(timeout=300) == [2 * item for item in range(300)]
        assert run.wait().state is RunState.SUCCEEDED
    (told,) = [record.getMessage() for record in caplog.records if "ended badly" in record.getMessage()]
    assert "its log cannot be read" in told


def test_a_task_whose_name_cannot_be_had_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """ECS's metadata fails for a moment: it is asked again. Where it goes on, that is one clear error."""
    answers = [
        (500, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"TaskARN": "arn:aws:ecs:task/c/abc"}'),
    ]

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", f"http://127.0.0.1:{server.server_port}")
        assert own_task() == "abc"
        answers[:] = [(500, b"")]
        with pytest.raises(Unavailable, match=r"ECS's task metadata at .*/task: HTTPError: .*500"):
            own_task(patience_s=0.0)
        server.shutdown()
