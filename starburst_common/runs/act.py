"""The reconciler's actions in, carried out: launch, send again, finish and clean up. Each is safe to do twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from starburst_common.data.results import Results
from starburst_common.errors import CannotLaunch, Denied, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import Chunk, Outcome, RunState, Span, WorkerId, without
from starburst_common.money.sizing import size_told
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import Backend, is_there
from starburst_common.runs.accounts import keep_entry
from starburst_common.runs.books import Books
from starburst_common.runs.events import EventKind
from starburst_common.runs.failures import WITHDRAWN
from starburst_common.runs.history import keep_history
from starburst_common.runs.legs import End, Resumed
from starburst_common.runs.limiting import Limiter
from starburst_common.runs.manifest import write_manifest
from starburst_common.runs.messages import chunk_message
from starburst_common.runs.observe import Observer
from starburst_common.runs.outcomes import outcome_parts
from starburst_common.runs.reconcile import Action, Escalate, Finish, LaunchWorkers, Speculate, Withdraw
from starburst_common.runs.spec import mark_cancelled, write_end
from starburst_common.runs.stored import create_outcome

READ_S = 600.0  #: a run is kept for so long after somebody read its answers
_READS = 3  #: so often a reader says in that time that it reads on
_SEEN_S = 15.0  #: a worker that is at work is seen to be so within that time
_HALF_WRITTEN_S = 2.0  #: a file that nobody has added to for so long was left by a worker that died


class Hands:
    """What a driver does for its run."""

    def __init__(
        self,
        backend: Backend,
        names: RunNames,
        fleet: Fleet,
        books: Books,
        observer: Observer,
        results: Results | None,
        limiter: Limiter,
        larger: Callable[[], Resumed],
    ) -> None:
        """`larger` tells how what ran out of memory goes on."""
        self._results, self._limiter, self._larger = results, limiter, larger
        self._backend, self._names, self._fleet, self._observer = backend, names, fleet, observer
        self._books, self._clock = books, books.clock
        self._read_told_at = -math.inf  # when somebody was last said to read its answers
        self.since = self._kept = books.events.number  # of this leg; the number of the last event that is stored
        self.onward: Resumed | None = None  #: the leg that the run goes on in, once this one has ended so
        self._withdrawn: set[WorkerId] = set()  # for others' sake, told of
        self._unlaunched: LaunchWorkers | None = None
        self.launches_on_at = math.inf  #: a launch that had to wait goes on then, before the next tick

    def carry_out(self, actions: Sequence[Action]) -> bool:
        """Do them, one after another; whether one has ended the run."""
        return any(self.act(action) for action in actions)

    def act(self, action: Action) -> bool:
        """Do it; whether that has ended the run."""
        if isinstance(action, Finish):
            return self._finish(action)
        if isinstance(action, LaunchWorkers):
            self._launch(action)
        elif isinstance(action, Speculate):
            self._speculate()
        elif isinstance(action, Withdraw):
            self._withdraw(action)
        elif isinstance(action, Escalate):
            return self._escalate()
        else:
            self._resend()
        return False

    def _launch(self, action: LaunchWorkers) -> None:
        books = self._books
        self.launch_no_more()
        self._limiter.tell(books.bounds, len(action.ordinals))  # first: we may die
        try:
            wait = self._fleet.launch(action.ordinals)
        except CannotLaunch as error:
            books.impossible = str(error)
            return
        if wait is None:
            books.launched(action.ordinals)
            return
        books.waits.launch = wait.reason  # the next look shows how many were started all the same
        at = self._clock.monotonic() + wait.seconds
        if wait.seconds < self._backend.tick_s:
            self._unlaunched, self.launches_on_at = action, at
        else:
            books.launch_at = at

    def _withdraw(self, action: Withdraw) -> None:
        new = {*self._fleet.withdraw(action.count)} - self._withdrawn
        self._withdrawn |= new
        if new:
            self._books.happened(EventKind.WITHDRAWN, count=len(new))

    def launch_on(self) -> None:
        """Go on with a launch that had to wait for less than a tick, without a look at all workers before."""
        if self._unlaunched is not None and self._clock.monotonic() >= self.launches_on_at:
            self._launch(self._unlaunched)

    def launch_no_more(self) -> None:
        """Whether to go on with it is decided anew."""
        self._unlaunched, self.launches_on_at = None, math.inf

    def _resend(self) -> None:
        with self._books.changed:
            self._books.resent += 1
            self._books.happened(EventKind.RESENT, count=len(self._books.tally.owed))
        self.send_owed()

    def _speculate(self) -> None:
        books = self._books
        with books.changed:
            chunks = [chunk for span, chunk in books.tally.owed.items() if span not in books.speculated]
            books.speculated.update(chunk.span for chunk in chunks)
            books.happened(EventKind.SPECULATED, count=len(chunks))
        self.send(chunks, again=True)

    def send_owed(self) -> None:
        """Send a message for every chunk that is owed; those that are there already do no harm."""
        with self._books.changed:
            tally = self._books.tally
            owed = [chunk for span, chunk in tally.owed.items() if span not in tally.aside]
            self._books.quiet_since = self._clock.monotonic()
        self.send(owed, again=True)

    def send(self, chunks: Sequence[Chunk], *, again: bool = False) -> None:
        """Send a message for each."""
        run, fleet = self._names.run, self._fleet.id
        bodies = [chunk_message(self._backend.key, fleet, run, chunk, again=again) for chunk in chunks]
        self._backend.queue.send(work_queue(fleet), bodies, group=run)

    def answer_withdrawn(self, spans: Sequence[Span], since: float) -> list[Span]:
        """Chunks of these items, answered in place of workers, where none was there once it was said.

        Who comes later begins nothing of it.
        """
        books = self._books
        if not spans or books.at_work or (books.alive and self._clock.monotonic() - since < _SEEN_S):
            return []
        with books.changed:
            chunks = [span for span in books.tally.owed if not without(span, spans)]
        for span in chunks:
            outcome = Outcome(span=span, worker="", seconds=0.0, failures=tuple(WITHDRAWN.of_all([span])))
            parts = outcome_parts(self._backend.key, self._names.outcome(span), outcome)
            create_outcome(self._backend, self._names.run, span, parts)
        return chunks

    def keep_history(self, *, curves: bool = False) -> None:
        """Store what happened, for other processes, where something is new that nothing else of the run tells.

        With `curves` also where only more was answered since, of a run that has a history.
        """
        events = self._books.events
        if events.told > self._kept or (curves and events.told and events.number > self._kept):
            with self._books.changed:
                number, seen = events.number, events.since(self.since)
            keep_history(self._backend, self._names, seen)
            self._kept = number

    # --- its end ------------------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Say durably that somebody drives this run, or reads its answers."""
        self._backend.store.put(self._names.driven, b"")

    def reads_on(self) -> None:
        """Say now and then, once it is over, that somebody reads its answers; where that cannot be, nothing is lost."""
        books, now = self._books, self._clock.monotonic()
        if books.state.over and not books.gone and now - self._read_told_at > READ_S / _READS:
            self._read_told_at = now
            with suppress(Unavailable, Denied):
                self.tell()

    def _finish(self, action: Finish) -> bool:
        books, store = self._books, self._backend.store
        if not is_there(store, self._names.spec) and self.ended_elsewhere():
            return True
        if not books.finishing(action.state):
            return False
        end = self._ended(action)
        if self._results is not None:
            from starburst_common.runs.priced import ended_cost  # most runs have no manifest

            cost = partial(ended_cost, self._backend, self._names.run, end)
            write_manifest(self._backend, self._results, end, [settled.span for settled in books.tally.spans()], cost)
        held = write_end(self._backend, self._names.run, self._names.leg, end)
        if end.input_lost and not is_there(store, self._names.spec):
            store.delete_folder(self._names.folder)  # who began it has taken it back meanwhile, but for this end
        if held is end:
            self._read_told_at = self._clock.monotonic()  # it is kept for as long after its end
        return self._over(held)

    def _ended(self, action: Finish) -> End:
        """How it has, with what there is to tell of it then."""
        books = self._books
        self.keep_history(curves=True)
        tally, workers = books.tally, self._fleet.states() if self._backend.charged else []
        if self._backend.charged:  # some may have begun since they were looked at
            books.bounds, books.meter = self._limiter.look(workers, tally), self._limiter.meter
        untold = self._limiter.beside.untold(workers)
        return End(
            state=action.state,
            reason=action.reason,
            items=tally.items if tally.items is not None else tally.planned_items,
            answered=tally.answered,
            failed=tally.failed,
            kinds=dict(tally.kinds),
            workers=len(tally.workers - {""}),
            withdrawn=tally.withdrawn,
            slot_seconds=round(tally.slot_seconds, 3),
            attempts=tally.attempts,
            memory_mib=tally.memory_mib,
            tolls=dict(tally.tolls + untold),
            untold=dict(untold),
            outcomes=len(tally.spans()),
            ended_at=self._clock.time(),
            input_lost=action.input_lost,
            limit=action.limit,
            spent_usd=None if (spent := books.spent_usd()) is None else round(float(spent), 9),
            priced=books.priced,
        )

    def _escalate(self) -> bool:
        """End this leg, and have what ran out of memory go on with larger workers; whether that has ended the run."""
        names, store = self._names, self._backend.store
        onward, count = self._larger(), len(self._books.tally.aside)
        has = self._fleet.spec.resources.memory_mib
        why = (
            f"{count} item{'s' * (count != 1)} ran out of memory with {size_told(has)}, and "
            f"go{'es' * (count == 1)} on with {size_told(onward.memory_mib)}"
        )
        end = replace(self._ended(Finish(RunState.STOPPED, why)), onward=onward)
        held = write_end(self._backend, names.run, names.leg, end)
        if is_there(store, names.cancel):  # by who does not know yet that it goes on
            mark_cancelled(self._backend, names.run, names.leg)
        return self._over(held)

    def _over(self, end: End) -> bool:
        """This leg has ended so: whether the run has, too."""
        if end.onward is not None:
            if self.onward is None:
                self._books.happened(EventKind.ESCALATED, end.reason, at=end.ended_at)
            self.onward = end.onward
            return False
        self._books.over(end)
        self.clean_up()
        return True

    def ended_elsewhere(self) -> bool:
        """Whether another process has ended the run, or removed it; then it is over for us, too."""
        end = self._observer.end_elsewhere()
        return end is not None and self._over(end)

    def clean_up(self) -> None:
        """What only this run needs goes; safe to do twice, by several at once too."""
        backend = self._backend
        keep_entry(backend, self._names.run)  # first: while its fleet is held for it, others know that this is to do
        backend.queue.drop(self._names.notices)
        backend.queue.drop_group(work_queue(self._fleet.id), self._names.run)
        closed = self._fleet.release(self._names.run)
        if backend.turns is not None:  # another run on its fleet says so again
            backend.turns.leave(self._fleet.id, stays=not closed)
        backend.store.sweep(self._names.folder, older_than_s=0.0 if closed else _HALF_WRITTEN_S)
