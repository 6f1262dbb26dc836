"""What one try of a task asks for in; its run out: begun, or gone on with where an earlier try had come.

Every step may be the last that a process lives to do: what the next try finds is always enough to go on, and of a
task's runs only that which its last claim names is at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_starburst.course import Course, Now, changed, cleared, course_of
from airflow_provider_starburst.pacing import PROGRESS_S, REPORT_S, SOON_S, Due
from starburst_common import BadInput, Cluster, NotFound, Rows, Run, RunState, StarburstError, attach
from starburst_common.spi import (
    Backend,
    Claim,
    Claims,
    Stage,
    discard_results,
    line,
    new_run_id,
    newest_of,
    one_line,
    start_as,
)

NEVER = float("inf")
#: A retry may have others, as after an OOM.
_WORKERS = (
    *("workers", "cpu", "memory", "slots", "spot", "image", "storage", "env", "task_role", "aws_tags"),
    *("capacity", "gpus"),
    "keep_warm",
)
_BEFORE = "before"  #: runs that this one is to replace, whose results may be there yet
_TURNS = 20  #: so often others may be faster, before something else must be wrong


class Lost(StarburstError):
    """A later try has claimed the run meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one try asks for."""

    name: str  #: what names its task instance
    by: str  #: and the try, by a word that no other has
    fn: Callable[..., Any]
    items: Sequence[Any] | Rows
    now: Now
    options: Mapping[str, Any]  #: as of `starburst_common.Cluster`
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A run, and the claim by which this try may end it."""

    claim: Claim
    run: Run  #: the one to be driven: the task's run, or the last retry of its failed items


def held(backend: Backend, asked: Wanted) -> Held:
    """The task's run. Raises `BadInput` where code or items changed and that is to be an error, `Lost`."""
    claims = Claims(backend, asked.name, asked.by)
    for _ in range(_TURNS):
        last = claims.last()
        match course_of(None if last is None else last.about, asked.now):
            case Course.GO_ON:
                assert last is not None
                found = _gone_on(backend, claims, asked, last)
            case Course.REFUSE:
                assert last is not None
                what = " and ".join(changed(last.about, asked.now))
                raise BadInput(
                    f"{what} changed since run {last.run} was begun for this task: clear the task to run all anew, or "
                    'give on_stale="redo" or "keep"'
                )
            case _:
                found = _begun(backend, claims, asked, last)
        if found is not None:
            return found
    raise Lost(f"others claimed the run of this task {_TURNS} times in a row")


def _begun(backend: Backend, claims: Claims, asked: Wanted, last: Claim | None) -> Held | None:
    """A new run; None if another try was faster."""
    run, generation = new_run_id(), 0
    if last is not None:
        generation = int(last.about.get("generation", "0")) + 1
        why = " and ".join(changed(last.about, asked.now)) or "the task was cleared"
        asked.tell(f"a new run in place of {last.run}: {why}{' changed' if changed(last.about, asked.now) else ''}")
    about = asked.now.about(generation, time.time())
    before = [] if last is None else [*last.about.get(_BEFORE, "").split(), last.run]
    intended = claims.add(last, run=run, stage=Stage.INTENDED, about={**about, _BEFORE: " ".join(before)})
    if intended is None:
        return None
    if last is not None:
        _end(backend, last)
    if asked.now.results_to:
        for each in before:
            discard_results(asked.now.results_to, each, backend)
    with Cluster(backend=backend, **asked.options) as cluster:
        begun = start_as(run, cluster, asked.fn, asked.items)
    return _kept(claims, intended, begun)


def _kept(claims: Claims, before: Claim, run: Run) -> Held:
    """The run that was begun, unless a later try has claimed it, or somebody cancelled it, meanwhile: then it ends."""
    about = {name: said for name, said in before.about.items() if name != _BEFORE}
    claim = claims.add(before, run=before.run, stage=Stage.HELD, about=about)
    if claim is None:
        run.cancel()
        raise Lost(f"run {run.id} is cancelled: it was ended, or begun anew, by others while it was begun")
    return Held(claim=claim, run=run)


def _end(backend: Backend, last: Claim) -> None:
    """What an earlier claim holds ends, if it has not; also a run that is only about to begin finds itself so."""
    with suppress(NotFound):
        attach(newest_of(backend, last.run), backend=backend).cancel()


def _gone_on(backend: Backend, claims: Claims, asked: Wanted, last: Claim) -> Held | None:
    """The run of an earlier try, with what it lacks under way; None if another try was faster."""
    about = {**last.about, "tries": str(asked.now.tries)}
    claim = claims.add(last, run=last.run, stage=Stage.HELD, about=about)
    if claim is None:
        return None
    if last.stage is Stage.CANCELLED:
        claims.finish(last)
    try:
        run = attach(newest_of(backend, last.run), backend=backend)
    except NotFound:
        run = None
    if run is None or run.status().state is RunState.DAMAGED:  # never begun, or kept no more
        return _begun(backend, claims, asked, claim)
    if changed(last.about, asked.now):
        asked.tell(f"{' and '.join(changed(last.about, asked.now))} changed; run {run.id} goes on as it was begun")
    return Held(claim=claim, run=_going(run, asked, again=cleared(last.about, asked.now)))


def _going(run: Run, asked: Wanted, *, again: bool) -> Run:
    """The run, or one over what it lacks. Failures that are tolerated are run `again` if somebody cleared the task."""
    status = run.status()
    if not status.state.over:
        asked.tell(f"run {run.id} goes on: {status.answered:,} items are answered")
        return run
    if status.state in (RunState.CANCELLED, RunState.STOPPED) and not status.failed:
        asked.tell(f"run {run.id} is resumed: {status.answered:,} items are answered; {one_line(status.reason, 200)}")
        run.resume()
        return run
    tolerated = asked.options.get("return_exceptions") or run.tolerated(status)
    if status.state is RunState.SUCCEEDED or (status.state is RunState.FAILED and tolerated and not again):
        return run
    following = run.retry_failed(**{name: asked.options[name] for name in _WORKERS if name in asked.options})
    lacking = f"the {status.items - status.answered + status.failed:,} items" if status.items else "what"
    asked.tell(f"run {following.id} runs again {lacking} that failed or had no answer in {run.id}")
    return following


def awaited(run: Run, *, every_s: float, until: float, tell: Callable[[str], None]) -> bool:
    """Wait for a run's end, and tell now and then how it stands; False if `until` (wall clock) comes first."""
    lines, pages = Due(PROGRESS_S, first_s=SOON_S), Due(REPORT_S)
    while True:
        status = run.wait(max(min(every_s, until - time.time()), 0.0))
        if status.state.over:
            return True
        if lines.now():
            tell(line(status))
        if pages.now():
            with suppress(StarburstError, OSError):  # it is shown, and no more
                run.report()
        if time.time() >= until:
            return False
