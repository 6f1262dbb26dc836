"""A run under way in; which outcome answers next out, in the order of the items or as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from starburst_common.model import RunState, Span
from starburst_common.runs.books import Books


def in_order(books: Books, deadline: float | None, *, stop_early: bool) -> Iterator[tuple[Span, Span]]:
    """An outcome's span and the part of it that answers next, item after item, until nothing more will come.

    A run that ended early may have gaps, which are left out; with `stop_early` a stopped run ends it at once.
    `deadline` is on the monotonic clock. Raises TimeoutError.
    """
    index = 0
    while True:
        found = _answer_at(books, deadline, index)
        if stop_early and books.state is RunState.STOPPED:
            return
        if found is None:
            break
        part, outcome = found
        yield outcome, part
        with books.changed:
            if books.tally.answer_at(index) == found:  # else it was found to be damaged, and another one is to come
                index = part.hi
    with books.changed:
        beyond = books.tally.answers_from(index)  # nothing more will come
    yield from ((outcome, part) for part, outcome in beyond)


def as_settled(books: Books, deadline: float | None) -> Iterator[tuple[Span, Span]]:
    """The same for each outcome as it comes, whole."""
    seen = 0
    while spans := _settled_after(books, deadline, seen):
        seen += len(spans)
        yield from ((span, span) for span in spans)


def _answer_at(books: Books, deadline: float | None, index: int) -> tuple[Span, Span] | None:
    tally = books.tally
    with books.changed:
        _wait(books, deadline, lambda: tally.answer_at(index) is not None or tally.complete)
        return tally.answer_at(index)


def _settled_after(books: Books, deadline: float | None, seen: int) -> list[Span]:
    with books.changed:
        _wait(books, deadline, lambda: len(books.order) > seen or books.tally.complete)
        return books.order[seen:]


def _wait(books: Books, deadline: float | None, ready: Callable[[], bool]) -> None:
    """With `books.changed` held: until `ready`, or nothing more will come."""
    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    if not books.changed.wait_for(lambda: ready() or books.state.over or books.closed, left):
        tally = books.tally
        raise TimeoutError(f"run {books.run}: {tally.answered} of {tally.items} items answered in time; it goes on")
