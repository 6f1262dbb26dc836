"""What happens to a run, one after another, for all who tell of it: logs, progress, reports. In memory, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, takewhile
from typing import Any

_MOST = 1000  #: of them are held


class EventKind(StrEnum):
    """What happened to a run."""

    READ = "read"  #: its input is whole: so many items
    LAUNCHED = "launched"  #: so many workers were started for it
    WORKERS = "workers"  #: another number of workers is alive, or at work; so many are at work
    LOST = "lost"  #: a worker ended badly, or for nothing
    TAKEN = "taken"  #: a worker's capacity was taken back, as Spot's is
    SETTLED = "settled"  #: chunks were settled; those within one tick of the driver are one event
    RESENT = "resent"  #: so many chunks were owed and had no message left; they were sent again
    SPECULATED = "speculated"  #: so many chunks that take long were given to idle workers, too
    WITHDRAWN = "withdrawn"  #: so many workers were told to go, as other runs of the site wait for their quota
    ESCALATED = "escalated"  #: what ran out of memory goes on with larger workers, which is a leg of its own
    DAMAGED = "damaged"  #: something that was stored, or sent, is not whole or not ours
    WAITS = "waits"  #: it waits for something, in words; without words it goes on
    ENDED = "ended"  #: it is over: how, and why


#: What is told by its numbers, as a curve; all else is told one by one.
CURVES = (EventKind.WORKERS, EventKind.SETTLED)
#: What nothing else in the store tells.
UNTOLD = frozenset(EventKind) - {EventKind.READ, *CURVES, EventKind.ESCALATED, EventKind.ENDED}
#: What different drivers of one run see at different times, and word alike.
_SEEN = (
    *(EventKind.READ, EventKind.LAUNCHED, EventKind.LOST, EventKind.TAKEN, EventKind.DAMAGED),
    *(EventKind.ESCALATED, EventKind.ENDED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened to a run, with how it stood then: these numbers are sums, so events may be left out."""

    kind: EventKind
    at: float  #: wall clock of who drives the run, seconds
    words: str = ""
    count: int = 0  #: as its kind says
    answered: int = 0  #: items, so far
    failed: int = 0  #: of these
    workers: int = 0  #: alive, as last seen
    said: str = field(default="", compare=False, repr=False)  #: what a worker printed last; not stored
    number: int = field(default=0, compare=False)  #: counts up where it was seen; 0 in what the store tells

    @property
    def text(self) -> str:
        """It in words.

        >>> RunEvent(kind=EventKind.LAUNCHED, at=0, count=1).text, RunEvent(kind=EventKind.WAITS, at=0).text
        ('1 worker launched', 'goes on')
        """
        return _TEXTS[self.kind](self)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


_TEXTS: dict[EventKind, Callable[[RunEvent], str]] = {
    EventKind.READ: lambda event: f"its input is whole: {_counted(event.count, 'item')}",
    EventKind.LAUNCHED: lambda event: f"{_counted(event.count, 'worker')} launched",
    EventKind.WORKERS: lambda event: f"{_counted(event.workers, 'worker')} alive, {event.count:,} at work",
    EventKind.LOST: lambda event: event.words,
    EventKind.TAKEN: lambda event: event.words,
    EventKind.SETTLED: lambda event: f"{_counted(event.answered, 'item')} answered, {event.failed:,} failed",
    EventKind.RESENT: lambda event: f"{_counted(event.count, 'chunk')} owed and no message left: sent again",
    EventKind.SPECULATED: lambda event: f"{_counted(event.count, 'chunk')} far behind: given to idle workers, too",
    EventKind.WITHDRAWN: lambda event: f"{_counted(event.count, 'worker')} given up: other runs wait for their quota",
    EventKind.ESCALATED: lambda event: event.words,
    EventKind.DAMAGED: lambda event: event.words,
    EventKind.WAITS: lambda event: f"waiting for {event.words}" if event.words else "goes on",
    EventKind.ENDED: lambda event: f"ended: {event.words}",
}


