"""`starburst logs`: a run in, what its items printed out."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord


def logs(
    run: RunWord,
    item: Annotated[int | None, typer.Option("--item", min=0, help="Of this item only.")] = None,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Print what items printed or logged.

    Of those answered so far: their number and a line, in which is escaped what would steer a terminal or hide text.
    With --json an object an item, with its text as it was.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.cli.which import find_run
    from starburst_common.phrases import visible_lines

    found = find_run(run, backend)
    anything = False
    for index, text in found.logs(item):
        anything = True
        if json:
            print_json({"item": index, "text": text})
        else:
            head = typer.style(f"item {index} |", dim=True)
            for line in visible_lines(text).rstrip("\n").split("\n"):
                typer.echo(f"{head} {line}")
    if not anything and not json:
        say("nothing was printed" if item is None else f"item {item} printed nothing")
