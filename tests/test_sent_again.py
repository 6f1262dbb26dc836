"""Messages are sent again only where they are lost, and what is settled is not run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from starburst_common.local.queue import LocalQueue
from starburst_common.model import RunId
from starburst_common.names import work_queue
from starburst_common.ports import Depth
from starburst_common.runs.messages import read_chunk_message
from starburst_worker.duty import Duty
from starburst_worker.fetched import Fetched
from starburst_worker.intake import Intake
from starburst_worker.known import KnownRuns
from starburst_worker.settle import Settler
from tests.simulator import Clock, Simulation, Worker

CHUNKS = 200


class Lagging(LocalQueue):
    """Its counts are up to so many seconds old, and none at first, as SQS's are; counts what is sent."""

    def __init__(self, file: Path, clock: Clock, lag_s: float) -> None:
        super().__init__(file, clock=clock.monotonic)
        self._time, self._lag_s, self._counted = clock, lag_s, dict[str, tuple[float, Depth]]()
        self.sent: Counter[str] = Counter()

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        self.sent[queue] += len(bodies)
        self._counted.setdefault(queue, (self._time.now, Depth(0, 0)))
        super().send(queue, bodies, group=group, delay_s=delay_s)

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        at, found = self._counted.get(queue, (self._time.now, Depth(0, 0)))
        if self._time.now - at >= self._lag_s:
            at, found = self._counted[queue] = self._time.now, super().depth(queue, group=group)
        return found


def lagging(folder: Path, *, lag_s: float, resend_after_s: float) -> tuple[Simulation, Lagging]:
    """A place with such a queue, whose workers take 45 s to start."""
    simulation = Simulation(folder, item_s=1.0)
    queue = Lagging(folder / "queue.sqlite3", simulation.clock, lag_s)
    backend = replace(simulation.backend, queue=queue, resend_after_s=resend_after_s)
    simulation.backend = simulation.place.backend = backend
    return simulation, queue


@pytest.mark.parametrize(("lag_s", "resend_after_s"), [(60.0, 90.0), (21.0, 15.0)], ids=["old", "old once"])
def test_counts_that_are_old_have_nothing_sent_again(tmp_path: Path, lag_s: float, resend_after_s: float) -> None:
    """While workers start the queue is said to be empty; what is told once is not believed."""
    simulation, queue = lagging(tmp_path, lag_s=lag_s, resend_after_s=resend_after_s)
    spec = simulation.begin(CHUNKS, chunk=1, workers=4)
    driver = simulation.driver(spec)
    assert max(simulation.steps(driver)) < 0.1
    assert driver.books.tally.answered == CHUNKS
    assert queue.sent[work_queue(spec.fleet)] == CHUNKS


def test_what_is_lost_is_sent_again(tmp_path: Path) -> None:
    """Once the queue was found empty twice."""
    simulation, queue = lagging(tmp_path, lag_s=60.0, resend_after_s=90.0)
    spec = simulation.begin(8, chunk=2, workers=1)
    work = work_queue(spec.fleet)
    lost = queue.receive(work, limit=10, lease_s=60, wait_s=0)
    queue.delete(work, [message.receipt for message in lost])
    driver = simulation.driver(spec)
    assert len(lost) == 4 and max(simulation.steps(driver)) < 0.1
    assert driver.books.tally.answered == 8
    assert queue.sent[work] == 8


def test_what_is_lost_beside_a_long_item_is_sent_again_while_that_runs(tmp_path: Path) -> None:
    """After a quarter of an hour, not when that has ended; and nobody is launched meanwhile to find nothing to do."""
    simulation, queue = lagging(tmp_path, lag_s=60.0, resend_after_s=90.0)
    simulation.place.item_s = 7200.0
    spec = simulation.begin(2, chunk=1, workers=2)
    work = work_queue(spec.fleet)
    (lost,) = queue.receive(work, limit=1, lease_s=60, wait_s=0)
    queue.delete(work, [lost.receipt])
    driver = simulation.driver(spec)
    assert max(simulation.steps(driver)) == pytest.approx(2.3, abs=0.1)
    assert driver.books.tally.answered == 2
    assert len(simulation.place.gone) <= 4


def test_a_chunk_that_was_sent_again_is_looked_for_first(tmp_path: Path) -> None:
    """A worker that gets it finds that it is settled; one that was sent once it runs without a look."""
    simulation, queue = lagging(tmp_path, lag_s=0.0, resend_after_s=5.0)
    spec = simulation.begin(2, chunk=1, workers=1)
    backend, driver = simulation.backend, simulation.driver(spec)
    duty = Duty(fleet=spec.fleet, worker="w", backend="local", slots=1, memory_mib=None, pace=backend.pace)
    settler = Settler(backend, duty)
    intake = Intake(backend, duty, KnownRuns(backend, 1e9), Fetched(backend, tmp_path), settler)
    (first, second) = queue.receive(work_queue(spec.fleet), limit=2, lease_s=60, wait_s=0)
    assert not intake.take(first).case.settled
    worker = Worker(place=simulation.place, spec=driver.fleet.spec, ordinal=0)
    run, chunk, _, again = read_chunk_message(backend.key, spec.fleet, first.body)
    assert not again
    worker.settle(RunId(run), chunk, first)
    driver.hands.send([chunk], again=True)
    queue.delete(work_queue(spec.fleet), [second.receipt])
    (resent,) = queue.receive(work_queue(spec.fleet), limit=2, lease_s=60, wait_s=0)
    assert (resent.receives, intake.take(resent).case.settled) == (1, True)
