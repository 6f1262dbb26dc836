"""What is, in; what to do about it, out. Pure: the clock is an argument, and nothing here remembers anything.

Any process may look, decide and act, one after another or at once: every action is safe to do twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starburst_common.model import RunState
from starburst_common.options import Tolerance
from starburst_common.ports import Depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was asked of a run."""

    workers: int  #: alive at most
    slots: int  #: of each worker
    tolerate: Tolerance
    resend_after_s: float  #: an empty queue for so long, with chunks owed, has lost them
    feeder_lost_s: float = 30.0  #: no sign of life for so long, and nobody feeds the run any more
    breaker: bool = True  #: stop where the first items all fail alike; not where failures were asked for


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
    barren: int  #: workers that ended badly since anything was settled
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
    ...             quiet_since=0, alive=0, launched=0, barren=0)
    >>> decide(view, policy)
    [Launch(ordinals=range(0, 4))]
    >>> decide(replace(view, alive=3, launched=4), policy)  # one was lost
    [Launch(ordinals=range(4, 5))]
    >>> decide(replace(view, launch_at=5), policy)  # told to wait
    []
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
    if not policy.tolerate.allows(failed=view.failed, items=known):  # the reason why somebody may have cancelled
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
    if unfed and view.items is None and view.owed == 0:
        return [Finish(RunState.STOPPED, unfed, input_lost=True)]
    if view.barren > policy.workers + _BARREN:
        return [Finish(RunState.STOPPED, f"{view.barren} workers in a row ended badly and settled nothing")]
    actions: list[Action] = []
    wanted = launchable(view, policy)
    if wanted > view.alive and view.now >= view.launch_at:
        actions.append(Launch(range(view.launched, view.launched + wanted - view.alive)))
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


_LEAST_SHARE = 100  # while the number of items is unknown, a share is taken of at least so many
_BARREN = 5
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
    return f"{view.failed}{of} items failed, more than the {allowed} tolerated"
