"""`starburst failures`: a run in, its failed items and why out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord
from starburst_common.errors import BadInput

_TOLD = 1000  # characters of one; --json gives all


def failures(
    run: RunWord,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The first so many; 0 is all.")] = 20,
    with_items: Annotated[
        bool, typer.Option("--with-items", help="With --json: also each item, as it was given.")
    ] = False,
    tracebacks: Annotated[bool, typer.Option("--traceback", help="Also what the workers printed of each.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """List the items that have failed so far, and why.

    With --json all of them, one object a line; with --with-items each has its item under "input", so that
    `… | jq -c .input` makes a file for `starburst map`. What a retry answered is none. The exit code is 1 if there is
    any.
    """
    from starburst_common.backends import open_backend
    from starburst_common.cli.function import look_here
    from starburst_common.cli.lines import failure_fields, print_json
    from starburst_common.cli.show import add_row, columns, in_a_line, print_table, say
    from starburst_common.cli.which import find_run
    from starburst_common.phrases import visible_lines
    from starburst_common.runs.replay import stored_items

    found = find_run(run, backend)
    failed = found.failures()
    shown = failed[: limit or None]
    if with_items and not json:
        raise BadInput("--with-items goes with --json")
    if json:
        inputs: dict[int, Any] = {}
        if with_items:
            look_here()  # items may be of the user's own types
            first = find_run(found.parent, backend) if found.parent is not None else found
            wanted = {failure.index for failure in failed}
            inputs = {index: {"input": item} for index, item in stored_items(open_backend(backend), first.id, wanted)}
        for failure in failed:
            print_json({**failure_fields(failure), **inputs.get(failure.index, {})})
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
