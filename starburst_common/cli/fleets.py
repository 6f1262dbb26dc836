"""`starburst fleets` lists fleets, with who has them and what they cost an hour; `starburst fleets stop` ends some."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import BackendWord, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starburst_common.cli.standing import Given
    from starburst_common.ports import Backend
    from starburst_common.runs.standing import HeldFleet

_COLUMNS = ("fleet", "workers", "idle", "size", "held by", "warm", "an hour")
_SAID = 3  #: runs that a cell names


def show_fleets(context: typer.Context, backend: BackendWord = "auto", json: Json = False) -> None:
    """List the fleets that runs or clusters have, or that `keep_warm` keeps: workers, and what these cost an hour.

    At least so many of the workers are idle. A fleet that is kept warm ends by itself when it is warm no more.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import painted, say, simple_table, width_of
    from starburst_common.cli.standing import given_to
    from starburst_common.runs.standing import held_fleets

    if context.invoked_subcommand is not None:
        return
    opened = open_backend(backend)
    found = held_fleets(opened)
    if json:
        print_json([_fields(fleet, opened) for fleet in found])
    elif not found:
        say("no fleets")
    else:
        rows = [_cells(fleet, opened) for fleet in found]
        head = _COLUMNS if opened.name == "aws" else _COLUMNS[:-1]

        def paint(row: int, name: str, cell: str) -> str:
            return painted(cell, "bold" if row < 0 else "", sys.stdout)

        cells = [row[: len(head)] for row in rows]
        print(
            simple_table(
                head,
                cells,
                right=["workers", "idle", "an hour"],
                flexible="held by",
                width=width_of(sys.stdout),
                paint=paint,
            )
        )
        if priced := given_to(found, opened).priced:
            say(f"an hour: {priced}")


def stop(
    fleets: Annotated[list[str] | None, typer.Argument(metavar="FLEET...", help="Ids, or how they begin.")] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Stop fleets at once: their workers go, and where a run is at work on one, that is cancelled, after a question.

    What such a run has answered is kept, and `starburst resume` goes on with it.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.questions import agreed
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput
    from starburst_common.runs.standing import held_fleets, stop_fleet

    if bool(fleets) == all_of_them:
        raise BadInput("name fleets, or give --all: `starburst fleets` lists those there are")
    opened = open_backend(backend)
    there = held_fleets(opened)
    wanted = there if all_of_them else [_named(name, there) for name in dict.fromkeys(fleets or ())]
    if runs := [run.id for fleet in wanted for run in fleet.runs]:
        many = "Runs that use them are" if len(runs) > 1 else "A run that uses it is"
        if not agreed(f"{many} cancelled: {', '.join(runs)}. Stop?", yes, ""):
            return
    told = []
    for fleet in wanted:
        stopped, workers = stop_fleet(opened, fleet), len(fleet.workers)
        told.append({"id": fleet.id, "workers": workers, "stopped": stopped})
        if not json:
            how = (
                f"stopped, {workers:,} worker{'s' * (workers != 1)}" if stopped else "a run has just come; ends with it"
            )
            print(f"{fleet.id}: {how}")
    if json:
        print_json(told)
    elif not wanted:
        say("no fleets")


def _named(name: str, there: Sequence[HeldFleet]) -> HeldFleet:
    from starburst_common.errors import BadInput, NotFound
    from starburst_common.phrases import told

    found = [fleet for fleet in there if fleet.id == name] or [fleet for fleet in there if fleet.id.startswith(name)]
    if not found:
        raise NotFound(f"no fleet {told(name)}: `starburst fleets` lists those there are")
    if len(found) > 1:
        raise BadInput(f"{told(name)} may be {' or '.join(fleet.id for fleet in found[:_SAID])}: give more of it")
    return found[0]


def _given(fleet: HeldFleet, backend: Backend) -> Given:
    from starburst_common.cli.standing import given_to

    return given_to([fleet], backend)


def _cells(fleet: HeldFleet, backend: Backend) -> tuple[str, ...]:
    from starburst_common.dollars import usd_text

    starting = f" ({fleet.starting} starting)" if fleet.starting else ""
    return (
        fleet.id,
        f"{len(fleet.workers):,}{starting}",
        f"{_idle(fleet):,}",
        f"{fleet.size}{', Spot' * _spot(fleet)}" or "?",
        _holders(fleet),
        _warm(fleet),
        usd_text(_given(fleet, backend).usd),
    )


def _idle(fleet: HeldFleet) -> int:
    """At work they are only if they have begun."""
    return max(len(fleet.workers) - fleet.starting - fleet.at_work, 0)


def _spot(fleet: HeldFleet) -> bool:
    return fleet.entry.spot if fleet.entry is not None else any(run.resources.spot for run in fleet.runs)


def _holders(fleet: HeldFleet) -> str:
    from starburst_common.cli.show import ago

    if fleet.unsigned:
        return "nobody: its key is no longer valid"
    clusters = f"{fleet.clusters} cluster{'s' * (fleet.clusters != 1)}" if fleet.clusters else ""
    more = f"{len(fleet.runs) - _SAID} more" if len(fleet.runs) > _SAID else ""
    if by := ", ".join(filter(None, [*(run.id for run in fleet.runs[:_SAID]), more, clusters])):
        return by
    return f"nobody: its cluster was last heard of {ago(fleet.heard_at, time.time())}" if fleet.silent else "nobody"


def _warm(fleet: HeldFleet) -> str:
    from starburst_common.phrases import duration

    if fleet.entry is None:
        return ""
    if fleet.warm_until is None:
        return f"{duration(fleet.entry.keep_warm_s)} after it"
    if fleet.warm_until < time.time() and not fleet.workers:
        return "over: `starburst gc` removes it"
    return f"until {time.strftime('%H:%M:%S', time.localtime(fleet.warm_until))}"


def _fields(fleet: HeldFleet, backend: Backend) -> dict[str, Any]:
    from starburst_common.cli.show import iso

    given, until = _given(fleet, backend), fleet.warm_until
    usd = given.usd if backend.name == "aws" else None
    return {
        "id": fleet.id,
        "workers": len(fleet.workers),
        "starting": fleet.starting,
        "idle": _idle(fleet),
        "size": fleet.size,
        "spot": _spot(fleet),
        "runs": [run.id for run in fleet.runs],
        "clusters": fleet.clusters,
        "silent_clusters": fleet.silent,
        "keep_warm_s": None if fleet.entry is None else fleet.entry.keep_warm_s,
        "warm_until": None if until is None else iso(until),
        "usd_per_hour": None if usd is None else round(float(usd), 6),
        "key_valid": not fleet.unsigned,
    }
