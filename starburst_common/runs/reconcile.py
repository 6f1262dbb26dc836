"""What is, in; what to do about it, out. Pure: the clock is an argument, and nothing here remembers anything.

Any process may look, decide and act, one after another or at once: every action is safe to do twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starburst_common.model import FailureKind, RunState
from starburst_common.runs.reasons import DIED, all_dead, never_came, too_barren, too_many, unreached
from starburst_common.runs.view import Policy, View


@dataclass(frozen=True, slots=True)
class LaunchWorkers:
    """Start workers with these ordinals."""

    ordinals: range


@dataclass(frozen=True, slots=True)
class Resend:
    """Send a message for every owed chunk again."""


@dataclass(frozen=True, slots=True)
class Speculate:
    """Send a second message for every owed chunk that has had none."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Have so many workers hand back what they have, and end: others of the site should have their quota."""

    count: int


@dataclass(frozen=True, slots=True)
class Escalate:
    """Go on with what ran out of memory, on larger workers."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the books and clean up."""

    state: RunState
    reason: str = ""
    input_lost: bool = field(default=False, compare=False, repr=False)  #: because the rest of its input never came
    limit: FailureKind | None = field(default=None, compare=False, repr=False)  #: BUDGET or DEADLINE, if that ends it


Action = LaunchWorkers | Withdraw | Resend | Speculate | Escalate | Finish


def decide(view: View, policy: Policy) -> list[Action]:
    """The next actions.

    >>> from dataclasses import replace
    >>> from decimal import Decimal
    >>> from starburst_common.money.budget import Purse
    >>> from starburst_common.money.meter import Meter
    >>> from starburst_common.ports import Depth
    >>> from starburst_common.runs.barren import Barren
    >>> from starburst_common.runs.view import RunView
    >>> from starburst_common.tolerance import Tolerance
    >>> policy = Policy(workers=4, slots=2, tolerate=Tolerance.of(0), resend_after_s=10)
    >>> run = RunView(items=100, answered=0, failed=0, owed=12, depth=Depth(12, 0), quiet_since=0)
    >>> view = View(now=0, run=run)
    >>> decide(view, policy)
    [LaunchWorkers(ordinals=range(0, 4))]
    >>> decide(view.but(alive=3, launched=4), policy)  # one was lost
    [LaunchWorkers(ordinals=range(4, 5))]
    >>> decide(view.but(launch_at=5), policy)  # told to wait
    []
    >>> decide(view.but(free=3), policy)  # as many as the account allows now; others as those end
    [LaunchWorkers(ordinals=range(0, 3))]
    >>> decide(view.but(alive=4, launched=4, free=0, surplus=2), policy)  # another run of the site should have two
    [Withdraw(count=2)]
    >>> gone = Barren(count=5, lasted_s=4, longest_s=0.3, seen_at=0, why="exit code 0")
    >>> decide(view.but(launched=5, barren=gone, now=1), policy)
    []
    >>> decide(view.but(launched=5, barren=gone, now=2), policy)  # four and four have leave to end for nothing
    [LaunchWorkers(ordinals=range(5, 8))]
    >>> unbegun = Barren(count=3, unbegun=3, lasted_s=4, seen_at=0, why="no subnet has addresses left")
    >>> decide(view.but(alive=1, launched=4, barren=unbegun, now=2), policy)  # another one is tried
    [LaunchWorkers(ordinals=range(4, 5))]
    >>> decide(view.but(launched=3, barren=Barren(count=3, unbegun=3, shut_out=3, why="no way out")), policy)[0].reason
    '3 workers could not start, nor could others: no way out: start the run again then'
    >>> purse = Purse(budget=Decimal(2), meter=Meter(at=0), each=Decimal("0.001"), stop_s=30, worth_s=300)
    >>> decide(view.but(purse=purse), replace(policy, workers=90, slots=1))  # 360 s of 5 workers: $1.80
    [LaunchWorkers(ordinals=range(0, 5))]
    >>> decide(view.but(deadline=0, alive=4, launched=4), policy)[0].limit
    <FailureKind.DEADLINE: 'deadline'>
    >>> decide(view.but(owed=2, alive=1, launched=4), policy)  # what is left fits one worker
    []
    >>> decide(view.but(alive=4, launched=4, depth=Depth(0, 0), now=11), policy)
    [Resend()]
    >>> one = view.but(alive=1, launched=2, owed=4, depth=Depth(0, 1))  # of a long item; its message is all there is
    >>> [decide(one.but(now=now), policy) for now in (11, 101)]
    [[], [Resend()]]
    >>> last = view.but(owed=2, single=2, alive=4, at_work=4, launched=4, item_s=3)
    >>> [decide(last.but(now=now), replace(policy, speculate=True)) for now in (9, 10)]
    [[], [Speculate()]]
    >>> decide(view.but(answered=99, owed=0, aside=1, alive=1), replace(policy, escalate=True))
    [Escalate()]
    >>> decide(view.but(depth=Depth(0, 0), now=11, dead=12, resent=3), policy)[0].reason[:63]
    '12 chunks are owed, and their messages end as dead letters (12)'
    >>> decide(view.but(answered=100, owed=0), policy)
    [Finish(state=<RunState.SUCCEEDED: 'succeeded'>, reason='')]
    >>> decide(view.but(answered=50, failed=1), policy)[0].reason
    '1 of 100 items failed, more than the 0 tolerated'
    >>> reading = view.but(items=None, answered=7, owed=0)  # all so far is answered, more is to come
    >>> decide(reading.but(unheard_s=20), policy)
    []
    >>> decide(reading.but(unheard_s=40), policy)[0].state
    <RunState.STOPPED: 'stopped'>
    """
    return [*ends(view, policy)] or _deeds(view, policy)


