"""`starburst runs` lists, `extend` keeps longer, `remove` takes one away, `prune` what has expired."""

from __future__ import annotations

import sys
import time
from itertools import islice
from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord, TagWords, tags_of


def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The newest so many; 0 is all.")] = 20,
    tag: TagWords = None,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """List the runs that are kept, newest first; with --tag those that have it, of several all."""
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import ago, colour, painted, run_fields, say, simple_table, state_words, width_of
    from starburst_common.model import RunState
    from starburst_common.run import read_runs, run_ids

    tags, opened = tags_of(tag), open_backend(backend)
    ids = run_ids(opened)
    found = (run for run in read_runs(opened, ids) if tags.items() <= run.tags.items())
    shown = [*islice(found, limit or None)]
    if tags:
        older = "" if limit == 0 or next(found, None) is None else "older ones"
    else:
        older = f"{len(ids) - len(shown)} older" if len(shown) < len(ids) else ""
    if json:
        print_json([run_fields(run, run.status()) for run in shown])
        return
    if not shown:
        say("no run has these tags" if tags else "no runs yet: `starburst demo` makes one")
        return
    names, right = ("run", "label", "state", "items", "failed", "started"), ("items", "failed")
    statuses, rows = [run.status() for run in shown], []
    for run, now in zip(shown, statuses, strict=True):
        items = "?" if now.items is None else f"{now.items:,}"
        failed = f"{now.failed:,}" if now.failed else ""
        label = f"damaged: {now.reason}" if now.state is RunState.DAMAGED else run.label or run.function
        rows.append((str(run.id), label, state_words(now), items, failed, ago(now.created_at, time.time())))

    def paint(row: int, name: str, cell: str) -> str:
        style = "bold" if row < 0 else {"state": colour(statuses[row]), "failed": "red"}.get(name, "")
        return painted(cell, style, sys.stdout)

    print(simple_table(names, rows, right=right, flexible="label", width=width_of(sys.stdout), paint=paint))
    if older:
        say(f"… and {older}: --limit 0")


def extend(
    run: RunWord,
    seconds: Annotated[float, typer.Argument(metavar="SECONDS", help="How much longer.")],
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Keep a run longer than it would be: `keep_days` from its end, and so much more."""
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import ago, iso
    from starburst_common.cli.which import find_run

    found = find_run(run, backend)
    until = found.extend(seconds)
    if json:
        print_json({"id": found.id, "expires_at": iso(until)})
    else:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
        print(f"{found.id} is kept until {when}, {ago(until, time.time())}")


def remove(run: RunWord, backend: BackendWord = "auto", json: Json = False) -> None:
    """Remove a run and all that is kept of it, before it expires.

    One that goes on must be cancelled first. Damaged ones can be removed too.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.which import find_run

    found = find_run(run, backend)
    found.remove()
    if json:
        print_json({"id": found.id})
    else:
        print(f"{found.id} is removed")


def prune_expired(backend: BackendWord = "auto", json: Json = False) -> None:
    """Remove the runs that have expired, and print their ids."""
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.phrases import visible
    from starburst_common.prune import prune

    removed = prune(open_backend(backend))
    if json:
        print_json(removed)
    elif removed:
        print("\n".join(map(visible, removed)))
    else:
        say("nothing has expired")
