"""Chunk, lease, settle, rest, notice, end, cancel and resume: in whatever order, and whoever dies between two of them.

The code is the real one: feed, worker, settler, runner, tally and driver, over a store in memory and the local queue.
Only the slot is played, since what it answers, and how fast, is part of what is searched.
"""

from __future__ import annotations

import math
import queue
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from starburst_common.aws.objects import Objects
from starburst_common.code.pack import pack_function
from starburst_common.errors import NotFound, RunCancelled, RunStopped
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_run_id
from starburst_common.local.queue import LocalQueue
from starburst_common.model import (
    Batch,
    Failure,
    FailureKind,
    FleetId,
    RunState,
    Span,
    WorkerEnd,
    WorkerId,
    WorkerPhase,
    WorkerState,
)
from starburst_common.names import RunNames, holders
from starburst_common.options import Options
from starburst_common.ports import Backend, Pace, Wait, WorkerSpec
from starburst_common.runs.answers import answers
from starburst_common.runs.begin import begin, recovered, taken_up
from starburst_common.runs.drive import Driver
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import begin_leg, find_leg, read_end
from starburst_common.wire.frames import FrameWriter
from starburst_worker.attempt import Ended
from starburst_worker.duty import Duty
from starburst_worker.runner import Runner
from starburst_worker.serving import Serving
from starburst_worker.supervisor import Supervisor
from starburst_worker.ties import Ties
from tests.stage import Actor, Died, Move, Stage, Staged

ITEMS = 6
LEASE_S = 10.0
STORE_CALLS = ("create", "put", "get", "list", "delete", "delete_folder")
MOVES = [*[Move.GO] * 40, Move.FREEZE, Move.FREEZE, Move.FREEZE, Move.DIE, Move.DIE_AFTER]
_DEATHS = 2  #: of workers in a run: items that cost three are given up
_TURNS = 2000  #: a run that takes more has stopped moving
QUEUE_CALLS = ("send", "receive", "extend", "delete", "drop", "drop_group")


def double(item: int) -> int:
    """What is mapped."""
    return 2 * item


class Store(Objects):
    """In memory."""

    def publish(self, key: str, page: str) -> str:
        raise NotImplementedError