def ends(view: View, policy: Policy) -> list[Finish]:
    """The same, where the run is to end."""
    end = _end(view, policy)
    return [] if end is None else [end]


def _end(view: View, policy: Policy) -> Finish | None:
    """How the run ends, if it does."""
    run = view.run
    known = run.items if run.items is not None else max(run.answered, _LEAST_SHARE)
    failed = max(run.failed - policy.forgiven, 0)
    if not policy.tolerate.allows(failed=failed, items=known):  # the reason why somebody may have cancelled
        return Finish(RunState.STOPPED, too_many(view, policy))
    if run.cancelled:
        return Finish(RunState.CANCELLED, "cancelled")
    if run.items is not None and run.answered >= run.items:
        return Finish(RunState.FAILED if run.failed else RunState.SUCCEEDED)
    if why := run.refused or view.room.impossible or run.breaker:
        return Finish(RunState.STOPPED, why)
    alive = view.fleet.alive
    if view.bounds.over(view.now, alive=alive or not run.owed, item_s=run.item_s):
        why = view.bounds.why(run.answered, run.items, alive, view.now)
        return Finish(RunState.STOPPED, why, limit=view.bounds.kind)
    unfed = run.input_lost or (never_came(DIED, run.answered) if run.unheard_s > policy.feeder_lost_s else "")
    if unfed and (run.items is None or run.input_lost) and run.owed == 0:
        return Finish(RunState.STOPPED, unfed, input_lost=True)
    if view.fleet.barren.shut_out >= _SURE and not view.fleet.at_work and run.owed:
        return Finish(RunState.STOPPED, unreached(view.fleet.barren))
    if _hopeless(view, policy):
        return Finish(RunState.STOPPED, too_barren(view.fleet.barren))
    if _all_lost(view, policy) and run.dead and run.resent >= _RESENDS:
        return Finish(RunState.STOPPED, all_dead(view))
    return None


def _deeds(view: View, policy: Policy) -> list[Action]:
    """What is to be done for a run that goes on."""
    if policy.escalate and _only_aside(view, policy):
        return [Escalate()]
    fleet, actions = view.fleet, list[Action]()
    spare = 1 if fleet.barren.unbegun >= _SURE else max(_spare(view, policy), 1)
    paid = view.bounds.pays if view.now + view.run.item_s < view.bounds.stop_at() else 0
    more = int(min(launchable(view, policy) - fleet.alive, spare - fleet.barren.tried, view.room.free, paid))
    if (
        more > 0
        and not _all_at_work(view, policy)
        and view.now >= max(view.room.launch_at, fleet.barren.seen_at + barren_wait_s(view, policy))
    ):
        actions.append(LaunchWorkers(range(fleet.launched, fleet.launched + more)))
    if fleet.surplus:
        actions.append(Withdraw(fleet.surplus))
    if _all_lost(view, policy) or _some_lost(view, policy):
        actions.append(Resend())
    if policy.speculate and _straggles(view, policy):
        actions.append(Speculate())
    return actions


def _only_aside(view: View, policy: Policy) -> bool:
    """Whether all that is left has run out of memory; while input may come, if none has come for a while."""
    run = view.run
    still = run.items is not None or view.now - run.quiet_since > policy.still_s
    return run.aside > 0 and not run.owed and still


def _straggles(view: View, policy: Policy) -> bool:
    """What is left is at work, and takes far longer than items did; and there are slots that have nothing to do."""
    run, idle = view.run, view.fleet.at_work * policy.slots - view.run.owed
    far_longer_s = max(_FAR_LONGER * run.item_s, _LEAST_LONG_S)
    return run.items is not None and 0 < run.single <= idle and view.now - run.quiet_since > far_longer_s


def _all_lost(view: View, policy: Policy) -> bool:
    """Chunks are owed, no message is left of any, and nothing has moved for a while."""
    run = view.run
    return run.owed > 0 and sum(run.depth) == 0 and view.now - run.quiet_since > policy.resend_after_s


