"""A mark that a run's drivers write anew, as a worker sees it, in; whether anybody still drives the run, out. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MARKS, _LOOKS = 3, 4  #: so many are written, and looked for, in the time after which workers stop
_TICKS = 8  #: of a driver at least in that time
_LONG_S = 1.0  #: a tick that takes longer is rare


def kept_s(ttl_s: float, tick_s: float) -> float:
    """Workers go on so long without a driver: as was asked, or as long as it takes to be sure of one at this pace.

    >>> kept_s(900, 5), kept_s(1, 5)
    (900, 40)
    """
    return max(ttl_s, _TICKS * tick_s)


def mark_every_s(ttl_s: float) -> float:
    """A driver writes its mark so often."""
    return ttl_s / _MARKS


def next_tick_s(tick_s: float, took_s: float) -> float:
    """From one tick to the next: looks at a large fleet, which are many calls, take a quarter of the time at most.

    >>> next_tick_s(5, 0.4), next_tick_s(5, 4)
    (5, 16)
    """
    return max(tick_s, took_s * 4) if took_s > _LONG_S else tick_s


@dataclass(slots=True, kw_only=True)
class Driven:
    """What one worker knows of who drives a run, on its own monotonic clock.

    Only what it has seen counts: where it looked in vain, as in an outage, or stood still, its time begins anew, since
    no driver may have been able to write either. What it has given up once it takes up again when the mark changes.

    >>> driven = Driven(ttl_s=100)
    >>> def looks(*seen):
    ...     for now, mark in seen:
    ...         driven.saw(mark, now)
    ...     return driven.lost
    >>> looks((0, None), (25, 7.0), (50, 7.0), (75, 7.0), (100, 7.0), (125, 7.0))
    False
    >>> looks((150, 7.0)), driven.lost
    (True, True)
    >>> looks((300, 7.0)), looks((325, 9.0))  # somebody has come back
    (True, False)
    >>> driven.looked_in_vain()
    >>> looks((450, 9.0), (475, 9.0), (500, 9.0), (550, 9.0)), looks((551, 9.0))
    (False, True)
    """

    ttl_s: float  #: see `kept_s`
    lost: bool = False  #: nobody drives it any more
    _mark: float | None = None  #: when it was written, on the store's clock
    _since: float = 0.0  #: we have seen no other mark since
    _looked_at: float = -math.inf

    def due(self, now: float) -> bool:
        """Whether to look for the mark again."""
        return now - self._looked_at >= self.ttl_s / _LOOKS

    def looked_in_vain(self) -> None:
        """The mark could not be looked for."""
        self._looked_at = -math.inf

    def saw(self, mark: float | None, now: float) -> None:
        """The mark as it was when somebody looked, now; None where there is none."""
        if mark != self._mark:
            self._mark, self._since, self.lost = mark, now, False
        elif now - self._looked_at > self.ttl_s:
            self._since = now
        self._looked_at = now
        self.lost = self.lost or now - self._since > self.ttl_s
