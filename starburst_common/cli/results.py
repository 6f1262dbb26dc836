"""`starburst results`: a run in, a JSON line for each item out."""

from __future__ import annotations

import typer

from starburst_common.cli.words import BackendWord, Json, Output, Quiet, RunWord
from starburst_common.errors import RunCancelled, RunStopped


def results(
    run: RunWord, output: Output = None, backend: BackendWord = "auto", quiet: Quiet = False, json: Json = False
) -> None:
    """Print the results of a run, as `starburst map` does.

    A run that is not over is driven on until it is; Ctrl-C then only detaches.
    """
    from starburst_common.cli.function import look_here
    from starburst_common.cli.lines import Answers, CannotWrite, kept
    from starburst_common.cli.show import exit_code, say, summary
    from starburst_common.cli.which import find_run
    from starburst_common.progress import progress
    from starburst_common.run import attach

    look_here()  # values may be of the user's own types
    found = find_run(run, backend)
    over = found.status().state.over
    with Answers(output, tagged=json) as out:
        try:
            with progress(found, False if quiet or over else None):
                out.write(found.answers(ordered=True))
                found.wait()
        except (RunStopped, RunCancelled):
            pass  # the summary tells
        except CannotWrite as error:
            raise kept(error, found) from None
        except KeyboardInterrupt:
            say(f"detached; the run goes on: starburst attach {found.id}")
            raise typer.Exit(130) from None
    now = attach(found.id, backend=backend).status()
    if now.failed or exit_code(found, now):
        summary(found, now, out.first, here="results", quiet=quiet)
    raise typer.Exit(exit_code(found, now))
