"""A run's store, queue and workers in; what the decision needs out, as one `View`. Books what it sees on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from starburst_common.errors import Denied
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.headroom import Headroom
from starburst_common.ids import made_at
from starburst_common.model import RunState, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import RunNames, work_queue
from starburst_common.phrases import one_line
from starburst_common.ports import Backend, Depth, is_there
from starburst_common.runs.barren import BAD_ENDS, Barren, barren, tried_since
from starburst_common.runs.books import Books
from starburst_common.runs.events import EventKind
from starburst_common.runs.incoming import Incoming
from starburst_common.runs.legs import End
from starburst_common.runs.limiting import Limiter
from starburst_common.runs.listen import Listener
from starburst_common.runs.reasons import GIVEN_UP
from starburst_common.runs.reconcile import ends, launchable
from starburst_common.runs.sign import Watch
from starburst_common.runs.spec import is_cancelled, read_end
from starburst_common.runs.stored import aside_items
from starburst_common.runs.view import FleetView, Policy, Room, RunView, View

_ASKED, _LAST_LINES = 3, 10  #: so many workers that ended badly are asked what they said last
_HALF_REMOVED_S = 1.0
_LINE_MOST = 200  #: characters of a worker's last line
_STOPPED, _DENIED_MOST = "stopped: ", 400  #: comes before what a worker says that may not do its work; names of things


class Observer:
    """Looks at one run, for its driver."""

    def __init__(
        self,
        backend: Backend,
        names: RunNames,
        fleet: Fleet,
        books: Books,
        listener: Listener,
        expected: Callable[[], int],
        limiter: Limiter,
    ) -> None:
        self._backend, self._names, self._fleet, self._expected = backend, names, fleet, expected
        self._books, self._listener, self._clock = books, listener, books.clock
        self._limiter, self._input = limiter, Incoming(backend, names, books)
        self._gone: set[WorkerId] = set()  # workers whose end is written down, or came before the run
        self._not_by: tuple[object, ...] = ()  # what was there when the run was last found not to end
        self._asked = 0  # for the last lines of so many
        self._few_since: float | None = None  # when the run had last moved, as too few messages were last found
        self._dead = 0  # messages that ended as dead letters, as last seen
        self._dead_at = self._clock.monotonic()
        self._first_worker = -1  # ordinal; who was launched before cannot have failed this run; -1: to be seen
        self._barren: tuple[WorkerId, Barren] | None = None  # the last one of those; its end was seen by this clock

    @property
    def fed_elsewhere(self) -> bool:
        """Whether the input is, or was, another process's to feed."""
        return self._input.watch is not None

    # --- input --------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Learn from the store what was planned and answered before us."""
        self._input.watch = Watch(self._backend, self._names.run, self._clock.monotonic)
        self._input.read()
        self._listener.look()

    def read_on(self) -> None:
        """Where another process feeds the run: what it has added, and whether it lives."""
        self._input.read_on()

    def end_elsewhere(self) -> End | None:
        """How another process has ended the run, or removed it; None if it has not."""
        books, store = self._books, self._backend.store
        end = read_end(self._backend, self._names.run, self._names.leg)
        if end is None and not is_there(store, self._names.spec):
            books.gone = True
            end = self._removed()
        if end is not None and not books.gone:  # there may be input and answers that only who ended it has heard of
            if self._input.watch is not None:
                self._input.read()
            self._listener.look()
        return end

    def _removed(self) -> End:
        store, lacks = self._backend.store, self._books.tally.items is None
        if kept := self._keeps():  # it may just be on its way out
            self._clock.sleep(_HALF_REMOVED_S)
            kept = self._keeps()
        if kept:
            state, reason = RunState.DAMAGED, f"{self._names.spec} is gone from {store.place}"
        else:
            state, by = RunState.STOPPED, f", or {GIVEN_UP}" * lacks
            reason = f"its store is gone: somebody removed it{by}: nothing of it is kept in {store.place}"
        return End(state=state, reason=reason, ended_at=self._clock.time(), input_lost=lacks)

    def _keeps(self) -> bool:
        """Whether anything is kept of it but what comes late."""
        return not all(map(self._names.comes_late, self._backend.store.list(self._names.folder)))

    # --- the view -----------------------------------------------------------------------------------------------------

    def view(self, policy: Policy) -> View:
        """Look at everything the decision needs."""
        books = self._books
        if books.tally.owed and self._listener.due:
            self._listener.look(but_new=True)
        if policy.escalate and books.tally.owed:
            books.tally.set_aside(aside_items(self._backend, self._names))
        workers = self._fleet.tended()
        books.look_at_workers(workers)
        books.bounds, books.meter = self._limiter.look(workers, books.tally), self._limiter.meter
        row = self._barren_of(workers, policy)
        known = self.known(policy).but(expected=self._expected())
        quiet = known.now - known.run.quiet_since > policy.resend_after_s
        wanted = launchable(known, policy)
        turn = self._fleet.turn(workers, wanted, self._clock.time())
        room = self._fleet.headroom(workers, turn) if wanted > books.alive else Headroom()
        return self.marked(known).but(
            depth=self._depth(known) if known.run.owed and quiet else known.run.depth,
            launched=max((worker.ordinal for worker in workers), default=-1) + 1,
            barren=row,
            dead=self._dead_letters(known.now, policy, quiet=quiet) if known.run.owed else 0,
            resent=books.resent,
            surplus=turn.surplus,
            unplaced=sum(map(_unplaced, workers)) if self._fleet.spec.resources.on_ec2 else 0,
            **self._limiter.room(room, workers),
        )

    def _depth(self, known: View) -> Depth:
        """The run's messages: as many as chunks are owed, unless the look before has found fewer, too."""
        depth = self._backend.queue.depth(work_queue(self._fleet.id), group=self._names.run)
        few = sum(depth) < known.run.owed
        few_since, self._few_since = self._few_since, known.run.quiet_since if few else None
        return depth if not few or few_since == known.run.quiet_since else known.run.depth

    def marked(self, view: View) -> View:
        """The same, with what others have said of it."""
        if view.run.cancelled:
            return view
        return view.but(cancelled=is_cancelled(self._backend, self._names.run, self._names.leg))

    def known(self, policy: Policy) -> View:
        """What the decision needs as far as we know it without asking anybody."""
        books, tally = self._books, self._books.tally
        with books.changed:
            aside = sum(span in tally.owed for span in tally.aside)
            owed = len(tally.owed) - aside
            run = RunView(
                items=tally.items,
                answered=tally.answered,
                failed=tally.failed,
                owed=owed,
                aside=aside,
                single=len(tally.owed.keys() - books.speculated) if policy.speculate else 0,
                depth=Depth(owed, 0),
                quiet_since=books.quiet_since,
                cancelled=books.cancelled,
                breaker=tally.all_fail_alike() if policy.breaker else "",
                input_lost=books.input_lost,
                unheard_s=self._input.unheard_s,
                refused=books.refused,
                item_s=tally.slot_seconds / tally.answered if tally.answered else 0.0,
            )
            room = Room(launch_at=books.launch_at, impossible=books.impossible)
            fleet = FleetView(alive=books.alive, at_work=books.at_work)
            return View(now=self._clock.monotonic(), run=run, fleet=fleet, room=room, bounds=books.bounds)

    def ended(self, policy: Policy) -> bool:
        """Whether the run is to end by that. While nothing is new that could end it only time can, which ticks see."""
        books, tally = self._books, self._books.tally
        answered = tally.items is not None and tally.answered
        new = (answered, tally.failed, books.cancelled, books.refused, books.input_lost, books.impossible)
        if new == self._not_by or not ends(self.known(policy), policy):
            self._not_by = new
            return False
        return True

    # --- dead letters -------------------------------------------------------------------------------------------------

    def _dead_letters(self, now: float, policy: Policy, *, quiet: bool) -> int:
        """How many there are, asked now and then."""
        if now - self._dead_at > (policy.resend_after_s if quiet else self._backend.look_s):
            self._dead_at = now
            name = self._backend.queue.dead(work_queue(self._fleet.id))
            self._dead = sum(self._backend.queue.depth(name, group=self._names.run))
        return self._dead

    def dead(self) -> str:
        """What there is of them, in words; empty for nothing that anybody waits for."""
        if not self._dead or not self._books.tally.owed:
            return ""
        queue = self._backend.queue.dead(work_queue(self._fleet.id))
        return f"{self._dead} messages that no worker could read or finish, in {queue}: the workers' logs say why"

    # --- workers that ended for nothing -------------------------------------------------------------------------------

    def _barren_of(self, workers: Sequence[WorkerState], policy: Policy) -> Barren:
        """Those that ended for nothing, written down; how the last one did is asked once."""
        if self._first_worker < 0:
            began = made_at(self._names.run) if self._input.watch is not None else math.inf
            before = (worker.ordinal for worker in workers if worker.started_at < began)
            self._first_worker = max(before, default=-1) + 1
            self._gone = {worker.id for worker in workers if worker.end and worker.stopped_at < began}
        row = barren(
            workers,
            productive=self._books.tally.workers,
            first=self._first_worker,
            soon_s=min(self._fleet.spec.pace.idle_s, self._fleet.spec.pace.lifetime_s),
            now=self._clock.time(),
        )
        self._lost([worker for worker in workers if worker.end in BAD_ENDS], "badly")
        self._lost(row, "soon")
        self._taken(worker for worker in workers if worker.end is WorkerEnd.SPOT)
        if not row:
            self._barren = None
            return Barren()
        if self._barren is None or self._barren[0] != row[-1].id:
            self._barren = row[-1].id, Barren(seen_at=self._clock.monotonic(), why=self._why(row[-1]))
        seen = self._barren[1]
        tried = tried_since(row, workers, patience_s=policy.patience_s, now=self._clock.time())
        return Barren.of(row, seen_at=seen.seen_at, why=seen.why, tried=tried)

    def _why(self, worker: WorkerState) -> str:
        """How it ended, with the last that it said."""
        said = self._tail(worker.id).splitlines()
        last = next((line for line in reversed(said) if line.strip() and " ends with " not in line), "")
        if worker.end is WorkerEnd.DENIED and (told := last.partition(_STOPPED)[2]):
            return one_line(told, _DENIED_MOST)
        ended = f"exit code {worker.exit_code}" if worker.end is WorkerEnd.DONE else worker.reason
        return ": ".join(filter(None, [ended, one_line(last.strip(), _LINE_MOST)])) or "no word"

    def _lost(self, ended: Sequence[WorkerState], how: str) -> None:
        """Write down which workers ended so, of the first ones with what they printed last."""
        for worker in ended:
            if worker.id in self._gone:
                continue
            said = self._tail(worker.id) if self._asked < _ASKED else ""
            self._gone.add(worker.id)
            self._asked += 1
            why = worker.reason or "nobody knows why"
            self._books.happened(
                EventKind.LOST,
                f"worker {worker.id} ended {how} ({worker.end}): {why}",
                count=1,
                said="\n".join(said.splitlines()[-_LAST_LINES:]),
            )

    def _taken(self, workers: Iterable[WorkerState]) -> None:
        for worker in workers:
            if worker.id not in self._gone:
                self._gone.add(worker.id)
                self._books.happened(EventKind.TAKEN, f"worker {worker.id} was taken back: {worker.reason}", count=1)

    def _tail(self, worker: WorkerId) -> str:
        try:
            return self._backend.compute.tail(self._fleet.id, worker)
        except (Denied, OSError) as error:  # no reason to stop the run, nor to wait
            return f"(its log cannot be read: {error})"


def _unplaced(worker: WorkerState) -> bool:
    """Whether one that is to have an instance has none yet."""
    given = worker.granted
    return worker.phase is WorkerPhase.STARTING and given is not None and bool(given.capacity) and not given.instance
