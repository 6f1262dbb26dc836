"""A run that is driven in; its answers out, in their order or as they come, and then why no more come, if some lack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from starburst_common.errors import (
    AnswersLost,
    InputLost,
    NotFound,
    Refused,
    RunCancelled,
    RunStopped,
    StarburstError,
)
from starburst_common.model import Failure, RunState, Span, without
from starburst_common.runs.answers import answers
from starburst_common.runs.drive import Driver
from starburst_common.runs.follow import as_settled, in_order
from starburst_common.runs.patience import CLOSE_S
from starburst_common.runs.renumbered import Numbers
from starburst_common.runs.spec import find_spec, note_damage, read_spec


def await_end(driver: Driver, deadline: float | None) -> None:
    """Who has its last answer leaves nothing of it: its driver closes the books, and stops what only it needs."""
    if driver.books.ending:
        driver.join(CLOSE_S if deadline is None else min(deadline - time.monotonic(), CLOSE_S))


def deadline_in(timeout: float | None) -> float | None:
    """On the monotonic clock, where there is one."""
    return None if timeout is None else time.monotonic() + timeout


class Reading:
    """One pass over a run's answers.

    `numbers` are those of a retry's items, `unread` collects failures of values that do not unpickle here.
    `deadline` is on the monotonic clock; with `stop_early` a stopped run gives its first failure and no more.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        numbers: Numbers | None,
        unread: dict[int, Failure],
        deadline: float | None,
        stop_early: bool,
    ) -> None:
        self._driver, self._books, self._numbers, self._unread = driver, driver.books, numbers, unread
        self._deadline, self._stop_early = deadline, stop_early

    def answers(self, *, ordered: bool) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of each item, then why some lack, raised. Raises TimeoutError."""
        for first, values in self.together(ordered=ordered):
            if self._numbers is None:
                yield from enumerate(values, first)
            else:
                yield from ((self._numbers.of(index), self.told(value)) for index, value in enumerate(values, first))

    def together(self, *, ordered: bool) -> Iterator[tuple[int, list[Any]]]:
        """The same, some values at once, with where the first is stored; a `Failure` is alone in its list."""
        books, deadline, buckets = self._books, self._deadline, self._driver.backend.buckets
        books.consumed = books.consumed or 0
        if ordered:
            follow = in_order(books, deadline, stop_early=self._stop_early)
        else:
            follow = as_settled(books, deadline)
        given: list[Span] = []
        for settled, part in follow:
            self._driver.hands.reads_on()
            outcome = self._driver.outcome(settled, deadline)
            if outcome is None:
                continue
            parts = without(part, given) if books.tally.reopened else (part,)
            given += without(part, [chunk.span for chunk in outcome.rest])
            for first, values in answers(outcome, self._unread, buckets):
                for lo, hi in parts:
                    lo, hi = max(lo, first), min(hi, first + len(values))
                    if lo < hi:
                        yield lo, values if hi - lo == len(values) else values[lo - first : hi - first]
            books.consumed += sum(span.size for span in parts)
            values = []  # they may be the caller's alone, and this waits for the next ones
            with books.changed:
                books.changed.notify_all()  # a feed may wait for its consumer
        await_end(self._driver, deadline)
        yield from self._what_lacks()

    def told(self, value: Any) -> Any:
        """The same, a failure with its item's number as the user knows it."""
        if self._numbers is None or not isinstance(value, Failure):
            return value
        return replace(value, index=self._numbers.of(value.index))

    def _what_lacks(self) -> Iterator[tuple[int, list[Any]]]:
        """Raises why not every item has an answer; the first failure, which is raised then, if that is the cause."""
        driver, books = self._driver, self._books
        if books.error is not None and not books.tally.complete:
            raise books.error
        if books.input_error is not None:
            raise books.input_error
        if not books.gone and (lost := books.lost()):
            self._raise_lost(lost)
        if books.refused and not books.gone:
            raise Refused(books.refused)
        if not books.state.over or (books.state is not RunState.STOPPED and books.tally.complete):
            return
        if self._stop_early and (first := self._first_failure()) is not None:
            yield first.index, [first]  # which is raised; not here, where a StopIteration would be no more than an end
            return
        ended: dict[RunState, type[StarburstError]] = {RunState.CANCELLED: RunCancelled}
        kind = ended.get(books.state, InputLost if books.input_lost else RunStopped)
        raise kind(f"run {driver.run}: {books.reason}; {self._what_is_kept()}")

    def _raise_lost(self, lost: list[Span]) -> None:
        driver, damage = self._driver, self._books.damage()
        find_spec(driver.backend, driver.run)  # raises `NotFound` where it was removed
        note_damage(driver.backend, driver.run, driver.leg, damage)
        why = next(iter(self._books.damaged.values()), "they were to be answered again")
        raise AnswersLost(
            f"run {driver.run}: {damage}: {why}. It is over, so they are not run again: start a new run for "
            f"them, or make one call here with `starburst replay {driver.run} {lost[0].lo}`; "
            "iter_completed() gives the others"
        )

    def _what_is_kept(self) -> str:
        """How many items were answered, and where the answers are: in the store, if whoever attaches can read them."""
        answered = f"{self._books.tally.answered} items were answered"
        try:
            read_spec(self._driver.backend, self._driver.run)
        except (NotFound, Refused):
            return f"{answered}: start a new run for the others"
        return f"{answered}: attach({self._driver.run!r}).iter_completed() gives them"

    def _first_failure(self) -> Failure | None:
        with self._books.changed:
            tally = self._books.tally
            first = tally.first_failure
            spans = [settled.span for settled in tally.spans() if settled.failed and settled.first_failure == first]
        outcome = self._driver.outcome(spans[0], self._deadline) if spans else None
        failures = outcome.failures if outcome is not None else ()
        return next((failure for failure in failures if failure.index == first), None)
