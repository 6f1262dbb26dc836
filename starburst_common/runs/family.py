"""A run and those that ran some of its items again in; one answer for each item, and what is still to be run, out."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from starburst_common.code.pack import pack_function
from starburst_common.errors import BadInput, InputLost, NotFound, RunCancelled, RunStopped
from starburst_common.model import Failure, FailureKind, RunState, Span, joined, spans_of, without
from starburst_common.offered import OPTIONS
from starburst_common.options import Options, refuse_unknown
from starburst_common.phrases import told
from starburst_common.ports import Backend
from starburst_common.runs.answers import answer_in
from starburst_common.runs.begin import recovered
from starburst_common.runs.drive import Driver
from starburst_common.runs.failures import Reason
from starburst_common.runs.hold import Hold
from starburst_common.runs.manifest import results_to
from starburst_common.runs.records import Spec
from starburst_common.runs.remains import stored_outcomes
from starburst_common.runs.retry import retries_of, start_retry, style_of
from starburst_common.runs.spec import expires_at, find_leg, keep_longer, read_spec


class Family:
    """The run whose items these are, first, and its retries, oldest first."""

    def __init__(self, runs: Sequence[Hold]) -> None:
        self.first, self.runs = runs[0], runs

    @classmethod
    def of(cls, run: Hold) -> Family:
        """The family that a run belongs to; alone, as far as is known here, while it goes on well."""
        parent = run.spec.parent
        if parent is not None:
            first = Hold(run.backend, read_spec(run.backend, parent), None)
        elif run.driver is not None and run.driver.books.state in (RunState.RUNNING, RunState.SUCCEEDED):
            return cls([run])
        else:
            first = run
        retries = retries_of(run.backend, first.spec.run)
        return cls([first, *(run if spec.run == run.spec.run else Hold(run.backend, spec, None) for spec in retries)])

    def whole(self, deadline: float | None) -> Iterator[tuple[int, Any]]:
        """Index and value, or `Failure`, of every item; see `Run.whole`."""
        lost: list[InputLost] = []
        answered = heapq.merge(
            *(_till_its_end(each, age, deadline, lost, ordered=True) for age, each in enumerate(self.runs))
        )
        following = 0
        for index, group in groupby(answered, key=lambda each: each[0]):
            best: list[Any] = []
            for _, _, answer in group:  # oldest first: a later failure tells more than an earlier one, a value most
                if not best or isinstance(best[0], Failure):
                    best = [answer]
            yield from self._had_no_turn(following, index)
            yield index, best[0]
            following = index + 1
        if lost:
            raise lost[0]
        tally = self.first.driving().books.tally
        yield from self._had_no_turn(following, tally.planned_items if tally.items is None else tally.items)

    def as_answered(self, deadline: float | None) -> Iterator[tuple[int, Any]]:
        """The same as they are answered, each once: a failure when no retry is left that may answer it."""
        lost: list[InputLost] = []
        given: set[int] = set()
        failed: dict[int, Failure] = {}  # which a retry may have answered
        for age, each in enumerate(self.runs):
            last = each is self.runs[-1]
            for index, _, answer in _till_its_end(each, age, deadline, lost, ordered=False):
                if index in given:
                    continue
                if isinstance(answer, Failure) and not last:
                    failed[index] = answer
                    continue
                failed.pop(index, None)
                if not last:
                    given.add(index)
                yield index, answer
        yield from failed.items()
        if lost:
            raise lost[0]
        for span in self.unanswered():
            yield from self._had_no_turn(span.lo, span.hi)

    def answer(self, index: int) -> Any:
        """One item's value or `Failure`; no other value is unpickled. Raises `NotFound` where it has no answer."""
        failed: Failure | None = None
        for each in reversed(self.runs):
            at = index if each.numbers is None else each.numbers.at(index)
            found = (
                None
                if at is None
                else answer_in(stored_outcomes(each.backend, each.spec, at), at, each.backend.buckets)
            )
            if found is not None and not isinstance(found[0], Failure):
                return found[0]
            if found is not None and failed is None:
                failed = replace(found[0], index=index)
        if failed is None:
            raise NotFound(f"run {self.first.spec.run} has no answer to item {index}")
        return failed

    def _had_no_turn(self, lo: int, hi: int) -> Iterator[tuple[int, Failure]]:
        """Why these have no answer, as the run ended."""
        status = self.first.status()
        error = RunCancelled if status.state is RunState.CANCELLED else RunStopped
        message = f"it had no turn: run {self.first.spec.run}: {status.reason}"
        why = Reason(status.limit or FailureKind.CANCELLED, error.__name__, message)
        yield from ((index, why.of(index)) for index in range(lo, hi))

    def failures(self) -> list[Failure]:
        """Those that no retry answered, in the order of the items."""
        found = {failure.index: failure for failure in self.first.failures()}
        for each in self.runs[1:]:
            for span in _answered([each]):
                for index in range(span.lo, span.hi):
                    found.pop(index, None)
            found |= {failure.index: failure for failure in each.failures()}
        return sorted(found.values(), key=lambda failure: failure.index)

    @property
    def mended(self) -> bool:
        """Whether retries have answered what the run itself did not."""
        return len(self.runs) > 1 and not self.unanswered()

    def unanswered(self) -> list[Span]:
        """Items of the first run that have no answer anywhere."""
        return list(without(Span(0, self._planned()), _answered(self.runs)))

    def _planned(self) -> int:
        return recovered(self.first.backend, self.first.spec).books.tally.planned_items

    def _must_have(self, items: Iterable[int]) -> None:
        planned = self._planned()
        if others := [item for item in items if not 0 <= item < planned]:
            raise BadInput(f"items={{{told(others[0])}: …}}: run {self.first.spec.run} has items 0 to {planned - 1}")

    def retry(
        self, fn: Callable[..., Any] | None, anew: Mapping[int, Any] | None, options: Mapping[str, Any]
    ) -> tuple[Spec, Driver] | None:
        """Begin a run over what failed or has no answer; None if that is nothing. See `Run.retry_failed`."""
        refuse_unknown(options, OPTIONS)
        if "retry_on" in options and fn is None:
            raise BadInput("retry_on goes with a function: give fn as well")
        backend, spec = self.first.backend, self.first.spec
        for each in self.runs:
            each.must_be_kept()
            if not each.status().state.over:
                raise BadInput(
                    f"run {each.spec.run} goes on: wait for its end, or cancel it, before what failed is run again"
                )
        if options.get("failures_to") is not None:
            raise BadInput("failures_to: nothing has failed yet: save_failed of the run does it later")
        if options.get("results_to") is not None:
            raise BadInput("results_to: what runs again is written where the run's values are: leave it out")
        failed = [Span(failure.index, failure.index + 1) for failure in self.failures()]
        todo = joined([*failed, *self.unanswered()])
        if anew is not None:
            self._must_have(anew)
            todo = [*spans_of(index for span in todo for index in range(span.lo, span.hi) if index in anew)]
        if not todo:
            return None
        asked = Options.of(**{**_as_asked(backend, spec, options), **options})
        packed = None
        if fn is not None:
            packed = pack_function(
                fn,
                style=style_of(backend, spec.run),
                retry_on=asked.retry_on,
                initializer=asked.initializer,
                initargs=asked.initargs,
            )
        name = spec.function if fn is None else getattr(fn, "__qualname__", repr(fn))
        until = expires_at(backend, spec.run, find_leg(backend, spec).number) or 0.0
        if (short := time.time() + backend.keep_s - until) > 0:
            keep_longer(backend, spec.run, short)  # as long as what is about to answer in its place
        return start_retry(backend, spec, todo, asked, packed, name, anew)


