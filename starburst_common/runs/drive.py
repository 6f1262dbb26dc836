"""A run kept going: listen, look at everything, decide, act. A thread does so by itself, or whoever calls `step`.

State that matters is in the store: the thread may die, and another driver can take over, or work beside this one.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any
from weakref import WeakSet

from starburst_common.data.results import Results
from starburst_common.errors import Denied, NotFound
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import FleetId, Outcome, RunId, RunState, Span, WorkerState
from starburst_common.money.sizing import larger
from starburst_common.names import RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import Backend, Clock, is_there
from starburst_common.resources import Resources
from starburst_common.runs.act import Hands
from starburst_common.runs.books import Books
from starburst_common.runs.driven import mark_every_s, next_tick_s
from starburst_common.runs.legs import Resumed
from starburst_common.runs.listen import Listener
from starburst_common.runs.logged import Log
from starburst_common.runs.monthly import limiter_of
from starburst_common.runs.observe import Observer
from starburst_common.runs.onward import held_for_it, onward, paced_policy, policy_of
from starburst_common.runs.patience import at_exit
from starburst_common.runs.reconcile import Finish, decide, ends, served, waits_for
from starburst_common.runs.spec import mark_cancelled
from starburst_common.runs.stored import withdraw_items
from starburst_common.runs.view import Policy

_log = our_log()
_RETRY_S = 1.0
_EXIT_S = 10.0  #: the end of a process waits so long for runs that are about to end
_TELL_S = 600.0  #: a driver says so often that it is there, and stores how far the run is


class Driver:
    """Drives one run: by a thread from `start` on, or by `step`, which needs none and with which no time passes.

    `expected` tells how many chunks are soon to be planned, `results` where workers write values, if they do,
    `ttl_s` how long they go on without a driver, if not to the end, and `tags` which monthly budgets it comes under.
    `larger` tells what workers have on which what ran out of memory goes on, if it does. With `calm_s`, a run that has
    its input and all its workers is looked at as a whole when answers are to be listed, and so often at least.
    """

    def __init__(
        self,
        backend: Backend,
        run: RunId,
        fleet: Fleet,
        policy: Policy,
        *,
        leg: int = 0,
        expected: Callable[[], int] = lambda: 0,
        results: Results | None = None,
        ttl_s: float | None = None,
        calm_s: float = 0.0,
        tags: Mapping[str, str] | None = None,
        larger: Callable[[Resources], Resources] = larger,
        clock: Clock = time,
    ) -> None:
        self.backend, self.run, self._clock = backend, run, clock
        self.books = Books(run, clock, backend.tick_s)
        self.log = Log(self.books)
        self.moved: Callable[[FleetId], None] = lambda fleet: None  #: is told which fleet the run goes on with
        self._expected, self._results, self._tags, self._larger = expected, results, tags or {}, larger
        self.begun: Resumed | None = None  #: its leg, where nobody need have written that yet
        self._undone: list[Callable[[], object]] = []  # of a leg that has ended, and of one that begins
        self._stand(fleet, policy, leg)
        self._told_at = self._drawn_at = clock.monotonic()
        self._ticked_at, self._tick_s, self._tell_s = -math.inf, backend.tick_s, _TELL_S
        if ttl_s is not None:  # from the first tick on
            self._told_at, self._tell_s = -math.inf, min(_TELL_S, mark_every_s(ttl_s))
        self._calm_s, self._calm_until = calm_s, -math.inf
        self._withdrawn: tuple[Sequence[Span], float] = ((), 0.0)  # which items, and when their workers could know
        self._thread = threading.Thread(target=self._drive, name=f"starburst-{run}", daemon=True)

    def _stand(self, fleet: Fleet, policy: Policy, leg: int) -> None:
        """In this leg of the run."""
        backend, books = self.backend, self.books
        self.leg, self.fleet = leg, replace(fleet, spec=replace(fleet.spec, priority=policy.priority))
        self.policy = paced_policy(policy, backend)
        self._names = names = RunNames(self.run, leg)
        self.listener = Listener(backend, names, books)
        books.spent = None if policy.spent_usd is None else Decimal(str(policy.spent_usd))
        self._limiter = limiter = limiter_of(backend, names, self.fleet, self._clock, policy, self._tags)
        self._observer = Observer(backend, names, self.fleet, books, self.listener, self._expected, limiter)
        larger = partial(onward, self.policy, fleet.spec.resources, self._larger, books)
        self.hands = Hands(backend, names, self.fleet, books, self._observer, self._results, limiter, larger)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread.start()
        _live.add(self)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run and of its clean-up; whether it has come."""
        return self.books.wait(lambda: self.books.closed, timeout)

    def cancel(self) -> None:
        """End the run soon; durably so when this returns, and also where it is interrupted."""
        self.books.cancel()
        mark_cancelled(self.backend, self.run, self.leg)

    def withdraw(self, spans: Sequence[Span]) -> None:
        """Items, sent or about to be, that are not to begin any more, beside none that were: workers answer them so.

        Where none is there, this does. Calls that have begun are answered as ever.
        """
        withdraw_items(self.backend, self.run, spans)
        self._withdrawn = (tuple(spans), self._clock.monotonic())

    def outcome(self, span: Span, deadline: float | None = None) -> Outcome | None:
        """A booked outcome; see `Listener.outcome`."""
        try:
            return self.listener.outcome(span, deadline)
        finally:
            self.log.write()  # of damage, and nobody may take a further step

    def spent(self, workers: Sequence[WorkerState]) -> dict[str, Any]:
        """What these, its workers, cost, and may, for who merely looks: as of a run's status."""
        meter = self._limiter.read(workers, self.books.tally, self._clock.time())
        found = {} if meter is None else {"spent_usd": meter.spent + (self.books.spent or 0), "priced": meter.priced}
        return {"budget_usd": self.policy.budget_usd, **found}

    def recover(self) -> None:
        """Learn from the store what was planned, answered and decided before us."""
        self._observer.recover()
        self.log.write()

    def tell(self) -> None:
        """Say durably that somebody drives this run."""
        self._told_at = self._clock.monotonic()
        self.hands.tell()

    def close(self, otherwise: str = "") -> bool:
        """End a run that nobody drives, if it is due, or else stop it for this reason; whether it has ended."""
        view = self._observer.view(self.policy)
        self.log.write()
        found = ends(view, self.policy)
        if otherwise and not found:
            found = [Finish(RunState.STOPPED, otherwise, input_lost=self.books.tally.items is None)]
        return (self.books.tally.complete or view.run.cancelled or bool(otherwise)) and self.hands.carry_out(found)

    def _go_on(self, begun: Resumed) -> None:
        """Drive the next leg from here, which has begun with the end of this one. What fails here is done again."""
        old, fed, policy = self.hands, self._observer.fed_elsewhere, policy_of(self.policy, begun, self.books)
        fleet = held_for_it(self.fleet, self.run, self.leg + 1, begun)
        with self.books.changed:
            self.books.moves_on()
            self._stand(fleet, policy, self.leg + 1)
        self.moved(fleet.id)
        self._undone += [old.clean_up, self.hands.send_owed, *([self._observer.recover] if fed else [])]

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            while not self.step(self.backend.tick_s):
                pass
        except BaseException as error:
            _log.exception("run %s: its driver failed", self.run)
            self.books.close(error)
        else:
            self.books.close()

    def step(self, wait_s: float = 0.0) -> bool:
        """Listen for at most so long, and look, decide and act if a tick is due; whether the run is over and done with.

        It may be called at any time, by whoever has a loop of their own. Raises what no driver can go on after.
        """
        try:
            over = self._tried(wait_s)
        finally:
            self.log.write()
        if over:
            self.books.close()
        return over

    def _tried(self, wait_s: float) -> bool:
        """A turn, where there is no outage."""
        waits = self.books.waits
        try:
            if self.hands.onward is not None:
                self._go_on(self.hands.onward)
            for step in [*self._undone]:
                step()
                self._undone.remove(step)
            over = self._turn(wait_s)
            if not over:  # first: while that cannot be written, the outage goes on
                self.hands.keep_history()
            waits.outage, waits.dead = "", self._observer.dead()
            self.books.tell_waits()
            if not over:
                self.hands.keep_history()
        except OSError as error:
            waits.meets(error, self._clock.monotonic(), self.backend.outage_s)
            self.books.tell_waits()
            self._clock.sleep(_RETRY_S if wait_s else 0.0)
            return False
        except NotFound:
            if not self.hands.ended_elsewhere() and self.hands.onward is None:
                raise
            return self.hands.onward is None
        except Denied as error:
            self.books.impossible = str(error)
            return self.hands.carry_out([Finish(RunState.STOPPED, self.books.impossible)])
        return over

    def _turn(self, wait_s: float) -> bool:
        books = self.books
        left = min(self._ticked_at + self._tick_s, self.hands.launches_on_at) - self._clock.monotonic()
        before = books.silent
        hurry = self._listen(0.0 if books.impossible else min(max(left, 0.0), wait_s)) or books.silent > before
        if books.state.over:
            self.hands.clean_up()
            return True
        if self._decided():
            return self._end_if_due()
        if self._clock.monotonic() - self._ticked_at >= self._tick_s or hurry:
            self._ticked_at = self._clock.monotonic()
            due = self.listener.due or self._ticked_at - self._told_at > self._tell_s
            whole = hurry or due or books.silent or books.damaged or self._ticked_at >= self._calm_until
            over = self._tick() if whole else self._end_if_due()
            self._tick_s = next_tick_s(self.backend.tick_s, self._clock.monotonic() - self._ticked_at)
            return over
        self.hands.launch_on()
        return False

    def _end_if_due(self) -> bool:
        """End the run if what is known, or who cancelled it, says so; True once that is done."""
        return self.hands.carry_out(ends(self._observer.marked(self._observer.known(self.policy)), self.policy))

    def _tick(self) -> bool:
        """Look, decide, act; True once the run is finished."""
        self._observer.read_on()
        self.listener.send_damaged(self.hands.send)
        gone = self.books.silent or not is_there(self.backend.store, self._names.spec)
        if gone and (self.hands.ended_elsewhere() or self.hands.onward is not None):
            return self.hands.onward is None
        if self._clock.monotonic() - self._told_at > self._tell_s:
            self.tell()
        if self._clock.monotonic() - self._drawn_at > _TELL_S:
            self._drawn_at = self._clock.monotonic()
            self.hands.keep_history(curves=True)
        withdrawn = self._withdrawn
        view = self._observer.view(self.policy)
        for span in self.hands.answer_withdrawn(*withdrawn):
            self.listener.look_at(span)
        self.hands.launch_no_more()
        if self.hands.carry_out(decide(view, self.policy)):
            return True
        self._limiter.tell(view.bounds)
        if self._clock.monotonic() >= self.books.launch_at and self.hands.launches_on_at == math.inf:  # else it does
            self.books.waits.launch = waits_for(view, self.policy)
        calm = served(view, self.policy) and self.books.alive == self.books.at_work and not str(self.books.waits)
        self._calm_until = self._ticked_at + self._calm_s if calm else -math.inf
        return False

    def _decided(self) -> bool:
        """Whether the run is to end, as can be seen without asking anybody."""
        return self._observer.ended(self.policy)

    def _listen(self, wait_s: float) -> bool:
        """Wait for what moves the run; True if it is worth a look before the next tick."""
        books = self.books
        if books.tally.owed:
            self.listener.hear(wait_s)
            return False
        with books.changed:  # nothing is owed, so no notice will come: what can is input, or its end
            books.changed.wait_for(lambda: books.tally.owed or self._decided(), wait_s)
            return bool(books.tally.owed) and not books.alive


_live: WeakSet[Driver] = WeakSet()
os.register_at_fork(after_in_child=_live.clear)


@at_exit
def _close_books() -> None:
    """Runs of this process that are about to end do so before it does; others go on without it."""
    until = time.monotonic() + _EXIT_S
    for driver in [each for each in _live if each.books.ending]:
        driver.join(until - time.monotonic())
