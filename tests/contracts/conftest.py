"""The adapters under contract, each with the few things a test needs beyond the port: time, rivals, processes.

A new adapter becomes one more parameter of these fixtures; the tests do not change.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common.aws.clients import Clients
from starburst_common.aws.queue import SqsQueue
from starburst_common.aws.requests import tags
from starburst_common.local import local_backend
from starburst_common.local.queue import LocalQueue
from starburst_common.model import WorkerId
from starburst_common.names import FLEETS
from starburst_common.ports import Backend, ObjectStore, WorkQueue
from starburst_common.sites.site import Site
from tests.contracts.rivals import local_store
from tests.leftovers import alive, nothing_left, processes_in, supervisors_in, workers_of
from tests.places import aws_text, environment, open_place
from tests.testbed.bed import Bed as Aws
from tests.testbed.clock import Clock
from tests.testbed.processes import marked


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBed:
    """A queue, and how its time passes."""

    queue: WorkQueue
    lease_s: float  #: a lease short enough to wait for
    elapse: Callable[[float], None]  #: let so much time pass, by moving the clock or by waiting
    opener: Callable[[], WorkQueue]  #: the same queues in real time; can be pickled, so that other processes open them
    resolution_s: float = 0.0  #: to what its times are rounded up
    text: str = "\0"  #: what a body can have beyond what the port promises
    by_group: bool = True  #: it counts and drops groups apart
    reusable: bool = True  #: a dropped queue can be made again at once
    going_s: float = 0.0  #: how long it may take requests yet


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBed:
    """A store, and how another process opens it."""

    store: ObjectStore
    opener: Callable[[], ObjectStore]
    foreign: Callable[[str], None]  #: another program writes an object, under whatever name the place takes
    odd: tuple[str, ...]  #: names that it takes, and that are none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeBed:
    """A backend whose compute is under contract."""

    backend: Backend
    opener: Callable[[], Backend]
    ready: Callable[[WorkerId], bool]  #: the worker has come so far that it obeys being told to stop
    alive: Callable[[], int]  #: workers that are really there, as counted from outside
    freeze: Callable[[WorkerId], None]  #: make a worker deaf to being told to stop, to be killed 0.4 s later
    records: Callable[[], list[str]]  #: what the adapter keeps of workers
    nothing_left: Callable[[], None]  #: fails if anything is left of any fleet
    stop_waits: bool  #: `stop` returns when the workers are gone, not before
    capacity: str = "fargate"  #: that its workers are asked for on


@pytest.fixture
def aws(aws: Aws) -> Iterator[Aws]:
    """The test bed for tests that do in one process what else drivers and workers do."""
    with environment(aws.as_user("both")):
        yield aws


@pytest.fixture(params=["local", "aws"])
def queues(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueBed]:
    """Every `WorkQueue` adapter, with a clock that can be moved: to wait for short leases, nothing may hold us up."""
    if request.param == "aws":
        yield _sqs(request.getfixturevalue("aws"))
        return
    opener, clock = partial(LocalQueue, tmp_path / "queue.sqlite3"), Clock()
    bed = QueueBed(queue=opener(clock=clock.monotonic), lease_s=60.0, elapse=clock.elapse, opener=opener)
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
        store = opener()

        def upload(key: str) -> None:
            store._clients.s3.put_object(Bucket=store.bucket, Key=key, Body=b"x")

        return StoreBed(store=store, opener=opener, foreign=upload, odd=("/x", "", "a//b", "../b", "\x01", "é\x1b[2J"))
    opener = partial(local_store, tmp_path / "store")

    def write(key: str) -> None:
        file = Path(os.fsdecode(tmp_path / "store"), key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    return StoreBed(store=opener(), opener=opener, foreign=write, odd=("\n", "\udcff", "\x1b[2J", "\x01/b"))


def _sqs(aws: Aws) -> QueueBed:
    """Queues for which a group is only a matter of fairness.

    Source: Amazon SQS Developer Guide, "Fair queues"; API reference, CreateQueue and ReceiveMessage.
    """
    site = Site.of(aws.site, "the test bed")
    clients = Clients(site.region)
    aws.set(counters_lag_s=0)  # a depth is approximate; the port does not promise more
    return QueueBed(
        queue=SqsQueue(clients, prefix=f"starburst-{site.name}-", tags=tags(site.name), clock=aws.clock.monotonic),
        lease_s=60.0,
        elapse=aws.elapse,
        opener=partial(_aws_queue, aws.site),
        resolution_s=1.0,
        text="",
        by_group=False,
        reusable=False,
        going_s=6.0,
    )


def _aws_queue(site: Mapping[str, Any]) -> WorkQueue:
    return open_place(aws_text(site)).queue


def _aws_store(site: Mapping[str, Any]) -> ObjectStore:
    return open_place(aws_text(site)).store


def _ecs(aws: Aws) -> ComputeBed:
    """Tasks of the test bed that really run. StopTask returns at once, and ECS sees to the rest."""
    opener = partial(open_place, aws_text(aws.site))
    backend = opener()

    def freeze(worker: WorkerId) -> None:
        aws.set(stop_timeout_s=0.4)
        assert aws.signal(signal.SIGSTOP, tasks=[worker]) == [worker]

    def nothing_left() -> None:
        aws.until(lambda: not any(aws.leftovers().values()))

    return ComputeBed(
        backend=backend,
        opener=opener,
        ready=partial(obeys, aws),
        alive=lambda: sum(task["running"] for task in aws.tasks()),
        freeze=freeze,
        records=lambda: [*backend.store.list(FLEETS)],
        nothing_left=nothing_left,
        stop_waits=False,
    )


def obeys(aws: Aws, worker: WorkerId) -> bool:
    """Whether a task has come so far that it hears SIGTERM."""
    pids = [pid for pid, task in marked(aws.pid).items() if task == worker]
    return bool(pids) and _hears(min(pids))


def _hears(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.fixture(params=["local", "aws", pytest.param("aws-ec2", marks=pytest.mark.rest)])
def computes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComputeBed]:
    """Every `Compute` adapter, on each capacity that it has; whatever a test launched is gone afterwards."""
    if request.param != "local":
        bed = _ecs(request.getfixturevalue("aws"))
        yield replace(bed, capacity="ec2") if request.param == "aws-ec2" else bed
        bed.backend.close()
    else:
        yield from _processes(tmp_path / "home")


@pytest.fixture
def local_computes(tmp_path: Path) -> Iterator[ComputeBed]:
    """The local compute, for what is its own; its workers live in `home` of the test's folder."""
    yield from _processes(tmp_path / "home")


def _processes(home: Path) -> Iterator[ComputeBed]:
    opener = partial(local_backend, home)
    backend = opener()

    def pid_of(worker: WorkerId) -> int:
        pid = workers_of(home).get(worker, 0)
        return pid if pid and alive(pid) else 0

    yield ComputeBed(
        backend=backend,
        opener=opener,
        ready=lambda worker: bool(pid := pid_of(worker)) and _hears(pid),
        alive=lambda: len(supervisors_in(home)),
        freeze=lambda worker: os.kill(pid_of(worker), signal.SIGSTOP),
        records=lambda: [str(path) for path in sorted((home / "workers").rglob("*"))],
        nothing_left=lambda: nothing_left(backend),
        stop_waits=True,
    )
    compute = backend.compute
    for fleet in compute.fleets():  # type: ignore[attr-defined]
        compute.stop(fleet, [worker.id for worker in compute.workers(fleet)], grace_s=0.0)
    for pid in processes_in(home):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGKILL)
    backend.close()
