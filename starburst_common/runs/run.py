"""A run as its user holds it: status, results in order or as they come, failures, cancel, extend, remove."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from types import MappingProxyType
from typing import Any

from starburst_common.code.pack import pack_function
from starburst_common.errors import (
    AnswersLost,
    BadInput,
    Exists,
    InputLost,
    NotFound,
    Refused,
    RunCancelled,
    RunStopped,
    StarburstError,
    Unavailable,
)
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import (
    Failure,
    FailureKind,
    FleetId,
    Outcome,
    RunId,
    RunState,
    RunStatus,
    Span,
    WorkerPhase,
    WorkerState,
    joined,
    told_spans,
    without,
)
from starburst_common.money.estimate import Estimate, estimate_of
from starburst_common.names import FLEETS, RUNS, RunNames, holders, ids
from starburst_common.names import run_id as run_id_of
from starburst_common.offered import OPTIONS
from starburst_common.options import Options, refuse_unknown
from starburst_common.phrases import our_log, told
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.resources import Resources
from starburst_common.rows import is_number
from starburst_common.runs.answers import answers, exception_of
from starburst_common.runs.drive import Driver, mark_cancelled
from starburst_common.runs.follow import as_settled, in_order
from starburst_common.runs.live import live_prints
from starburst_common.runs.renumbered import Numbers, numbers_of
from starburst_common.runs.report import report_page
from starburst_common.runs.retry import retries_of, start_retry, style_of
from starburst_common.runs.sign import read_sign
from starburst_common.runs.spec import (
    WHOLE,
    Leg,
    Spec,
    begin_leg,
    expires_at,
    find_leg,
    is_cancelled,
    keep_longer,
    kept_longer_s,
    note_damage,
    read_end,
)
from starburst_common.runs.stored import find_outcome
from starburst_common.runs.tally import Settled
from starburst_common.tolerance import Tolerance
from starburst_common.wire.documents import document
from starburst_common.wire.seals import seal

_log = our_log()
CLOSE_S = 30.0  #: who cancels a run, or has its last answer, waits so long for its end at most
_LONGEST_S = 36_500 * 86_400.0
READING = "its input is still being read"


class Run:
    """One map call. Made by `Cluster.start` or `attach`; any process may hold one, several at once too."""

    def __init__(self, backend: Backend, spec: Spec, driver: Driver | None) -> None:
        self._backend, self._spec, self._driver = backend, spec, driver
        self._names = RunNames(spec.run)
        self.consumed: int | None = None  #: items handed out, once somebody iterates
        self._unread: dict[int, Failure] = {}  # values that this process was found unable to unpickle

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status().state}>"

    @property
    def id(self) -> RunId:
        """The name by which any process can attach to it."""
        return self._spec.run

    @property
    def label(self) -> str:
        """The label it was given."""
        return self._spec.label

    @property
    def function(self) -> str:
        """The name of the function it calls."""
        return self._spec.function

    @property
    def created_at(self) -> float:
        """When it began (wall clock, seconds)."""
        return self._spec.created_at

    @property
    def tags(self) -> dict[str, str]:
        """The tags it was given."""
        return dict(self._spec.tags)

    @property
    def workers(self) -> int:
        """How many workers it may have."""
        return self._spec.workers

    @property
    def resources(self) -> Resources:
        """What each of its workers has."""
        return self._spec.resources

    @property
    def expires_at(self) -> float | None:
        """When it may be pruned, once it has ended; None while it goes on. Raises `Refused` if that cannot be read."""
        return expires_at(self._backend, self.id, find_leg(self._backend, self._spec).number)

    def status(self) -> RunStatus:
        """How it stands, from this process's driver if it has one, else from the store."""
        status = self._status()
        if not self._unread:
            return status
        state = RunState.FAILED if status.state is RunState.SUCCEEDED else status.state
        return replace(status, state=state, failed=status.failed + len(self._unread))

    def _status(self) -> RunStatus:
        driver = self._driver
        if driver is None or driver.books.error is not None:
            return stored_status(self._backend, self._spec)
        with driver.books.changed:
            tally = driver.books.tally
            damage = driver.books.damage()
            ended_well = driver.books.state in (RunState.SUCCEEDED, RunState.FAILED)
            reading = tally.items is None and not driver.books.state.over and not driver.books.input_lost
            return RunStatus(
                id=self.id,
                state=RunState.DAMAGED if damage and ended_well else driver.books.state,
                label=self._spec.label,
                items=tally.items,
                answered=tally.answered,
                failed=tally.failed,
                workers=driver.books.alive if not driver.books.state.over else 0,
                created_at=self._spec.created_at,
                ended_at=driver.books.ended_at,
                slot_seconds=tally.slot_seconds,
                reason="; ".join(filter(None, [driver.books.reason, damage])) or (READING if reading else ""),
            )

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Wait until it is over and cleaned up, at most `timeout` seconds; the status then."""
        driver = self._driving()
        with driver.books.changed:
            driver.books.changed.wait_for(lambda: driver.books.closed, timeout)
        self._check_driver(driver)
        return self.status()

    def results(self, *, timeout: float | None = None, return_exceptions: bool | None = None) -> list[Any]:
        """Every value, in the order of the items; what `retry_failed` answered in place of what had failed.

        Args:
            timeout: seconds to wait at most.
            return_exceptions: put exceptions in place of values, and `ItemCancelled` for items that have no answer
                since the run ended early; None does as the run was started, and raises where answers lack.

        Raises:
            The first failing item's own exception (unless they are returned), with the remote traceback as its cause.
            RunStopped, RunCancelled: it ended before every item was answered.
            TimeoutError: it is not over in time; it goes on.
        """
        keep = self._spec.options["return_exceptions"] if return_exceptions is None else return_exceptions
        if not return_exceptions and len(self._family()) == 1:
            return self._values(ordered=True, timeout=timeout, keep=keep)
        values = []
        for _, value in self.whole(timeout=timeout):
            if isinstance(value, Failure):
                if not keep or (return_exceptions is None and value.kind is FailureKind.CANCELLED):
                    raise exception_of(value, self.id)
                value = exception_of(value, self.id)
            values.append(value)
        return values

    def whole(self, *, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of every item, in their order: those of its parent, and of retries, included.

        A retry's value is in place of what had failed. An item without an answer, since the run ended early, is a
        `Failure` of the kind CANCELLED. Raises as `iter_completed`, but for that.
        """
        family, deadline = self._family(), _deadline(timeout)
        lost: list[InputLost] = []
        answered = heapq.merge(*(each._till_its_end(age, deadline, lost) for age, each in enumerate(family)))
        following = 0
        for index, group in groupby(answered, key=lambda each: each[0]):
            best: list[Any] = []
            for _, _, answer in group:  # oldest first: a later failure tells more than an earlier one, a value most
                if not best or isinstance(best[0], Failure):
                    best = [answer]
            yield from family[0]._unanswered(following, index)
            yield index, best[0]
            following = index + 1
        if lost:
            raise lost[0]
        tally = family[0]._driving().books.tally
        yield from family[0]._unanswered(following, tally.planned_items if tally.items is None else tally.items)

    def _till_its_end(self, age: int, deadline: float | None, lost: list[InputLost]) -> Iterator[tuple[int, int, Any]]:
        try:
            for index, value in self._iterate(ordered=True, deadline=deadline, stop_early=False):
                yield index, age, value
        except InputLost as error:
            lost.append(error)
        except (RunStopped, RunCancelled):
            pass

    def _unanswered(self, lo: int, hi: int) -> Iterator[tuple[int, Failure]]:
        """Why these have no answer, as the run ended."""
        status = self.status()
        error = "RunCancelled" if status.state is RunState.CANCELLED else "RunStopped"
        for index in range(lo, hi):
            why = f"it had no turn: run {self.id}: {status.reason}"
            yield index, Failure(index=index, kind=FailureKind.CANCELLED, error=error, message=why)

    def _family(self) -> list[Run]:
        """The run whose items these are, and those that ran some of them again, oldest first."""
        parent = self._spec.parent
        if parent is None:
            if self._driver is not None and self._driver.books.state in (RunState.RUNNING, RunState.SUCCEEDED):
                return [self]
            first = self
        else:
            first = Run(self._backend, Spec.read(self._backend, parent), None)
        retries = retries_of(self._backend, first.id)
        return [first, *(self if spec.run == self.id else Run(self._backend, spec, None) for spec in retries)]

    def retries(self) -> list[RunId]:
        """The runs that ran again what failed in this one, oldest first."""
        return [spec.run for spec in retries_of(self._backend, self.id)]

    def unanswered(self) -> list[Span]:
        """The items that have no answer so far, neither here nor in a retry, as spans."""
        family = self._family()
        return list(
            without(Span(0, recovered(self._backend, family[0]._spec).books.tally.planned_items), _answered(family))
        )

    def retry_failed(self, fn: Callable[..., Any] | None = None, **options: Any) -> Run:
        """Run again what failed or has no answer, in a run of its own; this run, if that is nothing.

        The new run's items keep their numbers, and its answers merge: `results` of either gives all, `failures` of this
        one what still fails. Retries of a retry are retries of the first run.

        Args:
            fn: called in place of the function as it was stored, as after a fix; it takes the same arguments.
            options: as of `starburst_map`; what is not given is as it was for this run: workers, cpu, memory, slots,
                spot, image, retries, retry_delay, timeout, seed (by the items' numbers there), label and tags.

        Raises:
            BadInput: the run, or a retry of it, goes on; or an option is wrong.
        """
        refuse_unknown(options, OPTIONS)
        if "retry_on" in options and fn is None:
            raise BadInput("retry_on goes with a function: give fn as well")
        family = self._family()
        for each in family:
            each._must_be_kept()
            if not each.status().state.over:
                raise BadInput(
                    f"run {each.id} goes on: wait for its end, or cancel it, before what failed is run again"
                )
        first = family[0]
        failed = [Span(failure.index, failure.index + 1) for failure in first.failures()]
        todo = joined([*failed, *first.unanswered()])
        if not todo:
            return first
        asked = Options.of(**{**_as_asked(first._spec, options), **options})
        packed = None
        if fn is not None:
            packed = pack_function(
                fn,
                style=style_of(self._backend, first.id),
                retry_on=asked.retry_on,
                initializer=asked.initializer,
                initargs=asked.initargs,
            )
        name = first.function if fn is None else getattr(fn, "__qualname__", repr(fn))
        until = first.expires_at or 0.0
        if (short := time.time() + self._backend.keep_s - until) > 0:
            first.extend(short)  # as long as what is about to answer in its place
        spec, driver = start_retry(self._backend, first._spec, todo, asked, packed, name)
        return Run(self._backend, spec, driver)

    @property
    def parent(self) -> RunId | None:
        """The run whose failed items it runs again."""
        return self._spec.parent

    @cached_property
    def _numbers(self) -> Numbers | None:
        return None if self._spec.parent is None else numbers_of(self._backend, self.id)

    def _told(self, failure: Failure) -> Failure:
        return failure if self._numbers is None else replace(failure, index=self._numbers.of(failure.index))

    def stored_index(self, item: int) -> int:
        """Where an item is among those that were stored for this run. Raises `BadInput`."""
        if self._numbers is None:
            return item
        at = self._numbers.at(item)
        if at is None:
            raise BadInput(f"run {self.id} ran again items {told_spans(self._numbers.spans)}, and not {item}")
        return at

    def answers(self, *, ordered: bool = False) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of each item as it is answered; a function may well return an exception."""
        return self._iterate(ordered=ordered, deadline=None, stop_early=False)

    def unordered(self) -> list[Any]:
        """Every value, in the order in which they were answered; else as `results`."""
        return self._values(ordered=False, timeout=None, keep=self._spec.options["return_exceptions"])

    def iter_completed(self, *, ordered: bool = False, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Index and value (or exception) of each item as it is answered; with `ordered`, in the order of the items.

        Holds one chunk's values at a time. Raises as `results` does once nothing more will come.
        """
        for index, value in self._iterate(ordered=ordered, deadline=_deadline(timeout), stop_early=False):
            yield index, exception_of(value, self.id) if isinstance(value, Failure) else value

    def failures(self) -> list[Failure]:
        """The failures so far, in the order of the items; without those that a retry answered."""
        family = [self] if self._spec.parent is not None else self._family()
        found = {failure.index: failure for failure in family[0]._failures()}
        for each in family[1:]:
            for span in _answered([each]):
                for index in range(span.lo, span.hi):
                    found.pop(index, None)
            found |= {failure.index: failure for failure in each._failures()}
        return sorted(found.values(), key=lambda failure: failure.index)

    def _failures(self) -> list[Failure]:
        found: Iterable[Outcome]
        if self._driver is None:
            found = self._stored_outcomes()
        else:
            with self._driver.books.changed:
                spans = [settled.span for settled in self._driver.books.tally.spans() if settled.failed]
            found = [outcome for span in spans if (outcome := self._driver.outcome(span)) is not None]
        told = [each for outcome in found for each in outcome.failures if each.kind is not FailureKind.CANCELLED]
        return [self._told(failure) for failure in [*told, *self._unread.values()]]

    def estimate(self, status: RunStatus) -> Estimate:
        """What its work so far costs on Fargate, or would."""
        return estimate_of(status, self.resources, self.workers)

    def tolerated(self, status: RunStatus) -> bool:
        """Whether its failures so far are within what was named as tolerated; False where nothing was."""
        limit = self._spec.policy.tolerate
        return limit != Tolerance() and limit.allows(failed=status.failed, items=status.items or status.answered)

    def report(self) -> str:
        """Write a page on how it stands, in place of an earlier one; the URL at which a person can open it.

        It is kept as long as the run: a file, or an object that AWS's console shows to who may read the site's bucket.
        """
        self._must_be_kept()
        status = self.status()
        page = report_page(
            status,
            about={
                "function": self.function,
                "tags": ", ".join(f"{name}={value}" for name, value in self.tags.items()),
                "workers": f"{self.workers:,} at most, each {self.resources.size}",
                "backend": self._backend.name,
            },
            estimate=self.estimate(status),
            settled=self._settled(),
            failures=self.failures() if status.failed else [],
            now=time.time(),
        )
        return self._backend.store.publish(self._names.report, page)

    def logs(self, item: int | None = None, *, follow: bool = False) -> Iterator[tuple[int, str]]:
        """What items printed or logged, with their index, of the settled chunks; of one item only if asked.

        With `follow` as they print it, in pieces of whole lines, each line once, until the run ends. Its workers then
        tell every second what is new (on AWS they begin with that within 15 s), for as long as it is read; the run
        itself is left alone, and is not driven by it. Of what prints faster than 64 KB a second, parts are left out.
        """
        numbers, at = self._numbers, item
        if numbers is not None and item is not None and (at := numbers.at(item)) is None:
            return
        for index, text in live_prints(self._backend, self._spec) if follow else self._settled_prints(at):
            if at is None or index == at:
                yield index if numbers is None else numbers.of(index), text

    def _settled_prints(self, item: int | None) -> Iterator[tuple[int, str]]:
        for outcome in self._stored_outcomes(item):
            yield from sorted(outcome.logs.items())

    def cancel(self) -> None:
        """End the run: workers give up its items, what was answered stays. Safe from any process, and twice."""
        if self._driver is not None and not self._driver.books.closed:
            self._driver.cancel()
            self._driver.join(CLOSE_S)
        elif self._spec.damage:
            self._cancel_damaged()
        elif (leg := find_leg(self._backend, self._spec)).end is None:
            self._must_be_kept()
            mark_cancelled(self._backend, self.id, leg.number)
            self.wait(CLOSE_S)

    def resume(self) -> None:
        """Go on with the items that have no answer, in this process: the run is cancelled, stopped, or has no driver.

        It keeps its id. Answers stay as they are, failures too (`retry_failed` runs those again), and what had failed
        before no longer counts as not tolerated. A run that goes on is driven from here as well; one whose items are
        all answered stays as it is. Raises `BadInput` where what is missing is input that was never stored.
        """
        self._must_be_kept()
        if self._driver is not None and self._driver.books.closed:
            self._driver = None  # somebody may have resumed it since
        driver = self._driving()
        if driver.books.ending or is_cancelled(self._backend, self.id, driver.leg):
            driver.join(CLOSE_S)
        if not driver.books.state.over or driver.books.state in WHOLE:
            return
        with driver.books.changed:
            tally, missing = driver.books.tally, driver.books.unanswered()
        if not missing:
            if tally.items is None:
                raise BadInput(f"run {self.id}: {driver.books.reason}: nothing that was stored is left to be run")
            return
        begin_leg(self._backend, self.id, driver.leg, forgiven=tally.failed)
        self._driver = None
        driver = self._driving()
        with suppress(Unavailable, NotFound):  # its driver does so, in a while
            driver.hands.send_owed()

    def extend(self, seconds: float) -> float:
        """Keep the run `seconds` longer than it would be; returns until when at least (wall clock)."""
        if not is_number(seconds) or not 0 < seconds <= _LONGEST_S:
            raise BadInput(f"seconds={told(seconds)}: give seconds above 0, at most {_LONGEST_S:.0f}: a hundred years")
        self._must_be_kept()
        keep_longer(self._backend, self.id, seconds)
        until = self.expires_at
        return time.time() + self._backend.keep_s + kept_longer_s(self._backend, self.id) if until is None else until

    def remove(self) -> None:
        """Remove the run and all that is kept of it. Raises `BadInput` while it goes on: cancel it first."""
        self._must_be_kept()
        if self._goes_on():
            raise BadInput(f"run {self.id} goes on: cancel it first, as by `starburst cancel {self.id}`")
        for fleet in self._fleets():
            self._backend.store.delete([holders(fleet) + self.id])  # pruning closes it if nobody else needs it
        for leg in range(self._leg().number + 1):
            self._backend.queue.drop(RunNames(self.id, leg).notices)
        self._backend.store.delete_folder(self._names.folder)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _must_be_kept(self) -> None:
        """Raises `NotFound` where the run was removed, or has expired, since we have this handle."""
        Spec.find(self._backend, self.id)

    def _leg(self) -> Leg:
        """Its last leg, also where nobody can read how that began."""
        try:
            return find_leg(self._backend, self._spec)
        except Refused:
            last = self._names.newest({*self._backend.store.list(self._names.folder)}).leg
            return Leg(number=last, fleet=FleetId(""), end=read_end(self._backend, self.id, last))

    def _goes_on(self) -> bool:
        """Whether it has not ended; a damaged one also has when it was cancelled, or no worker is there for it."""
        leg = self._leg()
        if leg.end is not None:
            return False
        if not self._spec.damage and leg.fleet:
            return True
        if is_cancelled(self._backend, self.id, leg.number):
            return False
        return any(worker.phase is not WorkerPhase.STOPPED for worker in self._workers())

    def _fleets(self) -> list[FleetId]:
        """The fleets that are held for it; found so, a damaged run need not say which."""
        store = self._backend.store
        fleets = [FleetId(name) for name in ids(store.folders(FLEETS))]
        return [fleet for fleet in fleets if holders(fleet) + self.id in store.list(holders(fleet))]

    def _workers(self) -> list[WorkerState]:
        """The workers of the fleets that are held for it."""
        return [worker for fleet in self._fleets() for worker in self._backend.compute.workers(fleet)]

    def _cancel_damaged(self) -> None:
        """Nobody can drive it: workers are told to leave it alone, and if it has no end, it has one now."""
        names = RunNames(self.id, self._leg().number)
        mark_cancelled(self._backend, self.id, names.leg)
        end: dict[str, Any] = {"state": RunState.CANCELLED, "reason": "cancelled", "ended_at": time.time()}
        counts = {"items": 0, "answered": 0, "failed": 0, "slot_seconds": 0.0}
        with suppress(Exists):
            sealed = seal(self._backend.key, names.end, document({**end, **counts}))
            self._backend.store.create(names.end, sealed)

    def _values(self, *, ordered: bool, timeout: float | None, keep: bool) -> list[Any]:
        """Values, failures as exceptions in their places with `keep`, else the first one raised."""
        values: list[Any] = []
        deadline = _deadline(timeout)
        for _, value in self._iterate(ordered=ordered, deadline=deadline, stop_early=not keep):
            if isinstance(value, Failure):
                if not keep:
                    self._await_end(deadline)
                    raise exception_of(value, self.id)
                value = exception_of(value, self.id)
            values.append(value)
        return values

    def _driving(self) -> Driver:
        """Its driver; a new one where there is none, or where that has failed."""
        if self._spec.damage:
            self._must_be_kept()
            try:
                self._spec = Spec.read(self._backend, self.id)  # says of which kind the damage is, if it still is there
            except NotFound as error:
                raise Refused(f"run {self.id}: {self._spec.damage}") from error
        if self._driver is None or self._driver.books.error is not None:
            self._must_be_kept()
            driver = recovered(self._backend, self._spec)
            end = self._end_or_hold(driver)
            if end is None:
                driver.tell()
            else:
                if not driver.books.tally.complete:
                    driver.recover()  # what was settled between our look and its end
                driver.books.over(end)
            if end is None or driver.fleet.held_by(self.id):  # who ended it died before all was cleaned up
                driver.start()
            else:
                driver.books.close()
            self._driver = driver
        return self._driver

    def _await_end(self, deadline: float | None) -> None:
        """Who has its last answer leaves nothing of it: its driver closes the books, and stops what only it needs."""
        if self._driver is not None and self._driver.books.ending:
            self._driver.join(CLOSE_S if deadline is None else min(deadline - time.monotonic(), CLOSE_S))

    def _end_or_hold(self, driver: Driver) -> dict[str, Any] | None:
        """How the run ended; None if it has not, and then its fleet and its notices are held for it."""
        fleet, end = driver.fleet, read_end(self._backend, self.id, driver.leg)
        if end is None:
            try:
                fleet.hold(self.id)
                self._backend.queue.ensure(RunNames(self.id, driver.leg).notices)
            except Unavailable:  # as SQS says of a queue's name for a minute after its run ended and dropped it
                end = read_end(self._backend, self.id, driver.leg)
                if end is None:
                    raise
                fleet.release(self.id)
        return end

    def _settled(self) -> list[Settled]:
        """Its settled chunks, in the order of the items: from the driver, if there is one, else from the store."""
        driver = self._driver or recovered(self._backend, self._spec)
        with driver.books.changed:
            found = driver.books.tally.spans()
        if (numbers := self._numbers) is None:
            return found
        return [
            replace(each, answered=tuple(part for span in each.answered for part in numbers.spans_of(span)))
            for each in found
        ]

    def _check_driver(self, driver: Driver) -> None:
        if driver.books.error is not None:
            raise driver.books.error

    def _stored_outcomes(self, item: int | None = None) -> Iterator[Outcome]:
        keys = map(self._names.settled, self._backend.store.list(self._names.outcomes))
        found = [span for span in keys if span is not None]
        spans = [*dict.fromkeys(found)]
        if len(spans) < len(found):  # some were answered again, and nobody may delegate to others any more
            driver = recovered(self._backend, self._spec)
            driver.books.tally.salvage(driver.books.damaged)
            spans = [span for span in spans if driver.books.tally.booked(span) is not None]
        for span in spans:
            if item is None or span.lo <= item < span.hi:
                try:
                    yield find_outcome(self._backend, self.id, span)[0]
                except (NotFound, Refused) as error:
                    _log.warning(
                        "run %s: what is known of items %s is left out: %s", self.id, told_spans([span]), error
                    )

    def _iterate(self, *, ordered: bool, deadline: float | None, stop_early: bool) -> Iterator[tuple[int, Any]]:
        driver = self._driving()
        self.consumed = self.consumed or 0
        follow = (
            in_order(driver.books, deadline, stop_early=stop_early) if ordered else as_settled(driver.books, deadline)
        )
        given: list[Span] = []
        for settled, part in follow:
            driver.hands.reads_on()
            outcome = driver.outcome(settled, deadline)
            if outcome is None:
                continue
            parts = without(part, given) if driver.books.tally.reopened else (part,)
            given += without(part, [chunk.span for chunk in outcome.rest])
            for left in parts:
                for index, value in answers(outcome, self._unread):
                    if left.lo <= index < left.hi:
                        if self._numbers is None:
                            yield index, value
                        else:
                            told = self._told(value) if isinstance(value, Failure) else value
                            yield self._numbers.of(index), told
                        self.consumed += 1
            value = told = None  # those may be the caller's alone, and this waits for the next ones
            with driver.books.changed:
                driver.books.changed.notify_all()  # a feed may wait for its consumer
        self._await_end(deadline)
        if driver.books.error is not None and not driver.books.tally.complete:
            raise driver.books.error
        if driver.books.input_error is not None:
            raise driver.books.input_error
        if not driver.books.gone and (lost := driver.books.lost()):
            self._must_be_kept()
            note_damage(self._backend, self.id, driver.leg, driver.books.damage())
            why = next(iter(driver.books.damaged.values()), "they were to be answered again")
            raise AnswersLost(
                f"run {self.id}: {driver.books.damage()}: {why}. It is over, so they are not run again: start a new "
                f"run for them, or make one call here with `starburst replay {self.id} {lost[0].lo}`; "
                "iter_completed() gives the others"
            )
        if driver.books.refused and not driver.books.gone:
            raise Refused(driver.books.refused)
        if driver.books.state.over and (driver.books.state is RunState.STOPPED or not driver.books.tally.complete):
            if stop_early and (first := self._first_failure(driver, deadline)) is not None:
                told = self._told(first)
                yield told.index, told  # which is raised; not here, where a StopIteration would be no more than an end
                return
            ended: dict[RunState, type[StarburstError]] = {RunState.CANCELLED: RunCancelled}
            kind = ended.get(driver.books.state, InputLost if driver.books.input_lost else RunStopped)
            raise kind(f"run {self.id}: {driver.books.reason}; {self._what_is_kept(driver)}")

    def _what_is_kept(self, driver: Driver) -> str:
        """How many items were answered, and where the answers are: in the store, if whoever attaches can read them."""
        answered = f"{driver.books.tally.answered} items were answered"
        try:
            Spec.read(self._backend, self.id)
        except (NotFound, Refused):
            return f"{answered}: start a new run for the others"
        return f"{answered}: attach({self.id!r}).iter_completed() gives them"

    def _first_failure(self, driver: Driver, deadline: float | None) -> Failure | None:
        with driver.books.changed:
            first = driver.books.tally.first_failure
            spans = [
                settled.span
                for settled in driver.books.tally.spans()
                if settled.failed and settled.first_failure == first
            ]
        outcome = driver.outcome(spans[0], deadline) if spans else None
        return outcome.failures[0] if outcome is not None else None


