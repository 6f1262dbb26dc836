"""A run kept going: notices in, ledger up to date, the reconciler's actions carried out. One thread, and it may die."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from starburst_common.errors import (
    CannotLaunch,
    Denied,
    Exists,
    NoSpace,
    NotFound,
    Refused,
    RunStopped,
    Unavailable,
    UnknownVersion,
)
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import (
    Chunk,
    Outcome,
    RunId,
    RunState,
    Span,
    WorkerEnd,
    WorkerId,
    WorkerPhase,
    WorkerState,
    joined,
    told_spans,
    withdrawn,
    without,
)
from starburst_common.names import GENERATIONS, RunNames, made_at, work_queue
from starburst_common.phrases import one_line, our_log
from starburst_common.ports import Backend, Depth, is_there
from starburst_common.runs.messages import Notice, chunk_message, read_notice
from starburst_common.runs.outcomes import outcome_parts, read_outcome, summary_fields
from starburst_common.runs.patience import at_exit
from starburst_common.runs.reconcile import (
    BAD_ENDS,
    Action,
    Barren,
    Finish,
    Launch,
    Policy,
    View,
    barren,
    decide,
    never_came,
    tried_since,
    waits_for,
)
from starburst_common.runs.sign import Watch
from starburst_common.runs.spec import is_cancelled, read_end
from starburst_common.runs.stored import (
    create_outcome,
    find_outcome,
    items_stored,
    planned_chunk,
    planned_chunks,
    stored_summary,
    withdraw_items,
)
from starburst_common.runs.tally import Ledger
from starburst_common.wire.documents import document
from starburst_common.wire.seals import seal

_log = our_log()

_INLINE_KEPT = 64 << 20  #: bytes of outcomes kept from notices; what is beyond is read from the store when wanted
_RETRY_S = 1.0
_REPORTED = 3  #: so many workers' bad ends are told in full
_LAST_LINES = 10
_LINE_MOST = 200  #: characters of a worker's last line
_PATIENCE_LEASES = 2
_NOTICES_KEPT = 10  #: booked notices are deleted by so many
_LISTING_SHARE = 0.03  #: of the driver's time goes into listings at most
_EXIT_S = 10.0  #: the end of a process waits so long for runs that are about to end
_FULL_S = 15.0  #: a worker that waits for space says so more often
_TELL_S = 600.0  #: a driver says so often that it is there
READ_S = 600.0  #: a run is kept for so long after somebody read its answers
_READS = 3  #: so often a reader says in that time that it reads on
_HALF_WRITTEN_S = 2.0  #: a file that nobody has added to for so long was left by a worker that died


class Driver:
    """Drives one run. State that matters is in the store: another driver can take over, or work beside this one."""

    def __init__(
        self,
        backend: Backend,
        run: RunId,
        fleet: Fleet,
        policy: Policy,
        *,
        leg: int = 0,
        expected: Callable[[], int] = lambda: 0,
    ) -> None:
        self.backend, self.run, self.leg, self.fleet = backend, run, leg, fleet
        # what a worker that died had leased comes back within a lease, to be cut up or to fail
        self.policy = replace(
            policy, feeder_lost_s=backend.feeder_lost_s, patience_s=_PATIENCE_LEASES * backend.lease_s
        )
        self.ledger = Ledger()
        self.changed = threading.Condition()  #: notified when anything below moves
        self.order: list[Span] = []  #: settled chunks as they came
        self.state = RunState.RUNNING
        self.reason = ""  #: why it ended early, or what it waits for
        self.ended_at: float | None = None  #: wall clock
        self.alive = 0
        self.at_work = False  #: a worker's process is there
        self.input_lost = ""
        self.input_error: BaseException | None = None
        self.error: BaseException | None = None
        self.closed = False  #: cleaned up as well
        self.gone = False  #: somebody removed what says that there is such a run
        self._names = RunNames(run, leg)
        self._expected = expected
        self.refused = ""  #: an outcome that was damaged so often that it is given up, if there is one
        self.damaged: dict[Span, str] = {}  #: outcomes none of whose generations is whole, and why
        self._generations: dict[Span, int] = {}  # so many were looked at, where it was not the first that was booked
        self._sent_again: dict[Span, int] = {}  # after so many of its generations were found to be damaged
        self._finishing = False  # the run's end is being written
        self._damage_told = False
        self._plan_torn = False  # a part of it is lost
        self._impossible = ""  # why no worker can ever start
        self._silent = False  # another driver has ended the run, as far as can be told
        self._watch: Watch | None = None  # where another process feeds the run
        self._read_at = 0.0  # when its input was last looked for
        self._full = (-math.inf, 0.0)  # when a worker last said so, and when we saw that
        self.full = ""  #: where a worker has no space for its answers
        self._feed_waits = ""  # the outage that whoever feeds it here waits for
        self._launch_at = 0.0
        self._launch_waits = ""  # for what the last launch was told to wait
        self._remembered_waits = ""  # as other processes are told
        self._reported: set[WorkerId] = set()
        self._heard: list[str] = []  # receipts of booked notices
        self._inline: dict[Span, bytes] = {}
        self._inline_bytes = 0
        self._quiet_since = time.monotonic()
        self._list_at = time.monotonic() + backend.look_s / 2
        self._told_at = time.monotonic()
        self._read_told_at = -math.inf
        self._unheard: frozenset[Span] = frozenset()  # outcomes of the last listing that no notice had told of yet
        self._resent = 0  # times, since something was settled
        self._dead = 0  # messages that ended as dead letters, as last seen
        self._dead_at = time.monotonic()
        self._recovered = False
        self._first_worker = -1  # ordinal; who was launched before cannot have failed this run; -1: to be seen
        self._barren: tuple[WorkerId, Barren] | None = None  # the last one of those; its end was seen by this clock
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=f"starburst-{run}", daemon=True)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()
        _live.add(self)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run and of its clean-up; whether it has come."""
        with self.changed:
            return self.changed.wait_for(lambda: self.closed, timeout)

    def plan(self, chunks: Sequence[Chunk]) -> None:
        """Chunks that are about to be sent."""
        with self.changed:
            self.order += [settled.span for settled in self.ledger.plan(chunks)]
            self._quiet_since = time.monotonic()
            self.changed.notify_all()

    def input_failed(self, error: BaseException) -> None:
        """The input raised: what was fed is still answered, then the run stops and its results raise this."""
        with self.changed:
            self.input_error = error
            self.input_lost = f"reading the input failed: {type(error).__name__}: {error}"
            self.changed.notify_all()

    def input_waits(self, error: OSError | None) -> None:
        """Who feeds this run here waits for an outage (see `patience.Waits`), for as long as the run goes on."""
        self._feed_waits = "" if error is None else str(error)
        self._waits_for(self._waits)
        if error is not None and (self.state.over or self.closed):
            raise RunStopped(f"run {self.run} takes no more input: it is over")

    def over_elsewhere(self) -> None:
        """Somebody else has ended the run: look how."""
        with self.changed:
            self._silent = True
            self.changed.notify_all()

    def input_ended(self, items: int) -> None:
        """No more items will come."""
        with self.changed:
            self.ledger.items = items
            self.changed.notify_all()

    def cancel(self) -> None:
        """End the run soon; durably so when this returns, and also where it is interrupted."""
        with self.changed:
            self._cancel.set()
            self.changed.notify_all()
        mark_cancelled(self.backend, self.run, self.leg)

    def withdraw(self, spans: Sequence[Span]) -> None:
        """Items, sent or about to be, that are not to begin any more: workers answer them so.

        Where none is at work, this does. Calls that have begun are answered as ever.
        """
        withdraw_items(self.backend, self.run, spans)
        with self.changed:
            chunks = [] if self.at_work else [span for span in self.ledger.owed if not without(span, spans)]
        for span in chunks:
            outcome = Outcome(span=span, worker="", seconds=0.0, failures=tuple(withdrawn([span])))
            create_outcome(
                self.backend, self.run, span, outcome_parts(self.backend.key, self._names.outcome(span), outcome)
            )
            self._look_at(span)

    @property
    def ending(self) -> bool:
        """Whether nothing but its end is left to come, and that soon."""
        return self.state.over or self.ledger.complete or self._cancel.is_set()

    def outcome(self, span: Span, deadline: float | None = None) -> Outcome | None:
        """A booked outcome, from memory or the store: an outage is waited out, since the answer is there.

        None where it was damaged since: while the run goes on, its items will be answered again; after that they are
        `lost`. `deadline` is on the monotonic clock. Raises TimeoutError.
        """
        with self.changed:
            body = self._inline.pop(span, None)
            if body is not None:
                self._inline_bytes -= len(body)
        if body is not None:
            return read_outcome(self.backend.key, self._names.outcome(span), body)
        while True:
            try:
                return self._stored_outcome(span)
            except Unavailable as error:
                left = _RETRY_S if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"run {self.run}: its answers cannot be read in time; they are kept: {error}"
                    ) from error
                _log.warning("run %s: its answers are waited for: %s", self.run, error)
                time.sleep(min(left, _RETRY_S))

    def recover(self) -> None:
        """Learn from the store what was planned, answered and decided before us."""
        self._watch = Watch(self.backend, self.run)
        self._read_input()
        self._recovered = True
        self._list_outcomes()

    def tell(self) -> None:
        """Say durably that somebody drives this run."""
        self._told_at = time.monotonic()
        self.backend.store.put(self._names.driven, b"")

    def reads_on(self) -> None:
        """Say now and then, once it is over, that somebody reads its answers; where that cannot be, nothing is lost."""
        if self.state.over and not self.gone and time.monotonic() - self._read_told_at > READ_S / _READS:
            self._read_told_at = time.monotonic()
            with suppress(Unavailable, Denied):
                self.tell()

    def close(self, otherwise: str = "") -> bool:
        """End a run that nobody drives, if it is due, or else stop it for this reason; whether it has ended."""
        view = self.observe()
        ends = [action for action in decide(view, self.policy) if isinstance(action, Finish)]
        if otherwise:
            ends = ends or [Finish(RunState.STOPPED, otherwise, input_lost=self.ledger.items is None)]
        return (self.ledger.complete or view.cancelled or bool(otherwise)) and self._carry_out(ends)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            ticked, finished = 0.0, False
            while not finished:
                try:
                    left = self.backend.tick_s - (time.monotonic() - ticked)
                    hurry = self._listen(wait_s=0.0 if self._impossible else max(left, 0.0))
                    if self.state.over:
                        self._clean_up()
                        return
                    if self._decided():
                        finished = self._carry_out(decide(self._marked(self._known()), self.policy))
                    elif time.monotonic() - ticked >= self.backend.tick_s or hurry:
                        ticked = time.monotonic()
                        finished = self._tick()
                    self._waits_for(self._waits)
                    self._remember_waits()
                except OSError as error:
                    self._waits_for(str(error))
                    time.sleep(_RETRY_S)
                except NotFound:
                    finished = self._ended_elsewhere()
                    if not finished:
                        raise
                except Denied as error:
                    self._impossible = str(error)
                    finished = self._carry_out([Finish(RunState.STOPPED, self._impossible)])
        except BaseException as error:
            _log.exception("run %s: its driver failed", self.run)
            with self.changed:
                self.error = error
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def _tick(self) -> bool:
        """Look, decide, act; True once the run is finished."""
        self._read_on()
        self._send_again()
        if (self._silent or not is_there(self.backend.store, self._names.spec)) and self._ended_elsewhere():
            return True
        if time.monotonic() - self._told_at > _TELL_S:
            self.tell()
        view = self.observe()
        if self._carry_out(decide(view, self.policy)):
            return True
        if time.monotonic() >= self._launch_at:  # else it waits for that
            self._launch_waits = waits_for(view, self.policy)
        return False

    def _read_on(self) -> None:
        """Where another process feeds the run: what it has added, and whether it lives.

        Its sign comes first: whoever is found lost has stored nothing that is not looked at here.
        """
        if self._watch is None or self.ledger.items is not None:
            return
        if self._read_at and time.monotonic() - self._read_at < self.backend.tick_s:
            return
        self._watch.look()
        self._read_input()
        self._read_at = time.monotonic()
        if self.ledger.items is None and self._watch.ended:
            self._silent = True  # perhaps the whole run was taken back
            self.input_lost = self.input_lost or never_came(self._watch.ended, self.ledger.planned_items)

    def _read_input(self) -> None:
        """What is stored of the input and was not known: parts of the plan follow each other, item by item."""
        items: int | None = None
        try:
            items = items_stored(self.backend, self.run)  # first: where it is there, the plan is whole
        except UnknownVersion:
            raise
        except Refused as error:
            self.input_lost = f"how many items there are is lost: {error}"
        self._read_plan()
        if items is not None:
            if self.ledger.planned_items < items and not self.input_lost:
                self.input_lost = f"items are lost: {self.ledger.planned_items} of {items} are in the plan"
            self.input_ended(items)

    def _read_plan(self) -> None:
        known = -1
        try:
            while self.ledger.planned_items > known and not self._plan_torn:
                known = self.ledger.planned_items
                self.plan(planned_chunks(self.backend, self.run, self._names.plan(known)))
        except NotFound:
            pass
        except UnknownVersion:
            raise
        except Refused as error:
            self._plan_torn = True
            self.input_lost = f"items are lost: {error}"
        if self._plan_torn:
            for key in self.backend.store.list(self._names.plans):
                with suppress(Refused):
                    self.plan(planned_chunks(self.backend, self.run, key))

    def _ended_elsewhere(self) -> bool:
        """Whether another process has ended the run, or removed it; then it is over for us, too."""
        end = self._end_elsewhere()
        if end is None:
            return False
        if not self.gone:
            if self._watch is not None:
                self._read_input()
            self._list_outcomes()  # there may be answers that only who ended it has heard of
        self.over(end)
        self._clean_up()
        return True

    def _end_elsewhere(self) -> dict[str, Any] | None:
        """How another process ended the run; None if it has not."""
        end = read_end(self.backend, self.run, self.leg)
        if end is None and not is_there(self.backend.store, self._names.spec):
            self.gone = True
            place, lacks = self.backend.store.place, self.ledger.items is None
            if self._kept:
                state, reason = RunState.DAMAGED, f"{self._names.spec} is gone from {place}"
            else:
                state, by = RunState.STOPPED, ", or who began it gave it up before its input was whole" * lacks
                reason = f"its store is gone: somebody removed it{by}: nothing of it is kept in {place}"
            return {"state": state, "reason": reason, "ended_at": time.time(), "input_lost": lacks}
        return end

    @property
    def _kept(self) -> bool:
        """Whether anything is kept of it but what comes late."""
        return not all(map(self._names.comes_late, self.backend.store.list(self._names.folder)))

    def _decided(self) -> bool:
        """Whether the run is to end, as can be seen without asking anybody."""
        return any(isinstance(action, Finish) for action in decide(self._known(), self.policy))

    def _listen(self, wait_s: float) -> bool:
        """Wait for what moves the run; True if it is worth a look before the next tick."""
        if self.ledger.owed:
            self._hear(wait_s)
            return False
        with self.changed:  # nothing is owed, so no notice will come: what can is input, or its end
            self.changed.wait_for(lambda: self.ledger.owed or self._decided(), wait_s)
            return bool(self.ledger.owed) and not self.alive

    def _hear(self, wait_s: float) -> None:
        """Book the notices that are there."""
        queue = self.backend.queue
        try:
            leased = queue.receive(self._names.notices, limit=10, lease_s=60.0, wait_s=wait_s)
        except NotFound:
            self._silent = True  # another driver has finished the run; the next tick sees its end
            time.sleep(min(wait_s, 0.05))
            return
        for message in leased:
            try:
                notice = read_notice(self.backend.key, self.run, message.body)
            except Refused as error:
                _log.error("run %s: refused a notice: %s", self.run, error)
                continue
            if notice.summary is not None and self._fits(notice):
                self._book(notice.summary, notice.outcome)
            else:
                self._look_at(notice.span)
        if leased:
            self._heard += [message.receipt for message in leased]
            if len(self._heard) >= _NOTICES_KEPT:  # the others go with the queue; one that comes again changes nothing
                queue.delete(self._names.notices, self._heard)
                self._heard = []

    def _book(self, summary: dict[str, Any], body: bytes | None) -> None:
        with self.changed:
            booked = self.ledger.settle(summary)
            if not booked:
                return
            for settled in booked:
                self.damaged.pop(settled.span, None)
            if body is not None and self._inline_bytes + len(body) <= _INLINE_KEPT:
                self._inline[booked[0].span] = body
                self._inline_bytes += len(body)
            self.order += [settled.span for settled in booked]
            self._quiet_since = time.monotonic()
            self._resent = 0
            self.changed.notify_all()

    def _list_outcomes(self, *, but_new: bool = False) -> None:
        """The truth: which outcomes there are; `but_new` leaves those to their notices that no listing has seen before.

        Notices that another driver hears never come to us. So the next listing is due whether we hear of anything or
        not: in half of `look_s`, or later where listings are long.
        """
        began = time.monotonic()
        listed: dict[Span, tuple[int, int]] = {}  # how many generations, and the size of the first
        full_at, newest = -math.inf, -math.inf  # when a worker last said that it has no space, and when one settled
        for entry in self.backend.store.entries(self._names.outcomes):
            if entry.key == self._names.full:
                full_at = entry.written_at
            span = self._names.settled(entry.key)
            if span is None:
                continue
            newest = max(newest, entry.written_at)
            generations, size = listed.get(span, (0, entry.size))
            listed[span] = (generations + 1, size)
        unheard = frozenset(
            span
            for span, (generations, _) in listed.items()
            if generations > self._generations.get(span, int(self.ledger.settled(span)))
        )
        now = time.monotonic()
        if full_at != self._full[0]:
            self._full = (full_at, now)
        waits = full_at > newest and now - self._full[1] < _FULL_S
        self.full = str(NoSpace.on(self.backend.store.place)) if waits else ""
        self._list_at = now + max(self.backend.look_s / 2, (now - began) / _LISTING_SHARE)
        wanted = unheard & self._unheard if but_new else unheard
        self._unheard = unheard
        reopened = self.ledger.reopened
        for span in sorted(wanted):
            self._look_at(span, *listed[span])
        if self.ledger.reopened > reopened:  # and what is delegated otherwise now
            self._list_outcomes()

    def _look_at(self, span: Span, generations: int = 1, size: int | None = None) -> None:
        """Book an outcome as the store has it, in so many generations; if need be, in place of an earlier one.

        Values are read only where there was damage, which does not show in the summary alone.
        """
        try:
            if generations == 1 and size != 0 and span not in self._generations:
                summary = stored_summary(self.backend, self._names.outcome(span), size)
            else:
                summary = summary_fields(find_outcome(self.backend, self.run, span)[0])
        except NotFound:
            return
        except UnknownVersion as error:
            self.refused = str(error)
            return
        except Refused as error:
            self._found_damaged(span, str(error), generations)
            return
        if generations > 1:
            self._generations[span] = generations
        if self._as_told(summary) or self._unbook(span) is not None:
            self._book(summary, None)

    def _stored_outcome(self, span: Span) -> Outcome | None:
        try:
            outcome, _ = find_outcome(self.backend, self.run, span)
        except UnknownVersion:
            raise
        except (NotFound, Refused) as error:
            self._found_damaged(span, str(error))
            return None
        if not self._as_told(summary_fields(outcome)):
            self._look_at(span, 2)  # the one that was booked is damaged, and somebody has answered it again
            return None
        return outcome if self.ledger.booked(span) is not None else None

    def _fits(self, notice: Notice) -> bool:
        """Whether it tells nothing else of its chunk than is booked, if anything is."""
        if notice.summary is None or notice.span in self.damaged:
            return False
        return self._as_told(notice.summary)

    def _as_told(self, summary: dict[str, Any]) -> bool:
        """Whether what is booked of a chunk, if anything is, is what a summary says."""
        span = Span(*summary["span"])
        with self.changed:
            booked = self.ledger.booked(span)
            if booked is None:
                return True
            rest = [Span(*fields[:2]) for fields in summary["rest"]]
            return booked.answered == without(span, rest) and booked.failed == summary["failed"]

    def _found_damaged(self, span: Span, error: str, generations: int = 1) -> None:
        """An outcome is as good as none, so its chunk is owed and is sent again; not for ever."""
        with self.changed:
            self._generations[span] = max(self._generations.get(span, 0), generations)
            self.damaged[span] = error
            booked = self.ledger.booked(span) is not None
            if not self._damage_told:
                what = "and the run is over" if self._ended else "its items run again"
                _log.warning("run %s: an answer that was stored is damaged, %s: %s", self.run, what, error)
                self._damage_told = True
            if self._ended:
                return
            if generations >= GENERATIONS:
                self.refused = error
        if booked:
            self._sent_again.pop(span, None)
            self._unbook(span)

    def _unbook(self, span: Span) -> Chunk | None:
        """Take a damaged outcome out of the books; its chunk, which is owed now. None where that is too late."""
        try:
            chunk = planned_chunk(self.backend, self.run, span)
        except (NotFound, Refused) as error:
            self.refused = f"{self._names.outcome(span)} is damaged, and {error}"
            chunk = None
        with self.changed:
            if chunk is None or self._ended:
                self.damaged.setdefault(span, f"{self._names.outcome(span)}: damaged, and answered again too late")
                return None
            if self.ledger.booked(span) is not None:
                for inner in [inner for inner in self._inline if inner.within(span)]:
                    self._inline_bytes -= len(self._inline.pop(inner))
                self.ledger.reopen(chunk)
                self._list_at = 0.0  # what it delegated to may be settled
                self._quiet_since = time.monotonic()
                self.changed.notify_all()
            return chunk

    @property
    def _ended(self) -> bool:
        """Whether it is too late to have anything answered again."""
        return self._finishing or self.state.over or self.closed

    def lost(self) -> list[Span]:
        """Items that were answered, and whose answers are damaged: for good where the run is over."""
        with self.changed:
            if not self.damaged and (self.ledger.complete or not self.state.over):
                return []
            answered = [part for part, _ in self.ledger.answers_from(0)]
            found: set[Span] = set()
            if self.state in (RunState.SUCCEEDED, RunState.FAILED):  # so all were answered
                found.update(without(Span(0, self.ledger.items or 0), answered))
            for span in self.damaged:
                booked = self.ledger.booked(span)
                if booked is not None:
                    found.update(booked.answered)
                elif span in self.ledger.owed:
                    found.update(without(span, answered))
            return joined(found)

    def unanswered(self) -> tuple[Span, ...]:
        """The items that are stored and have no answer; `changed` held."""
        return without(Span(0, self.ledger.planned_items), [part for part, _ in self.ledger.answers_from(0)])

    def damage(self) -> str:
        """Which items were answered, and are not any more."""
        lost = self.lost()
        return f"the stored answers of items {told_spans(lost)} are damaged" if lost else ""

    def _send_again(self) -> None:
        """Chunks whose outcomes are damaged, once for each that is."""
        with self.changed:
            again = {span: self._generations[span] for span in self.damaged if span in self.ledger.owed}
            again = {span: seen for span, seen in again.items() if seen > self._sent_again.get(span, 0)}
            chunks = [self.ledger.owed[span] for span in again]
        if chunks:
            self._send(chunks)
            self._sent_again.update(again)

    def observe(self) -> View:
        """Look at everything the decision needs."""
        ledger = self.ledger
        if ledger.owed and time.monotonic() > self._list_at:
            self._list_outcomes(but_new=True)
        workers = self.fleet.states()
        alive = [worker for worker in workers if worker.phase is not WorkerPhase.STOPPED]
        launched = max((worker.ordinal for worker in workers), default=-1) + 1
        row = self._barren_of(workers)
        with self.changed:
            self.alive = len(alive)
            self.at_work = any(worker.phase is WorkerPhase.RUNNING for worker in alive)
        known = self._known()
        quiet = known.now - known.quiet_since > self.policy.resend_after_s
        depth = self.backend.queue.depth(work_queue(self.fleet.id), group=self.run) if known.owed and quiet else None
        return replace(
            self._marked(known),
            expected=self._expected(),
            depth=depth or known.depth,
            launched=launched,
            barren=row,
            dead=self._dead_letters(known.now, quiet=quiet) if known.owed else 0,
            resent=self._resent,
        )

    def _marked(self, view: View) -> View:
        """The same, with what others have said of it."""
        return view if view.cancelled else replace(view, cancelled=is_cancelled(self.backend, self.run, self.leg))

    def _known(self) -> View:
        """What the decision needs as far as we know it without asking anybody."""
        ledger = self.ledger
        with self.changed:
            return View(
                now=time.monotonic(),
                items=ledger.items,
                answered=ledger.answered,
                failed=ledger.failed,
                owed=len(ledger.owed),
                expected=0,
                depth=Depth(len(ledger.owed), 0),
                quiet_since=self._quiet_since,
                alive=self.alive,
                launched=0,
                cancelled=self._cancel.is_set(),
                breaker=ledger.all_fail_alike() if self.policy.breaker else "",
                input_lost=self.input_lost,
                unheard_s=self._watch.unheard_s if self._watch is not None else 0.0,
                launch_at=self._launch_at,
                impossible=self._impossible,
                refused=self.refused,
            )

    def _dead_letters(self, now: float, *, quiet: bool) -> int:
        """How many there are, asked now and then."""
        if now - self._dead_at > (self.policy.resend_after_s if quiet else self.backend.look_s):
            self._dead_at = now
            name = self.backend.queue.dead(work_queue(self.fleet.id))
            self._dead = sum(self.backend.queue.depth(name, group=self.run))
        return self._dead

    def _barren_of(self, workers: Sequence[WorkerState]) -> Barren:
        """Those that ended for nothing, reported; how the last one did is asked once."""
        if self._first_worker < 0:
            began = made_at(self.run) if self._recovered else math.inf
            before = (worker.ordinal for worker in workers if worker.started_at < began)
            self._first_worker = max(before, default=-1) + 1
        row = barren(
            workers,
            productive=self.ledger.workers,
            first=self._first_worker,
            soon_s=min(self.fleet.spec.idle_s, self.fleet.spec.lifetime_s),
            now=time.time(),
        )
        self._report([worker for worker in workers if worker.end in BAD_ENDS], "badly")
        self._report(row, "soon")
        if not row:
            self._barren = None
            return Barren()
        if self._barren is None or self._barren[0] != row[-1].id:
            said = self._tail(row[-1].id).splitlines()
            last = next((line for line in reversed(said) if line.strip() and " ends with " not in line), "")
            ended = f"exit code {row[-1].exit_code}" if row[-1].end is WorkerEnd.DONE else row[-1].reason
            why = ": ".join(filter(None, [ended, one_line(last.strip(), _LINE_MOST)]))
            self._barren = row[-1].id, Barren(seen_at=time.monotonic(), why=why or "no word")
        seen = self._barren[1]
        tried = tried_since(row, workers, patience_s=self.policy.patience_s, now=time.time())
        return Barren.of(row, seen_at=seen.seen_at, why=seen.why, tried=tried)

    def _tail(self, worker: WorkerId) -> str:
        try:
            return self.backend.compute.tail(self.fleet.id, worker)
        except (Denied, OSError) as error:  # no reason to stop the run, nor to wait
            return f"(its log cannot be read: {error})"

    # --- actions ------------------------------------------------------------------------------------------------------

    def _carry_out(self, actions: Sequence[Action]) -> bool:
        return any(self._act(action) for action in actions)

    def _act(self, action: Action) -> bool:
        """Do it; whether that has ended the run."""
        if isinstance(action, Finish):
            return self._finish(action)
        if isinstance(action, Launch):
            self._launch(action)
        else:
            self._resend()
        return False

    def _launch(self, action: Launch) -> None:
        _log.info("run %s: launching %d worker%s", self.run, count := len(action.ordinals), "s" * (count != 1))
        try:
            wait = self.fleet.launch(action.ordinals)
        except CannotLaunch as error:
            self._impossible = str(error)
            return
        if wait is not None:
            self._launch_at = time.monotonic() + wait.seconds
            self._launch_waits = wait.reason

    @property
    def _waits(self) -> str:
        """What the run waits for as far as is known; empty when for nothing."""
        dead = ""
        if self._dead and self.ledger.owed:
            queue = self.backend.queue.dead(work_queue(self.fleet.id))
            dead = f"{self._dead} messages that no worker could read or finish, in {queue}: the workers' logs say why"
        return self.full or self._launch_waits or self._feed_waits or dead

    def _remember_waits(self) -> None:
        """For other processes, when it changes."""
        what = self._waits
        if what != self._remembered_waits:
            self.backend.store.put(self._names.waits, what.encode())
            self._remembered_waits = what

    def _waits_for(self, what: str) -> None:
        """Tell what the run waits for, when that changes."""
        reason = f"waiting for {what}" if what else ""
        if reason != self.reason and not self.state.over:
            _log.warning("run %s: %s", self.run, reason or "goes on")
            with self.changed:
                self.reason = reason
                self.changed.notify_all()

    def _report(self, ended: Sequence[WorkerState], how: str) -> None:
        """Tell of workers that ended so, with what they printed last."""
        for worker in ended:
            if worker.id in self._reported:
                continue
            self._reported.add(worker.id)
            if len(self._reported) <= _REPORTED:
                last = "\n".join(self._tail(worker.id).splitlines()[-_LAST_LINES:])
                why = worker.reason or "nobody knows why"
                _log.warning(
                    "run %s: worker %s ended %s (%s): %s%s",
                    *(self.run, worker.id, how, worker.end, why, last and f"\n{last}"),
                )

    def _resend(self) -> None:
        with self.changed:
            self._resent += 1
        owed = len(self.ledger.owed)
        _log.warning("run %s: %d chunks are owed and no message is left: sending them again", self.run, owed)
        self.send_owed()

    def send_owed(self) -> None:
        """Send a message for every chunk that is owed; those that are there already do no harm."""
        with self.changed:
            owed = list(self.ledger.owed.values())
            self._quiet_since = time.monotonic()
        self._send(owed)

    def _send(self, chunks: Sequence[Chunk]) -> None:
        bodies = [chunk_message(self.backend.key, self.fleet.id, self.run, chunk) for chunk in chunks]
        self.backend.queue.send(work_queue(self.fleet.id), bodies, group=self.run)

    def _finish(self, action: Finish) -> bool:
        ledger, store = self.ledger, self.backend.store
        if not is_there(self.backend.store, self._names.spec) and self._ended_elsewhere():
            return True
        with self.changed:
            if action.state in (RunState.SUCCEEDED, RunState.FAILED) and not ledger.complete:
                return False  # an answer was found to be damaged meanwhile
            self._finishing = True
        end: dict[str, Any] = {
            "state": action.state,
            "reason": action.reason,
            "items": ledger.items if ledger.items is not None else ledger.planned_items,
            "answered": ledger.answered,
            "failed": ledger.failed,
            "slot_seconds": round(ledger.slot_seconds, 3),
            "ended_at": time.time(),
            "input_lost": action.input_lost,
        }
        try:
            store.create(self._names.end, seal(self.backend.key, self._names.end, document(end)))
            self._read_told_at = time.monotonic()  # it is kept for as long after its end
        except Exists:  # another driver was first: its word holds
            end = read_end(self.backend, self.run, self.leg) or end
        self.over(end)
        self._clean_up()
        return True

    def over(self, end: dict[str, Any]) -> None:
        """The run has ended so."""
        with self.changed:
            self.state, self.reason, self.ended_at = RunState(end["state"]), end["reason"], end["ended_at"]
            lost = end.get("input_lost")
            if lost is None:
                lost = self.ledger.items is None
            self.input_lost = (self.input_lost or self.reason) if lost else ""
            self.order += [settled.span for settled in self.ledger.salvage(self.damaged)]
            self.changed.notify_all()

    def _clean_up(self) -> None:
        """What only this run needs goes; safe to do twice, by several at once too."""
        self.backend.queue.drop(self._names.notices)
        self.backend.queue.drop_group(work_queue(self.fleet.id), self.run)
        closed = self.fleet.release(self.run)
        self.backend.store.sweep(self._names.folder, older_than_s=0.0 if closed else _HALF_WRITTEN_S)


def mark_cancelled(backend: Backend, run: RunId, leg: int) -> None:
    """Tell everybody that a run is cancelled; whoever is interrupted here has told it all the same."""
    failed: list[Exception] = []

    def mark() -> None:
        try:
            backend.store.put(RunNames(run, leg).cancel, b"")
        except Exception as error:
            failed.append(error)

    marking = threading.Thread(target=mark, name=f"starburst-cancel-{run}")  # no daemon: the interpreter waits for it
    try:
        marking.start()
    except RuntimeError:  # the interpreter is about to end, and starts no more threads
        mark()
    else:
        marking.join()
    if failed:
        raise failed[0]


_live: WeakSet[Driver] = WeakSet()
os.register_at_fork(after_in_child=_live.clear)


@at_exit
def _close_books() -> None:
    """Runs of this process that are about to end do so before it does; others go on without it."""
    until = time.monotonic() + _EXIT_S
    for driver in list(_live):
        if driver.ending:
            driver.join(until - time.monotonic())
