"""Whatever is settled in whatever order, however often: every item is answered once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starburst_common import WorkerLost, starburst_map
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import (
    Batch,
    Chunk,
    Failure,
    FailureKind,
    FleetId,
    Outcome,
    PackRef,
    RunId,
    Span,
    WorkerId,
    spans_of,
    without,
)
from starburst_common.names import RunNames, work_queue
from starburst_common.options import Options
from starburst_common.ports import Backend, Pace
from starburst_common.runs.answers import answers
from starburst_common.runs.drive import Driver
from starburst_common.runs.outcomes import Summary, outcome_parts, read_outcome
from starburst_common.runs.tally import Tally
from starburst_common.runs.view import Policy
from starburst_common.tolerance import Tolerance
from starburst_common.wire.frames import FrameWriter
from starburst_worker.duty import Duty
from starburst_worker.parts import Part
from starburst_worker.settle import LeasedChunk, Settler
from tests.leftovers import nothing_left

KEY = b"k" * 32


def chunk(lo: int, hi: int) -> Chunk:
    """Some items."""
    return Chunk(span=Span(lo, hi), function="f", ref=PackRef("p", 0, 1))


def outcome(span: Span, answered: set[int], failed: set[int], cuts: set[int] = frozenset()) -> Outcome:
    """Values and failures for some items, the rest delegated, cut up at `cuts`."""
    batches = []
    for part in spans_of(sorted(answered - failed)):
        writer = FrameWriter()
        for index in range(*part):
            writer.add(index)
        batches.append(Batch(span=part, frame=memoryview(b"".join(writer.parts()))))
    failures = [Failure(index=index, kind=FailureKind.USER, error="E", message="") for index in sorted(failed)]
    rest = []
    for part in without(span, spans_of(sorted(answered))):
        edges = [part.lo, *sorted(cut for cut in cuts if part.lo < cut < part.hi), part.hi]
        rest += [chunk(lo, hi) for lo, hi in pairwise(edges)]
    return Outcome(
        span=span, worker="w", seconds=1.0, batches=tuple(batches), failures=tuple(failures), rest=tuple(rest)
    )


@st.composite
def outcomes(draw: st.DrawFn, span: Span) -> Outcome:
    """One thing that may become of a chunk: at least one item is answered, or it is cut into several chunks."""
    items = st.integers(span.lo, span.hi - 1)
    answered = draw(st.sets(items) | st.just(set(range(*span))))
    cuts = draw(st.sets(items))
    failed = draw(st.sets(st.sampled_from(sorted(answered)))) if answered else set()
    made = outcome(span, answered, failed, cuts)
    if [rest.span for rest in made.rest] == [span]:
        return outcome(span, {span.lo}, set(), cuts)
    return made


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Chunk], list[Outcome]]:
    """Planned chunks, and every outcome that it takes to answer all their items."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    edges = [sum(sizes[:at]) for at in range(len(sizes) + 1)]
    planned = [chunk(lo, hi) for lo, hi in pairwise(edges)]
    todo, made = list(planned), []
    while todo:
        made.append(draw(outcomes(todo.pop().span)))
        todo += made[-1].rest
    return planned, made


def check_tiling(tally: Tally, stored: dict[Span, Outcome], items: int) -> None:
    """Walking from answer to answer meets every item once, in an outcome that does answer it."""
    met: list[int] = []
    while len(met) < items:
        found = tally.answer_at(len(met))
        assert found is not None
        part, whose = found
        assert part.lo == len(met)
        assert part.size > 0
        told = {index for first, some in answers(stored[whose]) for index, _ in enumerate(some, first)}
        met += [index for index in range(*part) if index in told]
    assert met == list(range(items))
    assert tally.answer_at(items) is None


