"""`starburst report`: a run in, a page that tells of it out."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, RunWord


def report(
    run: RunWord,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Write a page on how a run stands: figures, workers, the first 1,000 failures, and a look-up by item.

    The look-up knows the items of the first 5,000 chunks; `starburst failures` and `starburst replay` know all. The
    page is kept with the run, and its URL goes to stdout: a file, or on AWS a page of its console.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.which import find_run
    from starburst_common.phrases import visible

    found = find_run(run, backend)
    url = found.report()
    print_json({"id": found.id, "url": url}) if json else print(visible(url))
    if open_it:
        typer.launch(url)
