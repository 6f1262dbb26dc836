"""`starburst costs` tells what runs cost, by whatever they are told apart; also of runs that are not kept any more."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import BackendWord, Json, Plot, moment_of

if TYPE_CHECKING:
    from starburst_common.ports import Backend
    from starburst_common.runs.costs import Cost

_FIELDS = (
    *("runs", "items", "failed", "worker_hours", "usd", "unknown_runs", "spot_saved_usd", "off_expected", "priced"),
    "provisional_runs",  # the newest last: who reads columns by their place goes on
)
_COLUMNS = ("runs", "items", "failed", "worker hours")
_WIDTH = 80
_BARS = (8, 20)  # columns of the longest, at least and at most
_NAME = 20  # columns that a name has before bars have more than the least


def show_costs(
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Of runs begun since: 30d or 12h ago, or a date.")
    ] = "30d",
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="flow, dag, function, day (in UTC), site or tag:NAME.")
    ] = "function",
    backend: BackendWord = "auto",
    json: Json = False,
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile",
            help="By day, beside what AWS has put on the bill by the site's tag. Cost Explorer takes $0.01 a request.",
        ),
    ] = False,
    plot: Plot = None,
    csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets: a line of names, then a line each.")] = False,
) -> None:
    """Tell what runs cost, or on this machine would have cost on AWS, the dearest first; also of runs long removed.

    By the time of their workers once these have stopped, until then estimated. List prices, less the discount that
    the settings name. A cost with "~" is provisional, as workers have not all
    stopped; one with "+?" lacks runs whose price is not known.
    """
    from starburst_common.backends import open_backend
    from starburst_common.errors import BadInput
    from starburst_common.runs.costs import costs

    if json and csv:
        raise BadInput("--json and --csv: give one of them")
    if reconcile:
        if csv or plot is not None or by not in ("function", "day") or backend == "local":
            raise BadInput("--reconcile tells days on AWS, in a table or with --json: leave out all else but --since")
        from starburst_common.cli.reconcile import reconcile as compare

        compare(moment_of(since), json=json)
        return
    began, opened = moment_of(since), open_backend(backend)
    rows = costs(since=began, by=by, backend=opened)
    if plot is not None:
        from starburst_common.plots import costs_plot

        costs_plot(rows, plot, f"{_head(opened)} by {by.removeprefix('tag:')} since {since}: {_how(rows)}")
    if json:
        _print_json(rows, began, by, opened)
    elif csv:
        _print_csv(rows, by)
    else:
        _print_table(rows, since, by, opened)


def _print_table(rows: Sequence[Cost], since: str, by: str, backend: Backend) -> None:
    from starburst_common.cli.show import painted, say, simple_table, width_of
    from starburst_common.dollars import usd_text

    if not rows:
        say(f"no run ended that began since {since}: --since looks further back")
        return
    most = max(row.usd for row in rows)
    name, width = by.removeprefix("tag:"), min(width_of(sys.stdout), _WIDTH)
    head = [name, *_COLUMNS, _head(backend)]
    cells = [[row.name or "-", *_figures(row)] for row in rows]
    names, *figures = (max(map(len, column)) for column in zip(head, *cells, strict=True))
    bar = min(width - sum(figures) - 2 * len(head) - min(names, _NAME), _BARS[1])
    if bar >= _BARS[0]:
        head = [*head, ""]
        cells = [[*cell, "█" * _bar(row, bar, float(most))] for row, cell in zip(rows, cells, strict=True)]

    def paint(row: int, column: str, cell: str) -> str:
        style = "bold" if row < 0 else "cyan" if column == "" else "red" if column == "failed" else ""
        return painted(cell, style, sys.stdout)

    print(simple_table(head, cells, right=head[1:6], flexible=name, width=width, paint=paint))
    total = usd_text(sum((row.usd for row in rows), Decimal(0)))
    runs = sum(row.runs for row in rows)
    saved = sum((row.spot_saved for row in rows), Decimal(0))
    how = (f", Spot saved {usd_text(saved)}" if saved else "") + f"{_off(rows)}; {_how(rows)}"
    say(f"{_head(backend)}: {total} for {runs:,} run{'s' * (runs != 1)} since {since}{how}")
    if any(row.provisional for row in rows):
        say("~ is provisional: workers have not all stopped")


def _off(rows: Sequence[Cost]) -> str:
    """By how much they cost more or less than runs of their functions before them let expect."""
    known = [(row.usd, row.usd / Decimal(str(1 + row.off))) for row in rows if row.off is not None and row.off > -1]
    if not (expected := sum(each for _, each in known)):
        return ""
    off = float(sum(usd for usd, _ in known) / expected) - 1
    how = f"{100 * abs(off):.0f}% {'less than' if off < 0 else 'more than'}" if abs(off) >= 0.005 else "as much as"
    return f", {how} runs before let expect"


def _head(backend: Backend) -> str:
    return "would cost" if backend.name == "local" else "cost"


def _how(rows: Sequence[Cost]) -> str:
    """By what prices."""
    told = dict.fromkeys(each for row in rows if row.priced for each in row.priced.split("; "))
    return "; ".join(told) or "without a price"


def _figures(row: Cost) -> list[str]:
    from starburst_common.dollars import usd_text

    usd = "?" if row.unknown >= max(row.runs, 1) else usd_text(row.usd) + "+?" * bool(row.unknown)
    usd = "~" * bool(row.provisional) + usd
    return [f"{row.runs:,}", f"{row.items:,}", f"{row.failed:,}" if row.failed else "", _hours(row.worker_hours), usd]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}" if hours < 1 else f"{hours:.2f}"


def _bar(row: Cost, columns: int, most: float) -> int:
    """So many columns; one at least for what costs anything."""
    return max(round(columns * float(row.usd) / most), 1) if row.usd and most else 0


def fields_of(row: Cost) -> dict[str, Any]:
    """What several runs cost, as JSON."""
    return {
        "name": row.name,
        "runs": row.runs,
        "items": row.items,
        "failed": row.failed,
        "worker_hours": round(row.worker_hours, 6),
        "usd": None if row.unknown >= max(row.runs, 1) else round(float(row.usd), 6),
        "unknown_runs": row.unknown,
        "provisional_runs": row.provisional,
        "spot_saved_usd": round(float(row.spot_saved), 6),
        "priced": row.priced,
        "off_expected": None if row.off is None else round(row.off, 4),
    }


def _print_json(rows: Sequence[Cost], began: float, by: str, backend: Backend) -> None:
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import iso

    each = [
        {**fields_of(row), "by_component": {name: round(float(usd), 6) for name, usd in row.parts.items()}}
        for row in rows
    ]
    print_json(
        {
            "since": iso(began),
            "until": iso(time.time()),
            "by": by,
            "backend": backend.name,
            "would_have_cost": backend.name == "local",
            "region": backend.tariff.region,
            "arch": backend.tariff.arch,
            "discount": backend.discount,
            "rows": each,
        }
    )


def _print_csv(rows: Sequence[Cost], by: str) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([by, *_FIELDS])
    writer.writerows([row.name, *(fields_of(row)[name] for name in _FIELDS)] for row in rows)
