"""The adapters under contract, each with the few things a test needs beyond the port: time, rivals, processes.

A new adapter becomes one more parameter of these fixtures; the tests do not change.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common.local import local_backend
from starburst_common.local.queue import LocalQueue
from starburst_common.model import FleetId, WorkerId
from starburst_common.names import FLEETS
from starburst_common.ports import Backend, ObjectStore, WorkQueue
from tests.contracts.rivals import local_store
from tests.leftovers import processes_in, supervisors_in
from tests.places import aws_text, open_place
from tests.testbed.bed import Bed as Aws


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBed:
    """A queue, and how its time passes."""

    queue: WorkQueue
    lease_s: float  #: a lease short enough to wait for
    elapse: Callable[[float], None]  #: let so much time pass, by moving the clock or by waiting
    opener: Callable[[], WorkQueue]  #: the same queues in real time; can be pickled, so that other processes open them


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBed:
    """A store, and how another process opens it."""

    store: ObjectStore
    opener: Callable[[], ObjectStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeBed:
    """A backend whose compute is under contract."""

    backend: Backend
    opener: Callable[[], Backend]
    ready: Callable[[WorkerId], bool]  #: the worker has come so far that it obeys being told to stop
    alive: Callable[[], int]  #: workers that are really there, as counted from outside
    freeze: Callable[[WorkerId], None]  #: make a worker deaf to being told to stop
    files: Callable[[], list[Path]]  #: records that the adapter keeps of workers


class MovedClock:
    """Runs as the real one, and jumps when told."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead_s

    def elapse(self, seconds: float) -> None:
        """Jump ahead."""
        self._ahead_s += seconds


@pytest.fixture(params=["local", "local-in-real-time", "aws"])
def queues(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueBed]:
    """Every `WorkQueue` adapter; those that take a clock also with one that can be moved."""
    if request.param == "aws":
        yield _sqs(request.getfixturevalue("aws"))
        return
    opener = partial(LocalQueue, tmp_path / "queue.sqlite3")
    if request.param == "local":
        clock = MovedClock()
        bed = QueueBed(queue=opener(clock=clock), lease_s=60.0, elapse=clock.elapse, opener=opener)
    else:
        bed = QueueBed(queue=opener(), lease_s=0.4, elapse=time.sleep, opener=opener)
    yield bed
    bed.queue.close()  # type: ignore[attr-defined]


@pytest.fixture(params=["local", "aws"])
def shared_queues(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueBed]:
    """Every `WorkQueue` adapter that several processes open, each in real time."""
    if request.param == "aws":
        yield _sqs(request.getfixturevalue("aws"))
        return
    opener = partial(LocalQueue, tmp_path / "queue.sqlite3")
    queue = opener()
    yield QueueBed(queue=queue, lease_s=0.4, elapse=time.sleep, opener=opener)
    queue.close()


@pytest.fixture(params=["local", "aws"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> StoreBed:
    """Every `ObjectStore` adapter."""
    if request.param == "aws":
        opener = partial(_aws_store, request.getfixturevalue("aws").site)
        return StoreBed(store=opener(), opener=opener)
    opener = partial(local_store, tmp_path / "store")
    return StoreBed(store=opener(), opener=opener)


def _sqs(aws: Aws) -> QueueBed:
    """SQS leases for whole seconds."""
    opener = partial(_aws_queue, aws.site)
    return QueueBed(queue=opener(), lease_s=1.0, elapse=time.sleep, opener=opener)


def _aws_queue(site: Mapping[str, Any]) -> WorkQueue:
    return open_place(aws_text(site)).queue


def _aws_store(site: Mapping[str, Any]) -> ObjectStore:
    return open_place(aws_text(site)).store


def _ecs(aws: Aws) -> ComputeBed:
    """Tasks of the test bed that really run, and are killed a moment after they were told to stop."""
    aws.set(stop_timeout_s=0.4)
    opener = partial(open_place, aws_text(aws.site))
    backend = opener()
    return ComputeBed(
        backend=backend,
        opener=opener,
        ready=lambda worker: "slots" in backend.compute.tail(worker_fleet(aws, worker), worker),
        alive=lambda: sum(task["running"] for task in aws.tasks()),
        freeze=lambda worker: None if aws.signal(signal.SIGSTOP, tasks=[worker]) else None,
        files=lambda: [Path(key) for key in backend.store.list(FLEETS)],
    )


def worker_fleet(aws: Aws, worker: WorkerId) -> FleetId:
    """The fleet of a task."""
    return next(FleetId(task["started_by"]) for task in aws.tasks() if task["id"] == worker)


@pytest.fixture(params=["local", "aws"])
def computes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComputeBed]:
    """Every `Compute` adapter; whatever a test launched is gone afterwards."""
    if request.param == "aws":
        bed = _ecs(request.getfixturevalue("aws"))
        yield bed
        bed.backend.close()
        return
    home = tmp_path / "home"
    opener = partial(local_backend, home)
    backend = opener()

    def pid_of(worker: WorkerId) -> int:
        (pid,) = [pid for pid in supervisors_in(home) if Path(f"/proc/{pid}/cwd").readlink().name == worker[-6:]]
        return pid

    def ready(worker: WorkerId) -> bool:
        status = Path(f"/proc/{pid_of(worker)}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    yield ComputeBed(
        backend=backend,
        opener=opener,
        ready=ready,
        alive=lambda: len(supervisors_in(home)),
        freeze=lambda worker: os.kill(pid_of(worker), signal.SIGSTOP),
        files=lambda: sorted((home / "workers").rglob("*")),
    )
    compute = backend.compute
    for fleet in compute.fleets():  # type: ignore[attr-defined]
        compute.stop(fleet, [worker.id for worker in compute.workers(fleet)], grace_s=0.0)
    for pid in processes_in(home):
        os.kill(pid, signal.SIGKILL)
    backend.close()