class Crew:
    """`Compute` whose workers are actors."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._launched: dict[WorkerId, Any] = {}
        self._told: set[WorkerId] = set()

    def prepare(self, spec: WorkerSpec) -> None:
        pass

    def alike(self, spec: WorkerSpec) -> str:
        raise NotImplementedError

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        for ordinal in ordinals:
            name = WorkerId(f"worker-{spec.fleet}-{ordinal:06d}")
            if name not in self._launched:
                self._launched[name] = self._world.stage.add(name, Worker(self._world, spec, name).work)
        return None

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        return [self._state(name) for name in sorted(self._launched) if name.startswith(f"worker-{fleet}-")]

    def tend(self, fleet: FleetId) -> list[WorkerState]:
        return self.workers(fleet)

    def _state(self, name: WorkerId) -> WorkerState:
        actor, ordinal = self._launched[name], int(name.rsplit("-", 1)[-1])
        if not actor.over:
            return WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.RUNNING)
        end = WorkerEnd.CRASHED if actor.dead and name not in self._told else WorkerEnd.DONE
        return WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.STOPPED, end=end)

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        state = self._state(worker)
        return None if state.end is None else state

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        for name in ids:
            self._told.add(name)
            self._launched[name].dead = True

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        return ""

    def forget(self, fleet: FleetId) -> None:
        pass

    def fleets(self) -> list[FleetId]:
        return []


class PlayedRunner(Runner):
    """A runner whose slot answers, is too slow, or is told to go, as it is chosen."""

    def __init__(self, worker: Worker, ties: Ties) -> None:
        self._played, self._ties = worker, replace(ties, part_bytes=1)
        self.seat, self._serving = None, None

    def _attempt(self, serving: Serving) -> Ended:
        me = self._played
        while serving.open():
            choice = me.choose()
            if serving.work.known.over:
                return Ended.DROPPED
            if choice == 1:
                me.settle_one()
            elif choice == 2 and serving.splittable:
                serving.first_at = time.monotonic() - 3600 * (serving.open()[0].lo % 2)  # pieces of one item, or of all
                serving.split(reached=serving.open()[0].lo)
            elif choice == 3:
                return Ended.DRAINED
            elif choice == 4:
                serving.settle_large()
            elif choice == 5 and serving.work.known.withdrawn:
                serving.withdraw(serving.open()[0].lo)
            else:
                index = serving.open()[0].lo
                part = serving.part_of(index)
                assert part is not None
                writer = FrameWriter()
                writer.add(double(index))
                frame = memoryview(b"".join(writer.parts()))
                part.add(Batch(span=Span(index, index + 1), frame=frame))
        return Ended.DONE


class Worker:
    """The real supervisor's steps, in one thread: its settler falls behind as is chosen."""

    def __init__(self, world: World, spec: WorkerSpec, name: WorkerId) -> None:
        self._world = world
        self.name, self._fleet = name, spec.fleet
        pace = world.backend.pace
        duty = Duty(fleet=spec.fleet, worker=self.name, backend="local", memory_mib=None, slots=0, pace=pace)
        self._supervisor = Supervisor(world.backend, duty, world.folder)
        self._renewed = 0.0

    def work(self) -> None:
        """Until the fleet is closed."""
        supervisor = self._supervisor
        while True:
            try:
                leased = supervisor._leasing.lease(1)
            except NotFound:
                break
            if not leased and not list(self._world.store.list(holders(self._fleet))):
                break  # idle for long: who ended the run died after it let the fleet go, before it closed it
            supervisor._leases.hold(leased)
            self._renewed = self._world.stage.now
            for message in leased:
                work = supervisor._leasing.take(message) or self._ready()
                if work is not None:
                    PlayedRunner(self, supervisor._ties).serve(work, supervisor._settling.as_they_come(work.run))
                    supervisor._settling.finish(work.run, work.receipt)
            for _ in range(self.choose() % 3 + (not leased) * 100):
                self.settle_one()
        while self.settle_one():
            pass

    def _ready(self) -> Any:
        try:
            return self._supervisor._ready.get_nowait()
        except queue.Empty:
            return None

    def settle_one(self) -> bool:
        """The settler's next job."""
        if not len(self._supervisor._settling):
            return False
        job = self._supervisor._settling.get()
        assert job is not None
        job()
        return True

    def choose(self) -> int:
        """Let others go on; what to do next."""
        actor = self._world.stage.me
        assert actor is not None
        actor.pause()
        if self._world.stage.now - self._renewed > LEASE_S / 3:
            self._renewed = self._world.stage.now
            self._supervisor._leases.renew()
        return actor.number