class Speed:
    """How fast items are answered, by events one after another, from when a worker was first at work in a leg.

    So neither a wait for the first one counts, nor the time between two legs. Of one that was resumed after an hour:

    >>> launched, at_work, ended = EventKind.LAUNCHED, EventKind.WORKERS, EventKind.ENDED
    >>> speed = Speed()
    >>> for kind, at, count, answered in ((launched, 0, 1, 0), (at_work, 60, 1, 0), (ended, 70, 0, 5)):
    ...     speed.see(RunEvent(kind=kind, at=at, count=count, answered=answered))
    >>> for kind, at, answered in ((launched, 3670, 5), (at_work, 3700, 5)):
    ...     speed.see(RunEvent(kind=kind, at=at, count=1, answered=answered))
    >>> speed.rate(50, 3715), speed.whole(50, 3715)
    (3.0, 2.0)

    And of a quick one, nearly all of which was answered before workers were seen:

    >>> speed = Speed()
    >>> for kind, at, answered in ((launched, 0, 0), (at_work, 1.99, 900), (ended, 2, 1000)):
    ...     speed.see(RunEvent(kind=kind, at=at, count=1, answered=answered))
    >>> speed.whole(1000, 2)
    500.0
    """

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None  # when that was, and how much was answered by then
        self._at_work = False
        self._former_s, self._former = 0.0, 0  # what other legs took, and items that were answered in them

    def see(self, event: RunEvent) -> None:
        """It happened next."""
        if event.kind in (EventKind.ENDED, EventKind.ESCALATED):
            if self._begun is not None:
                self._former_s += max(event.at - self._begun[0], 0.0)
                self._former += event.answered - self._begun[1]
            self._begun, self._at_work = None, False
        elif event.kind is EventKind.WORKERS and event.count and not self._at_work:
            self._at_work = True
            if self._begun is None or self._begun[1] == event.answered:  # else they were at work before they were seen
                self._begun = event.at, event.answered
        elif event.kind is EventKind.LAUNCHED and self._begun is None:  # what was quick is over before they are seen
            self._begun = event.at, event.answered

    def rate(self, answered: int, now: float) -> float:
        """Items a second in this leg, with so many answered now, or in those before; 0 where nobody knows."""
        if self._begun is None:
            return self.whole(answered, now)
        return _rate(answered - self._begun[1], now - self._begun[0])

    def whole(self, answered: int, now: float) -> float:
        """The same in all legs."""
        if self._begun is None:
            return _rate(self._former, self._former_s)
        return _rate(self._former + answered - self._begun[1], self._former_s + now - self._begun[0])


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 and count > 0 else 0.0


class EventRecord:
    """One run's, as this process saw them: the last thousand or so. Whoever holds its books' lock may use it."""

    def __init__(self, tick_s: float) -> None:
        self.number = 0  #: of the last; moves with each
        self.told = 0  #: of the last of a kind that nothing in the store tells but these
        self._tick_s = tick_s
        self._began = 0.0  # when the first of those was settled that are one event
        self._held: list[RunEvent] = []
        self.speed = Speed()

    def add(self, kind: EventKind, at: float, **fields: Any) -> None:
        """It happens. What is settled within a tick is one event, which has a new number each time."""
        self.number += 1
        if kind in UNTOLD:
            self.told = self.number
        event, last = RunEvent(kind=kind, at=at, number=self.number, **fields), self._held[-1:]
        self.speed.see(event)
        if kind is EventKind.SETTLED and last and last[0].kind is kind and abs(at - self._began) < self._tick_s:
            self._held[-1] = event
            return
        self._began = at
        self._held.append(event)
        if len(self._held) > _MOST:
            self._held = thinned(self._held, _MOST // 2)

    def since(self, number: int = 0) -> list[RunEvent]:
        """What happened after the event of that number. A reader goes on after the last number that it was given."""
        return [*takewhile(lambda event: event.number > number, reversed(self._held))][::-1]


def thinned(events: Sequence[RunEvent], most: int) -> list[RunEvent]:
    """At most so many of them: of curves points evenly, the last included, of the rest the first ones and the last.

    >>> events = [RunEvent(kind=EventKind.SETTLED, at=at) for at in range(7)]
    >>> events[1:1] = [RunEvent(kind=EventKind.RESENT, at=at / 10) for at in range(9)]
    >>> [event.at for event in thinned(events, 6)]
    [0, 0.0, 0.7, 0.8, 3, 6]
    """
    curves, rest = list[int](), list[int]()
    for at, event in enumerate(events):
        (curves if event.kind in CURVES else rest).append(at)
    room = most // 2
    if len(rest) > room:
        rest = rest[: room // 3] + rest[len(rest) - (room - room // 3) :]
    if len(curves) > room:
        curves = [curves[step * (len(curves) - 1) // (room - 1)] for step in range(room)]
    return [events[at] for at in sorted(curves + rest)]


def merged(*records: Iterable[RunEvent]) -> list[RunEvent]:
    """What several drivers of one leg of a run saw, or one saw and stored: each thing once, by time.

    >>> ours = [RunEvent(kind=EventKind.WAITS, at=1, words="quota"), RunEvent(kind=EventKind.SETTLED, at=3, answered=5)]
    >>> theirs = [RunEvent(kind=EventKind.WAITS, at=2, words="quota"), RunEvent(kind=EventKind.WAITS, at=4)]
    >>> [(event.at, event.text) for event in merged(ours, theirs, ours)]
    [(1, 'waiting for quota'), (3, '5 items answered, 0 failed'), (4, 'goes on')]
    """
    found, told, waits, workers, settled = list[RunEvent](), set[object](), "", (0, 0), (0, 0)
    for event in sorted(chain(*records), key=lambda event: event.at):
        if event.kind is EventKind.WAITS:
            new = waits != event.words
            waits = event.words
        elif event.kind is EventKind.WORKERS:
            new = workers != (event.workers, event.count)
            workers = event.workers, event.count
        elif event.kind is EventKind.SETTLED:
            new = (event.answered, event.failed) > settled
            settled = max(settled, (event.answered, event.failed))
        else:
            said = (event.kind, event.words if event.kind in _SEEN else event.at)
            new = said not in told
            told.add(said)
        if new:
            found.append(event)
    return found
