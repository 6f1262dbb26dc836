"""Workers that ended for nothing: which they are, and what is made of them. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from starburst_common.model import WorkerEnd, WorkerPhase, WorkerState

#: How a worker ends that could not do its work.
BAD_ENDS = (
    *(WorkerEnd.OOM, WorkerEnd.CRASHED, WorkerEnd.UNSTARTED, WorkerEnd.CUT_OFF, WorkerEnd.DENIED),
    WorkerEnd.UNSTARTABLE,
)
#: Of these, without its program having begun.
_UNBEGUN = (WorkerEnd.UNSTARTED, WorkerEnd.CUT_OFF)
_LONG_AGO_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Barren:
    """The workers launched last, as far as they ended and had settled nothing; see `barren`."""

    count: int = 0
    unbegun: int = 0  #: of these, that never began
    shut_out: int = 0  #: of these, that could reach nobody, or might not
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
            unbegun=sum(worker.end in _UNBEGUN for worker in row),
            shut_out=sum(worker.end in (WorkerEnd.CUT_OFF, WorkerEnd.DENIED) for worker in row),
            lasted_s=max(ends) - min(ends) if ends else 0.0,
            longest_s=max((worker.ran_s for worker in row), default=0.0),
            seen_at=seen_at,
            why=why,
            tried=tried,
        )


def barren(
    workers: Iterable[WorkerState], *, productive: Container[str], first: int, soon_s: float, now: float
) -> list[WorkerState]:
    """The workers launched last, by ordinal, that ended without having settled anything; those before `first` not.

    Each ended badly, or well but so soon that it cannot have idled out. What was told to go, by somebody or by Spot, is
    none, nor is what ended long ago: whoever attaches later may have mended the cause. One that settled something ends
    the row, so this is what came since, unless it was denied something then: each would settle one thing. All of it is
    as everybody sees it, so that two drivers decide alike.

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
    known = list(workers)
    able = (each for each in known if each.id in productive and each.end is not WorkerEnd.DENIED)
    begin = max((worker.ordinal + 1 for worker in able), default=first)
    row = [
        worker
        for worker in known
        if worker.phase is WorkerPhase.STOPPED
        and worker.ordinal >= max(begin, first)
        and (worker.end in BAD_ENDS or _ended_soon(worker, soon_s))
        and (not worker.stopped_at or now - worker.stopped_at < _LONG_AGO_S)
    ]
    return sorted(row, key=lambda worker: worker.ordinal)


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