class World:
    """One run from its beginning to its end."""

    def __init__(self, folder: Path, style: str) -> None:
        self.folder, self.stage, self.style = folder, Stage(), style
        self.withdrawn = 0  #: items, from the first on
        self.queue = LocalQueue(folder / "queue.sqlite3", clock=lambda: self.stage.now)
        self.store = Store(MemoryStore(), "memory")
        self.backend = Backend(
            name="local",
            store=Staged(self.stage, self.store, STORE_CALLS),
            queue=Staged(self.stage, self.queue, QUEUE_CALLS),
            compute=Crew(self),
            key=b"k" * 32,
            default_workers=2,
            pace=Pace(
                lease_s=LEASE_S, chunk_s=1.0, share_s=1.0, idle_s=math.inf, lifetime_s=math.inf, inline_bytes=65536
            ),
            tick_s=0.0,
            poll_s=0.0,
            look_s=0.0,
            keep_s=math.inf,
            feeder_lost_s=3600.0,
        )
        self.fleet = Fleet.new(self.backend, Options.of(workers=2, slots=1))
        self.run = new_run_id()
        self.spec = Spec.of(self.run, self.fleet, "double", Options.of(), stop_at_first=False)
        self.drivers: list[Driver] = []
        self.fed = self.cancelled = self.damaged = self.resumed = False
        self.stage.add("feeder", self.feed)

    def feed(self) -> None:
        """Who started the run: plans and sends its chunks, and drives it. A reader comes before the input is whole."""
        driver = Driver(self.backend, self.run, self.fleet, self.spec.policy)
        self.drivers.append(driver)
        feed = begin(self.fleet, self.spec, planned=driver.books.plan, over=lambda: None)
        self.stage.add("reader", self.read)
        try:
            function = feed.function(pack_function(double, style=self.style, retry_on=(), samples=[]))
            for item in range(ITEMS):
                feed.add(function, item)
                if feed.open_items == ITEMS // 2:
                    feed.flush()
            feed.end()
            feed.stop()
            driver.books.input_ended(feed.fed)
        except (RunCancelled, RunStopped):
            assert self.cancelled, "a reader ended what still came"
            feed.stop()
        self.fed = True
        driver._drive()

    def read(self) -> None:
        """Who attaches, and drives it on."""
        driver = taken_up(self.backend, self.spec)
        self.drivers.append(driver)
        if driver.leg:  # whoever resumed it may have died before its chunks were sent
            driver.policy = replace(driver.policy, resend_after_s=0.05)
        if not driver.books.closed:
            driver._drive()

    def cancel(self) -> None:
        """Somebody else cancels."""
        self.cancelled = True
        self.backend.store.put(RunNames(self.run, find_leg(self.backend, self.spec).number).cancel, b"")

    def resume(self) -> None:
        """Somebody goes on with a run that has ended early, as `Run.resume` does once it has."""
        if find_leg(self.backend, self.spec).end is None or not self.fed:
            return
        driver = taken_up(self.backend, self.spec)
        self.drivers.append(driver)
        ended = driver.books.state.over
        if not driver.books.closed:
            driver._drive()
        if ended:
            begin_leg(self.backend, self.run, driver.leg, forgiven=0)
            self.resumed = True
            self.read()

    def withdraw(self) -> None:
        """The feeder wants no more answers of some items, while it lives."""
        if self.drivers[0].books.error is None:
            self.withdrawn = ITEMS - 2
            self.drivers[0].withdraw([Span(0, self.withdrawn)])

    def damage(self, chosen: int) -> None:
        """What a disk may do to an outcome, between any two calls."""
        if keys := sorted(self.store.list(RunNames(self.run).outcomes)):
            key = keys[chosen % len(keys)]
            self.store.put(key, bytes(self.store.get(key))[:-1])
            self.damaged = True
            self.stage.story.append(f"damaged: {key}")

    def may_die(self, actor: Actor) -> bool:
        """Workers and drivers do; what a feeder that died has not stored is nobody's, and another matter."""
        return self.fed or actor.name.startswith("worker")

    @property
    def driven(self) -> bool:
        """It is over and its workers are gone, or somebody will see to that."""
        if not self.stage.living:
            return find_leg(self.backend, self.spec).end is not None
        return any(actor.name in ("feeder", "reader", "resumer") for actor in self.stage.living)

    def check_actors(self) -> None:
        """Nobody failed, but for those that were made to die."""
        for actor in self.stage.actors:
            assert actor.error is None, actor.error

    def check(self) -> None:
        """It ended as it must: each item answered once, and rightly."""
        for driver in self.drivers:
            assert driver.books.error is None or isinstance(driver.books.error, Died), driver.books.error
        end = find_leg(self.backend, self.spec).end
        assert end is not None, "nobody ended it"
        assert self.cancelled or end.state != RunState.CANCELLED
        anew = recovered(self.backend, self.spec)
        anew.books.over(end)
        told = Counter(index for index, value in self._answers(anew) if self._is_right(index, value))
        assert set(told.values()) <= {1}
        if end.state != RunState.CANCELLED:
            assert end.state == RunState.SUCCEEDED or self.withdrawn
            assert end.answered == ITEMS
            if not self.damaged:  # else its last answers may have been damaged after they were heard of
                assert sorted(told) == list(range(ITEMS))
                assert anew.books.tally.complete
            lost = [item for span in anew.books.lost() for item in range(span.lo, span.hi)]
            assert sorted([*told, *lost]) == list(range(ITEMS))

    def _is_right(self, index: int, value: Any) -> bool:
        if isinstance(value, Failure):
            return value.kind is FailureKind.CANCELLED and index < self.withdrawn
        return bool(value == double(index))

    def _answers(self, driver: Driver) -> Iterator[tuple[int, Any]]:
        for settled in driver.books.tally.spans():
            outcome = driver.outcome(settled.span)
            if outcome is None:
                assert self.damaged
                continue
            for index, value in ((at, each) for lo, some in answers(outcome) for at, each in enumerate(some, lo)):
                if any(part.lo <= index < part.hi for part in settled.answered):
                    yield index, value


