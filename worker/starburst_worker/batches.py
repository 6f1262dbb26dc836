"""Items of a chunk in, several to a call; of each its value or failure out, as if it had been called alone."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from starburst_common.errors import BadInput
from starburst_common.pickling.within import awaited, explain
from starburst_worker.board import GO, SlotBoard
from starburst_worker.failed import failure_of, kind_of
from starburst_worker.loaded import tell_where
from starburst_worker.out import Out
from starburst_worker.stand import Stand
from starburst_worker.tries import Manner, Spans, run_waiting

if TYPE_CHECKING:
    from starburst_common.wire.items import Frames


def run_batches(spans: Spans, items: Frames, manner: Manner, board: SlotBoard, out: Out, stand: Stand) -> None:
    """As `run_chunk`, with up to `manner.batch` consecutive items of a span in each call."""
    waiting: Waiting = []
    batch = _Batch(items, manner, board, out, stand, waiting)
    for group in groups(spans, manner.batch or 1):
        before, board.reached = board.reached, group[-1]
        if board.ask != GO:
            board.reached = before
            break
        batch.run(tuple(group), 0)
    run_waiting(waiting, board, batch.run)


def groups(spans: Spans, size: int) -> Iterator[range]:
    """The items of these, so many at once; none of two spans together.

    >>> [*groups([(0, 5), (7, 8)], 2)]
    [range(0, 2), range(2, 4), range(4, 5), range(7, 8)]
    """
    return (range(at, min(at + size, hi)) for lo, hi in spans for at in range(lo, hi, size))


def values_of(answer: Any, count: int) -> list[Any]:
    """What a call answers its items with. Raises `BadInput` unless it is one value for each.

    >>> values_of((1, 2), 2)
    [1, 2]
    >>> values_of("ab", 2)
    Traceback (most recent call last):
    starburst_common.errors.BadInput: with batch= a function answers a list with a value for each of its items: 2 were \
given, and a str came back
    """
    wanted = f"with batch= a function answers a list with a value for each of its items: {count} were given, and"
    # sets have no order, and tables give the names of their columns
    unlike = isinstance(answer, str | bytes | Mapping | Set) or hasattr(answer, "columns")
    if unlike or not hasattr(answer, "__iter__"):
        raise BadInput(f"{wanted} a {type(answer).__name__} came back")
    values = [*answer]
    if len(values) != count:
        raise BadInput(f"{wanted} {len(values)} came back")
    return values


Waiting = list[tuple[float, tuple[int, ...], int]]  #: when, which items, how many tries they had


class _Batch:
    """Calls with several items, which have had so many tries; who may have another is put to those that wait."""

    def __init__(
        self,
        items: Frames,
        manner: Manner,
        board: SlotBoard,
        out: Out,
        stand: Stand,
        waiting: Waiting,
    ) -> None:
        self._items, self._manner, self._board = items, manner, board
        self._out, self._stand, self._waiting = out, stand, waiting

    def run(self, group: tuple[int, ...], tries: int) -> None:
        """Call once. What it prints is its first item's."""
        board, out = self._board, self._out
        if self._stand.take():
            out.flush()
        board.last, board.current = group[-1], group[0]
        board.steps = step = (board.steps | 1) + 2
        again = False
        called, arguments = self._loaded(group)
        try:
            board.steps = step + 1
            values = values_of(awaited(self._manner.call(arguments)), len(called)) if called else []
        except BaseException as error:
            if out.left:
                raise
            board.steps = step + 3  # what we load to tell of it is not the items' time
            explain(error)
            again = self._failed(called, error, tries)
        else:
            if out.left:  # the function forked, and both returned
                sys.exit()
            for index, value in zip(called, values, strict=True):
                if isinstance(value, Exception):
                    again = self._failed([index], value, tries) or again
                else:
                    out.value(index, value)
        board.current = -1
        out.printed(group[0], again=again)

    def _loaded(self, group: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Those of its items that can be had, and as what; the others fail alone."""
        called, arguments = [], []
        for index in group:
            try:
                arguments.append(self._items[index])
            except BaseException as error:
                if self._out.left:
                    raise
                tell_where(error, self._items, index)
                explain(error)
                self._out.failure(*failure_of(index, error, kind=kind_of(error, unpickling=True)))
            else:
                called.append(index)
        return called, arguments

    def _failed(self, group: Sequence[int], error: BaseException, tries: int) -> bool:
        """An exception is that of these items; whether they are to be tried again."""
        kind = kind_of(error, unpickling=False)
        if self._manner.again(error, kind, tries):
            when = time.monotonic() + self._manner.retry_delay_s
            heapq.heappush(self._waiting, (when, tuple(group), tries + 1))
            return True
        fields, exception = failure_of(group[0], error, kind=kind)
        for index in group:
            self._out.failure({**fields, "index": index}, exception)
        return False
