"""What is known of a leased chunk in, what becomes of it out: run it, cut it, refuse it, and so on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from starburst_common.model import Chunk, FailureKind, Span, WorkerEnd, without
from starburst_common.runs.failures import WITHDRAWN, Reason

_SPLIT = 2  #: a chunk that has cost so many workers is cut up
_FAIL = 3  #: an item that alone has cost so many is answered with a failure
_ASKS = 8  #: so often it is asked how the last of them ended, until a driver has seen that
SPLIT_PIECES = 8
_LAST_ENDS: dict[WorkerEnd | None, tuple[FailureKind, str]] = {
    WorkerEnd.OOM: (FailureKind.OOM, ", at last for lack of memory"),
    WorkerEnd.SPOT: (FailureKind.SPOT, ", at last taken back by Spot"),
}


class Do(StrEnum):
    """What to do with a chunk."""

    RUN = "run"  #: by the next slot that is free
    QUARANTINE = "quarantine"  #: run it with nothing else near, as it may take the worker with it
    SPLIT = "split"  #: into pieces, for whoever is free
    REFUSE = "refuse"  #: all its items fail for the same reason
    DISCARD = "discard"  #: nobody wants it any more, or it is settled
    LATER = "later"  #: somebody gets it again, once more is known
    LEAVE = "leave"  #: it goes back as a fresh message, for those who work when somebody drives its run again


class Verdict(NamedTuple):
    """What to do, and why where that is to refuse."""

    do: Do
    why: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of a chunk. What has not been looked at yet says nothing against running it."""

    chunk: Chunk  #: with the workers that it has cost: at most, as one that died waiting for it counts too
    over: bool = False  #: nobody wants answers of its run any more
    undriven: bool = False  #: nor is anybody there who keeps that going
    settled: bool = False  #: it has an outcome
    withdrawn: Sequence[Span] = ()  #: items that are not to begin any more
    unfit: Reason | None = None  #: why this worker cannot run it
    alone: bool = False  #: a worker that is gone has run its one item, with nothing else near
    end: WorkerEnd | None = None  #: of that worker, if that is known


def judge(case: Case) -> Verdict:
    """What becomes of the chunk: the first that applies.

    >>> def told(size: int = 8, deaths: int = 0, **known) -> str:
    ...     chunk = Chunk(span=Span(0, size), function="f", ref=("p", 0, 1), deaths=deaths)
    ...     do, why = judge(Case(chunk=chunk, **known))
    ...     return f"{do}: {why.error}, {why.message}" if why else str(do)
    >>> told(over=True), told(settled=True, deaths=9)
    ('discard', 'discard')
    >>> told(undriven=True, deaths=9)
    'leave'
    >>> told(withdrawn=[Span(0, 9)]), told(withdrawn=[Span(0, 7)])
    ('refuse: ItemCancelled, withdrawn before it began', 'run')
    >>> told(unfit=Reason.ours(FailureKind.IMPORT, "another Python"), deaths=9)
    'refuse: EnvironmentMismatch, another Python'
    >>> [told(deaths=deaths) for deaths in (0, 1, 2, 3)]
    ['run', 'run', 'split', 'split']
    >>> [told(size=1, deaths=deaths) for deaths in (0, 1, 2, 3)]
    ['run', 'run', 'quarantine', 'quarantine']
    >>> told(1, deaths=2, alone=True), told(1, deaths=3, alone=True), told(1, deaths=11, alone=True)
    ('quarantine', 'later', 'refuse: WorkerLost, its worker died, 3 times')
    >>> told(1, deaths=3, alone=True, end=WorkerEnd.OOM)
    'refuse: OutOfMemory, its worker died, 3 times, at last for lack of memory'
    """
    chunk = case.chunk
    if case.over or case.settled:
        return Verdict(Do.DISCARD)
    if case.undriven:
        return Verdict(Do.LEAVE)
    if not without(chunk.span, case.withdrawn):
        return Verdict(Do.REFUSE, WITHDRAWN)
    if case.unfit is not None:
        return Verdict(Do.REFUSE, case.unfit)
    if accused(chunk) and case.alone:
        if case.end is None and chunk.deaths < _FAIL + _ASKS:
            return Verdict(Do.LATER)
        kind, how = _LAST_ENDS.get(case.end, (FailureKind.LOST, ""))
        return Verdict(Do.REFUSE, Reason.ours(kind, f"its worker died, {_FAIL} times{how}"))
    if chunk.deaths < _SPLIT:
        return Verdict(Do.RUN)
    return Verdict(Do.SPLIT if chunk.span.size > 1 else Do.QUARANTINE)


def accused(chunk: Chunk) -> bool:
    """Whether it stands alone and may have cost too many workers: then it counts who has run it, and how that ended."""
    return chunk.span.size == 1 and chunk.deaths >= _FAIL
