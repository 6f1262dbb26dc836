"""`starburst plan`: how many workers a map would get, until when it would take, and what it would cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.estimate import Measure, Within, measured_here, say_memory
from starburst_common.cli.map import Format
from starburst_common.cli.options import with_map_options
from starburst_common.cli.words import BackendWord, Json, Plot

if TYPE_CHECKING:
    from starburst_common.fleets.waves import Plan

_COLUMNS, _LINES = 60, 8
_BLOCKS = " ▁▂▃▄▅▆▇█"


@with_map_options
def plan(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Found from the current folder.")],
    items: Annotated[str, typer.Option("--items", "-i", metavar="FILE", help="As of `starburst map`.")],
    kind: Format = None,
    *,
    options: dict[str, Any],
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="An item takes; else as in former runs of the function.")
    ] = None,
    measure: Measure = None,
    within: Within = 60.0,
    plot: Plot = None,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Tell how many workers a map would get now, when its items would be answered, and for how much.

    Nothing is launched, stored or built. How long an item takes is known from --seconds, from items that --measure has
    run here, or from runs of the same function in the last 30 days; without any only workers are told. On a terminal a
    curve of them is drawn.
    """
    from starburst_common.cli.function import find_function
    from starburst_common.cli.items import open_items
    from starburst_common.cli.lines import print_json
    from starburst_common.cluster import Cluster

    called, given = find_function(function), open_items(items, kind, whole=True)
    cluster = Cluster(backend=backend, **options)
    sample = measured_here(cluster, called, given, measure, within) if measure else None
    found = cluster.plan(called, given, seconds=seconds, sample=sample)
    say_memory(sample, found.wish.resources)
    if plot is not None:
        from starburst_common.plots import timeline_plot

        timeline_plot(found, plot, name=function)
    if json:
        print_json(found.fields)
        return
    print(found)
    if sys.stdout.isatty() and found.workers:
        print(drawn(found))


def drawn(found: Plan, columns: int = _COLUMNS, lines: int = _LINES) -> str:
    """Workers over time, in text.

    >>> from starburst_common.fleets.headroom import Headroom
    >>> from starburst_common.fleets.waves import Wish, plan
    >>> from starburst_common.ports import LaunchSpeed
    >>> from starburst_common.resources import Resources
    >>> wish = Wish(workers=300, resources=Resources.of(1), items=30_000, item_s=1)
    >>> print(drawn(plan(wish, Headroom(), LaunchSpeed()), columns=16, lines=3))
        300 |      ██████████
            |     ▂██████████
          0 |     ███████████
            +----------------
             0 s        149 s
    """
    from starburst_common.fleets.waves import about

    points = found.curve(columns)[:columns]
    most = max(max(point.workers for point in points), 1)
    rows = []
    for line in reversed(range(lines)):
        filled = (point.workers / most * lines - line for point in points)
        row = "".join(_BLOCKS[round(min(max(share, 0), 1) * 8)] for share in filled)
        label = f"{most:,}" if line == lines - 1 else "0" if line == 0 else ""
        rows.append(f"{label:>7} |{row}".rstrip())
    step_s = points[1].at_s if len(points) > 1 else 0.0
    end = about(step_s * columns)
    return "\n".join([*rows, " " * 8 + "+" + "-" * columns, " " * 9 + "0 s" + end.rjust(columns - 3)])
