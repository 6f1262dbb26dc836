"""The reconciler's decisions: never too much, never twice, and whatever dies, every run comes to its end."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starburst_common.model import RunState, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.ports import Depth
from starburst_common.runs.barren import Barren, barren, tried_since
from starburst_common.runs.reconcile import Action, Finish, LaunchWorkers, Resend, decide, launchable, waits_for
from starburst_common.runs.view import Policy, RunView, View
from starburst_common.tolerance import Tolerance

FRESH = View(now=0, run=RunView(items=None, answered=0, failed=0, owed=0, depth=Depth(0, 0), quiet_since=0))

counts = st.integers(0, 200)
tolerances = st.sampled_from([None, 0, 3, "2%", "100%"]).map(Tolerance.of)
policies = st.builds(
    Policy,
    workers=st.integers(1, 50),
    slots=st.integers(1, 8),
    tolerate=tolerances,
    resend_after_s=st.just(10.0),
)


rows = st.builds(
    Barren, count=counts, lasted_s=st.floats(0, 100), seen_at=st.floats(0, 100), why=st.just("exit code 0: no disk")
)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any moment of any run."""
    items = draw(st.none() | counts)
    answered = draw(st.integers(0, 200 if items is None else items))
    alive = draw(st.integers(0, 60))
    return FRESH.but(
        now=draw(st.floats(0, 100)),
        items=items,
        answered=answered,
        failed=draw(st.integers(0, answered)),
        owed=draw(counts),
        expected=draw(st.integers(0, 2)),
        depth=Depth(draw(counts), draw(counts)),
        quiet_since=draw(st.floats(0, 100)),
        alive=alive,
        launched=alive + draw(counts),
        barren=draw(rows),
        cancelled=draw(st.booleans()),
        breaker=draw(st.sampled_from(["", "the first 20 items all failed alike"])),
        input_lost=draw(st.sampled_from(["", "the driver died"])),
        refused=draw(st.sampled_from(["", "the workers have another key"])),
        free=draw(st.just(math.inf) | st.integers(0, 60)),
    )


@given(views(), policies)
def test_no_more_workers_than_asked_or_than_there_is_work_for(view: View, policy: Policy) -> None:
    """Nor than there is room for; their ordinals are the next ones, so that two who decide the same launch the same."""
    for action in decide(view, policy):
        if isinstance(action, LaunchWorkers):
            assert len(action.ordinals) > 0
            assert action.ordinals.start == view.fleet.launched
            assert view.fleet.alive + len(action.ordinals) <= policy.workers
            assert len(action.ordinals) <= view.room.free
            assert (view.fleet.alive + len(action.ordinals) - 1) * policy.slots < view.run.owed + view.run.expected
    assert launchable(view, policy) <= policy.workers


@given(views(), policies)
def test_a_finish_stands_alone(view: View, policy: Policy) -> None:
    """Nothing is launched or sent for a run that is over; nor is anything done twice in one decision."""
    actions = decide(view, policy)
    kinds = [type(action) for action in actions]
    assert len(set(kinds)) == len(kinds)
    if Finish in kinds:
        assert kinds == [Finish]
        (finish,) = actions
        assert isinstance(finish, Finish)
        assert finish.state.over
        assert bool(finish.reason) == (finish.state in (RunState.STOPPED, RunState.CANCELLED))


@given(views(), policies)
def test_a_complete_run_finishes(view: View, policy: Policy) -> None:
    """Whatever its workers, queue and breaker look like; it succeeded if nothing failed."""
    view = view.but(items=view.run.answered, cancelled=False)
    (finish,) = decide(view, policy)
    assert isinstance(finish, Finish)
    if view.run.failed == 0:
        assert finish.state is RunState.SUCCEEDED
    else:
        assert finish.state in (RunState.FAILED, RunState.STOPPED)


@given(views(), policies)
def test_a_cancelled_run_finishes_whatever_else_is(view: View, policy: Policy) -> None:
    """Somebody said so; if more failed than was tolerated, that is told, since it may be why they did."""
    (finish,) = decide(view.but(cancelled=True), policy)
    assert isinstance(finish, Finish)
    if finish != Finish(RunState.CANCELLED, "cancelled"):
        assert finish.state is RunState.STOPPED
        assert "tolerated" in finish.reason
        assert view.run.failed > 0


