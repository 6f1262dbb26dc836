"""`starburst runs` lists, `extend` keeps longer, `remove` takes one away, `prune` what has expired."""

from __future__ import annotations

import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import (
    BackendWord,
    Json,
    LabelFilter,
    RunWord,
    SinceFilter,
    StateFilter,
    TagFilter,
    narrowed_word,
    seconds_of,
)

if TYPE_CHECKING:
    from starburst_common.model import RunStatus
    from starburst_common.money.estimate import Estimate
    from starburst_common.runs.run import Run

_COLUMNS: tuple[str, ...] = ("run", "label", "state", "items", "failed", "started", "took", "cost")
_RIGHT = ("items", "failed", "took", "cost")  # these are numbers
_LEAST = 6  # columns that are shown however narrow it is
_DAMAGED = 40  # characters of why a run is, all of which `status` tells
_LABEL = 12  # columns of a label, at least, before others give way


def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The newest so many; 0 is all.")] = 20,
    label: LabelFilter = None,
    tag: TagFilter = None,
    state: StateFilter = None,
    since: SinceFilter = None,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """List the runs that are kept, newest first, with how long they took and what they cost on AWS, or would.

    Where there is no room the cost is left out, then the time.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import run_fields, say
    from starburst_common.runs.find import read_runs, run_ids

    wanted, opened = narrowed_word("", label, tag, state, since), open_backend(backend)
    ids = run_ids(opened)
    found = filter(wanted.fits, read_runs(opened, ids, wanted.tags))
    shown = [*islice(found, limit or None)]
    if wanted.said:
        older = "" if limit == 0 or next(found, None) is None else "older ones"
    else:
        older = f"{len(ids) - len(shown)} older" if len(shown) < len(ids) else ""
    if json:
        print_json([run_fields(run, run.status(), listed=True) for run in shown])
    elif not shown:
        say(f"no run with {wanted.said}" if wanted.said else "no runs yet: `starburst demo` makes one")
    else:
        _print_table([(run, run.status()) for run in shown])
        if older:
            say(f"… and {older}: --limit 0")


def _print_table(shown: list[tuple[Run, RunStatus]]) -> None:
    from starburst_common.cli.show import colour, painted, say, simple_table, width_of
    from starburst_common.model import RunState
    from starburst_common.money.sums import prices_told

    prices = [None if now.state is RunState.DAMAGED else run.estimate(now, listed=True) for run, now in shown]
    rows = [_cells(run, now, price) for (run, now), price in zip(shown, prices, strict=True)]
    names, width = _COLUMNS, width_of(sys.stdout)
    while len(names) > _LEAST:
        room = sum(max(map(len, column)) + 2 for column in zip(names, *rows, strict=True) if column[0] != "label")
        if room + _LABEL <= width:
            break
        names, rows = names[:-1], [row[:-1] for row in rows]

    def paint(row: int, name: str, cell: str) -> str:
        style = "bold" if row < 0 else {"state": colour(shown[row][1]), "failed": "red"}.get(name, "")
        return painted(cell, style, sys.stdout)

    print(simple_table(names, rows, right=_RIGHT, flexible="label", width=width, paint=paint))
    if "cost" in names and (priced := prices_told(filter(None, prices))):
        say(f"cost: {priced}")


def _cells(run: Run, now: RunStatus, price: Estimate | None) -> tuple[str, ...]:
    """A run's row, a cell a column."""
    from starburst_common.cli.show import ago, state_words
    from starburst_common.dollars import usd_text
    from starburst_common.phrases import duration, one_line
    from starburst_common.runs.report import elapsed_s

    label = one_line(f"damaged: {now.reason}", _DAMAGED) if price is None else run.label or run.function
    items = "?" if now.items is None else f"{now.items:,}"
    failed = f"{now.failed:,}" if now.failed else ""
    took, cost = ("", "") if price is None else (duration(elapsed_s(now)), usd_text(price.usd))
    return str(run.id), label, state_words(now), items, failed, ago(now.created_at, time.time()), took, cost


def extend(
    run: RunWord,
    longer: Annotated[str, typer.Argument(metavar="TIME", help="How much longer: 12h, 30d, 2w, or seconds.")],
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Keep a run longer than it would be: `keep_days` from its end, and so much more."""
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import ago, iso
    from starburst_common.cli.which import find_run

    found = find_run(run, backend)
    until = found.extend(seconds_of(longer, "TIME"))
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
    from starburst_common.runs.prune import prune

    removed = prune(open_backend(backend))
    if json:
        print_json(removed)
    elif removed:
        print("\n".join(map(visible, removed)))
    else:
        say("nothing has expired")
