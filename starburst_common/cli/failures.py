"""`starburst failures`: a run in, its failed items and why out."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord

_TOLD = 1000  # characters of one; --json gives all


def failures(
    run: RunWord,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The first so many; 0 is all.")] = 20,
    tracebacks: Annotated[bool, typer.Option("--traceback", help="Also what the workers printed of each.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """List the items that have failed so far, and why.

    With --json all of them, one object a line. The exit code is 1 if there is any.
    """
    from starburst_common.cli.lines import failure_fields, print_json
    from starburst_common.cli.show import add_row, columns, in_a_line, print_table, say
    from starburst_common.cli.which import find_run
    from starburst_common.phrases import visible_lines

    found = find_run(run, backend)
    failed = found.failures()
    shown = failed[: limit or None]
    if json:
        for failure in failed:
            print_json(failure_fields(failure))
    elif tracebacks:
        for failure in shown:
            print(f"item {failure.index}: {in_a_line(failure, _TOLD)}\n{visible_lines(failure.traceback)}\n")
    elif failed:
        table = columns("item", "kind", "failure", right=("item",), flexible="failure")
        for failure in shown:
            add_row(table, str(failure.index), str(failure.kind), in_a_line(failure, _TOLD))
        print_table(table)
    else:
        say("no item has failed")
    if not json and len(shown) < len(failed):
        say(f"… and {len(failed) - len(shown):,} more: --limit 0")
    if not json and failed:
        say(f"next: starburst replay {found.id} {failed[0].index} --debug")
    raise typer.Exit(int(bool(failed)))
