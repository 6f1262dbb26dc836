"""What a map is given in, its items fed: at once, or where nobody knows how many come, a little ahead of the workers.

And of whoever consumes the answers, if somebody does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starburst_common.data.given import Rows
from starburst_common.errors import BadInput, RunCancelled, RunStopped
from starburst_common.options import Options
from starburst_common.runs.books import Books
from starburst_common.runs.chunking import charged_chunk_items, chunk_items, growing_chunk_items
from starburst_common.runs.feed import Feed
from starburst_common.wire.frames import NUMBERS

if TYPE_CHECKING:  # most maps have none
    from starburst_common.data.counted import RowsCounted

_NUMBERS = 255  #: are pickled with the next item
_GATHER_S = 0.1  #: an item of a slow input waits at most so long, and for the next item, before it is sent
_AHEAD_CHUNKS = 3  #: chunks a slot that an endless input is read ahead
_UNREAD_CHUNKS = 16  #: answered chunks a slot that nobody has consumed, before reading pauses


class _Together(Sized):
    """Several inputs side by side, as long as the shortest."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self._inputs = inputs

    def __len__(self) -> int:
        return min(map(len, self._inputs))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self._inputs, strict=False)


def side_by_side(items: Iterable[Any] | Rows, more: Sequence[Iterable[Any]]) -> tuple[Iterable[Any] | Rows, str]:
    """The items of a map, and whether each is "one" argument or several ("star"). Raises `BadInput`.

    >>> side_by_side([1, 2], [])
    ([1, 2], 'one')
    >>> together, style = side_by_side([1, 2], ["abc"])
    >>> len(together), list(together), style
    (2, [(1, 'a'), (2, 'b')], 'star')
    """
    if not more:
        return items, "one"
    if isinstance(items, Rows) or any(isinstance(each, Rows) for each in more):
        raise BadInput("Rows goes alone: give a function of one argument, the row")
    inputs = (items, *more)
    for each in inputs:
        if not isinstance(each, Iterable) and not hasattr(each, "__getitem__"):
            raise _not_iterable(each, "")
    together = _Together(inputs)
    return together if all(isinstance(each, Sized) for each in inputs) else iter(together), "star"


def iterated(items: Iterable[Any]) -> Iterator[Any]:
    """One item after the other. Raises `BadInput` for what has none."""
    try:
        return iter(items)
    except TypeError:
        raise _not_iterable(items, "items=") from None


class Reader:
    """Reads one run's input, item by item, and feeds it."""

    def __init__(
        self,
        feed: Feed,
        books: Books,
        function: str,
        items: Iterator[Any],
        *,
        options: Options,
        slots: int,
        charged: bool = False,
    ) -> None:
        """For so many slots; messages are fewer where they are charged for."""
        self._feed, self._books, self._function, self._items, self._charged = feed, books, function, items, charged
        self._chunk_size, self._batch, self._slots = options.chunk_size, options.batch or 1, slots
        self._failure: BaseException | None = None  # why the input is not whole

    def read_all(self, length: int) -> None:
        """So many items, in the caller's own thread. Raises what their iterator does, and as `Feed.add`."""
        feed, function = self._feed, self._function
        size = self._size(0, length)
        numbers: list[Any] = []  # nobody can alter these, and several are pickled sooner than each alone
        most = min(_NUMBERS, size - 1)
        for item in self._items:
            if type(item) in NUMBERS and len(numbers) < most:
                numbers.append(item)
                continue
            if numbers:
                feed.add_numbers(function, numbers)
                numbers.clear()
            feed.add(function, item)
            if feed.open_items >= size:
                feed.close_chunk()
                size = self._size(feed.fed, length)
            most = min(_NUMBERS, size - feed.open_items - 1)
        if numbers:
            feed.add_numbers(function, numbers)
        self._ended()

    def _size(self, fed: int, length: int) -> int:
        if self._chunk_size is None and self._charged:
            return charged_chunk_items(fed, length, self._slots, self._batch)
        return self._chunk_size or chunk_items(length, self._slots, self._batch)

    def read_rows(self, rows: RowsCounted) -> None:
        """Rows that lie elsewhere: only where is fed. Raises as `Feed.flush`."""
        from starburst_common.data.portions import stretches

        for stretch in stretches(rows.portions, self._chunk_size or chunk_items(len(rows), self._slots, self._batch)):
            self._feed.add_stretch(self._function, stretch)
        self._ended()

    def read_ahead(self) -> None:
        """To the end of the input, its first exception, or the end of the run; for a thread of its own."""
        feed, books = self._feed, self._books
        feed.waits = books.input_waits
        try:
            self._feed_as_wanted()
            if self._failure is None and not self._over:
                self._ended()
        except (RunCancelled, RunStopped):
            books.over_elsewhere()
        except BaseException as error:
            self._failure = error
        if self._failure is not None:
            with suppress(Exception):
                feed.flush()  # the items before it are answered all the same
            books.input_failed(self._failure)
        feed.stop(books.input_lost)

    def _ended(self) -> None:
        self._feed.end()
        self._books.input_ended(self._feed.fed)

    @property
    def _over(self) -> bool:
        return self._books.state.over or self._books.closed

    def _feed_as_wanted(self) -> None:
        feed, began = self._feed, time.monotonic()
        for item in self._given():
            feed.add(self._function, item)
            size = self._chunk_size or growing_chunk_items(feed.fed, self._slots, self._batch)
            late = self._chunk_size is None and time.monotonic() - began > _GATHER_S
            if feed.open_items >= size or late or feed.open_items == 0:
                feed.flush()
                self._await_room(size)
                if self._over:
                    return
                began = time.monotonic()

    def _given(self) -> Iterator[Any]:
        """The items, up to what their iterator raises, whatever that is."""
        try:
            yield from self._items
        except GeneratorExit:  # no more are wanted
            raise
        except BaseException as error:
            self._failure = error

    def _await_room(self, size: int) -> None:
        """Until the workers, and who consumes their answers, have come near enough, or the run is over."""
        books, unread = self._books, _UNREAD_CHUNKS * self._slots * size

        def room() -> bool:
            if self._over:
                return True
            consumed = books.consumed
            near = consumed is None or books.tally.answered - consumed <= unread
            return near and len(books.tally.owed) < _AHEAD_CHUNKS * self._slots + 2

        with books.changed:
            books.changed.wait_for(room)


def _not_iterable(given: object, named: str) -> BadInput:
    return BadInput(f"{named}{given!r:.80} cannot be iterated over: give a list, a range, a generator …")
