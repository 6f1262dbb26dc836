"""Workers as they are on AWS, in containers made of the published image: memory, signals, images and logs are real."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from docker.errors import APIError

from starburst_common import Cluster, FailureKind, OutOfMemory, RunStopped, starburst_map
from tests.faults.conftest import AwsBed, watched
from tests.faults.test_key import shows_no
from tests.prying import pry
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine

N = 10_000


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """The worker's image, as a site names it."""
    return engine.test_image()


@pytest.fixture
def bed(image: str, container_aws: Aws, tmp_path: Path) -> Iterator[AwsBed]:
    """A site whose workers are containers."""
    yield from watched(AwsBed(container_aws, tmp_path / "notes", image=image))


def test_a_function_in_a_container_finds_no_key_above_it(bed: AwsBed) -> None:
    """As the image's own user, and below no other process than the worker."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        shows_no(bed.backend.key, cluster.map(pry, [0])[0])


def hoarding(hoarder: int, before: Callable[[], None] = lambda: None) -> Callable[[int], int]:
    """A function that takes all memory there is for one of its items."""

    def double(item: int) -> int:
        import os

        if item == hoarder:
            before()
            hoard = []
            while True:
                hoard.append(os.urandom(1 << 20) * 64)
        return item * 2

    return double


def test_two_containers_answer_ten_thousand_items_once(bed: AwsBed) -> None:
    """A function goes by value into the published image, and every answer comes back once, in order."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        assert cluster.map(lambda item: item * 2, range(N)) == [item * 2 for item in range(N)]
        assert len(bed.workers()) == 2


@pytest.mark.parametrize("slots", [pytest.param(1, marks=pytest.mark.rest), 2])
def test_a_slot_that_the_kernel_kills_for_memory_is_out_of_memory(bed: AwsBed, slots: int) -> None:
    """The item fails as OOM; its neighbours are answered, by the same worker, which lives on."""
    with Cluster(workers=1, slots=slots, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(hoarding(5), range(20))
        run.wait(timeout=300)
        assert [(failure.index, failure.kind) for failure in run.failures()] == [(5, FailureKind.OOM)]
        assert run.status().answered == 20
        with pytest.raises(OutOfMemory, match="give more memory, or fewer slots"):
            run.results()
        assert len(bed.aws.tasks()) == 1


@contextmanager
def supervisors_offered(engine: Engine) -> Iterator[None]:
    """Short of memory, the kernel kills a container's first process and not its slots: root of the machine says so."""
    over = Event()

    def offer() -> None:
        while not over.wait(0.05):
            for each in engine.client.containers.list(filters={"label": "starburst.task"}, ignore_removed=True):
                with suppress(OSError, APIError):  # it has just ended
                    each.reload()
                    Path(f"/proc/{each.attrs['State']['Pid']}/oom_score_adj").write_text("1000")

    thread = Thread(target=offer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_container_that_dies_of_memory_costs_nobody_else_an_answer(
    bed: AwsBed, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel kills the supervisor each time: the others are answered elsewhere, and the end is told as OOM."""

    def once_the_supervisor_is_offered() -> None:
        import time
        from pathlib import Path

        Path("/proc/self/oom_score_adj").write_text("0")
        while Path("/proc/1/oom_score_adj").read_text().strip() != "1000":
            time.sleep(0.01)

    backend = bed.backend.paced(lease_s=3.0)
    with (
        caplog.at_level(logging.WARNING, "starburst"),
        supervisors_offered(engine),
        Cluster(workers=1, backend=backend, progress=False) as cluster,
    ):
        run = cluster.start(hoarding(5, once_the_supervisor_is_offered), range(20))
        run.wait(timeout=300)
        assert run.status().answered == 20
        failed = run.failures()
        assert [(failure.index, failure.kind) for failure in failed] == [(5, FailureKind.OOM)], failed[0].message
    told = [record.getMessage() for record in caplog.records if "ended badly (oom)" in record.getMessage()]
    assert len(told) in (2, 3)  # a message given to who died waiting for it counts as a death
    assert "give each worker more memory" in told[0]


def test_a_stopped_task_hands_back_and_ends_with_143(bed: AwsBed) -> None:
    """StopTask sends SIGTERM to the container's first process: what was leased goes to the other worker at once."""

    def slow(item: int) -> int:
        import time

        time.sleep(0.01)
        return item

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(slow, range(600))
        bed.until(lambda: run.status().answered > 0 and len(bed.workers()) == 2)
        stopped = bed.workers()[0]
        bed.aws.boto("ecs").stop_task(cluster=bed.aws.site["cluster"], task=stopped)
        bed.until(lambda: stopped not in bed.workers())
        (fleet,) = bed.backend.compute.fleets()
        bed.until(lambda: f"worker {stopped} ends with 143" in bed.backend.compute.tail(fleet, stopped))
        assert run.results(timeout=300) == list(range(600))
        run.wait()
    (task,) = [task for task in bed.aws.tasks() if task["id"] == stopped]
    assert (task["exit_code"], task["stop_code"]) == (143, "UserInitiated")


def test_a_tag_that_is_not_there_is_one_clear_error(image: str, container_aws: Aws, tmp_path: Path) -> None:
    """The registry's own refusal ends the run: one line that names the image and says what to do."""
    missing = f"{image.rpartition(':')[0]}:none"
    for bed in watched(AwsBed(container_aws, tmp_path / "notes", image=missing)):
        with pytest.raises(RunStopped, match=rf"CannotPullContainerError.*{missing}: not found.*the site's image") as e:
            starburst_map(abs, range(10), backend=bed.backend.paced(lease_s=1.0), progress=False)
        assert "\n" not in str(e.value)


def test_what_a_container_prints_reaches_its_log_stream(bed: AwsBed) -> None:
    """The supervisor's lines and the items' prints are in CloudWatch, where the driver reads the last of them."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(lambda item: print("item", item, "speaks"), range(3))
        run.wait()
        compute = bed.backend.compute
        (fleet,) = compute.fleets()
        (worker,) = compute.workers(fleet)
        bed.until(lambda: "item 2 speaks" in compute.tail(fleet, worker.id))
        assert f"worker {worker.id}: 1 slots, Python" in compute.tail(fleet, worker.id)