@given(views(), policies)
def test_deciding_twice_is_deciding_once(view: View, policy: Policy) -> None:
    """The same view gives the same actions: nothing is remembered."""
    assert decide(view, policy) == decide(view, policy)


@given(views(), policies)
def test_what_is_launched_is_not_launched_again(view: View, policy: Policy) -> None:
    """Once the launched workers are seen, nothing more is wanted."""
    launched = [action for action in decide(view, policy) if isinstance(action, LaunchWorkers)]
    if launched:
        more = len(launched[0].ordinals)
        row = replace(view.fleet.barren, tried=view.fleet.barren.tried + more)
        seen = view.but(alive=view.fleet.alive + more, launched=view.fleet.launched + more, barren=row)
        after = decide(seen.but(free=view.room.free - more), policy)
        assert not [action for action in after if isinstance(action, LaunchWorkers)]


@given(views(), policies)
def test_only_a_lost_message_is_sent_again(view: View, policy: Policy) -> None:
    """Chunks are owed, no message is left of any, and nothing has moved for a while: all three."""
    if any(isinstance(action, Resend) for action in decide(view, policy)):
        assert view.run.owed > 0
        assert view.run.depth == Depth(0, 0)
        assert view.now - view.run.quiet_since > policy.resend_after_s


@given(views(), policies)
def test_the_limit_of_failures_is_the_same_on_the_way_and_at_the_end(view: View, policy: Policy) -> None:
    """A run of known length that is allowed to go on is not stopped for the same failures when it is complete."""
    if view.run.items is None:
        return
    under_way = view.but(answered=max(view.run.items - 1, 0), cancelled=False, barren=Barren())
    under_way = under_way.but(breaker="", input_lost="", refused="")
    complete = under_way.but(answered=view.run.items)
    stopped = [[a.state for a in decide(v, policy) if isinstance(a, Finish)] for v in (under_way, complete)]
    if view.run.items > 0:
        assert (RunState.STOPPED in stopped[0]) == (RunState.STOPPED in stopped[1])


@pytest.mark.parametrize(
    ("failed", "answered", "items", "tolerate", "reason"),
    [
        (1, 1, 10, 0, "1 of 10 items failed, more than the 0 tolerated"),
        (3, 50, 100, "2%", "3 of 100 items failed, more than the 2% tolerated"),
        (3, 5, None, "2%", "3 items failed, more than the 2% tolerated"),
    ],
)
def test_too_many_failures_are_told_in_numbers(
    failed: int, answered: int, items: int | None, tolerate: int | str, reason: str
) -> None:
    """By how much, and of what."""
    policy = Policy(workers=1, slots=1, tolerate=Tolerance.of(tolerate), resend_after_s=10)
    view = FRESH.but(failed=failed, answered=answered, items=items, owed=1)
    assert decide(view, policy) == [Finish(RunState.STOPPED, reason)]


def test_a_share_is_not_taken_of_the_first_few() -> None:
    """While the number of items is unknown one early failure is not 100% of them."""
    policy = Policy(workers=1, slots=1, tolerate=Tolerance.of("2%"), resend_after_s=10)
    view = FRESH.but(failed=1, answered=1, items=None, owed=1, alive=1, launched=1)
    assert decide(view, policy) == []


def test_a_lost_input_ends_the_run_when_what_came_is_answered() -> None:
    """Not before: those items were asked for."""
    policy = Policy(workers=1, slots=1, tolerate=Tolerance.of(None), resend_after_s=10)
    view = FRESH.but(items=None, input_lost="the driver died", owed=2, answered=3, alive=1, launched=1)
    assert decide(view, policy) == []
    assert decide(view.but(owed=0, answered=5), policy) == [Finish(RunState.STOPPED, "the driver died")]


# --- whole runs, simulated --------------------------------------------------------------------------------------------

LEASE_TICKS, START_TICKS, IDLE_TICKS, TICK_S = 5, 2, 8, 1.0
_SPARED = 4  # so many may die in a row whatever the run has left to do


