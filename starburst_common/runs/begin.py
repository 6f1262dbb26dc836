"""A fleet and what was asked in, a run that is fed and driven out; or nothing, if a step fails or its process dies.

Or a run that began elsewhere in, and driven from here as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

from starburst_common.code.bundle import Bundle
from starburst_common.code.place import Place, place_here
from starburst_common.data.results import Results
from starburst_common.errors import BadInput, RunCancelled, RunStopped, StarburstError, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_run_id
from starburst_common.model import Chunk, RunId
from starburst_common.money.sizing import larger
from starburst_common.names import RunNames, work_queue
from starburst_common.options import Options
from starburst_common.pickling.within import importing
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.accounts import last_leg
from starburst_common.runs.drive import Driver
from starburst_common.runs.feed import Feed
from starburst_common.runs.history import stored_history
from starburst_common.runs.ledger import LATELY_S, most_memory_mib
from starburst_common.runs.legs import End
from starburst_common.runs.limiting import refuse_unkept
from starburst_common.runs.manifest import results_to
from starburst_common.runs.monthly import within_month
from starburst_common.runs.patience import bounded, patiently
from starburst_common.runs.reasons import GIVEN_UP
from starburst_common.runs.records import Spec
from starburst_common.runs.sign import SignOfLife
from starburst_common.runs.spec import read_end, under_its_key, write_leg, write_spec
from starburst_common.runs.stored import store_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What is asked of a run, and the files that its place names."""

    spec: Spec
    files: Bundle | None

    @classmethod
    def of(
        cls,
        fleet: Fleet,
        function: str,
        options: Options,
        *,
        stop_at_first: bool = False,
        stands: tuple[Place, Bundle | None] | None = None,
        parent: RunId | None = None,
    ) -> NewRun:
        """A new run's, whose items stand where this process does, or where its parent's did. Raises `BadInput`.

        A module that starts a run as it is imported would start one on each worker, whose workers would start others.
        """
        if module := importing():
            raise BadInput(
                f"module {module} starts a run as it is imported, and a worker has imported it: put that below "
                '`if __name__ == "__main__":`, or into a function'
            )
        resources = fleet.spec.resources
        if options.escalate:
            larger(resources, tariff=fleet.backend.tariff)
        refuse_unkept(fleet.backend, resources, options.limits, time.time())
        options = replace(options, limits=within_month(fleet.backend, options.tags, resources, options.limits))
        place, files = stands or place_here(options.files, shared=fleet.backend.shares_files)
        run = options.run or new_run_id()
        spec = Spec.of(run, fleet, function, options, stop_at_first=stop_at_first, place=place, parent=parent)
        return cls(spec=spec, files=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A run that takes items and is not driven yet."""

    driver: Driver
    feed: Feed
    _begun: Future[bool] = field(default_factory=Future)
    _threads: list[Thread] = field(default_factory=list)

    def alongside(self, name: str, body: Callable[[], None]) -> Thread:
        """A thread that does this as soon as the run is driven; none of them does anything where it is undone."""

        def when_driven() -> None:
            if self._begun.result():
                body()

        thread = Thread(target=when_driven, name=f"{name}-{self.feed.run}", daemon=True)
        self._threads.append(thread)
        return thread

    def drive(self) -> None:
        """The run goes on from here. Raises `RuntimeError` where the system allows no more threads."""
        try:
            for thread in self._threads:
                thread.start()
            self.driver.start()
        except BaseException:
            self._begun.set_result(False)
            raise
        self._begun.set_result(True)


@contextmanager
def beginning(
    fleet: Fleet,
    new: NewRun,
    *,
    expected: Callable[[], int] = lambda: 0,
    note: Callable[[], None] = lambda: None,
) -> Iterator[Beginning]:
    """A run that begins: it takes items while the block lasts, and is driven from its end on, or undone if that fails.

    `expected` are chunks that will come soon; else as `begin`. Where another process has ended the run meanwhile, what
    is kept of it is kept for that one.
    """
    spec, results, ttl_s = new.spec, results_to(fleet.backend, new.spec), new.spec.terms.driver_ttl_s
    more: dict[str, Any] = {"results": results, "ttl_s": ttl_s, "tags": spec.tags, "larger": larger_of(fleet, spec)}
    driver = Driver(fleet.backend, spec.run, fleet, spec.policy, expected=expected, **more)
    books = driver.books
    with claimed(results):
        feed = begin(fleet, spec, planned=books.plan, over=books.over_elsewhere, files=new.files, note=note)
    driver.moved = feed.move
    begun = Beginning(driver=driver, feed=feed)
    try:
        yield begun
        begun.drive()
    except (RunCancelled, RunStopped):
        feed.stop()
        raise
    except BaseException:
        undo(fleet, feed)
        if results is not None:
            results.unclaim()
        raise


@contextmanager
def given_to_its_caller(begun: Beginning, *, whole: bool) -> Iterator[None]:
    """A run that goes on; where that is interrupted before the caller has it, and could end it, it is cancelled."""
    try:
        if whole:
            begun.feed.stop()
        yield
    except BaseException:
        begun.driver.cancel()
        raise


@contextmanager
def claimed(results: Results | None) -> Iterator[None]:
    """The folder that values are written to is the run's, if the block goes well. Raises `BadInput` and `Denied`."""
    if results is not None:
        results.claim()
    try:
        yield
    except BaseException:
        if results is not None:
            results.unclaim()
        raise


def begin(
    fleet: Fleet,
    spec: Spec,
    *,
    planned: Callable[[Sequence[Chunk]], None],
    over: Callable[[], None],
    files: Bundle | None = None,
    note: Callable[[], None] = lambda: None,
) -> Feed:
    """Begin a run: what takes its items, which tells `planned` of chunks, and `over` if somebody else ends the run.

    `files` are those that its place names; `note` writes what else belongs to it.

    The feeder's sign comes first and the spec last: what a crash leaves is no run without a spec, and with one has
    a holder, queues, and a sign that goes stale. An outage is waited for, as long as `Backend.patience_s`.
    """
    backend, run = fleet.backend, spec.run
    waits = bounded(f"run {run}", backend.patience_s)
    sign = SignOfLife(backend, run, over)
    feed = Feed(backend, run, fleet.id, planned, sign=sign, waits=waits)
    try:
        sign.start(waits)
        patiently(lambda: fleet.hold(run), waits)
        tags = fleet.spec.resources.aws_tags
        patiently(lambda: backend.queue.ensure(RunNames(run).notices, tags=tags), waits)
        if files is not None:
            store_bundle(backend, RunNames(run).files(files.digest), files, waits)
        patiently(note, waits)
        patiently(lambda: write_spec(backend, spec), waits)
    except BaseException:
        undo(fleet, feed)
        raise
    return feed


def undo(fleet: Fleet, feed: Feed) -> None:
    """No worker was launched for this run: leave nothing of it, as far as the outage lets us that may be the reason."""
    backend, names = fleet.backend, RunNames(feed.run)
    feed.stop(GIVEN_UP)
    for step in (
        lambda: backend.queue.drop_group(work_queue(fleet.id), feed.run),
        lambda: backend.queue.drop(names.notices),
        lambda: backend.store.delete_folder(names.folder),
        lambda: fleet.release(feed.run),
    ):
        with suppress(StarburstError, OSError):
            step()


def larger_of(fleet: Fleet, spec: Spec) -> Callable[[Resources], Resources]:
    """The next size for what runs out of memory, by what its function's runs have taken."""

    def next_size(resources: Resources) -> Resources:
        peak_mib = most_memory_mib(fleet.backend, spec.function, time.time() - LATELY_S)
        return larger(resources, peak_mib, fleet.backend.tariff)

    return next_size


# --- from elsewhere ---------------------------------------------------------------------------------------------------


def recovered(backend: Backend, spec: Spec, *, calm_s: float = 0.0) -> Driver:
    """A driver that knows what the store tells of a run, in its last leg; it is not started."""
    backend = under_its_key(backend, spec)
    leg = last_leg(backend, spec)
    warm_s = 0.0 if leg.number else spec.terms.keep_warm_s
    fleet = Fleet.of(backend, leg.resources, spec.workers, leg.fleet, keep_warm_s=warm_s)
    policy = replace(
        spec.policy,
        forgiven=leg.forgiven,
        breaker=spec.policy.breaker and not leg.forgiven,
        limits=leg.limits,
        began_at=leg.began_at,
        spent_usd=leg.spent_usd,
        escalate=spec.policy.escalate and not leg.larger,
    )
    results, ttl_s = results_to(backend, spec), spec.terms.driver_ttl_s
    more: dict[str, Any] = {"results": results, "ttl_s": ttl_s, "tags": spec.tags, "larger": larger_of(fleet, spec)}
    driver = Driver(backend, spec.run, fleet, policy, leg=leg.number, calm_s=calm_s, **more)
    driver.begun = leg.begun
    for event in stored_history(backend, RunNames(spec.run, leg.number)):
        driver.books.events.speed.see(event)
    driver.recover()
    return driver


def taken_over(backend: Backend, spec: Spec) -> Driver:
    """A driver of a run that began elsewhere: it drives it from here, if it has not ended and been cleaned up."""
    driver = taken_up(backend, spec)
    if not driver.books.closed:
        driver.start()
    return driver


def taken_up(backend: Backend, spec: Spec, *, calm_s: float = 0.0) -> Driver:
    """A driver of a run that began elsewhere, without a thread; its books are closed where nothing is left to do."""
    driver = recovered(backend, spec, calm_s=calm_s)
    end = end_or_hold(driver.backend, driver)
    if end is None:
        driver.tell()
        return driver
    if not driver.books.tally.complete:
        driver.recover()  # what was settled between our look and its end
    driver.books.over(end)
    if not driver.fleet.held_by(spec.run):  # else who ended it died before all was cleaned up
        driver.books.close()
    return driver


def end_or_hold(backend: Backend, driver: Driver) -> End | None:
    """How the run ended; None if it has not, and then its fleet and its notices are held for it."""
    run, fleet = driver.run, driver.fleet
    end = read_end(backend, run, driver.leg)
    if end is None:
        try:
            if driver.begun is not None:
                write_leg(backend, RunNames(run, driver.leg), driver.begun)
            fleet.hold(run)
            backend.queue.ensure(RunNames(run, driver.leg).notices, tags=fleet.spec.resources.aws_tags)
        except Unavailable:  # as SQS says of a queue's name for a minute after its run ended and dropped it
            end = read_end(backend, run, driver.leg)
            if end is None:
                raise
            fleet.release(run)
    return end
