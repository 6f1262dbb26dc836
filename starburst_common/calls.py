"""A function and its inputs in, a run on a fleet or its values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from starburst_common.code.pack import pack_function
from starburst_common.code.place import check_files
from starburst_common.data.given import Rows
from starburst_common.data.results import Results
from starburst_common.data.where import placed
from starburst_common.errors import BadInput, RunStopped, StarburstError
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import RunState
from starburst_common.options import Options
from starburst_common.phrases import name_of, our_log
from starburst_common.ports import Backend
from starburst_common.progress import preparing, progress
from starburst_common.runs.begin import NewRun, beginning, given_to_its_caller
from starburst_common.runs.drive import Driver
from starburst_common.runs.failed import SavingFailed
from starburst_common.runs.read import Reader, iterated, side_by_side
from starburst_common.runs.run import Run

_log = our_log()
_Tell = Callable[[Callable[[], str]], None]


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls on one fleet."""

    backend: Backend
    opened: Callable[[], Fleet]  #: opens it there, if it is not
    driven: Callable[[Driver], None]  #: takes each run's driver

    def map(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, more: Sequence[Iterable[Any]], options: Options
    ) -> list[Any]:
        """As `Cluster.map`."""
        return self.collect(fn, *side_by_side(items, more), options)

    def start(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, more: Sequence[Iterable[Any]], options: Options
    ) -> Run:
        """As `Cluster.start`."""
        if options.failures_to:
            raise BadInput("failures_to: nothing has failed yet: save_failed of the run does it later")
        return self.begin(fn, *side_by_side(items, more), options, stop_at_first=False)

    def collect(self, fn: Callable[..., Any], items: Iterable[Any] | Rows, style: str, options: Options) -> list[Any]:
        """The values of a call in this style, as they were asked for."""
        run = self.begin(fn, items, style, options, stop_at_first=not options.return_exceptions)
        try:
            with progress(run, options.progress), SavingFailed(run, options.failures_to):
                if options.results_to:
                    values = run.written()
                elif options.ordered:
                    values = run.results()
                else:
                    values = run.unordered()
                ended = run.wait()
                if ended.state is RunState.STOPPED:  # decided after its last answer
                    raise RunStopped(f"run {run.id}: {ended.reason}")
        except BaseException as raised:
            if not isinstance(raised, Exception):  # Ctrl-C
                raised.add_note(
                    f"run {run.id} is cancelled; what was answered is kept: `starburst results {run.id}` prints it, "
                    f"attach({run.id!r}).iter_completed() gives it"
                )
            try:
                run.cancel()
            except StarburstError as error:  # what went wrong first is what is raised
                _log.warning("run %s is not cancelled: %s", run.id, error)
            raise
        return values

    def begin(
        self, fn: Callable[..., Any], items: Iterable[Any] | Rows, style: str, options: Options, *, stop_at_first: bool
    ) -> Run:
        """A run that goes on when this returns."""
        if options.batch is not None and style == "star":
            raise BadInput(f"batch={options.batch} goes with one input: have items hold all that a call needs")
        shared = self.backend.shares_files
        check_files(options.files, shared=shared)
        if options.results_to:
            options = replace(options, results_to=placed(options.results_to))
            Results(options.results_to, "").check(shared=shared)
        with preparing(options.progress) as tell:
            return self._begun(fn, items, style, options, tell, stop_at_first=stop_at_first)

    def _begun(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | Rows,
        style: str,
        options: Options,
        tell: _Tell,
        *,
        stop_at_first: bool,
    ) -> Run:
        backend = self.backend
        found = None
        if isinstance(items, Rows):
            from starburst_common.data.counted import Found, count_rows  # most calls have none

            found = Found(items, backend.buckets, shared=backend.shares_files)
        iterator = iter(()) if isinstance(items, Rows) else iterated(items)
        first = list(islice(iterator, 1))
        tell(lambda: f"pickling {name_of(fn)}")
        packed = pack_function(
            fn,
            style=style,
            retry_on=options.retry_on,
            initializer=options.initializer,
            initargs=options.initargs,
            samples=first,
        )
        tell(str)  # what opening does it tells itself
        fleet = self.opened()
        rows = None if found is None else count_rows(found, partial(self._begun, tell=tell, stop_at_first=True), tell)
        tell(lambda: "storing files")
        new = NewRun.of(fleet, name_of(fn), options, stop_at_first=stop_at_first)
        _say_plan(fleet, items if rows is None else rows, options)  # of one that is not refused
        whole = rows is not None or isinstance(items, Sized)
        with beginning(fleet, new, expected=lambda: int(not whole)) as begun:
            feed, books = begun.feed, begun.driver.books
            tell(lambda: feed.doing)
            function, everything = feed.function(packed), chain(first, iterator)
            slots, charged = fleet.slots, fleet.backend.charged
            reader = Reader(feed, books, function, everything, options=options, slots=slots, charged=charged)
            if rows is not None:
                reader.read_rows(rows)
            elif isinstance(items, Sized):
                reader.read_all(len(items))
            else:
                begun.alongside("starburst-feed", reader.read_ahead)
        with given_to_its_caller(begun, whole=whole):
            self.driven(begun.driver)
            return Run(fleet.backend, new.spec, begun.driver)


def _say_plan(fleet: Fleet, items: object, options: Options) -> None:
    """What is about to come, where an account says how much that is, and unless progress is not wanted."""
    if options.progress is not False and fleet.backend.quotas is not None:
        from starburst_common.planned import say_plan

        say_plan(fleet, items, options.limits)
