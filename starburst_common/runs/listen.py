"""Notices and listings in, booked outcomes out; those that are damaged are told, and owed again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starburst_common.errors import NoSpace, NotFound, Refused, Unavailable, UnknownVersion
from starburst_common.model import Chunk, Outcome, Span
from starburst_common.names import GENERATIONS, RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.runs.books import Books
from starburst_common.runs.events import EventKind
from starburst_common.runs.messages import Notice, read_notice
from starburst_common.runs.outcomes import Summary, read_outcome
from starburst_common.runs.stored import find_outcome, planned_chunk, stored_summary

_log = our_log()
_RETRY_S = 1.0
_NOTICES_KEPT = 10  #: booked notices are deleted by so many, and a request brings as many at most
_GATHER_S = 0.05  #: where requests are charged, the next notices have so long to come together
_LISTING_SHARE = 0.03  #: of the driver's time goes into listings at most
_FULL_S = 15.0  #: a worker that waits for space says so more often


@dataclass(slots=True)
class _Listed:
    """Outcomes as a listing shows them."""

    spans: dict[Span, tuple[int, int]]  #: how many generations, and the size of the first
    full_at: float  #: when a worker last said that it has no space
    newest: float  #: when one last settled


class Listener:
    """Of one run's outcomes."""

    def __init__(self, backend: Backend, names: RunNames, books: Books) -> None:
        self._backend, self._names, self._books, self._clock = backend, names, books, books.clock
        self._generations: dict[Span, int] = {}  # so many were looked at, where it was not the first that was booked
        self._sent_again: dict[Span, int] = {}  # after so many of its generations were found to be damaged
        self._damage_told = False
        self._full = (-math.inf, 0.0)  # when a worker last said so, and when we saw that
        self._heard: list[str] = []  # receipts of booked notices
        self._list_at = self._clock.monotonic() + backend.look_s / 2
        self._unheard: frozenset[Span] = frozenset()  # outcomes of the last listing that no notice had told of yet

    # --- notices ------------------------------------------------------------------------------------------------------

    def hear(self, wait_s: float) -> None:
        """Book the notices that are there."""
        queue = self._backend.queue
        try:
            leased = queue.receive(self._names.notices, limit=10, lease_s=60.0, wait_s=wait_s)
        except NotFound:
            self._books.silent = True  # another driver has finished the run; the next tick sees its end
            self._clock.sleep(min(wait_s, 0.05))
            return
        for message in leased:
            try:
                notice = read_notice(self._backend.key, self._names.run, message.body)
            except Refused as error:
                self._books.happened(EventKind.DAMAGED, f"refused a notice: {error}")
                continue
            if notice.summary is not None and self._fits(notice):
                self._books.book(notice.summary, notice.outcome)
            else:
                self.look_at(notice.span)
        if leased:
            self._heard += [message.receipt for message in leased]
            whole = len(self._heard) - len(self._heard) % _NOTICES_KEPT  # the others go with the queue, if they do not
            if whole:  # come again, which changes nothing
                queue.delete(self._names.notices, self._heard[:whole])
                self._heard = self._heard[whole:]
            if self._backend.charged and len(leased) < _NOTICES_KEPT and wait_s > _GATHER_S:
                self._clock.sleep(_GATHER_S)

    def _fits(self, notice: Notice) -> bool:
        """Whether it tells nothing else of its chunk than is booked, if anything is."""
        if notice.summary is None or notice.span in self._books.damaged:
            return False
        return self._books.as_told(notice.summary)

    # --- listings -----------------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time for a listing."""
        return self._clock.monotonic() > self._list_at

    def look(self, *, but_new: bool = False) -> None:
        """The truth: which outcomes there are; `but_new` leaves those to their notices that no listing has seen before.

        Notices that another driver hears never come to us. So the next listing is due whether we hear of anything or
        not: in half of `look_s`, or later where listings are long.
        """
        began = self._clock.monotonic()
        listed, tally = self._listed(), self._books.tally
        unheard = frozenset(
            span
            for span, (generations, _) in listed.spans.items()
            if generations > self._generations.get(span, int(tally.settled(span)))
        )
        now = self._clock.monotonic()
        self._see_space(listed, now)
        self._list_at = now + max(self._backend.look_s / 2, (now - began) / _LISTING_SHARE)
        wanted = unheard & self._unheard if but_new else unheard
        self._unheard = unheard
        reopened = tally.reopened
        for span in sorted(wanted):
            self.look_at(span, *listed.spans[span])
        if tally.reopened > reopened:  # and what is delegated otherwise now
            self.look()

    def _listed(self) -> _Listed:
        listed = _Listed({}, -math.inf, -math.inf)
        for entry in self._backend.store.entries(self._names.outcomes):
            if entry.key == self._names.full:
                listed.full_at = entry.written_at
            span = self._names.settled(entry.key)
            if span is None:
                continue
            listed.newest = max(listed.newest, entry.written_at)
            generations, size = listed.spans.get(span, (0, entry.size))
            listed.spans[span] = (generations + 1, size)
        return listed

    def _see_space(self, listed: _Listed, now: float) -> None:
        if listed.full_at != self._full[0]:
            self._full = (listed.full_at, now)
        waits = listed.full_at > listed.newest and now - self._full[1] < _FULL_S
        self._books.waits.space = str(NoSpace.on(self._backend.store.place)) if waits else ""

    def look_at(self, span: Span, generations: int = 1, size: int | None = None) -> None:
        """Book an outcome as the store has it, in so many generations; if need be, in place of an earlier one.

        Values are read only where there was damage, which does not show in the summary alone.
        """
        try:
            if generations == 1 and size != 0 and span not in self._generations:
                summary = stored_summary(self._backend, self._names.outcome(span), size)
            else:
                summary = Summary.of(find_outcome(self._backend, self._names.run, span)[0])
        except NotFound:
            return
        except UnknownVersion as error:
            self._books.refused = str(error)
            return
        except Refused as error:
            self._found_damaged(span, str(error), generations)
            return
        if generations > 1:
            self._generations[span] = generations
        if self._books.as_told(summary) or self._unbook(span):
            self._books.book(summary, None)

    # --- values -------------------------------------------------------------------------------------------------------

    def outcome(self, span: Span, deadline: float | None = None) -> Outcome | None:
        """A booked outcome, from memory or the store: an outage is waited out, since the answer is there.

        None where it was damaged since: while the run goes on, its items will be answered again; after that they are
        `lost`. `deadline` is on the monotonic clock. Raises TimeoutError.
        """
        body = self._books.inline(span)
        if body is not None:
            return read_outcome(self._backend.key, self._names.outcome(span), body)
        while True:
            try:
                return self._stored_outcome(span)
            except Unavailable as error:
                left = _RETRY_S if deadline is None else deadline - self._clock.monotonic()
                if left <= 0:
                    raise TimeoutError(
                        f"run {self._names.run}: its answers cannot be read in time; they are kept: {error}"
                    ) from error
                _log.warning("run %s: its answers are waited for: %s", self._names.run, error)
                self._clock.sleep(min(left, _RETRY_S))

    def _stored_outcome(self, span: Span) -> Outcome | None:
        try:
            outcome, _ = find_outcome(self._backend, self._names.run, span)
        except UnknownVersion:
            raise
        except (NotFound, Refused) as error:
            self._found_damaged(span, str(error))
            return None
        if not self._books.as_told(Summary.of(outcome)):
            self.look_at(span, 2)  # the one that was booked is damaged, and somebody has answered it again
            return None
        return outcome if self._books.tally.booked(span) is not None else None

    # --- damage -------------------------------------------------------------------------------------------------------

    def _found_damaged(self, span: Span, error: str, generations: int = 1) -> None:
        """An outcome is as good as none, so its chunk is owed and is sent again; not for ever."""
        books = self._books
        with books.changed:
            self._generations[span] = max(self._generations.get(span, 0), generations)
            books.damaged[span] = error
            booked = books.tally.booked(span) is not None
            if not self._damage_told:
                what = "and the run is over" if books.too_late else "its items run again"
                books.happened(EventKind.DAMAGED, f"an answer that was stored is damaged, {what}: {error}")
                self._damage_told = True
            if books.too_late:
                return
            if generations >= GENERATIONS:
                books.refused = error
        if booked:
            self._sent_again.pop(span, None)
            self._unbook(span)

    def _unbook(self, span: Span) -> bool:
        chunk, key = None, self._names.outcome(span)
        try:
            chunk = planned_chunk(self._backend, self._names.run, span)
        except (NotFound, Refused) as error:
            self._books.refused = f"{key} is damaged, and {error}"
        taken = self._books.unbook(span, chunk, key)
        if taken:
            self._list_at = 0.0  # what it delegated to may be settled
        return taken

    def send_damaged(self, send: Callable[[Sequence[Chunk]], None]) -> None:
        """Chunks whose outcomes are damaged are sent, once for each that is."""
        books = self._books
        with books.changed:
            again = {span: self._generations[span] for span in books.damaged if span in books.tally.owed}
            again = {span: seen for span, seen in again.items() if seen > self._sent_again.get(span, 0)}
            chunks = [books.tally.owed[span] for span in again]
        if chunks:
            send(chunks)
            self._sent_again.update(again)