def _till_its_end(
    run: Hold, age: int, deadline: float | None, lost: list[InputLost], *, ordered: bool
) -> Iterator[tuple[int, int, Any]]:
    try:
        for index, value in run.answers(ordered=ordered, deadline=deadline, stop_early=False):
            yield index, age, value
    except InputLost as error:
        lost.append(error)
    except (RunStopped, RunCancelled):
        pass


def _answered(runs: Sequence[Hold]) -> list[Span]:
    return joined(span for each in runs for span in each.answered())


def _as_asked(backend: Backend, spec: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of a run, as options; none that were to go with one that is given otherwise."""
    resources, terms = spec.resources, spec.terms
    sized = not {"cpu", "memory"} & set(given)
    return {
        "workers": spec.workers,
        "cpu": resources.cpu,
        "memory": f"{resources.memory_mib}MB" if resources.memory_given and sized else None,
        "slots": resources.slots if "cpu" not in given else None,
        "spot": resources.spot,
        "image": resources.image or None,
        "storage": resources.storage_gb or None,
        "env": resources.env or None,
        "task_role": resources.task_role or None,
        "aws_tags": resources.aws_tags or None,
        "capacity": resources.capacity,
        "gpus": resources.gpus,
        "retries": terms.retries,
        "retry_delay": terms.retry_delay_s,
        "timeout": terms.timeout_s,
        "keep_warm": terms.keep_warm_s,
        "priority": terms.priority,
        "speculate": terms.speculate,
        "escalate": terms.escalate,
        "budget": terms.limits.budget_usd,
        "deadline": terms.limits.deadline_s,
        "driver_ttl": terms.driver_ttl_s,
        "seed": terms.seed,
        "batch": terms.batch,
        "results_to": terms.results_to
        if (results := results_to(backend, spec)) is not None and results.stands()
        else None,
        "label": spec.label,
        "tags": spec.tags,
    }
