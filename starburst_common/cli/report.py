"""`starburst report`: a run in, a page that tells of it out."""

from __future__ import annotations

from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, RunWord


def report(
    run: RunWord,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    backend: BackendWord = "auto",
) -> None:
    """Write a page on how a run stands: figures, workers, failures, and a look-up by item.

    It is kept with the run, and its URL goes to stdout: a file, or on AWS a page of its console.
    """
    from starburst_common.cli.which import find_run

    url = find_run(run, backend).report()
    print(url)
    if open_it:
        typer.launch(url)
