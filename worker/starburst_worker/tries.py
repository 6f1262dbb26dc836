"""Items of a chunk in, one after another; each is tried as often as it may be, and its value or failure goes out."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CoroutineType, MappingProxyType
from typing import Any, NamedTuple, TypeVar

from starburst_common.model import FailureKind
from starburst_common.pickling.within import awaited, explain, sow
from starburst_worker.board import DRAIN, GO, SlotBoard
from starburst_worker.failed import failure_of, kind_of, unpicklable
from starburst_worker.out import Out
from starburst_worker.stand import Stand

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


Spans = Iterable[Sequence[int]]
Delayed = list[tuple[float, int, int]]  #: when, which item, how many tries it had


def run_chunk(
    spans: Spans, item: Callable[[int], Any], manner: Manner, board: SlotBoard, out: Out, stand: Stand
) -> None:
    """Run every item of the spans, then the retries that are due, while the supervisor lets us."""
    waiting: Delayed = []
    run = _trier(item, manner, board, out, stand, waiting)
    for index in each(spans):
        before, board.reached = board.reached, index
        if board.ask != GO:  # the supervisor sets `ask`, waits, then reads `reached`: one of us sees the other
            board.reached = before
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
    item: Callable[[int], Any], manner: Manner, board: SlotBoard, out: Out, stand: Stand, waiting: Delayed
) -> Callable[[int, int], None]:
    """What runs one item, which has had so many tries; one that may have another is put to those that wait."""
    call, retries, delay_s, retry_on, seed, numbers, _ = manner
    take, begin, answer, printed = stand.take, board.begin, out.value, out.printed
    sow(None, 0)

    def run(index: int, tries: int) -> None:
        take()
        if seed is not None:
            sow(seed, numbers.get(index, index))
        step = begin(index)
        again = False
        try:
            argument = item(index)
            board.steps = step + 1
            value = call(argument)
            if type(value) is CoroutineType:
                value = awaited(value)
        except BaseException as error:
            if out.left:
                raise
            kind = kind_of(error, unpickling=board.steps == step)
            board.steps = step + 3  # what we load to tell of it is not the item's time
            explain(error)
            again = tries < retries and isinstance(error, retry_on) and kind is not FailureKind.IMPORT
            if again:
                heapq.heappush(waiting, (time.monotonic() + delay_s, index, tries + 1))
            else:
                out.failure(*failure_of(index, error, kind=kind))
        else:
            if out.left:  # the function forked, and both returned
                sys.exit()
            try:
                answer(index, value)
            except BaseException as error:  # of the user's own code, which may well raise SystemExit
                out.failure(*unpicklable(index, value, error))
        board.current = -1
        printed(index, again=again)

    return run


def each(spans: Spans) -> Iterator[int]:
    """The items of these, one by one."""
    return (index for lo, hi in spans for index in range(lo, hi))
