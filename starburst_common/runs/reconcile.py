"""What is, in; what to do about it, out. Pure: the clock is an argument, and nothing here remembers anything.

Any process may look, decide and act, one after another or at once: every action is safe to do twice.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from starburst_common.model import RunState, WorkerEnd, WorkerPhase, WorkerState
from starburst_common.ports import Depth
from starburst_common.tolerance import Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was asked of a run."""

    workers: int  #: alive at most
    slots: int  #: of each worker
    tolerate: Tolerance
    resend_after_s: float  #: an empty queue for so long, with chunks owed, has lost them
    feeder_lost_s: float = 30.0  #: no sign of life for so long, and nobody feeds the run any more
    breaker: bool = True  #: stop where the first items all fail alike; not where failures were asked for
    forgiven: int = 0  #: of the failures: they were known when the run was resumed
    patience_s: float = 10.0  #: workers that end for nothing, one after another, are put up with for so long at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Barren:
    """The workers launched last, as far as they ended and had settled nothing; see `barren`."""

    count: int = 0
    lasted_s: float = 0.0  #: from the first one's end to the last one's
    longest_s: float = 0.0  #: that one of them ran
    seen_at: float = 0.0  #: when the last one's end was seen
    why: str = ""  #: how that one ended
    tried: int = 0  #: launched since, of which nobody knows yet whether they do better

    @classmethod
    def of(cls, row: Sequence[WorkerState], *, seen_at: float, why: str, tried: int = 0) -> Barren:
        """As their compute saw them end, by one clock."""
        ends = [worker.stopped_at for worker in row if worker.stopped_at]
        return cls(
            count=len(row),
            lasted_s=max(ends) - min(ends) if ends else 0.0,
            longest_s=max((worker.ran_s for worker in row), default=0.0),
            seen_at=seen_at,
            why=why,
            tried=tried,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A run and its fleet at one moment; times on one clock, in seconds."""

    now: float
    items: int | None  #: None while the input is being read
    answered: int
    failed: int
    owed: int  #: chunks planned and not settled
    expected: int  #: chunks that will be planned soon
    depth: Depth  #: of the run's messages
    quiet_since: float  #: when the run last moved: a chunk planned, settled or sent again
    alive: int  #: workers starting or running
    launched: int  #: workers ever launched, which is the next ordinal
    barren: Barren = Barren()  #: workers that ended for nothing since one settled anything
    cancelled: bool = False
    breaker: str = ""  #: what the first items all failed with
    input_lost: str = ""  #: why the rest of the input cannot come any more
    unheard_s: float = 0.0  #: so long whoever feeds the run had given no sign of life; 0 where we do
    launch_at: float = 0.0  #: not before, since the last launch was told to wait
    impossible: str = ""  #: why no worker can ever start
    dead: int = 0  #: messages that no worker could read or was done with, however often it was given them
    resent: int = 0  #: how often all messages were sent again since anything was settled
    refused: str = ""  #: an outcome that we did not sign lies where an answer should be


@dataclass(frozen=True, slots=True)
class Launch:
    """Start workers with these ordinals."""

    ordinals: range


@dataclass(frozen=True, slots=True)
class Resend:
    """Send a message for every owed chunk again."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the books and clean up."""

    state: RunState
    reason: str = ""
    input_lost: bool = field(default=False, compare=False, repr=False)  #: because the rest of its input never came


Action = Launch | Resend | Finish
#: Why no more input comes where nobody has said why.
DIED = "the driver died while reading its input"


def decide(view: View, policy: Policy) -> list[Action]:
    """The next actions.

    >>> from dataclasses import replace
    >>> policy = Policy(workers=4, slots=2, tolerate=Tolerance.of(0), resend_after_s=10)
    >>> view = View(now=0, items=100, answered=0, failed=0, owed=12, expected=0, depth=Depth(12, 0),
    ...             quiet_since=0, alive=0, launched=0)
    >>> decide(view, policy)
    [Launch(ordinals=range(0, 4))]
    >>> decide(replace(view, alive=3, launched=4), policy)  # one was lost
    [Launch(ordinals=range(4, 5))]
    >>> decide(replace(view, launch_at=5), policy)  # told to wait
    []
    >>> gone = Barren(count=5, lasted_s=4, longest_s=0.3, seen_at=0, why="exit code 0")
    >>> decide(replace(view, launched=5, barren=gone, now=1), policy)
    []
    >>> decide(replace(view, launched=5, barren=gone, now=2), policy)  # four and four have leave to end for nothing
    [Launch(ordinals=range(5, 8))]
    >>> decide(replace(view, owed=2, alive=1, launched=4), policy)  # what is left fits one worker
    []
    >>> decide(replace(view, alive=4, launched=4, depth=Depth(0, 0), now=11), policy)
    [Resend()]
    >>> decide(replace(view, depth=Depth(0, 0), now=11, dead=12, resent=3), policy)[0].reason[:63]
    '12 chunks are owed, and their messages end as dead letters (12)'
    >>> decide(replace(view, answered=100, owed=0), policy)
    [Finish(state=<RunState.SUCCEEDED: 'succeeded'>, reason='')]
    >>> decide(replace(view, answered=50, failed=1), policy)[0].reason
    '1 of 100 items failed, more than the 0 tolerated'
    >>> reading = replace(view, items=None, answered=7, owed=0)  # all so far is answered, more is to come
    >>> decide(replace(reading, unheard_s=20), policy)
    []
    >>> decide(replace(reading, unheard_s=40), policy)[0].state
    <RunState.STOPPED: 'stopped'>
    """
    known = view.items if view.items is not None else max(view.answered, _LEAST_SHARE)
    if not policy.tolerate.allows(
        failed=max(view.failed - policy.forgiven, 0), items=known
    ):  # the reason why somebody may have cancelled
        return [Finish(RunState.STOPPED, _too_many(view, policy))]
    if view.cancelled:
        return [Finish(RunState.CANCELLED, "cancelled")]
    if view.items is not None and view.answered >= view.items:
        return [Finish(RunState.FAILED if view.failed else RunState.SUCCEEDED)]
    if view.refused:
        return [Finish(RunState.STOPPED, view.refused)]
    if view.impossible:
        return [Finish(RunState.STOPPED, view.impossible)]
    if view.breaker:
        return [Finish(RunState.STOPPED, view.breaker)]
    unfed = view.input_lost or (never_came(DIED, view.answered) if view.unheard_s > policy.feeder_lost_s else "")
    if unfed and (view.items is None or view.input_lost) and view.owed == 0:
        return [Finish(RunState.STOPPED, unfed, input_lost=True)]
    if _hopeless(view, policy):
        return [Finish(RunState.STOPPED, _too_barren(view.barren))]
    actions: list[Action] = []
    more = min(launchable(view, policy) - view.alive, max(_spare(view, policy), 1) - view.barren.tried)
    if more > 0 and view.now >= max(view.launch_at, view.barren.seen_at + barren_wait_s(view, policy)):
        actions.append(Launch(range(view.launched, view.launched + more)))
    lost = view.owed > 0 and sum(view.depth) == 0 and view.now - view.quiet_since > policy.resend_after_s
    if lost and view.dead and view.resent >= _RESENDS:
        return [Finish(RunState.STOPPED, _dead(view))]
    if lost:
        actions.append(Resend())
    return actions


def never_came(why: str, stored: int) -> str:
    """The reason of a run whose input is lost but for so many items."""
    return f"{why}: {stored} items were stored and are answered, later ones never came: start a new run for those"


def launchable(view: View, policy: Policy) -> int:
    """How many workers the run can use now: no more than asked, and no more than there are chunks for."""
    return min(policy.workers, -(-(view.owed + view.expected) // policy.slots))


def barren(
    workers: Iterable[WorkerState], *, productive: Container[str], first: int, soon_s: float, now: float
) -> list[WorkerState]:
    """The workers launched last, by ordinal, that ended without having settled anything; those before `first` not.

    Each ended badly, or well but so soon that it cannot have idled out. What was told to go, by somebody or by Spot, is
    none, nor is what ended long ago: whoever attaches later may have mended the cause. One that settled something ends
    the row, so this is what came since. All of it is as everybody sees it, so that two drivers decide alike.

    >>> def worker(ordinal, end, code, ran_s):
    ...     return WorkerState(id=f"w-{ordinal}", ordinal=ordinal, phase=WorkerPhase.STOPPED,
    ...                        end=end, exit_code=code, ran_s=ran_s, stopped_at=1000.0)
    >>> idle, soon = worker(0, WorkerEnd.DONE, 0, 20.5), worker(1, WorkerEnd.DONE, 0, 0.4)
    >>> told, killed = worker(2, WorkerEnd.DONE, 143, 0.4), worker(3, WorkerEnd.CRASHED, -9, 600.0)
    >>> workers = [idle, soon, told, killed]
    >>> [each.id for each in barren(workers, productive=(), first=0, soon_s=20, now=1001)]
    ['w-1', 'w-3']
    >>> [each.id for each in barren(workers, productive={"w-2"}, first=0, soon_s=20, now=1001)]
    ['w-3']
    >>> barren(workers, productive=(), first=0, soon_s=20, now=5000)
    []
    """
    workers = sorted(workers, key=lambda worker: worker.ordinal)
    begin = max((worker.ordinal + 1 for worker in workers if worker.id in productive), default=first)
    return [
        worker
        for worker in workers
        if worker.ordinal >= max(begin, first)
        and worker.phase is WorkerPhase.STOPPED
        and (worker.end in BAD_ENDS or _ended_soon(worker, soon_s))
        and (not worker.stopped_at or now - worker.stopped_at < _LONG_AGO_S)
    ]


def _ended_soon(worker: WorkerState, soon_s: float) -> bool:
    return worker.end is WorkerEnd.DONE and worker.exit_code == 0 and worker.ran_s < soon_s


def tried_since(row: Sequence[WorkerState], workers: Iterable[WorkerState], *, patience_s: float, now: float) -> int:
    """How many workers were launched after the last of the row and are alive, but not for long yet."""
    return sum(
        worker.ordinal > row[-1].ordinal
        and worker.phase is not WorkerPhase.STOPPED
        and (not worker.started_at or now - worker.started_at < patience_s)
        for worker in workers
    )


def barren_wait_s(view: View, policy: Policy) -> float:
    """How long after the last of them another is tried: ever longer, since half as long as they have come so far."""
    if view.barren.count <= max(launchable(view, policy), 1):
        return 0.0  # each is replaced once at once: what befell them all may be over
    return min(view.barren.lasted_s / 2, policy.patience_s * (_WHILE_ONE_WORKS if view.alive else 1))


def waits_for(view: View, policy: Policy) -> str:
    """What the run waits for before it launches more workers; empty when for nothing.

    >>> policy = Policy(workers=1, slots=1, tolerate=Tolerance.of(0), resend_after_s=10)
    >>> view = View(now=0, items=9, answered=0, failed=0, owed=9, expected=0, depth=Depth(9, 0), quiet_since=0,
    ...             alive=0, launched=3, barren=Barren(count=3, lasted_s=4, longest_s=1.2, why="exit code 0: no disk"))
    >>> waits_for(view, policy)
    'workers: the last 3 ended within 2 s without an answer: exit code 0: no disk'
    """
    row = view.barren
    if row.count <= max(launchable(view, policy), 1):
        return ""
    return f"workers: the last {row.count} ended within {-(-row.longest_s // 1):.0f} s without an answer: {row.why}"


def _spare(view: View, policy: Policy) -> int:
    """So many more may end for nothing before it is hopeless."""
    return launchable(view, policy) + _BARREN - view.barren.count


def _hopeless(view: View, policy: Policy) -> bool:
    """Enough workers ended for nothing, for long enough; or far too many, should clocks tell that it was no time."""
    if view.alive or not view.owed or _spare(view, policy) > 0:
        return False
    return view.barren.lasted_s >= policy.patience_s or view.barren.count > _FAR_TOO_MANY * (policy.workers + _BARREN)


def _too_barren(row: Barren) -> str:
    return (
        f"{row.count} workers in a row settled nothing and ended, each within {-(-row.longest_s // 1):.0f} s, the last "
        f"with {row.why}: what they printed is in the warnings before, on AWS also in the log group: "
        "mend that, and start the run again"
    )


#: How a worker ends that could not do its work.
BAD_ENDS = (WorkerEnd.OOM, WorkerEnd.CRASHED, WorkerEnd.UNSTARTED, WorkerEnd.UNSTARTABLE)
_LEAST_SHARE = 100  # while the number of items is unknown, a share is taken of at least so many
_BARREN = 4  # so many more than are wanted at once may end for nothing
_FAR_TOO_MANY = 4
_WHILE_ONE_WORKS = 10  # so much longer others can wait
_LONG_AGO_S = 1800.0
_RESENDS = 3  # of messages that then end as dead letters


def _dead(view: View) -> str:
    return (
        f"{view.owed} chunks are owed, and their messages end as dead letters ({view.dead}), though they were sent "
        f"again {view.resent} times: no worker can read them or lives to finish one; the workers' logs say why"
    )


def _too_many(view: View, policy: Policy) -> str:
    limit = policy.tolerate
    allowed = f"{limit.percent:g}%" if limit.percent is not None else str(limit.count)
    of = f" of {view.items}" if view.items is not None else ""
    since = " since it was resumed" if policy.forgiven else ""
    return f"{view.failed - policy.forgiven}{of} items failed{since}, more than the {allowed} tolerated"
