"""A launch rate, who waits for it and since when, in; how many workers one of them may start now out. Pure.

Tokens come back at the rate. While runs wait, what comes back goes to each of them by its weight, and is kept for it:
none starves, whoever asks more often. What nobody waits for is free, up to the burst, for who asks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from starburst_common.wire.fields import Fields

_WAITS_S = 10.0  #: who has not asked for so long waits no more
_MOST_WAIT = 1000
_LEAST_WEIGHT = 0.01
_ROUNDED = 0.01  #: of what is lost in writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A fleet that was given less than it wants."""

    kept: float  #: tokens that came back for it
    weight: float
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """A rate's state, as whoever takes of it leaves it to the next. Times are of the takers' clocks, which never meet:

    one that is ahead by a second has what would come back within it, once.

    >>> shares = Shares(free=100, at=0)
    >>> shares, taken = shares.take("a", 150, now=0, burst=100, each_s=20)
    >>> taken, shares.take("b", 5, now=0, burst=100, each_s=20)[1]
    (100, 0)
    >>> shares, _ = shares.take("b", 150, now=0, burst=100, each_s=20, weight=3)  # both wait from now on
    >>> [shares.take(fleet, 150, now=4, burst=100, each_s=20)[1] for fleet in ("a", "b")]
    [20, 60]
    >>> shares.take("a", 150, now=30, burst=100, each_s=20)[1]  # b has gone
    100
    """

    free: float
    at: float
    waiting: Mapping[str, Waiting] = field(default_factory=dict)

    def take(
        self, fleet: str, wanted: int, *, now: float, burst: float, each_s: float, weight: float = 1.0
    ) -> tuple[Self, int]:
        """The state after, and how many of those that were wanted it may start."""
        now = max(now, self.at)
        here = {name: each for name, each in self.waiting.items() if now - each.asked_at <= _WAITS_S}
        kept, weights = sum(each.kept for each in here.values()), sum(each.weight for each in here.values())
        free = self.free + sum(each.kept for each in self.waiting.values()) - kept
        more = max(min((now - self.at) * each_s, burst - free - kept), 0.0)
        if here:
            here = {name: replace(each, kept=each.kept + more * each.weight / weights) for name, each in here.items()}
        else:
            free += more
        mine = here.pop(fleet, Waiting(kept=0.0, weight=weight, asked_at=now))
        others = sum(each.weight for each in here.values())
        given = min(wanted, int(mine.kept + free * weight / (weight + others) + _ROUNDED))
        left = max(mine.kept - given, 0.0)
        free -= max(given - mine.kept, 0.0)
        if given < wanted and len(here) < _MOST_WAIT:
            here[fleet] = Waiting(kept=left, weight=weight, asked_at=now)
        else:
            free += left
        return replace(self, free=max(free, 0.0), at=now, waiting=here), given

    def give_back(self, tokens: int, *, burst: float) -> Self:
        """What was taken and not used."""
        return replace(self, free=min(self.free + tokens, burst))

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "free": round(self.free, 3),
            "at": round(self.at, 3),
            "waiting": {
                name: {"kept": round(each.kept, 3), "weight": each.weight, "asked_at": round(each.asked_at, 3)}
                for name, each in self.waiting.items()
            },
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """The inverse of `fields`. Raises `Refused`."""
        waiting = fields.fields("waiting")
        each = {name: Fields(name, told) for name, told in waiting.raw.items()}
        return cls(
            free=fields.number("free"),
            at=fields.moment("at"),
            waiting={
                name: Waiting(
                    kept=told.number("kept"),
                    weight=max(told.number("weight"), _LEAST_WEIGHT),
                    asked_at=told.moment("asked_at"),
                )
                for name, told in each.items()
            },
        )
