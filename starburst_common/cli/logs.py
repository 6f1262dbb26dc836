"""`starburst logs`: a run in, what its items printed out."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord


def logs(
    run: RunWord,
    item: Annotated[int | None, typer.Option("--item", min=0, help="Of this item only.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also as it is printed, until the run ends.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Print what items printed or logged.

    Of those answered so far: their number and a line, in which is escaped what would steer a terminal or hide text.
    With --json an object an item, with its text as it was. With --follow also of those that run, line by line as they
    print, an object for some lines; Ctrl-C ends that, and leaves the run alone.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.cli.which import find_run
    from starburst_common.phrases import visible_lines

    found = find_run(run, backend)
    anything = False
    for index, text in found.logs(item, follow=follow):
        anything = True
        if json:
            print_json({"item": index, "text": text})
        else:
            head = typer.style(f"item {index} |", dim=True)
            for line in visible_lines(text).rstrip("\n").split("\n"):
                typer.echo(f"{head} {line}")
    if not anything and not json:
        say("nothing was printed" if item is None else f"item {item} printed nothing")
