"""AWS as a model, for runs of any size in seconds: the product decides, and the clock jumps from event to event.

What decides is as it is: the reconciler, what ended for nothing, headroom, the shared launch rate, how chunks are cut.
Modelled is what it decides about. ECS and Fargate: launches in tens at a rate, quotas that others use too and that are
told late, zones with room, image pulls, Spot that takes back, throttling. SQS: leases, messages that are lost or come
twice. Workers: chunks run item by item, are split while they run, settled once. Drivers: ticks, death, two at once.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starburst_common.aws.launch_rate import BURST, EACH_S
from starburst_common.aws.refusals import AGAIN_S, Refusal
from starburst_common.aws.requests import RUN_TASK_MOST
from starburst_common.aws.shares import Shares
from starburst_common.fleets.headroom import Headroom, headroom
from starburst_common.model import Granted, RunState, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.ports import Depth, Limit, Unit, Wait
from starburst_common.resources import Resources
from starburst_common.runs.barren import Barren, barren, tried_since
from starburst_common.runs.chunking import chunk_items
from starburst_common.runs.driven import next_tick_s
from starburst_common.runs.reconcile import Finish, LaunchWorkers, Resend, decide, launchable
from starburst_common.runs.view import FleetView, Policy, Room, RunView, View
from starburst_common.tolerance import Tolerance

LEASE_S, CHUNK_S, IDLE_S, TICK_S = 90.0, 30.0, 60.0, 5.0  # as of `aws.backend`
LOOK_S, RESEND_S = 60.0, 90.0
LOOKS_EACH_S = 20.0  #: calls of DescribeTasks, each for a hundred workers
_METER_S = 15.0
CHUNK_OVERHEAD_S = 0.2  #: a lease, a fetch, an outcome and a notice
ON_DEMAND, SPOT = "FARGATE", "FARGATE_SPOT"
Part = tuple[int, int]  #: of items, from and to


@dataclass(slots=True, eq=False)
class Worker:
    """One, with one slot."""

    ordinal: int
    capacity: str
    zone: int
    launched_at: float
    ends_by_spot_at: float = math.inf
    started_at: float = 0.0
    holds: Part | None = None
    idle_since: float = math.inf
    state: WorkerState = field(init=False)

    def told(self, now: float, phase: WorkerPhase, end: WorkerEnd | None = None, code: int | None = None) -> None:
        """As ECS tells it from now on."""
        self.state = WorkerState(
            id=WorkerId(f"w-{self.ordinal}"),
            ordinal=self.ordinal,
            phase=phase,
            end=end,
            exit_code=code,
            started_at=self.launched_at,
            stopped_at=now if end else 0.0,
            ran_s=max(now - self.started_at, 0.0) if end and self.started_at else 0.0,
            granted=Granted(
                capacity=self.capacity, architecture="x86_64", zone=str(self.zone), vcpu=1, memory_mib=2048
            ),
        )


@dataclass(slots=True, kw_only=True)
class Account:
    """What AWS has, and lets happen; faults change it."""

    quota: dict[str, float] = field(default_factory=lambda: {ON_DEMAND: 4000.0, SPOT: 4000.0})
    others: float = 0.0  #: vCPU of the on-demand quota
    zones: list[float] = field(default_factory=lambda: [math.inf] * 3)  #: tasks that each has room for
    throttled_until: float = 0.0
    metric_lag_s: float = 120.0
    pull_s: tuple[float, float] = (30.0, 60.0)  #: to start, from and to
    spot_mean_s: float = math.inf  #: of a Spot worker's life


class Cloud:
    """One run on one fleet."""

    def __init__(
        self,
        items: Sequence[float],
        *,
        workers: int,
        spot: bool = False,
        account: Account | None = None,
        seed: int = 0,
        drivers: int = 1,
    ) -> None:
        self.now, self.chance, self.account = 1_000_000.0, random.Random(seed), account or Account()
        self.items, self.resources = items, Resources.of(1, spot=spot)
        self.policy = Policy(
            workers=workers, slots=1, tolerate=Tolerance.of(0), resend_after_s=RESEND_S, patience_s=2 * LEASE_S
        )
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        size = chunk_items(len(items), workers)
        self.queue: deque[Part] = deque((lo, min(lo + size, len(items))) for lo in range(0, len(items), size))
        self.owed, self.settled, self.in_flight = set(self.queue), set[Part](), Counter[Part]()
        self.answers = bytearray(len(items))
        self.answered, self.quiet_since = 0, self.now
        self.workers: dict[int, Worker] = {}
        self.alive: dict[int, Worker] = {}
        self.productive: set[str] = set()
        self.idle: deque[Worker] = deque()
        self.used = Counter[str]()
        self.by_zone = Counter[int]()
        self.most_used = dict[tuple[str, int], float]()  # by capacity and minute
        self.shares, self.tokens, self.tokens_at = Shares(free=BURST, at=self.now), float(BURST), self.now
        self.refused, self.launched_at = Counter[str](), list[float]()
        self.began, self.ended_at, self.state = self.now, 0.0, RunState.RUNNING
        self.reason = ""
        self.drivers = [Driver(self, name=f"d{number}") for number in range(drivers)]
        for number, driver in enumerate(self.drivers):
            self.after(number * 1.7, driver.tick)
        self._meter()

    # --- time ---------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, call: Callable[..., None], *given: Any) -> None:
        """It happens so much later."""
        self._number += 1
        heapq.heappush(self._due, (self.now + seconds, self._number, call, given))

    def run(self, most_s: float) -> float:
        """To the run's end, and until no worker is left: how long the run took."""
        until = self.now + most_s
        while self._due and (self.state is RunState.RUNNING or self.alive):
            self.now, _, call, given = heapq.heappop(self._due)
            if self.now > until:
                raise AssertionError(f"no end after {most_s:.0f} s: {self.answered} answered, {len(self.alive)} alive")
            call(*given)
        return self.ended_at - self.began

    # --- launches -----------------------------------------------------------------------------------------------------

    def launch(self, driver: str, ordinals: range) -> Wait | None:
        """As `EcsCompute.launch`, call by call."""
        free = [ordinal for ordinal in ordinals if ordinal not in self.workers]
        self.shares, left = self.shares.take("fleet", len(free), now=self.now, burst=BURST, each_s=EACH_S)
        taken = left
        try:
            for at in range(0, len(free), RUN_TASK_MOST):
                step = free[at : min(at + RUN_TASK_MOST, at + left)]
                if not step:
                    break
                granted, why = self._run_task(step)
                left -= granted
                if why is not None:
                    self.refused[why] += 1
                    return Wait(why, AGAIN_S[why])
        finally:
            self.shares = self.shares.give_back(left, burst=BURST)
        return Wait("rate", 1.0) if taken < len(free) else None

    def _run_task(self, ordinals: Sequence[int]) -> tuple[int, Refusal | None]:
        """What AWS makes of one launch: Spot first where it is wanted."""
        self.tokens = min(self.tokens + (self.now - self.tokens_at) * EACH_S, BURST)
        self.tokens_at = self.now
        if self.now < self.account.throttled_until or len(ordinals) > self.tokens + 0.5:
            return 0, Refusal.RATE
        granted, why = 0, None
        for capacity in (SPOT, ON_DEMAND) if self.resources.spot else (ON_DEMAND,):
            others = self.account.others if capacity == ON_DEMAND else 0.0
            for ordinal in ordinals[granted:]:
                if self.used[capacity] + others + 1 > self.account.quota[capacity]:
                    why = Refusal.QUOTA
                    break
                zone = max(range(3), key=lambda zone: self.account.zones[zone] - self.by_zone[zone])
                if self.by_zone[zone] + 1 > self.account.zones[zone]:
                    why = Refusal.CAPACITY
                    break
                self._begin(Worker(ordinal, capacity, zone, self.now))
                granted += 1
            if granted == len(ordinals):
                why = None
                break
        self.tokens -= granted
        return granted, why

    def _begin(self, worker: Worker) -> None:
        self.workers[worker.ordinal] = self.alive[worker.ordinal] = worker
        self.launched_at.append(self.now)
        self._use(worker, 1)
        worker.told(self.now, WorkerPhase.STARTING)
        self.after(self.chance.uniform(*self.account.pull_s), self._start, worker)
        if worker.capacity == SPOT and self.account.spot_mean_s < math.inf:
            self.after(self.chance.expovariate(1 / self.account.spot_mean_s), self.take_back, worker)

    def _use(self, worker: Worker, change: int) -> None:
        self.used[worker.capacity] += change
        self.by_zone[worker.zone] += change
        if change > 0:
            others = self.account.others if worker.capacity == ON_DEMAND else 0.0
            assert self.used[worker.capacity] + others <= self.account.quota[worker.capacity], "more than the quota"
            self._count(worker.capacity)

    def _count(self, capacity: str) -> None:
        """In CloudWatch's minute, its maximum."""
        others, minute = self.account.others if capacity == ON_DEMAND else 0.0, (capacity, int(self.now // 60))
        self.most_used[minute] = max(self.most_used.get(minute, 0.0), self.used[capacity] + others)

    def _meter(self) -> None:
        for capacity in (ON_DEMAND, SPOT):
            self._count(capacity)
        if self.state is RunState.RUNNING:
            self.after(_METER_S, self._meter)

    def limits(self) -> list[Limit]:
        """As `AccountQuotas` tells them, with CloudWatch's lag."""
        found, minute = [], int((self.now - self.account.metric_lag_s) // 60)
        for capacity in (SPOT, ON_DEMAND) if self.resources.spot else (ON_DEMAND,):
            others = self.account.others if capacity == ON_DEMAND else 0.0
            used = self.most_used.get((capacity, minute), others)
            found.append(
                Limit(
                    name="vCPU quota",
                    unit=Unit.VCPU,
                    total=self.account.quota[capacity],
                    capacity=capacity,
                    code="c",
                    used=used,
                    seen=(minute * 60.0, minute * 60.0 + 60),
                )
            )
        return found

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start(self, worker: Worker) -> None:
        if worker.ordinal in self.alive:
            worker.started_at = self.now
            worker.told(self.now, WorkerPhase.RUNNING)
            self._lease(worker)

    def _lease(self, worker: Worker) -> None:
        if self.state is not RunState.RUNNING:
            self._end(worker, WorkerEnd.DONE, 0)
            return
        if not self.queue:
            worker.idle_since = self.now
            self.idle.append(worker)
            self.after(IDLE_S, self._idled, worker, self.now)
            return
        self._work(worker, self.queue.popleft())

    def _work(self, worker: Worker, part: Part) -> None:
        """Runs a chunk, whose rest goes back once it has run for `CHUNK_S`, even while its last item runs on."""
        worker.idle_since, worker.holds = math.inf, part
        self.in_flight[part] += 1
        at, takes_s, items = part[0], CHUNK_OVERHEAD_S, self.items
        while at < part[1] and takes_s < CHUNK_S:
            takes_s += items[at]
            at += 1
        if at < part[1]:
            self.after(CHUNK_S, self._split, worker, part, at, takes_s - CHUNK_S)
        else:
            self.after(takes_s, self._settle, worker, part)

    def _split(self, worker: Worker, part: Part, at: int, left_s: float) -> None:
        if not self._holds(worker, part):
            return
        size, mine = max(at - part[0], 1), (at - 1, at)
        rest = [(lo, min(lo + size, part[1])) for lo in range(at, part[1], size)]
        if self._outcome(worker, part, at - 1, [mine, *rest]):
            worker.holds = mine
            self.in_flight[mine] += 1
            self.send(rest)
            self.after(left_s, self._settle, worker, mine)
        else:  # another was first
            self._lease(worker)

    def _settle(self, worker: Worker, part: Part) -> None:
        if self._holds(worker, part):
            self._outcome(worker, part, part[1], [])
            self._lease(worker)

    def _holds(self, worker: Worker, part: Part) -> bool:
        return worker.holds == part and worker.ordinal in self.alive

    def _outcome(self, worker: Worker, part: Part, to: int, rest: Sequence[Part]) -> bool:
        """The one outcome of a chunk: whoever is second drops what it has."""
        worker.holds = None
        self._let_go(part)
        if part in self.settled:
            return False
        self.settled.add(part)
        self.owed.discard(part)
        self.owed.update(rest)
        for item in range(part[0], to):
            self.answers[item] += 1
        self.answered += to - part[0]
        self.quiet_since = self.now
        self.productive.add(worker.state.id)
        return True

    def _let_go(self, part: Part) -> None:
        self.in_flight[part] -= 1
        if not self.in_flight[part]:
            del self.in_flight[part]

    def send(self, parts: Sequence[Part]) -> None:
        """Messages; who is idle takes them."""
        self.queue.extend(parts)
        while self.queue and self.idle:
            worker = self.idle.popleft()
            if worker.ordinal in self.alive and worker.idle_since < math.inf:
                self._work(worker, self.queue.popleft())

    def _idled(self, worker: Worker, since: float) -> None:
        if worker.idle_since == since and worker.ordinal in self.alive:
            self._end(worker, WorkerEnd.DONE, 0)

    def _end(self, worker: Worker, end: WorkerEnd, code: int | None) -> None:
        if self.alive.pop(worker.ordinal, None) is not None:
            self._use(worker, -1)
            worker.idle_since = math.inf
            worker.told(self.now, WorkerPhase.STOPPED, end, code)

    def take_back(self, worker: Worker) -> None:
        """Spot: what it holds is handed back at once."""
        self._lose(worker, WorkerEnd.SPOT, 143, 1.0)

    def crash(self, worker: Worker) -> None:
        """What it holds comes back when its lease ends."""
        self._lose(worker, WorkerEnd.CRASHED, 137, LEASE_S)

    def _lose(self, worker: Worker, end: WorkerEnd, code: int, back_s: float) -> None:
        if worker.ordinal in self.alive:
            part, worker.holds = worker.holds, None
            self._end(worker, end, code)
            if part is not None:
                self.after(back_s, self._back, part)

    def _back(self, part: Part) -> None:
        self._let_go(part)
        self.send([part])

    # --- what drivers see ---------------------------------------------------------------------------------------------

    def finish(self, finish: Finish) -> None:
        """The run is over: its fleet is closed."""
        if self.state is RunState.RUNNING:
            self.state, self.reason, self.ended_at = finish.state, finish.reason, self.now
            for worker in [*self.alive.values()]:
                self._end(worker, WorkerEnd.DONE, 143)


class Driver:
    """One process that drives it, as `runs.drive` does: a tick every five seconds, a launch goes on between them."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self.cloud, self.name, self.dead = cloud, name, False
        self._launch_at, self._barren = 0.0, Barren()
        self._limits: tuple[float, list[Limit]] = (-math.inf, [])
        self._unlaunched: LaunchWorkers | None = None
        self._ticks = 0
        self._few_since: float | None = None

    def tick(self) -> None:
        """Look, which takes its time."""
        if not self.dead and self.cloud.state is RunState.RUNNING:
            self._unlaunched = None
            looks_s = len(self.cloud.alive) / 100 / LOOKS_EACH_S
            self.cloud.after(looks_s, self._act)
            self.cloud.after(next_tick_s(TICK_S, looks_s), self.tick)

    def _act(self) -> None:
        if self.dead or self.cloud.state is not RunState.RUNNING:
            return
        self._ticks += 1
        for action in decide(self.view(), self.cloud.policy):
            if isinstance(action, Finish):
                self.cloud.finish(action)
                return
            if isinstance(action, Resend):
                self.cloud.quiet_since = self.cloud.now
                self.cloud.send([*self.cloud.owed])
            elif isinstance(action, LaunchWorkers):
                self._launch(action)

    def _launch(self, action: LaunchWorkers) -> None:
        wait = self.cloud.launch(self.name, action.ordinals)
        if wait is not None and wait.seconds < TICK_S:
            self._unlaunched = action
            self.cloud.after(wait.seconds, self._launch_on, self._ticks)
        elif wait is not None:
            self._launch_at = self.cloud.now + wait.seconds

    def _launch_on(self, tick: int) -> None:
        if self.dead or self._ticks != tick or self._unlaunched is None or self.cloud.state is not RunState.RUNNING:
            return
        self._launch(self._unlaunched)

    def view(self) -> View:
        """What it sees."""
        cloud = self.cloud
        states = [worker.state for worker in cloud.workers.values()]
        run = RunView(
            items=len(cloud.items),
            answered=cloud.answered,
            failed=0,
            owed=len(cloud.owed),
            depth=self._depth(),
            quiet_since=cloud.quiet_since,
        )
        fleet = FleetView(
            alive=len(cloud.alive),
            at_work=sum(state.phase is WorkerPhase.RUNNING for state in states),
            launched=max(cloud.workers, default=-1) + 1,
            barren=self._row(states),
        )
        view = View(now=cloud.now, run=run, fleet=fleet, room=Room(launch_at=self._launch_at))
        room = self._room(states) if launchable(view, cloud.policy) > fleet.alive else Headroom()
        return view.but(free=room.free, bound=room.why(cloud.resources))

    def _depth(self) -> Depth:
        """As `Observer`: that there are too few is not believed at once."""
        cloud = self.cloud
        depth = Depth(len(cloud.queue), sum(cloud.in_flight.values()))
        few = sum(depth) < len(cloud.owed)
        before, self._few_since = self._few_since, cloud.quiet_since if few else None
        return depth if not few or before == cloud.quiet_since else Depth(len(cloud.owed), 0)

    def _row(self, states: Sequence[WorkerState]) -> Barren:
        cloud = self.cloud
        row = barren(states, productive=cloud.productive, first=0, soon_s=IDLE_S, now=cloud.now)
        if not row:
            return Barren()
        tried = tried_since(row, states, patience_s=cloud.policy.patience_s, now=cloud.now)
        return Barren.of(row, seen_at=max(worker.stopped_at for worker in row), why="exit code 137", tried=tried)

    def _room(self, states: Sequence[WorkerState]) -> Headroom:
        if self.cloud.now - self._limits[0] >= LOOK_S:
            self._limits = self.cloud.now, self.cloud.limits()
        return headroom(self._limits[1], states, self.cloud.resources)
