"""A run under way in; which outcome answers next out, in the order of the items or as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from starburst_common.model import RunState, Span
from starburst_common.runs.drive import Driver


def in_order(driver: Driver, deadline: float | None, *, stop_early: bool) -> Iterator[tuple[Span, Span]]:
    """An outcome's span and the part of it that answers next, item after item, until nothing more will come.

    A run that ended early may have gaps, which are left out; with `stop_early` a stopped run ends it at once.
    `deadline` is on the monotonic clock. Raises TimeoutError.
    """
    index = 0
    while True:
        found = _answer_at(driver, deadline, index)
        if stop_early and driver.state is RunState.STOPPED:
            return
        if found is None:
            break
        part, outcome = found
        yield outcome, part
        with driver.changed:
            if driver.ledger.answer_at(index) == found:  # else it was found to be damaged, and another one is to come
                index = part.hi
    with driver.changed:
        beyond = driver.ledger.answers_from(index)  # nothing more will come
    yield from ((outcome, part) for part, outcome in beyond)


def as_settled(driver: Driver, deadline: float | None) -> Iterator[tuple[Span, Span]]:
    """The same for each outcome as it comes, whole."""
    seen = 0
    while spans := _settled_after(driver, deadline, seen):
        seen += len(spans)
        yield from ((span, span) for span in spans)


def _answer_at(driver: Driver, deadline: float | None, index: int) -> tuple[Span, Span] | None:
    ledger = driver.ledger
    with driver.changed:
        _wait(driver, deadline, lambda: ledger.answer_at(index) is not None or ledger.complete)
        return ledger.answer_at(index)


def _settled_after(driver: Driver, deadline: float | None, seen: int) -> list[Span]:
    with driver.changed:
        _wait(driver, deadline, lambda: len(driver.order) > seen or driver.ledger.complete)
        return driver.order[seen:]


def _wait(driver: Driver, deadline: float | None, ready: Callable[[], bool]) -> None:
    """With `driver.changed` held: until `ready`, or nothing more will come."""
    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    if not driver.changed.wait_for(lambda: ready() or driver.state.over or driver.closed, left):
        ledger = driver.ledger
        raise TimeoutError(f"run {driver.run}: {ledger.answered} of {ledger.items} items answered in time; it goes on")
