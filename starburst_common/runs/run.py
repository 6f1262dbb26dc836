"""A run as its user holds it: status, results in order or as they come, failures, cancel, extend, remove."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from starburst_common.errors import BadInput
from starburst_common.limits import LimitOptions
from starburst_common.model import Failure, RunId, RunStatus, Span
from starburst_common.money.estimate import Estimate
from starburst_common.offered import MapOptions
from starburst_common.options import Options
from starburst_common.phrases import told
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.rows import is_number
from starburst_common.runs import remains
from starburst_common.runs.answers import exception_of
from starburst_common.runs.drive import Driver
from starburst_common.runs.events import RunEvent
from starburst_common.runs.failed import write_failed
from starburst_common.runs.failures import UNANSWERED
from starburst_common.runs.family import Family
from starburst_common.runs.hold import Hold
from starburst_common.runs.manifest import files_of, results_of
from starburst_common.runs.patience import CLOSE_S
from starburst_common.runs.printed import printed
from starburst_common.runs.reading import deadline_in
from starburst_common.runs.records import Spec
from starburst_common.runs.retry import retries_of
from starburst_common.runs.spec import expires_at, find_leg, keep_longer, kept_longer_s, mark_cancelled
from starburst_common.tolerance import Tolerance

if TYPE_CHECKING:  # what only some runs need is imported with the first that does
    from starburst_common.runs.priced import Expected

_LONGEST_S = 36_500 * 86_400.0


class Run:
    """One map call. Made by `Cluster.start` or `attach`; any process may hold one, several at once too."""

    def __init__(self, backend: Backend, spec: Spec, driver: Driver | None) -> None:
        self._held, self._backend = (held := Hold(backend, spec, driver)), held.backend

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status().state}>"

    @property
    def _spec(self) -> Spec:
        return self._held.spec

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
        return self._held.status_here()

    def events(self) -> list[RunEvent]:
        """What its drivers saw happen, by time: workers launched and lost, waits, answers; of very many a selection."""
        return self._held.events()

    def wait(self, timeout: float | None = None) -> RunStatus:
        """Wait until it is over and cleaned up, at most `timeout` seconds; the status then."""
        driver = self._held.driving()
        driver.join(timeout)
        if driver.books.error is not None:
            raise driver.books.error
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
        keep = self._spec.terms.return_exceptions if return_exceptions is None else return_exceptions
        if not return_exceptions and len(Family.of(self._held).runs) == 1:
            return self._held.values(ordered=True, timeout=timeout, keep=keep)
        values = []
        for _, value in self.whole(timeout=timeout):
            if isinstance(value, Failure):
                if not keep or (return_exceptions is None and value.kind in UNANSWERED):
                    raise exception_of(value, self.id)
                value = exception_of(value, self.id)
            values.append(value)
        return values

    def written(self, *, return_exceptions: bool | None = None) -> list[str]:
        """Wait for its end; then the files that `results_to` had values written to, in the order of the items.

        Raises as `results`, for failures unless they may be, and `BadInput` where nothing was to be written.
        """
        keep = self._spec.terms.return_exceptions if return_exceptions is None else return_exceptions
        files, ended, failures = results_of(self._backend, self._spec), self.wait(), () if keep else self.failures()
        return files_of(files, ended, failures, mended=Family.of(self._held).mended)

    def whole(self, *, ordered: bool = True, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of every item, in their order: those of its parent, and of retries, included.

        A retry's value is in place of what had failed. An item without an answer is a `Failure` of the kind CANCELLED,
        BUDGET or DEADLINE; without `ordered`, items come as they are answered, and these last.
        """
        family, deadline = Family.of(self._held), deadline_in(timeout)
        return family.whole(deadline) if ordered else family.as_answered(deadline)

    @property
    def parent(self) -> RunId | None:
        """The run whose failed items it runs again."""
        return self._spec.parent

    def retries(self) -> list[RunId]:
        """The runs that ran again what failed in this one, oldest first."""
        return [spec.run for spec in retries_of(self._backend, self.id)]

    def unanswered(self) -> list[Span]:
        """The items that have no answer so far, neither here nor in a retry, as spans.

        One whose stored answer was found to be damaged, by whoever read it in this process, has none.
        """
        return Family.of(self._held).unanswered()

    def retry_failed(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        items: Mapping[int, Any] | None = None,
        **options: Unpack[MapOptions],
    ) -> Run:
        """Run again what failed or has no answer, in a run of its own; this run, if that is nothing.

        The new run's items keep their numbers, and its answers merge: `results` of either gives all, `failures` of this
        one what still fails. Retries of a retry are retries of the first run.

        Args:
            fn: called in place of the function as it was stored, as after a fix; it takes the same arguments.
            items: what to run, by number, in place of the items as they were stored: only these are run, and of them
                only what failed or has no answer. With `fn` they stand where this process does, not where this run did.
            options: as of `starburst_map`; what is not given is as for this run: workers and their size, spot, image,
                retries, retry_delay, timeout, driver_ttl, seed (by the items' numbers there), label and tags.

        Raises:
            BadInput: the run, or a retry of it, goes on; or an option is wrong, or the run has no such item.
        """
        family = Family.of(self._held)
        begun = family.retry(fn, items, {**options})
        if begun is None:
            return self if family.first is self._held else Run(self._backend, family.first.spec, None)
        return Run(self._backend, *begun)

    def save_failed(self, uri: str) -> int:
        """Write the items that failed, or have no answer, as lines of JSON, which `Rows(uri)` has again; how many.

        `uri` is s3://BUCKET/KEY or a path. Raises `BadInput` where some are not what JSON says: the others are there.
        """
        return write_failed(Family.of(self._held), uri)

    def stored_index(self, item: int) -> int:
        """Where an item is among those that were stored for this run. Raises `BadInput`."""
        return self._held.stored_index(item)

    def answers(self, *, ordered: bool = False) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of each item as it is answered; a function may well return an exception."""
        return self._held.answers(ordered=ordered, deadline=None, stop_early=False)

    def unordered(self) -> list[Any]:
        """Every value, in the order in which they were answered; else as `results`."""
        return self._held.values(ordered=False, timeout=None, keep=self._spec.terms.return_exceptions)

    def iter_completed(self, *, ordered: bool = False, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Index and value (or exception) of each item as it is answered; with `ordered`, in the order of the items.

        Holds one chunk's values at a time. Raises as `results` does once nothing more will come.
        """
        for index, value in self._held.answers(ordered=ordered, deadline=deadline_in(timeout), stop_early=False):
            yield index, exception_of(value, self.id) if isinstance(value, Failure) else value

    def failures(self) -> list[Failure]:
        """The failures so far, in the order of the items; without those that a retry answered."""
        family = Family([self._held]) if self._spec.parent is not None else Family.of(self._held)
        return family.failures()

    def estimate(self, status: RunStatus, *, listed: bool = False) -> Estimate:
        """What it costs on Fargate, or would; `listed` among others, by what its end tells of that."""
        return self._held.estimate(status, listed=listed)

    def expected(self, status: RunStatus) -> Expected | None:
        """What it was to cost, by runs of its function in the month before it; None where there was none."""
        return self._held.expected(status)

    def tolerated(self, status: RunStatus) -> bool:
        """Whether its failures so far are within what was named as tolerated; False where nothing was."""
        limit = self._spec.terms.tolerate
        return limit != Tolerance() and limit.allows(failed=status.failed, items=status.items or status.answered)

    def report(self) -> str:
        """Write a page on how it stands, in place of an earlier one; the URL at which a person can open it.

        It is kept as long as the run: a file, or an object that AWS's console shows to who may read the site's bucket.
        """
        self._held.must_be_kept()
        status = self.status()
        return self._held.publish(status, self.failures() if status.failed else [], self.retries())

    def logs(self, item: int | None = None, *, follow: bool = False) -> Iterator[tuple[int, str]]:
        """What items printed or logged, with their index, of the settled chunks; of one item only if asked.

        With `follow` as they print it, in pieces of whole lines, each line once, until the run ends: its workers tell
        every second what is new (on AWS within 15 s at first); it is not driven by that. Of what prints faster than
        64 KB a second, parts are left out.
        """
        return printed(self._held, item, follow=follow)

    def cancel(self) -> None:
        """End the run: workers give up its items, what was answered stays. Safe from any process, and twice."""
        if (driver := self._held.driver) is not None and not driver.books.closed:
            driver.cancel()
            driver.join(CLOSE_S)
        elif self._spec.damage:
            remains.cancel_damaged(self._backend, self._spec)
        elif (leg := find_leg(self._backend, self._spec)).end is None:
            self._held.must_be_kept()
            mark_cancelled(self._backend, self.id, leg.number)
            self.wait(CLOSE_S)

    def resume(self, **limits: Unpack[LimitOptions]) -> None:
        """Go on with the items that have no answer, in this process: the run is cancelled, stopped, or has no driver.

        It keeps its id, and its answers, failures too (`retry_failed` runs those again); what failed before no longer
        counts as not tolerated. A run that goes on is driven from here as well, one that is answered stays as it is.
        `limits` are `budget` and `deadline` from now on, else as before. Raises `BadInput` where input is missing."""
        self._held.resume(Options.of(**limits).limits)

    def extend(self, seconds: float) -> float:
        """Keep the run `seconds` longer than it would be; returns until when at least (wall clock)."""
        if not is_number(seconds) or not 0 < seconds <= _LONGEST_S:
            raise BadInput(f"seconds={told(seconds)}: give seconds above 0, at most {_LONGEST_S:.0f}: a hundred years")
        self._held.must_be_kept()
        keep_longer(self._backend, self.id, seconds)
        until = self.expires_at
        return time.time() + self._backend.keep_s + kept_longer_s(self._backend, self.id) if until is None else until

    def remove(self) -> None:
        """Remove the run and all that is kept of it. Raises `BadInput` while it goes on: cancel it first."""
        self._held.must_be_kept()
        if remains.goes_on(self._backend, self._spec):
            raise BadInput(f"run {self.id} goes on: cancel it first, as by `starburst cancel {self.id}`")
        remains.remove(self._backend, self._spec)
