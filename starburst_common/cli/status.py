"""`starburst status` looks at a run, `starburst attach` stays with it to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from starburst_common.cli.words import BackendWord, Json, Quiet, RunWord
from starburst_common.errors import Refused

if TYPE_CHECKING:
    from starburst_common.model import RunStatus
    from starburst_common.run import Run


def status(run: RunWord, backend: BackendWord = "auto", json: Json = False) -> None:
    """Show how a run stands, and what it would cost on AWS.

    The exit code is 1 once an item failed that is not tolerated, 4 or 5 if the run was stopped or cancelled.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import exit_code, run_fields
    from starburst_common.cli.which import find_run

    found = find_run(run, backend)
    now = found.status()
    if json:
        print_json(run_fields(found, now))
    else:
        _show(found, now)
    raise typer.Exit(exit_code(found, now))


def attach_to(run: RunWord, backend: BackendWord = "auto", quiet: Quiet = False, json: Json = False) -> None:
    """Drive a run on, with progress, until it is over.

    Safe beside the process that started it, and after that has died. Ctrl-C only detaches: the run goes on.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import exit_code, run_fields, summary
    from starburst_common.cli.which import find_run
    from starburst_common.run import attach

    found = find_run(run, backend)
    if not found.status().state.over:
        stay(found, quiet=quiet)
    ended = attach(found.id, backend=backend)
    now = ended.status()
    if json:
        print_json(run_fields(ended, now))
    else:
        summary(ended, now, ended.failures()[:3] if now.failed and not quiet else [], here="attach", quiet=quiet)
    raise typer.Exit(exit_code(ended, now))


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
        raise typer.Exit(130) from None


def _kept(run: Run) -> str:
    try:
        until = run.expires_at
    except Refused as error:
        return f"nobody knows until when: {error}: starburst extend {run.id} SECONDS says it anew"
    return "while it goes on" if until is None else f"until {time.strftime('%Y-%m-%d %H:%M', time.localtime(until))}"


def _show(run: Run, now: RunStatus) -> None:
    from rich.text import Text

    from starburst_common.cli.show import ago, next_steps, print_fields, state_text
    from starburst_common.report import duration, elapsed_s

    elapsed = elapsed_s(now)
    items = "not counted yet" if now.items is None else f"{now.items:,}"
    rows: dict[str, str | list[str] | Text] = {
        "run": Text(run.id, style="bold"),
        "label": run.label,
        "function": run.function,
        "tags": ", ".join(f"{key}={value}" for key, value in run.tags.items()),
        "state": state_text(now),
        "reason": now.reason,
        "items": f"{now.answered:,} of {items} answered" + (f", {now.failed:,} failed" if now.failed else ""),
        "workers": f"{now.workers} alive of {run.workers}, each {run.resources.size}",
        "rate": f"{now.answered / elapsed if elapsed else 0:,.1f} items/s",
        "elapsed": f"{duration(elapsed)}, started {ago(now.created_at, time.time())}",
        "slot time": duration(now.slot_seconds),
        "on AWS": f"about {run.estimate(now)}",
        "kept": _kept(run),
        "next": next_steps(now, "status"),
    }
    print_fields(rows)