def _some_lost(view: View, policy: Policy) -> bool:
    """Fewer messages are left than chunks are owed, all of them at work, and nothing has moved for very long.

    Nobody can tell which are lost, and whoever is idle runs what is at work a second time: not for a short wait.
    """
    run = view.run
    few = run.depth.waiting == 0 and 0 < run.depth.leased < run.owed
    return few and view.now - run.quiet_since > _WHILE_SOME_WORK * policy.resend_after_s


def _all_at_work(view: View, policy: Policy) -> bool:
    """All messages there are are at workers that live, for a while now: another one would find nothing to do."""
    run, busy = view.run, view.fleet.alive * policy.slots
    nothing = run.depth.waiting == 0 and 0 < run.depth.leased <= busy and not run.expected
    return nothing and view.now - run.quiet_since > policy.resend_after_s


def launchable(view: View, policy: Policy) -> int:
    """How many workers the run can use now: no more than asked, and no more than there are chunks for."""
    return min(policy.workers, -(-(view.run.owed + view.run.expected) // policy.slots))


def served(view: View, policy: Policy) -> bool:
    """Whether the run has all its input and all the workers that it can use, none of which ended for nothing."""
    return view.run.items is not None and view.fleet.alive >= launchable(view, policy) and not view.fleet.barren.count


def barren_wait_s(view: View, policy: Policy) -> float:
    """How long after the last of them another is tried: ever longer, since half as long as they have come so far."""
    row = view.fleet.barren
    if not _counts(view, policy):
        return 0.0  # each is replaced once at once: what befell them all may be over
    least_s = policy.patience_s / 20 if row.unbegun >= _SURE else 0.0
    return min(max(row.lasted_s / 2, least_s), policy.patience_s * (_WHILE_ONE_WORKS if view.fleet.alive else 1))


def _counts(view: View, policy: Policy) -> bool:
    """Whether so many have ended for nothing that it is no chance."""
    row = view.fleet.barren
    return row.unbegun >= _SURE or row.count > max(launchable(view, policy), 1)


def waits_for(view: View, policy: Policy) -> str:
    """What the run waits for before it launches more workers; empty when for nothing.

    >>> from starburst_common.ports import Depth
    >>> from starburst_common.runs.barren import Barren
    >>> from starburst_common.runs.view import FleetView, RunView
    >>> from starburst_common.tolerance import Tolerance
    >>> policy = Policy(workers=1, slots=1, tolerate=Tolerance.of(0), resend_after_s=10)
    >>> run = RunView(items=9, answered=0, failed=0, owed=9, depth=Depth(9, 0), quiet_since=0)
    >>> row = Barren(count=3, lasted_s=4, longest_s=1.2, why="exit code 0: no disk")
    >>> view = View(now=0, run=run, fleet=FleetView(launched=3, barren=row))
    >>> waits_for(view, policy)
    'workers: the last 3 ended within 2 s without an answer: exit code 0: no disk'
    >>> waits_for(View(now=0, run=run).but(free=0, bound="a quota"), policy)
    'a quota'
    >>> waits_for(View(now=0, run=run).but(alive=1, unplaced=1), policy)
    'EC2 to start an instance for 1 of 1 workers'
    """
    row, wanted = view.fleet.barren, launchable(view, policy) - view.fleet.alive
    if not _counts(view, policy):
        if view.bounds.pays < min(wanted, view.room.free):
            return "workers: its budget pays for no more at once"
        if view.room.free < wanted:
            return view.room.bound
        few = f"EC2 to start an instance for {view.fleet.unplaced} of {view.fleet.alive} workers"
        return few if view.fleet.unplaced else ""
    if row.unbegun == row.count:
        return f"workers: the last {row.count} could not start: {row.why}"
    return f"workers: the last {row.count} ended within {-(-row.longest_s // 1):.0f} s without an answer: {row.why}"


def _spare(view: View, policy: Policy) -> int:
    """So many more may end for nothing before it is hopeless."""
    return launchable(view, policy) + _BARREN - view.fleet.barren.count


def _hopeless(view: View, policy: Policy) -> bool:
    """Enough workers ended for nothing, for long enough; or far too many, should clocks tell that it was no time."""
    if view.fleet.alive or not view.run.owed or _spare(view, policy) > 0:
        return False
    return view.fleet.barren.lasted_s >= policy.patience_s or view.fleet.barren.count > _FAR_TOO_MANY * (
        policy.workers + _BARREN
    )


_LEAST_SHARE = 100  # while the number of items is unknown, a share is taken of at least so many
_SURE = 3  # so many that could not start are no chance
_BARREN = 4  # so many more than are wanted at once may end for nothing
_FAR_TOO_MANY = 4
_WHILE_ONE_WORKS = 10  # so much longer others can wait
_FAR_LONGER = 3  # times as long as an item has taken since anything was settled
_LEAST_LONG_S = 5.0
_WHILE_SOME_WORK = 10  # so much longer messages are waited for where others are at work
_RESENDS = 3  # of messages that then end as dead letters