def played(choices: Sequence[int], damages: bool = False, resumes: bool = False, withdraws: bool = False) -> None:
    """One run, in the order that the choices say; when those are used up, all go on by turns until it is over."""
    with tempfile.TemporaryDirectory() as folder:
        run = World(Path(folder), "call" if withdraws else "one")
        stage, deaths = run.stage, 0
        try:
            for choice in choices:
                if not (living := stage.living):
                    break
                actor = living[choice % len(living)]
                move = MOVES[choice // 64 % len(MOVES)]
                if move in (Move.DIE, Move.DIE_AFTER):
                    deaths += 1
                    move = move if deaths <= _DEATHS and run.may_die(actor) else Move.GO
                if choice % 4096 == 4095 and "canceller" not in (each.name for each in stage.actors):
                    stage.add("canceller", run.cancel)
                if resumes and choice % 32 == 31:
                    stage.add(*(("resumer", run.resume) if choice % 64 == 63 else ("canceller", run.cancel)))
                if withdraws and choice % 16 == 15 and run.drivers:
                    stage.add("withdrawer", run.withdraw)
                if damages and choice % 64 == 63 and read_end(run.backend, run.run) is None:
                    run.damage(choice // 64)
                stage.step(actor, move, choice // 8 % 8, sleep_s=LEASE_S + 1)
            for _ in range(_TURNS):
                for actor in stage.living:
                    stage.step(actor)
                stage.now += LEASE_S / 100
                if not run.driven:
                    stage.add("reader", run.read)
                if not stage.living:
                    break
            run.check_actors()
            assert not stage.living, f"still at it: {[actor.name for actor in stage.living]}"
            run.check()
        except AssertionError as error:
            error.add_note("\n".join(stage.story))
            raise
        finally:
            stage.end()
            run.queue.close()


def reduced(choices: list[int], *more: bool, tries: int = 200) -> list[int]:
    """Fewer choices that fail as well: halves, quarters and so on are left to the turn of the first actor."""
    size = len(choices)
    while size:
        for lo in range(0, len(choices), size):
            fewer = [*choices[:lo], *[0] * min(size, len(choices) - lo), *choices[lo + size :]]
            if fewer != choices and tries and fails(fewer, *more):
                choices = fewer
            tries = max(tries - 1, 0)
        size //= 2
    return choices


def fails(choices: list[int], *more: bool) -> bool:
    """Whether something does not hold."""
    try:
        played(choices, *more)
    except AssertionError:
        return True
    return False


def search(seeds: Iterable[int], *, damages: bool = False, resumes: bool = False, withdraws: bool = False) -> None:
    """Raises the reduced story of the first seed that fails."""
    for seed in seeds:
        chance = random.Random(seed)
        choices = [chance.randrange(1 << 16) for _ in range(chance.randrange(20, 300))]
        more = (damages, resumes, withdraws)
        if fails(choices, *more):
            try:
                played(reduced(choices, *more), *more)
            except AssertionError as error:
                error.add_note(f"seed {seed}")
                raise


def test_every_item_is_answered_once() -> None:
    """Whoever is slow, sleeps, or dies: each item has one answer, the right one, and the run ends when all have."""
    search(range(30))


def test_a_damaged_outcome_is_answered_again_in_any_order() -> None:
    """An outcome is damaged between two calls: no item has two answers, and none is missing without a word."""
    search(range(15), damages=True)


def test_a_run_is_cancelled_and_resumed_in_any_order() -> None:
    """Whoever cancels, resumes or is late: no item has two answers, and the last leg has an end."""
    search(range(15), resumes=True)


def test_items_are_withdrawn_in_any_order() -> None:
    """Whoever has begun, sleeps or dies: each has one answer, its value or that it was withdrawn, and the run ends."""
    search(range(10), withdraws=True)


@pytest.mark.rest
def test_every_item_is_answered_once_in_many_more_orders() -> None:
    """The same, longer."""
    search(range(30, 600))
    search(range(15, 400), damages=True)
    search(range(15, 400), resumes=True)
    search(range(10, 400), withdraws=True)
