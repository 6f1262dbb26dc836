"""Hours of a run in a second: a driver as it is, on a clock that only the simulation moves; no thread and no wait.

Store, queue, feed, messages and outcomes are the real ones, and a worker settles by the real `Settler`. What is made up
is the time, the place where workers run, and what they compute: an item takes so many seconds and is its own answer.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from obstore.store import MemoryStore

from starburst_common.aws.objects import Objects
from starburst_common.code.pack import pack_function
from starburst_common.errors import NotFound
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_run_id
from starburst_common.local.queue import LocalQueue
from starburst_common.model import (
    Batch,
    Buffer,
    Chunk,
    FleetId,
    Granted,
    RunId,
    WorkerEnd,
    WorkerId,
    WorkerPhase,
    WorkerState,
)
from starburst_common.names import RunNames, work_queue
from starburst_common.options import Options
from starburst_common.ports import Backend, Leased, Pace, Wait, WorkerSpec
from starburst_common.runs.drive import Driver
from starburst_common.runs.feed import Feed
from starburst_common.runs.messages import read_chunk_message
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import write_spec
from starburst_common.runs.stored import read_until
from starburst_common.wire.frames import FrameWriter
from starburst_worker.duty import Duty
from starburst_worker.parts import Part
from starburst_worker.settle import Settler

TICK_S = 5.0
LEASE_S = 120.0
LOOK_S = 10.0  #: between two looks of a worker when its run stops


class Clock:
    """Time that passes when somebody lets it: then what is due happens, in its order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._offset = time.time() - self.now
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        """As of `Clock` in the ports."""
        return self.now

    def time(self) -> float:
        """As of `Clock` in the ports."""
        return self.now + self._offset

    def sleep(self, seconds: float, /) -> None:
        """As of `Clock` in the ports."""
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _, call = heapq.heappop(self._due)
            call()
        self.now = until

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Have this happen so much later."""
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), call))


class Store(Objects):
    """In memory, where it is as late as everywhere."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(MemoryStore(), "memory")
        self._clock, self._written = clock, dict[str, float]()

    def put(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        super().put(key, body)
        self._written[key] = self._clock.time()

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        super().create(key, body)
        self._written[key] = self._clock.time()

    def written_at(self, key: str) -> float:
        return self._written[key] if key in self._written else super().written_at(key)

    def publish(self, key: str, page: str) -> str:
        self.put(key, page.encode())
        return key


@dataclass(kw_only=True, eq=False)
class Worker:
    """One, with one slot: leases a chunk, takes its time, settles it. It is heard of no more once it has ended."""

    place: Place
    spec: WorkerSpec
    ordinal: int
    phase: WorkerPhase = WorkerPhase.STARTING
    end: WorkerEnd | None = None
    code: int | None = None
    started_at: float = 0.0
    stopped_at: float = 0.0
    idle_since: float = math.inf
    granted: Granted | None = None
    told: bool = False  #: to stop, which takes a while
    serves: str | None = None  #: the run whose end it looks for

    @property
    def id(self) -> WorkerId:
        """Its name."""
        return WorkerId(f"{self.spec.fleet}-{self.ordinal:06d}")

    def start(self) -> None:
        """Its process is there."""
        if self.phase is WorkerPhase.STARTING:
            self.phase = WorkerPhase.RUNNING
            self.started_at = self.started_at or self.place.clock.time()
            self.idle_since = self.place.clock.now
            self.lease()

    def pull(self) -> None:
        """It is charged for from now on."""
        if self.phase is WorkerPhase.STARTING:
            self.started_at, self.granted = self.place.clock.time(), self.place.granted()

    def lease(self) -> None:
        """The next chunk, or its end where none has come for long."""
        place, queue = self.place, work_queue(self.spec.fleet)
        if self.phase is WorkerPhase.STOPPED or self.told:
            return
        try:
            leased = place.queue.receive(queue, limit=1, lease_s=LEASE_S, wait_s=0.0)
        except NotFound:
            self.stop(WorkerEnd.DONE, 0)
            return
        if leased:
            run, chunk, _, _ = read_chunk_message(place.key, self.spec.fleet, leased[0].body)
            if self.serves is None:
                self.serves = run
                self.look_until(RunId(run))
            place.clock.after(LEASE_S / 2, lambda: self.renew(leased[0]))
            place.clock.after(chunk.span.size * place.item_s, lambda: self.settle(RunId(run), chunk, leased[0]))
        elif place.clock.now - self.idle_since > self.spec.pace.idle_s:
            self.stop(WorkerEnd.DONE, 0)
        else:
            place.clock.after(2.0, self.lease)

    def look_until(self, run: RunId) -> None:
        """Look, every ten seconds, when the run stops; and stop then."""
        clock, until = self.place.clock, read_until(self.place.backend, run, 0)
        left_s = math.inf if until is None else until.at - clock.time()
        if left_s <= 0:
            self.tell()
        elif self.phase is not WorkerPhase.STOPPED and until is not None:
            clock.after(min(left_s + 0.001, LOOK_S), lambda: self.look_until(run))

    def tell(self) -> None:
        """It is told to stop, and takes its time."""
        if not self.told and self.phase is not WorkerPhase.STOPPED:
            self.told = True
            if takes_s := self.place.stop_s():
                self.place.clock.after(takes_s, lambda: self.stop(WorkerEnd.DONE, 143))
            else:
                self.stop(WorkerEnd.DONE, 143)

    def renew(self, leased: Leased) -> None:
        """While it works."""
        queue = work_queue(self.spec.fleet)
        if self.phase is WorkerPhase.RUNNING and not self.place.queue.extend(queue, [leased.receipt], LEASE_S):
            self.place.clock.after(LEASE_S / 2, lambda: self.renew(leased))

    def settle(self, run: RunId, chunk: Chunk, leased: Leased) -> None:
        """Every item is its own answer."""
        if self.phase is WorkerPhase.STOPPED or self.told:
            return
        values = FrameWriter()
        for item in range(*chunk.span):
            values.add(item)
        part = Part(chunk=chunk, seconds=chunk.span.size * self.place.item_s)
        part.log_bytes = chunk.span.size * self.place.log_bytes
        part.add(Batch(span=chunk.span, frame=memoryview(b"".join(values.parts()))))
        duty = Duty(
            fleet=self.spec.fleet, worker=self.id, backend="local", slots=1, memory_mib=None, pace=self.spec.pace
        )
        Settler(self.place.backend, duty).settle(run, part)
        self.place.queue.delete(work_queue(self.spec.fleet), [leased.receipt])
        self.idle_since = self.place.clock.now
        self.lease()

    def stop(self, end: WorkerEnd, code: int | None) -> None:
        """It ends."""
        if self.phase is not WorkerPhase.STOPPED:
            self.phase, self.end, self.code = WorkerPhase.STOPPED, end, code
            self.stopped_at = self.place.clock.time()

    @property
    def state(self) -> WorkerState:
        """As its compute tells it."""
        return WorkerState(
            id=self.id,
            ordinal=self.ordinal,
            phase=self.phase,
            end=self.end,
            exit_code=self.code,
            reason="" if self.code is None else f"exit code {self.code}",
            started_at=self.started_at,
            stopped_at=self.stopped_at,
            granted=self.granted,
            ran_s=max(self.stopped_at - self.started_at, 0.0) if self.end and self.started_at else 0.0,
        )


@dataclass(kw_only=True, eq=False)
class Place:
    """Where workers run, as a `Compute`; with room for so many."""

    clock: Clock
    queue: LocalQueue
    key: bytes
    item_s: float
    start_s: float
    log_bytes: int = 0  #: that an item prints
    room: float = math.inf
    pull_s: float = 0.0  #: from the launch until a worker is charged for
    granted: Callable[[], Granted | None] = lambda: None
    stop_s: Callable[[], float] = lambda: 0.0  #: how long one takes that is told to stop
    gone: list[Worker] = field(default_factory=list)  #: of fleets that are forgotten
    workers_of: dict[FleetId, dict[int, Worker]] = field(default_factory=dict)
    backend: Backend = field(init=False)

    def prepare(self, spec: WorkerSpec) -> None:
        """Nothing."""

    def alike(self, spec: WorkerSpec) -> str:
        return repr(spec.resources)

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        fleet = self.workers_of.setdefault(spec.fleet, {})
        for ordinal in ordinals:
            if sum(worker.phase is not WorkerPhase.STOPPED for worker in fleet.values()) >= self.room:
                return Wait("room for more workers", 30.0)
            if ordinal not in fleet:
                fleet[ordinal] = Worker(place=self, spec=spec, ordinal=ordinal)
                self.clock.after(self.pull_s, fleet[ordinal].pull)
                self.clock.after(self.pull_s + self.start_s, fleet[ordinal].start)
        return None

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        return [worker.state for _, worker in sorted(self.workers_of.get(fleet, {}).items())]

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        return self.workers(fleet)

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        return next((state for state in self.workers(fleet) if state.id == worker and state.end), None)

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        wanted = {*ids}
        for worker in self.workers_of.get(fleet, {}).values():
            if worker.id in wanted:
                worker.tell()

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        return f"the last words of {worker}"

    def forget(self, fleet: FleetId) -> None:
        self.gone += self.workers_of.pop(fleet, {}).values()

    def fleets(self) -> list[FleetId]:
        return sorted(self.workers_of)


class Simulation:
    """One place, and runs on it that are driven by steps."""

    def __init__(self, folder: Path, *, item_s: float, start_s: float = 45.0) -> None:
        self.clock = Clock()
        queue = LocalQueue(folder / "queue.sqlite3", clock=self.clock.monotonic)
        self.place = Place(clock=self.clock, queue=queue, key=b"k" * 32, item_s=item_s, start_s=start_s)
        self.backend = self.place.backend = Backend(
            name="simulated",
            store=Store(self.clock),
            queue=queue,
            compute=self.place,
            key=self.place.key,
            default_workers=4,
            pace=Pace(
                lease_s=LEASE_S, chunk_s=30.0, share_s=30.0, idle_s=60.0, lifetime_s=math.inf, inline_bytes=65536
            ),
            tick_s=TICK_S,
            poll_s=20.0,
            look_s=60.0,
            keep_s=7 * 86400.0,
            stop_s=30.0,
            worth_s=300.0,
        )

    def begin(self, items: int, *, chunk: int, **options: object) -> Spec:
        """A run whose input is whole, as a process leaves it that dies then."""
        fleet = Fleet.new(self.backend, Options.of(**options))
        spec = Spec.of(new_run_id(), fleet, "itself", Options.of(**options), stop_at_first=False)
        fleet.hold(spec.run)
        self.backend.queue.ensure(RunNames(spec.run).notices)
        feed = Feed(self.backend, spec.run, fleet.id, lambda chunks: None)
        function = feed.function(pack_function(abs, style="one", retry_on=(), samples=[]))
        for item in range(items):
            feed.add(function, item)
            if feed.open_items == chunk:
                feed.close_chunk()
        feed.end()
        write_spec(self.backend, spec)
        return spec

    def driver(self, spec: Spec, clock: Clock | None = None) -> Driver:
        """One that goes on with a run, on this clock; as `driver_of` makes it on the real one."""
        fleet = Fleet.of(self.backend, spec.resources, spec.workers, spec.fleet)
        calm_s, ttl_s = self.backend.look_s, spec.terms.driver_ttl_s
        driver = Driver(
            self.backend,
            spec.run,
            fleet,
            spec.policy,
            calm_s=calm_s,
            ttl_s=ttl_s,
            tags=spec.tags,
            clock=clock or self.clock,
        )
        driver.recover()
        return driver

    def steps(self, driver: Driver) -> Iterator[float]:
        """Step by step to the run's end, a tick apart; the hours that have passed."""
        began = self.clock.now
        while not driver.step():
            yield (self.clock.now - began) / 3600
            self.clock.sleep(TICK_S)

    def worker(self, spec: Spec, ordinal: int) -> Worker:
        """One of a run's."""
        return self.place.workers_of[spec.fleet][ordinal]
