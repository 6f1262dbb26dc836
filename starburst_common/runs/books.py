"""A run as all who watch it here see it: what is answered and owed, in which order that came, how it stands; one end.

In memory, and nothing here asks anybody. Whoever keeps the run going writes it, whoever waits is notified by `changed`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from starburst_common.errors import RunStopped
from starburst_common.model import (
    Chunk,
    FailureKind,
    RunId,
    RunState,
    Span,
    WorkerPhase,
    WorkerState,
    joined,
    spans_of,
    told_spans,
    without,
)
from starburst_common.money.meter import Meter
from starburst_common.ports import Clock
from starburst_common.runs.bounds import Bounds
from starburst_common.runs.events import EventKind, EventRecord
from starburst_common.runs.legs import End
from starburst_common.runs.outcomes import Summary
from starburst_common.runs.patience import WaitsFor
from starburst_common.runs.tally import Tally

_INLINE_KEPT = 64 << 20  #: bytes of outcomes kept from notices; what is beyond is read from the store when wanted


class Books:
    """One run's. Fields are read with `changed` held where more than one of them must fit."""

    def __init__(self, run: RunId, clock: Clock = time, tick_s: float = 0.0) -> None:
        self.run, self.clock = run, clock
        self.changed = threading.Condition()  #: notified when anything below moves
        self.events = EventRecord(tick_s)  #: what happened, for whoever tells of it
        self.tally = Tally()
        self.order: list[Span] = []  #: settled chunks as they came
        self.consumed: int | None = None  #: items handed out here, once somebody iterates
        self.state = RunState.RUNNING
        self.reason = ""  #: why it ended early, or what it waits for
        self.waits = WaitsFor()
        self.ended_at: float | None = None  #: wall clock
        self.limit: FailureKind | None = None  #: BUDGET or DEADLINE, where that has ended it
        self.bounds = Bounds()  #: as they were last read
        self.meter: Meter | None = None  #: of its workers, as last read; None where nothing is charged for
        self.spent: Decimal | None = None  #: what those of former legs have cost; in the end, all
        self.alive = self.at_work = 0  #: workers, and of these, whose process is there
        self.input_lost = ""
        self.input_error: BaseException | None = None
        self.error: BaseException | None = None  #: what its driver failed with
        self.cancelled = False  #: here
        self.closed = self.gone = False  #: cleaned up as well; somebody removed what says that there is such a run
        self.silent = False  #: another driver has ended the run, as far as can be told
        self.refused = ""  #: an outcome that was damaged so often that it is given up, if there is one
        self.damaged: dict[Span, str] = {}  #: outcomes none of whose generations is whole, and why
        self.impossible = ""  #: why no worker can ever start
        self.launch_at = 0.0  #: no launch before that
        self.quiet_since = clock.monotonic()  #: when it last moved: a chunk planned, settled or sent again
        self.speculated = set[Span]()  #: chunks that a second worker was given, as they take long
        self.resent = 0  #: times that all was sent again, since something was settled
        self._finishing = False  # its end is being written
        self._priced = ""
        self._inline: dict[Span, bytes] = {}
        self._inline_bytes = 0
        self._known: set[int] = set()  # workers, by ordinal
        self._looked = False  # at them

    # --- what happened ------------------------------------------------------------------------------------------------

    def happened(
        self, kind: EventKind, words: str = "", *, count: int = 0, said: str = "", at: float | None = None
    ) -> None:
        """Write it down with how the run stands, and wake who waits for that; it happens now, or did `at` that time."""
        with self.changed:
            self.events.add(
                kind,
                round(self.clock.time() if at is None else at, 3),
                words=words,
                count=count,
                said=said,
                answered=self.tally.answered,
                failed=self.tally.failed,
                workers=self.alive,
            )
            self.changed.notify_all()

    def launched(self, ordinals: Iterable[int]) -> None:
        """Workers that were started for this run, by whoever drives it; those that are known are passed over."""
        with self.changed:
            new = {*ordinals} - self._known
            self._known |= new
            if new:
                self.happened(EventKind.LAUNCHED, told_spans(spans_of(sorted(new))), count=len(new))

    def look_at_workers(self, workers: Sequence[WorkerState]) -> None:
        """The fleet's, now. Who is there at the first look was not launched by who keeps this."""
        ordinals = {worker.ordinal for worker in workers}
        alive = [worker.phase for worker in workers if worker.phase is not WorkerPhase.STOPPED]
        at_work = alive.count(WorkerPhase.RUNNING)
        with self.changed:
            if not self._looked:
                self._known, self._looked = ordinals, True
            self.launched(ordinals)
            if (len(alive), at_work) != (self.alive, self.at_work):
                self.alive, self.at_work = len(alive), at_work
                self.happened(EventKind.WORKERS, count=at_work)

    def moves_on(self) -> None:
        """To another leg, with other workers; `changed` held."""
        self.tally.aside, self.speculated, self._known, self._looked = set(), set(), set(), False
        self.alive = self.at_work = self.resent = 0
        self.silent, self.waits.launch = False, ""
        self.launch_at, self.quiet_since = 0.0, self.clock.monotonic()

    # --- input --------------------------------------------------------------------------------------------------------

    def plan(self, chunks: Sequence[Chunk]) -> None:
        """Chunks that are about to be sent."""
        with self.changed:
            booked = self.tally.plan(chunks)
            self.order += [settled.span for settled in booked]
            self.quiet_since = self.clock.monotonic()
            if booked:
                self.happened(EventKind.SETTLED)
            self.changed.notify_all()

    def input_failed(self, error: BaseException) -> None:
        """The input raised: what was fed is still answered, then the run stops and its results raise this."""
        with self.changed:
            self.input_error = error
            self.input_lost = f"reading the input failed: {type(error).__name__}: {error}"
            self.changed.notify_all()

    def input_ended(self, items: int) -> None:
        """No more items will come."""
        with self.changed:
            self.tally.items = items
            self.happened(EventKind.READ, count=items)

    def input_waits(self, error: OSError | None) -> None:
        """Who feeds this run here waits for an outage (see `patience.Waits`), for as long as the run goes on."""
        self.waits.feed = "" if error is None else str(error)
        self.tell_waits()
        if error is not None and (self.state.over or self.closed):
            raise RunStopped(f"run {self.run} takes no more input: it is over")

    def over_elsewhere(self) -> None:
        """Somebody else has ended the run: look how."""
        with self.changed:
            self.silent = True
            self.changed.notify_all()

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def book(self, summary: Summary, body: bytes | None) -> None:
        """An outcome's summary; its whole too, where that came with it and there is room."""
        with self.changed:
            booked = self.tally.settle(summary)
            if not booked:
                return
            for settled in booked:
                self.damaged.pop(settled.span, None)
            if body is not None and self._inline_bytes + len(body) <= _INLINE_KEPT:
                self._inline[booked[0].span] = body
                self._inline_bytes += len(body)
            self.order += [settled.span for settled in booked]
            self.quiet_since = self.clock.monotonic()
            self.resent = 0
            self.happened(EventKind.SETTLED)

    def inline(self, span: Span) -> bytes | None:
        """An outcome that came with its notice, once."""
        with self.changed:
            if (body := self._inline.pop(span, None)) is not None:
                self._inline_bytes -= len(body)
            return body

    def as_told(self, summary: Summary) -> bool:
        """Whether what is booked of a chunk, if anything is, is what a summary says."""
        with self.changed:
            booked = self.tally.booked(summary.span)
            return booked is None or (booked.answered, booked.failed) == (summary.answered, summary.failed)

    def unbook(self, span: Span, chunk: Chunk | None, key: str) -> bool:
        """Take a damaged outcome out; its chunk is owed now. False: too late, or nobody knows the chunk."""
        with self.changed:
            if chunk is None or self.too_late:
                self.damaged.setdefault(span, f"{key}: damaged, and answered again too late")
                return False
            if self.tally.booked(span) is not None:
                for inner in [inner for inner in self._inline if inner.within(span)]:
                    self._inline_bytes -= len(self._inline.pop(inner))
                self.tally.reopen(chunk)
                self.quiet_since = self.clock.monotonic()
                self.changed.notify_all()
            return True

    @property
    def too_late(self) -> bool:
        """Whether it is too late to have anything answered again."""
        return self._finishing or self.state.over or self.closed

    def lost(self) -> list[Span]:
        """Items that were answered, and whose answers are damaged: for good where the run is over."""
        with self.changed:
            if not self.damaged and (self.tally.complete or not self.state.over):
                return []
            answered = [part for part, _ in self.tally.answers_from(0)]
            found: set[Span] = set()
            if self.state in (RunState.SUCCEEDED, RunState.FAILED):  # so all were answered
                found.update(without(Span(0, self.tally.items or 0), answered))
            for span in self.damaged:
                booked = self.tally.booked(span)
                if booked is not None:
                    found.update(booked.answered)
                elif span in self.tally.owed:
                    found.update(without(span, answered))
            return joined(found)

    def damage(self) -> str:
        """Which items were answered, and are not any more."""
        lost = self.lost()
        return f"the stored answers of items {told_spans(lost)} are damaged" if lost else ""

    def unanswered(self) -> tuple[Span, ...]:
        """The items that are stored and have no answer; `changed` held."""
        return without(Span(0, self.tally.planned_items), [part for part, _ in self.tally.answers_from(0)])

    def spent_usd(self) -> Decimal | None:
        """What its workers have cost; None where nothing is charged for."""
        if self.state.over or self.meter is None:
            return self.spent
        return (self.spent or 0) + self.meter.read(self.meter.at + self.clock.monotonic() - self.bounds.read_at)

    @property
    def priced(self) -> str:
        """By which prices, in words."""
        return self._priced if self.state.over or self.meter is None else self.meter.priced

    # --- its end ------------------------------------------------------------------------------------------------------

    def tell_waits(self) -> None:
        """Tell what the run waits for, when that changes."""
        what = str(self.waits)
        reason = f"waiting for {what}" if what else ""
        if reason != self.reason and not self.state.over:
            with self.changed:
                self.reason = reason
                self.happened(EventKind.WAITS, what)

    def cancel(self) -> None:
        """It is to end soon."""
        with self.changed:
            self.cancelled = True
            self.changed.notify_all()

    @property
    def ending(self) -> bool:
        """Whether nothing but its end is left to come, and that soon."""
        return self.state.over or self.tally.complete or self.cancelled

    def finishing(self, state: RunState) -> bool:
        """Nothing is answered again from now on; False where an answer was found to be damaged meanwhile."""
        with self.changed:
            if state in (RunState.SUCCEEDED, RunState.FAILED) and not self.tally.complete:
                return False
            self._finishing = True
            return True

    def over(self, end: End) -> None:
        """The run has ended so."""
        with self.changed:
            self.state, self.reason, self.ended_at, self.limit = end.state, end.reason, end.ended_at, end.limit
            self.spent, self._priced = None if end.spent_usd is None else Decimal(str(end.spent_usd)), end.priced
            lost = self.tally.items is None if end.input_lost is None else end.input_lost
            self.input_lost = (self.input_lost or self.reason) if lost else ""
            self.order += [settled.span for settled in self.tally.salvage(self.damaged)]
            self.happened(EventKind.ENDED, end.words, at=end.ended_at)

    def close(self, error: BaseException | None = None) -> None:
        """Nobody keeps it going here any more, since it is over, or for an error."""
        with self.changed:
            self.error, self.closed = self.error or error, True
            self.changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something is so; whether it is."""
        with self.changed:
            return self.changed.wait_for(ready, timeout)