@given(st.data(), trees())
def test_every_item_is_answered_once(data: st.DataObject, tree: tuple[list[Chunk], list[Outcome]]) -> None:
    """Outcomes arrive in any order, some twice, children before parents: in the end all is answered, nothing owed."""
    planned, made = tree
    items = planned[-1].span.hi
    order = data.draw(st.permutations(made + data.draw(st.lists(st.sampled_from(made)))))
    tally = Tally()
    tally.plan(planned)
    tally.items = items
    seen: set[Span] = set()
    came: list[Span] = []
    for one in order:
        came += [booked.span for booked in tally.settle(Summary.of(one))]
        assert tally.settled(one.span)
        assert {settled.span for settled in tally.spans()} == set(came)
        seen.add(one.span)
        if len(seen) == len(made):
            break
    assert sorted(came) == sorted(one.span for one in made), "each is booked once, when the one that delegates to it is"
    assert tally.complete
    assert tally.owed == {}
    assert tally.answered == tally.planned_items == items
    assert tally.failed == sum(len(one.failures) for one in made)
    assert tally.slot_seconds == len(made)
    failed = [failure.index for one in made for failure in one.failures]
    assert tally.first_failure == min(failed, default=None)
    assert [settled.span for settled in tally.spans()] == sorted(one.span for one in made)
    check_tiling(tally, {one.span: one for one in made}, items)


@given(st.data(), trees())
def test_a_tally_written_anew_from_the_store_is_the_same(
    data: st.DataObject, tree: tuple[list[Chunk], list[Outcome]]
) -> None:
    """Who attaches and lists the outcomes, in the order of their keys, owes and knows what the first driver does."""
    planned, made = tree
    some = data.draw(st.lists(st.sampled_from(made), unique_by=lambda one: one.span))
    live, anew = Tally(), Tally()
    for tally, order in ((live, some), (anew, sorted(some, key=lambda one: str(one.span)))):
        tally.plan(planned)
        for one in order:
            key = f"runs/r/outcomes/{one.span}"
            tally.settle(Summary.of(read_outcome(KEY, key, b"".join(outcome_parts(KEY, key, one)))))
    for name in ("answered", "failed", "withdrawn", "owed", "first_failure", "alike", "planned_items"):
        assert getattr(live, name) == getattr(anew, name), name
    assert live.spans() == anew.spans()


