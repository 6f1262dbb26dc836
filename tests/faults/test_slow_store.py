"""A store that stalls holds up what needs it, and nothing else; what waits for it stays bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import Cluster, starburst_map
from starburst_common.names import RUNS, RunNames
from starburst_common.ports import Backend, Compute, Wait
from starburst_common.runs.outcomes import read_outcome
from starburst_worker.backlog import Backlog
from tests.calls import wait_for
from tests.faults.conftest import LocalBed

STALLING_WORKER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from starburst_worker.duty import Duty
from starburst_worker.supervisor import Supervisor
from starburst_common.errors import NoSpace
from starburst_common.ports import Pace
from tests.places import open_place

place, fleet, stalled, go, renewals, full = sys.argv[1:]

def write():
    if Path(full).exists():
        raise NoSpace.on(full)

class Stalling:
    def __init__(self, store):
        self._store = store
    def __getattr__(self, name):
        return getattr(self._store, name)
    def get(self, key, *most):
        if "/functions/" in key and Path(stalled).exists():
            Path(stalled).write_text("met")
            while not Path(go).exists():
                time.sleep(0.01)
        return self._store.get(key)
    def create(self, key, body):
        write()
        self._store.create(key, body)

class Counting:
    def __init__(self, queue):
        self._queue = queue
    def __getattr__(self, name):
        return getattr(self._queue, name)
    def extend(self, queue, receipts, lease_s):
        lost = self._queue.extend(queue, receipts, lease_s)
        with open(renewals, "a") as file:
            file.write("." * (Path(stalled).exists() and Path(stalled).read_text() == "met"))
        return lost
    def delete(self, queue, receipts):
        write()
        self._queue.delete(queue, receipts)

backend = open_place(place)
duty = Duty(fleet=fleet, worker="stalling", backend="local", slots=2, memory_mib=None,
            pace=Pace(lease_s=3.0, chunk_s=2.0, share_s=2.0, idle_s=60.0, lifetime_s=600.0, inline_bytes=0))
backend = replace(backend, store=Stalling(backend.store), queue=Counting(backend.queue))
sys.exit(Supervisor(backend, duty, Path.cwd()).run())
"""


class Nobody:
    """A compute that never gets a worker: the test starts one itself."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compute, name)

    def launch(self, spec: Any, ordinals: Sequence[int]) -> Wait | None:
        return Wait("somebody else", 3600.0)


@pytest.fixture
def its_worker(local_bed: LocalBed, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts the only worker of a fleet; ends it, if it still runs."""
    files = [str(tmp_path / name) for name in ("stalled", "go", "renewals", "full")]
    with ExitStack() as ends:

        def start(fleet: str) -> subprocess.Popen[bytes]:
            (scratch := local_bed.home / "worker").mkdir()
            worker = subprocess.Popen(
                [sys.executable, "-c", STALLING_WORKER, local_bed.text, fleet, *files],
                cwd=scratch,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )
            ends.callback(worker.wait)
            ends.callback(worker.kill)
            return worker

        yield start


@pytest.fixture
def nobody(local_bed: LocalBed) -> Backend:
    """Whose driver launches no worker."""
    return replace(local_bed.backend, compute=cast("Compute", Nobody(local_bed.backend.compute)))


def test_leases_are_renewed_and_signals_heard_while_the_store_stalls(
    local_bed: LocalBed,
    nobody: Backend,
    its_worker: Callable[[str], subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """A download that takes minutes: the other slot's item keeps its lease, and SIGTERM ends the worker."""
    bed, notes = local_bed, str(local_bed.notes)
    stalled, renewals, begun, end = (tmp_path / name for name in ("stalled", "renewals", "begun", "end"))

    def long(item: int) -> int:
        begun.touch()
        return int(wait_for(str(end), item))

    with Cluster(workers=1, backend=nobody, progress=False) as cluster:
        one = cluster.start(long, [1])
        worker = its_worker(cluster._opened().id)
        bed.until(begun.exists)
        stalled.touch()
        two = cluster.start(lambda item: notes and item, [2])
        bed.until(lambda: renewals.exists() and len(renewals.read_text()) >= 3)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(120) == 143
        one.cancel()
        two.cancel()


def test_a_worker_without_space_ends_with_its_run(
    local_bed: LocalBed, nobody: Backend, its_worker: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Answers that cannot be stored are waited for as long as somebody wants them."""
    (tmp_path / "full").touch()
    with Cluster(workers=1, backend=nobody, progress=False) as cluster:
        run = cluster.start(str, [1])
        worker = its_worker(cluster._opened().id)
        local_bed.until(lambda: "waiting for space" in run.status().reason)
        run.cancel()
    assert worker.wait(60) == 0


def test_a_chunk_of_large_answers_is_settled_in_parts(local_bed: LocalBed) -> None:
    """The worker keeps no more of them than it must: each part is stored as it fills, and no answer is lost."""
    got = starburst_map(
        lambda item: bytes([item]) * (2 << 20), range(60), workers=1, chunk_size=60, backend=local_bed.backend
    )
    assert [(value[0], len(value)) for value in got] == [(item, 2 << 20) for item in range(60)]
    store, (run,) = local_bed.backend.store, local_bed.backend.store.folders(RUNS)
    bodies = {key: store.get(key) for key in store.list(RunNames(run).outcomes)}  # type: ignore[arg-type]
    parts = [read_outcome(local_bed.backend.key, key, body) for key, body in bodies.items()]
    assert 3 <= len(parts) <= 6
    assert max(len(body) for body in bodies.values()) < 50 << 20
    assert sum(part.values for part in parts) == 60


def test_a_chunk_that_prints_without_end_keeps_a_bounded_log(local_bed: LocalBed) -> None:
    """Four mebibytes of all its items' output, and a word on what is left out."""
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        run = cluster.start(lambda item: print("x" * 60_000), range(100), chunk_size=100)
        run.wait()
    store = local_bed.backend.store
    (key,) = store.list(RunNames(run.id).outcomes)
    body = store.get(key)
    logs = read_outcome(local_bed.backend.key, key, body).logs
    assert len(body) < 5 << 20
    assert logs[0] == "x" * 60_000 + "\n"
    assert "60001 characters left out: a chunk keeps 4 MiB" in logs[99]


@pytest.mark.parametrize(("jobs", "nbytes"), [(3, 1 << 30), (1000, 25)])
def test_what_waits_to_be_settled_is_bounded(jobs: int, nbytes: int) -> None:
    """By number and by bytes, the job that is under way included: slots wait, and go on once there is room."""
    backlog, go = Backlog(jobs=jobs, nbytes=nbytes), threading.Event()
    for _ in range(3):
        assert not backlog.full()
        backlog.put(lambda: None, 10)
    assert backlog.full()
    assert backlog.get() is not None
    waiting = threading.Thread(target=backlog.wait_for_room, args=(go,))
    waiting.start()
    while backlog.full():
        assert backlog.get() is not None
    waiting.join(60)
    assert not waiting.is_alive()
    go.set()
    backlog.wait_for_room(go)
