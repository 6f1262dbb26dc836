"""`starburst results`: a run in, a JSON line for each item out."""

from __future__ import annotations

import typer

from starburst_common.cli import stops
from starburst_common.cli.words import BackendWord, Json, Output, Quiet, RunWord
from starburst_common.errors import RunStopped


def results(
    run: RunWord, output: Output = None, backend: BackendWord = "auto", quiet: Quiet = False, json: Json = False
) -> None:
    """Print the results of a run, as `starburst map` does, with those of its retries in their places.

    Each item has its line, whatever became of it: null stands for a failure, for an item without an answer since the
    run ended early, and for None; --json tells them apart, as {"item", "failure"} (of kind "cancelled" for an item
    without an answer) and {"item", "value"}. A run that is not over is driven on until it is; Ctrl-C then only
    detaches.
    """
    from starburst_common.cli.function import look_here
    from starburst_common.cli.lines import Answers, CannotWrite, kept
    from starburst_common.cli.show import exit_code, say, summary, with_retries
    from starburst_common.cli.which import find_run
    from starburst_common.progress import progress
    from starburst_common.runs.find import attach

    look_here()  # values may be of the user's own types
    found = find_run(run, backend)
    over = found.status().state.over
    with Answers(output, tagged=json) as out:
        try:
            with progress(found, False if quiet or over else None):
                out.write(found.whole())
                out.done()
                found.wait()
        except RunStopped:  # its input was lost
            out.done()
        except CannotWrite as error:
            raise kept(error, found) from None
        except KeyboardInterrupt:
            say(f"detached; the run goes on: starburst attach {found.id}")
            raise typer.Exit(stops.exit_code()) from None
    ended = attach(found.id, backend=backend)
    now = ended.status()
    if ended.retries() or out.unanswered:
        now = with_retries(now, out.failed - out.unanswered, out.unanswered)
    code = exit_code(ended, now)
    if out.failed or code:
        summary(ended, now, out.first, here="results", quiet=quiet)
    if out.unanswered and not quiet:
        say(f"{out.unanswered:,} items have no answer (null; --json says so): starburst resume {found.id}")
    raise typer.Exit(code)