class Runs(RuleBasedStateMachine):
    """A run whose chunks are settled by rivals: the first to store wins, losers tell of the winner's outcome again."""

    ITEMS = 24

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()
        self.planned = 0
        self.sent: list[Chunk] = []
        self.stored: dict[Span, Outcome] = {}
        self.notices: list[Outcome] = []

    @rule(size=st.integers(1, 8))
    def plan(self, size: int) -> None:
        """The input goes on, and ends."""
        if self.planned < self.ITEMS:
            new = chunk(self.planned, min(self.planned + size, self.ITEMS))
            self.planned = new.span.hi
            self.tally.plan([new])
            self.sent.append(new)
            if self.planned == self.ITEMS:
                self.tally.items = self.ITEMS

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A worker is done with a chunk that was ever sent, perhaps long after another one was."""
        if self.sent:
            mine = data.draw(st.sampled_from(self.sent))
            made = data.draw(outcomes(mine.span))
            winner = self.stored.setdefault(mine.span, made)
            if winner is made:
                self.sent += made.rest
            self.notices.append(winner)

    @rule(data=st.data())
    def settle_what_nobody_owes(self, data: st.DataObject) -> None:
        """A worker that has lost its chunk settles a part of it, which perhaps nobody delegates to, and tells of it."""
        if self.sent:
            whole = data.draw(st.sampled_from(self.sent)).span
            lo = data.draw(st.integers(whole.lo, whole.hi - 1))
            span = Span(lo, data.draw(st.integers(lo + 1, whole.hi)))
            self.notices.append(self.stored.setdefault(span, outcome(span, set(range(*span)), set())))

    @rule(data=st.data(), keep=st.booleans())
    def hear(self, data: st.DataObject, keep: bool) -> None:
        """A notice arrives, in no order, and perhaps again later."""
        if self.notices:
            at = data.draw(st.integers(0, len(self.notices) - 1))
            self.tally.settle(Summary.of(self.notices[at]))
            if not keep:
                del self.notices[at]

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        """What is answered and what is owed never exceed what there is; complete means all."""
        assert self.tally.answered <= self.planned == self.tally.planned_items
        assert self.tally.complete == (self.tally.answered == self.ITEMS)
        assert not set(self.tally.owed) & {settled.span for settled in self.tally.spans()}

    @invariant()
    def what_is_not_answered_is_owed(self) -> None:
        """Every planned item is in an answer or in an owed chunk: none is forgotten."""
        covered = [part for settled in self.tally.spans() for part in settled.answered]
        assert without(Span(0, self.planned), [*covered, *self.tally.owed]) == () or self.planned == 0

    def teardown(self) -> None:
        """Let it come to its end: all is planned, every owed chunk settled, every notice heard."""
        while self.planned < self.ITEMS:
            self.plan(self.ITEMS)
        for one in self.notices:
            self.tally.settle(Summary.of(one))
        while self.tally.owed:
            span = next(iter(self.tally.owed))
            made = self.stored.setdefault(span, outcome(span, set(range(*span)), set()))
            self.tally.settle(Summary.of(made))
        assert self.tally.complete
        check_tiling(self.tally, self.stored, self.ITEMS)


Runs.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestRuns = Runs.TestCase


# --- the circuit breaker ----------------------------------------------------------------------------------------------


def failing(tally: Tally, lo: int, errors: list[str]) -> None:
    """Items from `lo` on fail with these errors."""
    span = Span(lo, lo + len(errors))
    failures = tuple(
        Failure(index=lo + at, kind=FailureKind.USER, error=error, message="") for at, error in enumerate(errors)
    )
    tally.plan([chunk(*span)])
    tally.settle(Summary.of(Outcome(span=span, worker="w", seconds=0, failures=failures)))


@pytest.mark.parametrize(
    ("errors", "items", "stops"),
    [
        (["ImportError"] * 20, 100, True),
        (["ImportError"] * 20, None, True),
        (["ImportError"] * 19, 100, False),
        (["ImportError"] * 20, 20, False),
        (["ImportError"] * 500, 1000, True),
        (["ImportError"] * 19 + ["KeyError"], 100, False),
    ],
)
def test_many_failures_alike_at_the_start_stop_the_run(errors: list[str], items: int | None, stops: bool) -> None:
    """Twenty at least, of one kind, and only where there are more items to save."""
    tally = Tally()
    tally.items = items
    failing(tally, 0, errors)
    said = tally.all_fail_alike()
    assert bool(said) == stops
    if stops:
        assert said == f"the first {len(errors)} items all failed alike (user: ImportError)"


def test_one_success_keeps_the_run_going() -> None:
    """Then it is not the environment."""
    tally = Tally()
    tally.plan([chunk(1000, 1001)])
    tally.settle(Summary.of(outcome(Span(1000, 1001), {1000}, set())))
    failing(tally, 0, ["ImportError"] * 50)
    assert tally.all_fail_alike() == ""


def test_a_planned_chunk_is_counted_once() -> None:
    """A driver that takes over plans what it knows already."""
    tally = Tally()
    for _ in range(2):
        tally.plan([chunk(0, 5)])
    tally.settle(Summary.of(outcome(Span(0, 5), {0}, set())))
    tally.plan([chunk(0, 5)])
    assert tally.planned_items == 5
    assert set(tally.owed) == {Span(1, 5)}


@given(st.integers(0, 20), st.integers(0, 20), st.sets(st.integers(0, 40)))
def test_the_pieces_of_a_span_are_what_is_left(lo: int, size: int, indices: set[int]) -> None:
    """`spans_of` is the fewest spans, and `without` leaves the others of the whole, wherever those lie."""
    parts = spans_of(sorted(indices))
    assert [index for part in parts for index in range(*part)] == sorted(indices)
    assert all(one.hi < other.lo for one, other in pairwise(parts))
    left = [index for part in without(Span(lo, lo + size), parts) for index in range(*part)]
    assert left == [index for index in range(lo, lo + size) if index not in indices]


def settler_on(backend: Backend) -> Settler:
    """A worker's, whose fleet has a queue."""
    duty = Duty(
        fleet=FleetId("fleet-1"),
        worker=WorkerId("fleet-1-000000"),
        backend="local",
        home="",
        slots=1,
        memory_mib=None,
        pace=Pace(lease_s=1, chunk_s=1, share_s=1, idle_s=1, lifetime_s=1, inline_bytes=0),
    )
    backend.queue.ensure(work_queue(duty.fleet))
    return Settler(backend, duty)


def answered(lo: int, hi: int, *, of: Chunk) -> Part:
    """A chunk with answers for some of its items."""
    (batch,) = outcome(Span(lo, hi), set(range(lo, hi)), set()).batches
    return Part(chunk=of, batches=[batch])


