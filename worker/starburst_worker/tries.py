"""Items of a chunk in, one after another; each is tried as often as it may be, and its value or failure goes out."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from starburst_common.model import FailureKind
from starburst_common.pickling.within import awaited, explain, sow
from starburst_worker.board import ASK, CURRENT, DRAIN, GO, REACHED, STEPS, SlotBoard
from starburst_worker.failed import failure_of, kind_of
from starburst_worker.loaded import tell_where
from starburst_worker.out import Out
from starburst_worker.stand import Stand

if TYPE_CHECKING:
    from starburst_common.wire.items import Frames

T = TypeVar("T")


class Manner(NamedTuple):
    """How items are called, and those that fail are treated."""

    call: Callable[[Any], Any]

    retries: int
    retry_delay_s: float
    retry_on: tuple[type[BaseException], ...]
    seed: int | None = None
    numbers: Mapping[int, int] = MappingProxyType({})  #: by which items have their seeds, where not by their own
    batch: int | None = None  #: items that a call is given at most, in a list; None gives one, and no list

    def again(self, error: BaseException, kind: FailureKind, tries: int) -> bool:
        """Whether an item that raised this, after so many tries, has another one."""
        return tries < self.retries and isinstance(error, self.retry_on) and kind is not FailureKind.IMPORT


Spans = Iterable[Sequence[int]]
Delayed = list[tuple[float, int, int]]  #: when, which item, how many tries it had


def run_chunk(spans: Spans, items: Frames, manner: Manner, board: SlotBoard, out: Out, stand: Stand) -> None:
    """Run every item of the spans, then the retries that are due, while the supervisor lets us."""
    waiting: Delayed = []
    sow(None, 0)
    run, cells = _trier(items, manner, board, out, stand, waiting), board.cells
    for index in each(spans):
        before = cells[REACHED]
        cells[REACHED] = index
        if cells[ASK] != GO:  # the supervisor sets `ask`, waits, then reads `reached`: one of us sees the other
            cells[REACHED] = before
            break
        run(index, 0)
    run_waiting(waiting, board, run)


def run_waiting(waiting: list[tuple[float, T, int]], board: SlotBoard, run: Callable[[T, int], None]) -> None:
    """The tries that are due, in their order, until none is left or the worker must go."""
    while waiting and board.ask != DRAIN:
        due, what, tries = waiting[0]
        if (pause := due - time.monotonic()) > 0:
            time.sleep(min(pause, 0.05))
        else:
            heapq.heappop(waiting)
            run(what, tries)


def _trier(
    items: Frames, manner: Manner, board: SlotBoard, out: Out, stand: Stand, waiting: Delayed
) -> Callable[[int, int], None]:
    """What runs one item, which has had so many tries; one that may have another is put to those that wait."""
    call, seed, numbers = manner.call, manner.seed, manner.numbers
    cells, item = board.cells, items.__getitem__
    take, flush, answer, transcript = stand.take, out.flush, out.value, out.transcript

    def run(index: int, tries: int) -> None:
        if take():
            flush()
        if seed is not None:
            sow(seed, numbers.get(index, index))
        cells[CURRENT] = index
        cells[STEPS] = step = (cells[STEPS] | 1) + 2
        again = False
        try:
            argument = item(index)
            cells[STEPS] = step + 1
            value = call(argument)
            if type(value) is CoroutineType:
                value = awaited(value)
        except BaseException as error:
            if out.left:
                raise
            if unpickling := cells[STEPS] == step:
                tell_where(error, items, index)
            cells[STEPS] = step + 3  # what we load to tell of it is not the item's time
            kind = kind_of(error, unpickling=unpickling)
            explain(error)
            again = manner.again(error, kind, tries)
            if again:
                heapq.heappush(waiting, (time.monotonic() + manner.retry_delay_s, index, tries + 1))
            else:
                out.failure(*failure_of(index, error, kind=kind))
        else:
            if out.left:  # the function forked, and both returned
                sys.exit()
            answer(index, value)
        cells[CURRENT] = -1
        if transcript.dirty or again or out.before:
            out.printed(index, again=again)

    return run


def each(spans: Spans) -> Iterator[int]:
    """The items of these, one by one."""
    return (index for lo, hi in spans for index in range(lo, hi))
