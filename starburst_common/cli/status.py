"""`starburst status` looks at a run, `starburst attach` stays with it to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli import stops
from starburst_common.cli.words import BackendWord, Json, MaybeRun, Quiet, RunWord, seconds_of
from starburst_common.errors import Refused

_LABEL = 120  # characters of one
_EVENTS, _EVENT = 12, 150  # so many are shown, and of each so many characters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starburst_common.model import RunStatus
    from starburst_common.runs.events import RunEvent
    from starburst_common.runs.run import Run


def status(run: MaybeRun = None, backend: BackendWord = "auto", json: Json = False) -> None:
    """Show how a run stands, and what it would cost on AWS; without RUN, what goes on at the site, or on this machine.

    That is: runs, fleets and workers, quotas in use, and what is charged for by the month while nothing runs.

    Of a run the exit code is 1 once an item failed that is not tolerated, 4 or 5 if it was stopped or cancelled.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import exit_code, run_fields
    from starburst_common.cli.standing import show_all
    from starburst_common.cli.which import find_run

    if run is None:
        show_all(backend, json=json)
        return
    found = find_run(run, backend)
    now = found.status()
    if json:
        events = found.events()
        told = {"items_per_s": round(_rate(events, now), 3), "events": [event_fields(event) for event in events]}
        print_json(run_fields(found, now) | told)
    else:
        _show(found, now)
    raise typer.Exit(exit_code(found, now))


def attach_to(
    run: RunWord,
    backend: BackendWord = "auto",
    quiet: Quiet = False,
    json: Json = False,
    patience: Annotated[
        str | None, typer.Option(metavar="TIME", help="Give up an outage that lasts so long, such as 12h; else never.")
    ] = None,
) -> None:
    """Drive a run on, with progress, until it is over.

    Safe beside the process that started it, and after that has died. Ctrl-C only detaches: the run goes on.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import exit_code, run_fields, summary
    from starburst_common.cli.which import find_run
    from starburst_common.runs.find import attach

    opened = open_backend(backend)
    if patience is not None:
        opened = opened.paced(outage_s=seconds_of(patience, "--patience"))
    found = find_run(run, opened)
    if not found.status().state.over:
        stay(found, quiet=quiet)
    ended = attach(found.id, backend=opened)
    now = ended.status()
    if json:
        print_json(run_fields(ended, now))
    else:
        summary(ended, now, ended.failures()[:3] if now.failed and not quiet else [], here="attach", quiet=quiet)
    raise typer.Exit(exit_code(ended, now))


def resume(
    run: RunWord,
    backend: BackendWord = "auto",
    budget: Annotated[float | None, typer.Option(help="USD that what is left may cost; else as before.")] = None,
    deadline: Annotated[str | None, typer.Option(help="When it stops, such as 2h from now; else as it was.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it, and leave it to itself.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run that was cancelled, was stopped, or whose driver died: with the items that have no answer.

    It keeps its id. Failures stay as they are: `starburst map --retry-failed RUN` runs those again, too. Ctrl-C only
    detaches.
    """
    from starburst_common.cli.function import look_here
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.map import leave
    from starburst_common.cli.show import run_fields, say
    from starburst_common.cli.which import find_run

    look_here()
    found = find_run(run, backend)
    found.resume(budget=budget, deadline=deadline)
    if found.status().state.over:
        say(f"{found.id} has nothing left to be run")
    if not detach:
        attach_to(found.id, backend, quiet, json)
    leave(found, backend)
    print_json(run_fields(found, found.status())) if json else print(found.id)


def stay(run: Run, *, quiet: bool) -> None:
    """Wait for the end with progress; Ctrl-C leaves the run alone."""
    from starburst_common.cli.show import say
    from starburst_common.progress import progress

    try:
        if not quiet:
            say(f"attached to {run.id}; Ctrl-C detaches")
        with progress(run, False if quiet else None):
            run.wait()
    except KeyboardInterrupt:
        say(f"detached; the run goes on: starburst attach {run.id}")
        raise typer.Exit(stops.exit_code()) from None


def _kept(run: Run) -> str:
    try:
        until = run.expires_at
    except Refused as error:
        return f"nobody knows until when: {error}: starburst extend {run.id} 30d says it anew"
    return "while it goes on" if until is None else f"until {time.strftime('%Y-%m-%d %H:%M', time.localtime(until))}"


def event_fields(event: RunEvent) -> dict[str, Any]:
    """Something that happened to a run, as JSON."""
    from starburst_common.cli.show import iso

    sums = {name: getattr(event, name) for name in ("count", "answered", "failed", "workers")}
    return {"at": iso(event.at), "kind": str(event.kind), "text": event.text, **sums}


def _rate(events: Sequence[RunEvent], now: RunStatus) -> float:
    """Items a second, while workers were there."""
    from starburst_common.runs.events import Speed

    speed = Speed()
    for event in events:
        speed.see(event)
    return speed.whole(now.answered, now.ended_at or time.time())


def _happened(events: Sequence[RunEvent], now: RunStatus) -> list[str]:
    from starburst_common.phrases import duration, one_line
    from starburst_common.runs.report import told_events

    told = told_events(events, _EVENTS)
    return [f"{duration(max(each.at - now.created_at, 0.0)):>12}  {one_line(each.text, _EVENT)}" for each in told]


def _show(run: Run, now: RunStatus) -> None:
    from rich.text import Text

    from starburst_common.cli.show import ago, next_steps, print_fields, state_text
    from starburst_common.money.estimate import spent_text
    from starburst_common.money.sizing import memory_told
    from starburst_common.phrases import duration, one_line
    from starburst_common.progress import per_s
    from starburst_common.runs.report import counts, elapsed_s

    events, elapsed, cost, expected = run.events(), elapsed_s(now), run.estimate(now), run.expected(now)
    items = "not counted yet" if now.items is None else f"{now.items:,}"
    rows: dict[str, str | list[str] | Text] = {
        "run": Text(run.id, style="bold"),
        "label": one_line(run.label, _LABEL),
        "retry of": run.parent or "",
        "function": run.function,
        "tags": ", ".join(f"{key}={value}" for key, value in run.tags.items()),
        "state": state_text(now),
        "reason": now.reason,
        "items": f"{now.answered - now.withdrawn:,} of {items} answered{counts(now)}",
        "workers": f"{now.workers} alive of {run.workers}, each {run.resources.size}",
        "rate": f"{per_s(_rate(events, now), 'items')}",
        "elapsed": f"{duration(elapsed)}, started {ago(now.created_at, time.time())}",
        "slot time": duration(now.slot_seconds),
        "spent": spent_text(now) if not now.state.over or now.budget_usd else "",
        "memory": memory_told(run.resources, now.memory_mib, cost),
        "on AWS": cost.about,
        "before": "" if expected is None else expected.told(cost.foreseen_usd if now.state.over else None),
        "happened": _happened(events, now),
        "kept": _kept(run),
        "next": next_steps(now, "status"),
    }
    print_fields(rows)
