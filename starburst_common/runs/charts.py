"""A run's events and settled chunks in; the points of its report's charts out, each in a field of 1000 by 100. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starburst_common.model import RunStatus
from starburst_common.runs.events import EventKind, RunEvent

_BARS = 24  #: of a histogram, at most
_LEAST = 0.1  #: of a bar's width, as a power of ten


@dataclass(frozen=True, slots=True)
class Axis:
    """The time of a run."""

    began: float
    took: float

    @classmethod
    def of(cls, status: RunStatus, now: float) -> Axis:
        """From its beginning until its end, or now."""
        return cls(status.created_at, max((status.ended_at or now) - status.created_at, 1e-3))

    def x(self, at: float) -> float:
        """Where a moment is, from 0 to 1000."""
        return 1000 * min(max(at - self.began, 0) / self.took, 1)


def answered_curve(status: RunStatus, events: Sequence[RunEvent], axis: Axis) -> str:
    """How many items were answered when; nothing where that is not known."""
    whole = max(status.items or status.answered, 1)
    points = [(event.at, event.answered) for event in events if event.kind is EventKind.SETTLED]
    if not points:
        return ""
    ends = [(axis.began, 0), *points, (axis.began + axis.took, status.answered)]
    return " ".join(f"{axis.x(at):.1f},{100 - 100 * min(answered / whole, 1):.1f}" for at, answered in ends)


@dataclass(frozen=True, slots=True)
class Steps:
    """How many workers were alive, and of these at work, when."""

    alive: str
    at_work: str
    most: int


def worker_steps(events: Sequence[RunEvent], axis: Axis) -> Steps | None:
    """Their number over time, which shows waves; None where that is not known."""
    seen = [(event.at, event.workers, event.count) for event in events if event.kind is EventKind.WORKERS]
    most = max((workers for _, workers, _ in seen), default=0)
    if not most:
        return None
    last_alive, last_at_work = seen[-1][1:]
    seen = [(axis.began, 0, 0), *seen, (axis.began + axis.took, last_alive, last_at_work)]
    alive = _steps([(axis.x(at), workers) for at, workers, _ in seen], most)
    return Steps(alive, _steps([(axis.x(at), at_work) for at, _, at_work in seen], most), most)


def _steps(points: Sequence[tuple[float, int]], most: int) -> str:
    """Each number holds until the next.

    >>> _steps([(0, 0), (500, 2), (1000, 1)], 2)
    '0.0,100.0 500.0,100.0 500.0,0.0 1000.0,0.0 1000.0,50.0'
    """
    found, before = [], ""
    for x, number in points:
        y = f"{100 - 100 * min(number / most, 1):.1f}"
        found += [f"{x:.1f},{before}"] * bool(before) + [f"{x:.1f},{y}"]
        before = y
    return " ".join(found)


@dataclass(frozen=True, slots=True)
class Bar:
    """Items that took about as long."""

    least_s: float
    most_s: float
    items: int
    height: float  #: of the highest, in percent


def histogram(durations: Iterable[tuple[float, int]]) -> list[Bar]:
    """How many items took how long, by their chunks' averages: bars of equal width on a logarithmic scale.

    Args:
        durations: seconds an item, and how many items took that.

    >>> [(round(bar.least_s, 3), bar.items, bar.height) for bar in histogram([(1, 3), (1.1, 3), (10, 1)])][::4]
    [(1.0, 6, 100.0), (2.512, 0, 0.0), (6.31, 0, 0.0)]
    """
    found = [(max(seconds, 1e-7), items) for seconds, items in durations if items]
    if not found:
        return []
    low, high = math.log10(min(found)[0]), math.log10(max(found)[0])
    width = max((high - low) / _BARS, _LEAST)
    counts = [0] * (min(int((high - low) / width), _BARS) + 1)
    for seconds, items in found:
        counts[min(int((math.log10(seconds) - low) / width), len(counts) - 1)] += items
    most = max(counts)
    return [
        Bar(10 ** (low + at * width), 10 ** (low + (at + 1) * width), items, round(100 * items / most, 2))
        for at, items in enumerate(counts)
    ]
