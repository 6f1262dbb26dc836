"""What a decision is made of: what was asked of a run, and it, its fleet and the room for more as they are. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from starburst_common.limits import Limits
from starburst_common.ports import Depth
from starburst_common.runs.barren import Barren
from starburst_common.runs.bounds import Bounds
from starburst_common.tolerance import Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """How far a run is, and what was said of it."""

    items: int | None  #: None while the input is being read
    answered: int
    failed: int
    owed: int  #: chunks planned and not settled
    aside: int = 0  #: chunks beside these, of items that ran out of memory and wait for larger workers
    single: int = 0  #: of those owed, which no second worker was given
    expected: int = 0  #: chunks that will be planned soon
    depth: Depth  #: of the run's messages
    quiet_since: float  #: when the run last moved: a chunk planned, settled or sent again
    cancelled: bool = False
    breaker: str = ""  #: what the first items all failed with
    input_lost: str = ""  #: why the rest of the input cannot come any more
    unheard_s: float = 0.0  #: so long whoever feeds the run had given no sign of life; 0 where we do
    dead: int = 0  #: messages that no worker could read or was done with, however often it was given them
    resent: int = 0  #: how often all messages were sent again since anything was settled
    refused: str = ""  #: an outcome that we did not sign lies where an answer should be
    item_s: float = 0.0  #: slot time of an item so far; 0 where none is answered


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Its workers."""

    alive: int = 0  #: starting or running
    at_work: int = 0  #: of these, whose process is there
    unplaced: int = 0  #: of those alive, for whom an instance has yet to come
    surplus: int = 0  #: of those alive, which other fleets should have, as they share a full quota
    launched: int = 0  #: ever, which is the next ordinal
    barren: Barren = field(default_factory=Barren)  #: those that ended for nothing since one settled anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What there is for more of them: headroom."""

    launch_at: float = 0.0  #: not before, since the last launch was told to wait
    free: float = math.inf  #: for so many more, by what the account allows
    bound: str = ""  #: by what, in words
    impossible: str = ""  #: why no worker can ever start


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All of it; times on one clock, in seconds."""

    now: float
    run: RunView
    fleet: FleetView = field(default_factory=FleetView)
    room: Room = field(default_factory=Room)
    bounds: Bounds = field(default_factory=Bounds)

    def but(self, **changes: Any) -> View:
        """The same with other facts, each named as in its group.

        >>> view = View(now=0, run=RunView(items=1, answered=0, failed=0, owed=1, depth=Depth(1, 0), quiet_since=0))
        >>> view.but(answered=1, alive=2).run.answered
        1
        """
        groups: dict[str, Any] = {}
        for group in ("run", "fleet", "room", "bounds"):
            old = getattr(self, group)
            new = {each.name: changes.pop(each.name) for each in fields(old) if each.name in changes}
            groups[group] = replace(old, **new) if new else old
        return replace(self, **groups, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was asked of a run."""

    workers: int  #: alive at most
    slots: int  #: of each worker
    tolerate: Tolerance
    still_s: float = 1.0  #: so long nothing moves, and no input comes, and what ran out of memory goes on
    resend_after_s: float = 5.0  #: an empty queue for so long, with chunks owed, has lost them
    feeder_lost_s: float = 30.0  #: no sign of life for so long, and nobody feeds the run any more
    breaker: bool = True  #: stop where the first items all fail alike; not where failures were asked for
    forgiven: int = 0  #: of the failures: they were known when the run was resumed
    priority: float = 1.0  #: its share where runs wait for what starts workers
    speculate: bool = False  #: what takes long near the end is given to an idle worker, too
    escalate: bool = False  #: what ran out of memory goes on with larger workers, once nothing else is left
    limits: Limits = field(default_factory=Limits)
    began_at: float = 0.0  #: from when these count (wall clock)
    spent_usd: float | None = None  #: before that
    patience_s: float = 10.0  #: workers that end for nothing, one after another, are put up with for so long at least

    @property
    def budget_usd(self) -> float | None:
        """What it may cost with what it had cost before."""
        budget = self.limits.budget_usd
        return None if budget is None else budget + (self.spent_usd or 0.0)