@dataclass
class SimulatedWorker:
    """Starts, holds chunks, idles away, or dies."""

    starts_at: int
    idle_since: int
    exit_code: int | None = None
    ended_at: int = 0
    settled: bool = False
    holds: dict[int, int] = field(default_factory=dict)  # chunk to the tick at which it is done


@dataclass
class World:
    """Chunks of one item each, a queue with leases, workers that die, messages that vanish."""

    policy: Policy
    chunks: int
    fed_a_tick: int
    chunk_ticks: int
    chance: random.Random
    tick: int = 0
    planned: int = 0
    waiting: list[int] = field(default_factory=list)
    returning: list[tuple[int, int]] = field(default_factory=list)  # tick at which a dead worker's lease ends, chunk
    settled: set[int] = field(default_factory=set)
    workers: dict[int, SimulatedWorker] = field(default_factory=dict)
    quiet_since: int = 0
    lives_ticks: int | None = None  # each worker ends by itself so soon, with this exit code
    ends_with: int = 0

    @property
    def alive(self) -> list[SimulatedWorker]:
        """Workers that have not ended."""
        return [worker for worker in self.workers.values() if worker.exit_code is None]

    def kill(self) -> None:
        """A worker dies; its messages come back when their leases end."""
        if self.alive:
            victim = self.chance.choice(self.alive)
            victim.exit_code, victim.ended_at = -9, self.tick
            self.returning += [(self.tick + LEASE_TICKS, held) for held in victim.holds]

    def lose(self) -> None:
        """A message vanishes."""
        if self.waiting:
            self.waiting.pop(self.chance.randrange(len(self.waiting)))

    def duplicate(self) -> None:
        """A message is delivered twice, as a queue may."""
        if self.waiting:
            self.waiting.append(self.chance.choice(self.waiting))

    def step(self) -> None:
        """One tick: the input goes on, leases end, workers take, settle and idle."""
        self.tick += 1
        more = range(self.planned, min(self.planned + self.fed_a_tick, self.chunks))
        if more:
            self.planned = more.stop
            self.waiting += more
            self.quiet_since = self.tick
        self.waiting += [held for at, held in self.returning if at <= self.tick]
        self.returning = [(at, held) for at, held in self.returning if at > self.tick]
        for worker in self.alive:
            if self.tick < worker.starts_at:
                continue
            if self.lives_ticks is not None:
                if self.tick >= worker.starts_at + self.lives_ticks:
                    worker.exit_code, worker.ended_at = self.ends_with, self.tick
                continue
            for held in [held for held, at in worker.holds.items() if at <= self.tick]:
                del worker.holds[held]
                if held not in self.settled:
                    self.settled.add(held)
                    self.quiet_since = self.tick
                    worker.settled = True
            while self.waiting and len(worker.holds) < self.policy.slots:
                worker.holds[self.waiting.pop(0)] = self.tick + self.chunk_ticks
            if worker.holds:
                worker.idle_since = self.tick
            elif self.tick - worker.idle_since > IDLE_TICKS:
                worker.exit_code, worker.ended_at = 0, self.tick

    def states(self) -> list[WorkerState]:
        """The workers as their compute tells them."""
        return [
            WorkerState(
                id=WorkerId(str(ordinal)),
                ordinal=ordinal,
                phase=WorkerPhase.RUNNING if worker.exit_code is None else WorkerPhase.STOPPED,
                end=None if worker.exit_code is None else WorkerEnd.CRASHED if worker.exit_code else WorkerEnd.DONE,
                exit_code=worker.exit_code,
                started_at=float(worker.starts_at),
                stopped_at=float(worker.ended_at),
                ran_s=float(worker.ended_at - worker.starts_at),
            )
            for ordinal, worker in self.workers.items()
        ]

    def row(self) -> Barren:
        """Those that ended for nothing, seen at once."""
        settled = {str(ordinal) for ordinal, worker in self.workers.items() if worker.settled}
        row = barren(self.states(), productive=settled, first=0, soon_s=IDLE_TICKS, now=self.tick)
        if not row:
            return Barren()
        tried = tried_since(row, self.states(), patience_s=self.policy.patience_s, now=self.tick)
        return Barren.of(row, seen_at=max(worker.stopped_at for worker in row), why="exit code 0", tried=tried)

    def view(self) -> View:
        """What a driver sees."""
        return FRESH.but(
            now=self.tick * TICK_S,
            items=self.chunks if self.planned == self.chunks else None,
            answered=len(self.settled),
            failed=0,
            owed=self.planned - len(self.settled),
            expected=0 if self.planned == self.chunks else 1,
            depth=Depth(len(self.waiting), sum(len(w.holds) for w in self.alive) + len(self.returning)),
            quiet_since=self.quiet_since * TICK_S,
            alive=len(self.alive),
            launched=len(self.workers),
            barren=self.row(),
        )

    def act(self, actions: list[Action]) -> Finish | None:
        """Carry out a decision."""
        for action in actions:
            if isinstance(action, Finish):
                return action
            if isinstance(action, LaunchWorkers):
                for ordinal in action.ordinals:
                    self.workers.setdefault(ordinal, SimulatedWorker(self.tick + START_TICKS, self.tick + START_TICKS))
            else:
                self.waiting += [chunk for chunk in range(self.planned) if chunk not in self.settled]
                self.quiet_since = self.tick
        return None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_run_ends_with_everything_answered(data: st.DataObject) -> None:
    """Workers die, messages vanish and come twice, a second driver acts on what it saw some ticks ago.

    The run still ends within the time that its work and its mishaps cost, and there are never more workers than asked.
    """
    policy = Policy(
        workers=data.draw(st.integers(1, 6), "workers"),
        slots=data.draw(st.integers(1, 3), "slots"),
        tolerate=Tolerance.of(0),
        resend_after_s=10.0,
    )
    world = World(
        policy=policy,
        chunks=data.draw(st.integers(0, 30), "chunks"),
        fed_a_tick=data.draw(st.integers(1, 30), "fed_a_tick"),
        chunk_ticks=data.draw(st.integers(1, 4), "chunk_ticks"),
        chance=random.Random(data.draw(st.integers(0, 10**6), "chance")),
    )
    kinds = st.sampled_from(["lose", "duplicate", "kill"])
    mishaps = data.draw(st.lists(st.tuples(st.integers(0, 60), kinds), max_size=15), "mishaps")
    kills = [mishap for mishap in mishaps if mishap[1] == "kill"][:_SPARED]
    mishaps = [mishap for mishap in mishaps if mishap[1] != "kill"] + kills
    second_driver_lag = data.draw(st.none() | st.integers(0, 6), "second_driver_lag")
    feeding = -(-world.chunks // world.fed_a_tick)
    working = -(-world.chunks // (policy.workers * policy.slots)) * (world.chunk_ticks + 1)
    each_mishap = policy.patience_s + policy.resend_after_s + LEASE_TICKS + START_TICKS + world.chunk_ticks + working
    most_ticks = 2 * (feeding + working + START_TICKS) + 60 + len(mishaps) * each_mishap
    seen: list[View] = []
    finish = None
    while finish is None:
        assert world.tick <= most_ticks, "the run does not end"
        world.step()
        for at, kind in mishaps:
            if at == world.tick:
                getattr(world, kind)()
        seen.append(world.view())
        finish = world.act(decide(seen[-1], policy))
        if second_driver_lag is not None and len(seen) > second_driver_lag:
            world.act(decide(seen[-1 - second_driver_lag], policy))
        assert len(world.alive) <= policy.workers
        assert sorted(world.workers) == list(range(len(world.workers)))
    assert finish == Finish(RunState.SUCCEEDED)
    assert world.settled == set(range(world.chunks))


@settings(max_examples=60, deadline=None)
@given(policies, st.integers(0, 3), st.sampled_from([0, 1]), st.none() | st.integers(0, 4))
def test_workers_that_never_work_end_the_run(
    policy: Policy, lives: int, code: int, second_driver_lag: int | None
) -> None:
    """Each ends at once, well or badly: ever fewer are started, ever later, and the run stops and says so.

    That is so for two drivers, too, of which one acts on what it saw some ticks ago.
    """
    policy = replace(policy, tolerate=Tolerance(), patience_s=40.0)
    world = World(
        policy=policy,
        chunks=1000,
        fed_a_tick=1000,
        chunk_ticks=1,
        chance=random.Random(0),
        lives_ticks=lives,
        ends_with=code,
    )
    seen: list[View] = []
    starts: list[int] = []
    finish = None
    while finish is None:
        world.step()
        before = len(world.workers)
        seen.append(world.view())
        finish = world.act(decide(seen[-1], policy))
        if second_driver_lag is not None and len(seen) > second_driver_lag and finish is None:
            world.act(decide(seen[-1 - second_driver_lag], policy))
        if len(world.workers) > before:
            starts.append(world.tick)
        assert world.tick < 500, "the run does not end"
    assert finish.state is RunState.STOPPED
    assert "workers in a row settled nothing" in finish.reason
    assert "exit code 0" in finish.reason
    assert seen[-1].now >= policy.patience_s
    assert len(world.workers) <= 2 * policy.workers + 20
    assert starts[-1] - starts[-2] > starts[1] - starts[0]
    assert waits_for(seen[-1], policy).startswith(f"workers: the last {seen[-1].fleet.barren.count} ended within")


def test_one_that_works_among_many_that_do_not_keeps_the_run_going() -> None:
    """Others are tried ever later, not at each look, and nothing is stopped."""
    policy = Policy(workers=4, slots=1, tolerate=Tolerance(), resend_after_s=1e9)
    world = World(
        policy=policy, chunks=10, fed_a_tick=10, chunk_ticks=1, chance=random.Random(0), lives_ticks=1, ends_with=1
    )
    world.workers[0] = SimulatedWorker(starts_at=10**6, idle_since=0)
    for _ in range(1000):
        world.step()
        assert world.act(decide(world.view(), policy)) is None
    assert len(world.workers) < 60


def gone(ordinal: int, end: WorkerEnd, code: int | None, *, ran_s: float) -> WorkerState:
    """A worker that has ended, one after another."""
    return WorkerState(
        id=WorkerId(str(ordinal)),
        ordinal=ordinal,
        phase=WorkerPhase.STOPPED,
        end=end,
        exit_code=code,
        started_at=1000.0 + ordinal,
        stopped_at=1000.0 + ordinal + ran_s,
        ran_s=ran_s,
    )


def test_what_ended_before_something_was_settled_does_not_count() -> None:
    """After a hundred that idled out, and as many that crashed and were made good, each crash is one of a row."""
    good = [gone(ordinal, WorkerEnd.DONE, 0, ran_s=20.5) for ordinal in range(100)]
    bad = [gone(ordinal, WorkerEnd.CRASHED, 1, ran_s=0.2) for ordinal in range(100, 200)]
    settled = gone(200, WorkerEnd.DONE, 0, ran_s=9.0)
    for crashed in range(9):
        row = [gone(201 + ordinal, WorkerEnd.CRASHED, 1, ran_s=0.2) for ordinal in range(crashed)]
        workers = [*good, *bad, settled, *row]
        assert barren(workers, productive={"7", "200"}, first=0, soon_s=20, now=1300) == row


@pytest.mark.parametrize(
    ("end", "code", "ran_s", "counts"),
    [
        (WorkerEnd.DONE, 0, 1.0, True),  # whoever ends so soon has not waited for work
        (WorkerEnd.DONE, 0, 20.1, False),  # idle
        (WorkerEnd.DONE, 143, 1.0, False),  # told to
        (WorkerEnd.DONE, -15, 0.1, False),  # told to, before it could say so
        (WorkerEnd.DONE, None, 0.0, False),  # nobody knows any more
        (WorkerEnd.SPOT, 143, 1.0, False),
        (WorkerEnd.CRASHED, 1, 500.0, True),
        (WorkerEnd.OOM, 137, 500.0, True),
        (WorkerEnd.UNSTARTED, None, 0.0, True),
    ],
)
def test_which_ends_are_for_nothing(end: WorkerEnd, code: int | None, ran_s: float, counts: bool) -> None:
    """Never what was told to go, nor what was there before the run began."""
    worker = gone(3, end, code, ran_s=ran_s)
    assert barren([worker], productive=(), first=0, soon_s=20, now=1600) == ([worker] if counts else [])
    assert barren([worker], productive=(), first=4, soon_s=20, now=1600) == []
