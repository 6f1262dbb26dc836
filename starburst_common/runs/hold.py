"""One run as a process holds it: what was asked, its driver once one is needed, and what could not be read here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from starburst_common.errors import BadInput, NotFound, Refused, Unavailable
from starburst_common.limits import NO_LIMITS, Limits
from starburst_common.model import (
    Failure,
    FailureKind,
    Outcome,
    RunId,
    RunState,
    RunStatus,
    Span,
    joined,
    told_spans,
    without,
)
from starburst_common.money.estimate import Estimate
from starburst_common.money.sizing import memory_told
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.runs import remains
from starburst_common.runs.answers import exception_of
from starburst_common.runs.begin import recovered, taken_over
from starburst_common.runs.drive import Driver
from starburst_common.runs.events import RunEvent
from starburst_common.runs.history import history
from starburst_common.runs.limiting import refuse_unkept
from starburst_common.runs.monthly import within_month
from starburst_common.runs.patience import CLOSE_S
from starburst_common.runs.reading import Reading, await_end, deadline_in
from starburst_common.runs.records import Spec
from starburst_common.runs.renumbered import Numbers, numbers_of
from starburst_common.runs.spec import WHOLE, begin_leg, find_spec, is_cancelled, read_spec, under_its_key
from starburst_common.runs.status import READING, stored_status
from starburst_common.runs.tally import Settled

if TYPE_CHECKING:  # what only some runs need is imported with the first that does
    from starburst_common.runs.priced import Expected


class Hold:
    """A run of any process; several may hold one."""

    def __init__(self, backend: Backend, spec: Spec, driver: Driver | None) -> None:
        self.backend, self.spec, self.driver = under_its_key(backend, spec), spec, driver
        self.unread: dict[int, Failure] = {}  #: values that this process was found unable to unpickle
        _holds.add(self)

    def must_be_kept(self) -> None:
        """Raises `NotFound` where the run was removed, or has expired, since we hold it."""
        find_spec(self.backend, self.spec.run)

    @cached_property
    def numbers(self) -> Numbers | None:
        """Which items of its parent a retry runs."""
        return None if self.spec.parent is None else numbers_of(self.backend, self.spec.run)

    def stored_index(self, item: int) -> int:
        """Where an item is among those that were stored for this run. Raises `BadInput`."""
        numbers = self.numbers
        if numbers is None:
            return item
        at = numbers.at(item)
        if at is None:
            raise BadInput(f"run {self.spec.run} ran again items {told_spans(numbers.spans)}, and not {item}")
        return at

    # --- its driver ---------------------------------------------------------------------------------------------------

    def driving(self) -> Driver:
        """Its driver; a new one where there is none, or where that has failed."""
        if self.spec.damage:
            self.must_be_kept()
            try:
                self.spec = read_spec(self.backend, self.spec.run)  # says of which kind it is, if it still is there
                self.backend = under_its_key(self.backend, self.spec)
            except NotFound as error:
                raise Refused(f"run {self.spec.run}: {self.spec.damage}") from error
        if self.driver is None or self.driver.books.error is not None:
            self.must_be_kept()
            self.driver = taken_over(self.backend, self.spec)
        return self.driver

    def resume(self, asked: Limits = NO_LIMITS) -> None:
        """Go on with the items that have no answer; see `Run.resume`."""
        self.must_be_kept()
        run = self.spec.run
        if self.driver is not None and self.driver.books.closed:
            self.driver = None  # somebody may have resumed it since
        driver = self.driving()
        if driver.books.ending or is_cancelled(self.backend, run, driver.leg):
            driver.join(CLOSE_S)
        if not driver.books.state.over or driver.books.state in WHOLE:
            return
        with driver.books.changed:
            tally, missing = driver.books.tally, driver.books.unanswered()
        if not missing:
            if tally.items is None:
                raise BadInput(f"run {run}: {driver.books.reason}: nothing that was stored is left to be run")
            return
        limits = driver.policy.limits.but(asked)
        resources = driver.fleet.spec.resources  # which may be larger ones by now
        refuse_unkept(self.backend, resources, limits, time.time())
        limits = within_month(self.backend, self.spec.tags, resources, limits)
        begin_leg(self.backend, run, driver.leg, forgiven=tally.failed, limits=limits)
        self.driver = None
        driver = self.driving()
        with suppress(Unavailable, NotFound):  # its driver does so, in a while
            driver.hands.send_owed()

    # --- how it stands ------------------------------------------------------------------------------------------------

    def status(self) -> RunStatus:
        """From this process's driver if it has one, else from the store."""
        driver, spec = self.driver, self.spec
        if driver is None or driver.books.error is not None:
            return stored_status(self.backend, spec)
        books = driver.books
        with books.changed:
            damage, tally = books.damage(), books.tally
            ended_well = books.state in (RunState.SUCCEEDED, RunState.FAILED)
            reading = tally.items is None and not books.state.over and not books.input_lost
            return RunStatus(
                id=spec.run,
                state=RunState.DAMAGED if damage and ended_well else books.state,
                label=spec.label,
                items=tally.items,
                answered=tally.answered,
                failed=tally.failed,
                withdrawn=tally.withdrawn,
                workers=books.alive if not books.state.over else 0,
                created_at=spec.created_at,
                ended_at=books.ended_at,
                limit=books.limit,
                spent_usd=books.spent_usd(),
                priced=books.priced,
                budget_usd=driver.policy.budget_usd,
                slot_seconds=tally.slot_seconds,
                rate=books.events.speed.rate(tally.answered, books.clock.time()),
                attempts=tally.attempts,
                memory_mib=tally.memory_mib,
                reason="; ".join(filter(None, [books.reason, damage])) or (READING if reading else ""),
            )

    def status_here(self) -> RunStatus:
        """The same, with the values that do not unpickle in this process as failures."""
        status = self.status()
        if not self.unread:
            return status
        state = RunState.FAILED if status.state is RunState.SUCCEEDED else status.state
        return replace(status, state=state, failed=status.failed + len(self.unread))

    def estimate(self, status: RunStatus, *, listed: bool = False) -> Estimate:
        """What it costs so far, or would; see `cost_of`."""
        from starburst_common.runs.priced import cost_of

        return cost_of(self.backend, self.spec, status, listed=listed)

    def expected(self, status: RunStatus) -> Expected | None:
        """What it was to cost, by its function's runs of a month before it; None where there is none."""
        from starburst_common.runs.priced import expected_of

        return expected_of(self.backend, self.spec, status.items or 0)

    def events(self) -> list[RunEvent]:
        """What has happened to it; see `Run.events`."""
        if self.driver is None:
            return history(self.backend, self.spec)
        with self.driver.books.changed:
            seen = self.driver.books.events.since(self.driver.hands.since)
        return history(self.backend, self.spec, self.driver.leg, seen)

    # --- its answers --------------------------------------------------------------------------------------------------

    def answers(self, *, ordered: bool, deadline: float | None, stop_early: bool) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of each item; see `Reading`."""
        return self.reading(deadline=deadline, stop_early=stop_early).answers(ordered=ordered)

    def reading(self, *, deadline: float | None, stop_early: bool) -> Reading:
        """One pass over its answers."""
        return Reading(
            self.driving(), numbers=self.numbers, unread=self.unread, deadline=deadline, stop_early=stop_early
        )

    def values(self, *, ordered: bool, timeout: float | None, keep: bool) -> list[Any]:
        """Values, failures as exceptions in their places with `keep`, else the first one raised."""
        values, deadline = list[Any](), deadline_in(timeout)
        reading = self.reading(deadline=deadline, stop_early=not keep)
        for _, some in reading.together(ordered=ordered):
            if isinstance(some[0], Failure):
                some = [exception_of(reading.told(some[0]), self.spec.run)]
                if not keep:
                    await_end(self.driving(), deadline)
                    raise some[0]
            values += some
        return values

    def failures(self) -> list[Failure]:
        """Those so far."""
        found: Iterator[Outcome]
        if self.driver is None:
            found = remains.stored_outcomes(self.backend, self.spec)
        else:
            driver, books = self.driver, self.driver.books
            with books.changed:
                spans = [settled.span for settled in books.tally.spans() if settled.failed]
            found = (outcome for span in spans if (outcome := driver.outcome(span)) is not None)
        told = [each for outcome in found for each in outcome.failures if each.kind is not FailureKind.CANCELLED]
        failures = [*told, *self.unread.values()]
        if (numbers := self.numbers) is None:
            return failures
        return [replace(failure, index=numbers.of(failure.index)) for failure in failures]

    def settled(self) -> list[Settled]:
        """Its settled chunks, in the order of the items: from the driver, if there is one, else from the store."""
        books = (self.driver or recovered(self.backend, self.spec)).books
        with books.changed:
            found = books.tally.spans()
        if (numbers := self.numbers) is None:
            return found
        return [
            replace(each, answered=tuple(part for span in each.answered for part in numbers.spans_of(span)))
            for each in found
        ]

    def answered(self) -> list[Span]:
        """The items that it has answered, without those whose answers were found here to be damaged for good."""
        books = (self.driver or recovered(self.backend, self.spec)).books
        with books.changed:
            lost = books.lost()
            found = [left for part, _ in books.tally.answers_from(0) for left in without(part, lost)]
        numbers = self.numbers
        return joined(found if numbers is None else [part for span in found for part in numbers.spans_of(span)])

    def publish(self, status: RunStatus, failures: Sequence[Failure], retries: Sequence[RunId]) -> str:
        """Write its page, in place of an earlier one; the URL at which a person can open it."""
        from starburst_common.runs.report import report_page  # with the first page

        spec, cost = self.spec, self.estimate(status)
        page = report_page(
            status,
            about={
                "function": spec.function,
                "tags": ", ".join(f"{name}={value}" for name, value in spec.tags.items()),
                "workers": f"{spec.workers:,} at most, each {spec.resources.size}",
                "backend": self.backend.name,
                "retry of": spec.parent or "",
                "run again by": ", ".join(retries),
            },
            estimate=cost,
            expected=self.expected(status),
            memory=memory_told(spec.resources, status.memory_mib, cost),
            settled=self.settled(),
            failures=failures,
            events=self.events(),
            now=time.time(),
        )
        return self.backend.store.publish(RunNames(spec.run).report, page)


_holds: WeakSet[Hold] = WeakSet()


def _hold_as_attached() -> None:
    """A fork has no driver's thread: it drives on from what is stored, as any process does."""
    for hold in list(_holds):
        hold.driver = None


os.register_at_fork(after_in_child=_hold_as_attached)