def _answered(family: Iterable[Run]) -> list[Span]:
    return joined(part for each in family for settled in each._settled() for part in settled.answered)


def _as_asked(spec: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of a run, as options; none that were to go with one that is given otherwise."""
    resources, kept = spec.resources, spec.options
    sized = not {"cpu", "memory"} & set(given)
    return {
        "workers": spec.workers,
        "cpu": resources.cpu,
        "memory": f"{resources.memory_mib}MB" if resources.memory_given and sized else None,
        "slots": resources.slots if "cpu" not in given else None,
        "spot": resources.spot,
        "image": resources.image or None,
        "retries": kept["retries"],
        "retry_delay": kept["retry_delay_s"],
        "timeout": kept["timeout_s"],
        "seed": kept["seed"],
        "label": spec.label,
        "tags": spec.tags,
    }


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def recovered(backend: Backend, spec: Spec) -> Driver:
    """A driver that knows what the store tells of a run, in its last leg; it is not started."""
    leg = find_leg(backend, spec)
    fleet = Fleet.of(backend, spec.resources, spec.workers, leg.fleet)
    policy = replace(spec.policy, forgiven=leg.forgiven, breaker=spec.policy.breaker and not leg.forgiven)
    driver = Driver(backend, spec.run, fleet, policy, leg=leg.number)
    driver.recover()
    return driver


def stored_status(backend: Backend, spec: Spec) -> RunStatus:
    """A run's status as the store tells it: its end, or its outcomes so far."""
    try:
        end, damage = find_leg(backend, spec).end, spec.damage
    except Refused as error:
        end, damage = None, spec.damage or str(error)
    if end is None:
        Spec.find(backend, spec.run)  # raises `NotFound` if it was removed meanwhile
    fields: dict[str, Any] = {"items": None, "answered": 0, "failed": 0, "slot_seconds": 0.0, "ended_at": None}
    state, workers, reason = RunState.DAMAGED, 0, damage
    if end is not None:
        fields |= {name: end[name] for name in fields if name in end}
    if not reason and end is not None and "items" in end:
        state, reason = RunState(end["state"]), "; ".join(filter(None, [end["reason"], end["damage"]]))
        if end["damage"] and state in WHOLE:
            state = RunState.DAMAGED
    elif not reason:
        try:
            driver = recovered(backend, spec)
        except Refused as error:
            reason = str(error)
        else:
            fields |= {
                name: getattr(driver.books.tally, name) for name in ("items", "answered", "failed", "slot_seconds")
            }
            if end is not None:
                reason = end["reason"]
            else:
                state = RunState.RUNNING
                workers = sum(worker.phase is not WorkerPhase.STOPPED for worker in driver.fleet.states())
                reason = _reason(driver, workers)
    return RunStatus(
        id=spec.run,
        state=state,
        label=spec.label,
        workers=workers,
        created_at=spec.created_at,
        reason=reason,
        **fields,
    )


def _reason(driver: Driver, workers: int) -> str:
    """What a run without an end waits for."""
    if damage := driver.books.damage():
        return f"{damage}; {'they run' if workers else '`starburst attach` runs them'} again"
    if driver.books.tally.complete or is_cancelled(driver.backend, driver.run, driver.leg):
        why = "every item is answered" if driver.books.tally.complete else "cancelled"
        return f"{why}; its driver, or `starburst attach`, ends it"
    if driver.books.waits.space and workers:
        return f"waiting for {driver.books.waits.space}"
    with suppress(NotFound, Refused):
        if what := bytes(driver.backend.store.get(RunNames(driver.run).waits, SMALL_BYTES)).decode(errors="replace"):
            return f"waiting for {what}"
    if driver.books.tally.items is None and (reading := _reading(driver.backend, driver.run)):
        return reading
    return "" if workers else "no worker is alive: `starburst attach` goes on with it"


def _reading(backend: Backend, run: RunId) -> str:
    """What one look tells of whether the rest of the input will come."""
    sign = read_sign(backend, run)
    if sign is None or sign.ended:
        return ""
    heard_s = time.time() - sign.at
    if heard_s < 2 * backend.feeder_lost_s:
        return READING
    return f"who reads its input was last heard of {heard_s:,.0f} s ago: `starburst attach` ends it if that died"


def attach(run_id: str, *, backend: str | Backend = "auto") -> Run:
    """Hold a run that some process started, on any day before it expires; "last" is the newest that is kept.

    Nothing is driven until you wait for it or ask for its results; then this process drives it on if need be.
    Raises `NotFound`, or `BadInput` for what is no text.
    """
    from starburst_common.backends import open_backend

    opened = open_backend(backend)
    if run_id == "last" and (newest := next(read_runs(opened, run_ids(opened)), None)) is not None:
        return newest
    named = run_id_of(run_id)
    return Run(opened, Spec.find(opened, named), None)


def list_runs(*, backend: str | Backend = "auto", tags: Mapping[str, str] | None = None) -> list[Run]:
    """Every run that is kept, or that has all of these tags, newest first."""
    from starburst_common.backends import open_backend

    wanted = {} if tags is None else tags
    if not (isinstance(wanted, Mapping) and all(isinstance(text, str) for tag in wanted.items() for text in tag)):
        raise BadInput(f"tags={tags!r}: give a dictionary whose names and values are text, or None")
    opened = open_backend(backend)
    return [*read_runs(opened, run_ids(opened), wanted)]


def run_ids(backend: Backend) -> list[RunId]:
    """The ids of all runs that are kept, newest first; none of them is read."""
    return [RunId(name) for name in reversed(ids(backend.store.folders(RUNS)))]


def read_runs(backend: Backend, ids: Sequence[RunId], tags: Mapping[str, str] = MappingProxyType({})) -> Iterator[Run]:
    """The runs with these ids, which are in order, and these tags, newest first; no more are read than are taken.

    Ids tell the second in which they were made, and sort by it; those of one second are read together.
    """
    for _, together in groupby(ids, key=lambda name: name.rpartition("-")[0]):
        specs = []
        for name in together:
            with suppress(NotFound):
                specs += Spec.find_tagged(backend, name, tags)
        yield from (Run(backend, spec, None) for spec in sorted(specs, key=lambda spec: -spec.created_at))
