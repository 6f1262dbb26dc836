"""Outcomes in; values and exceptions out, item by item."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import Any

from starburst_common.buckets import Buckets
from starburst_common.errors import ItemFailed
from starburst_common.model import Failure, FailureKind, Outcome, RunId
from starburst_common.pickling.raised import named, note, printed, put
from starburst_common.pickling.unpickled import is_interrupt
from starburst_common.runs.failures import UNPICKLABLE, Reason, raised_for
from starburst_common.wire.items import read_frame


class RemoteTraceback(Exception):
    """The traceback as it was printed on the worker: the cause of an item's exception."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def answers(
    outcome: Outcome, unread: dict[int, Failure] | None = None, buckets: Buckets | None = None
) -> Iterator[tuple[int, list[Any]]]:
    """What the outcome answers, in the order of the items: some values together, with the index of the first.

    A `Failure` is alone in its list. A value that does not unpickle here is one too, and is put down in `unread`.
    `buckets` as of `read_frame`.
    """
    unread = {} if unread is None else unread
    failures = {failure.index: failure for failure in outcome.failures}
    starts = sorted([(batch.span.lo, batch) for batch in outcome.batches] + [(i, None) for i in failures])
    for first, batch in starts:
        if batch is None:
            yield first, [failures[first]]
            continue
        frame = read_frame(batch.frame, batch.span.size, buckets)
        values, at = frame.after(0), 0
        while at < batch.span.size:
            index = first + at
            try:
                some = next(values)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                unread[index] = _unreadable(index, error)
                some, values = [unread[index]], frame.after(at + 1)
            yield index, some
            at += len(some)


def answer_in(outcomes: Iterable[Outcome], index: int, buckets: Buckets | None) -> tuple[Any] | None:
    """One item's value or `Failure`, alone in a tuple, from the outcomes that may have it; None if none has."""
    for outcome in outcomes:
        for failure in outcome.failures:
            if failure.index == index:
                return (failure,)
        for batch in outcome.batches:
            if batch.span.lo <= index < batch.span.hi:
                try:
                    return (read_frame(batch.frame, batch.span.size, buckets)[index - batch.span.lo],)
                except BaseException as error:
                    if is_interrupt(error):
                        raise
                    return (_unreadable(index, error),)
    return None


def _unreadable(index: int, error: BaseException) -> Failure:
    """A value that the worker could unpickle, and this process cannot: it lacks a class, say."""
    message = f"the result does not unpickle in this process: {named(error)}"
    return Reason(FailureKind.USER, UNPICKLABLE, message, printed(error)).of(index)


def exception_of(failure: Failure, run: RunId | None = None) -> Exception:
    """A failure as the exception to raise: the user's own where it could be sent, else an `ItemFailed`.

    Its `__cause__` shows the remote traceback; where it has a cause of its own, the last cause does. A
    note tells the item and its run, if that is given.
    """
    if (error := _unpickled(failure)) is None:
        kind = raised_for(failure)
        name = failure.error if kind is ItemFailed or not failure.message else ""
        error = kind(": ".join(filter(None, [f"item {failure.index}", name, failure.message])))
        error.index = failure.index
    if run is not None:
        note(error, f"item {failure.index} of {run}: `starburst replay {run} {failure.index}` makes the call again")
    return with_traceback(error, failure.traceback)


def with_traceback(error: Exception, text: str) -> Exception:
    """The exception, with the worker's traceback as its cause, or as that of the last that it came from."""
    last: BaseException = error
    seen = {id(last)}
    while (origin := last.__cause__ or (None if last.__suppress_context__ else last.__context__)) is not None:
        if id(origin) in seen:
            break
        seen.add(id(origin))
        last = origin
    if text:
        put(last, __cause__=RemoteTraceback(text))
    return error


def _unpickled(failure: Failure) -> Exception | None:
    if failure.exception is None or failure.kind not in (FailureKind.USER, FailureKind.OOM):
        return None
    try:
        found = pickle.loads(failure.exception)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return None
    return found if isinstance(found, Exception) else None