@pytest.mark.parametrize("cut", [2, 3], ids=["otherwise", "as theirs is cut"])
def test_who_has_lost_a_chunk_drops_what_the_winner_does_not_delegate(backend: Backend, cut: int) -> None:
    """A worker wakes after its lease, and its chunk is settled: its own parts count if the winner delegates to them.

    What is stored covers every item, and none has two answers.
    """
    run, whole, settler = RunId("run-1"), chunk(0, 5), settler_on(backend)
    late = LeasedChunk(settler, run)
    settler.settle(run, answered(0, 1, of=whole), [chunk(1, 3), chunk(3, 5)])
    late.settle(answered(0, 1, of=whole), [chunk(cut, 5)], [chunk(1, cut)])
    late.settle(answered(1, cut, of=chunk(1, cut)), [], [])
    names, tally = RunNames(run), Tally()
    tally.plan([whole])
    tally.items = 5
    spans = [Span.parse(key.rpartition("/")[2]) for key in backend.store.list(names.outcomes)]
    assert spans == [Span(0, 5), *([Span(1, 3)] if cut == 3 else [])]
    for span in spans:
        tally.settle(Summary.of(read_outcome(backend.key, names.outcome(span), backend.store.get(names.outcome(span)))))
    assert not tally.complete
    assert set(tally.owed) == {Span(3, 5), *([] if cut == 3 else [Span(1, 3)])}


def test_an_outcome_too_large_for_its_notice_is_read_and_booked(backend: Backend) -> None:
    """A worker told to go while every other item waits to be tried again: thousands of chunks delegated at once."""
    run, whole, settler = RunId("run-1"), chunk(0, 6000), settler_on(backend)
    part = Part(chunk=whole)
    for index in range(0, 6000, 2):
        part.fail(Failure(index=index, kind=FailureKind.USER, error="E", message=""))
    policy = Policy(workers=1, slots=1, tolerate=Tolerance.of(None), resend_after_s=10)
    driver = Driver(backend, run, Fleet.of(backend, Options.of().resources, 1), policy)
    driver.books.plan([whole])
    backend.queue.ensure(RunNames(run).notices)
    settler.settle(run, part, [whole.narrowed(span, deaths=0) for span in part.open()])
    driver.listener.hear(0.0)
    assert (driver.books.tally.answered, driver.books.tally.failed, len(driver.books.tally.owed)) == (3000, 3000, 3000)


@pytest.mark.parametrize("keep", [False, True])
def test_a_chunk_is_never_delegated_to_itself(backend: Backend, keep: bool) -> None:
    """Its outcome would be its last word, and its items never answered: one that answers nothing is not stored."""
    whole, settler = chunk(0, 5), settler_on(backend)
    settler.settle(RunId("run-1"), Part(chunk=whole), [] if keep else [whole], [whole] if keep else [])
    assert list(backend.store.list(RunNames(RunId("run-1")).outcomes)) == []
    assert backend.queue.depth(work_queue(FleetId("fleet-1"))).waiting == (0 if keep else 1)


def test_two_items_that_end_their_process_cost_no_neighbour(backend: Backend) -> None:
    """Items between them are answered already when the second goes: they are not run and answered again."""

    def fatal(item: int) -> int:
        import os
        import time

        time.sleep(0.12)  # long enough for the answers before it to be on their way
        if item in (1, 4):
            os._exit(3)
        return item

    got = starburst_map(fatal, range(6), workers=1, chunk_size=6, return_exceptions=True, backend=backend)
    assert [type(value) for value in got] == [int, WorkerLost, int, int, WorkerLost, int]
    assert [value for value in got if isinstance(value, int)] == [0, 2, 3, 5]
    nothing_left(backend)


@given(st.integers(0, 10**11), st.integers(0, 10**11), st.integers(0, 10**11), st.integers(0, 10**11))
def test_the_order_of_span_names_is_that_of_spans(a: int, b: int, c: int, d: int) -> None:
    """Listing outcomes by key lists them by item."""
    one, other = Span(a, b), Span(c, d)
    assert (one < other) == (str(one) < str(other))
    assert Span.parse(str(one)) == one
