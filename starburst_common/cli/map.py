"""`starburst map`: a function and a file of items in, a JSON line for each item out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli import stops
from starburst_common.cli.options import with_map_options
from starburst_common.cli.words import BackendWord, Json, Output, Quiet, RetriedRun, TagWords, tags_of
from starburst_common.errors import BadInput, RunCancelled, RunStopped

if TYPE_CHECKING:
    from starburst_common.cli.lines import Answers
    from starburst_common.runs.run import Run

_LAUNCH_S = 30.0
_UNSEEN = "12h"  # an outage is waited for by who nobody sees; by then no worker is left


FunctionWord = Annotated[
    str | None, typer.Argument(metavar="MODULE:FUNCTION", help="Called with each item; found from the current folder.")
]
ItemsFile = Annotated[
    str | None,
    typer.Option(
        "--items",
        "-i",
        metavar="FILE",
        help="JSON lines, CSV or Parquet (rows as dicts); - is stdin. What s3://BUCKET/KEY or a pattern names, such as "
        '"data/*.csv", is read by workers.',
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="jsonl, csv or parquet, else by the file's suffix; or object: each file is an item.",
    ),
]
RetryOn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="EXCEPTION",
        help="Try again after this only, such as OSError or requests:Timeout; may be given several times.",
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help='Sent to workers on AWS: a file, a folder, or a pattern such as "data/*.csv"; may be given several times.',
    ),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Start it, print its id, and leave it to itself.")]
OnTerm = Annotated[
    str,
    typer.Option(
        metavar="WORD", help="What SIGTERM, or a closed terminal, does: cancel the run, or detach and leave it."
    ),
]


@with_map_options
def map_items(
    function: FunctionWord = None,
    items: ItemsFile = None,
    retry_failed: RetriedRun = None,
    kind: Format = None,
    output: Output = None,
    *,
    options: dict[str, Any],
    retry_on: RetryOn = None,
    file: Files = None,
    tag: TagWords = None,
    backend: BackendWord = "auto",
    detach: Detach = False,
    on_term: OnTerm = "cancel",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Call a function with every item of a file.

    Results are JSON lines in the order of the items. A line is what the function returned, or null where an item
    failed (stderr says so, and the exit code is 1 unless it was tolerated); with --json it is {"item", "value"} or
    {"item", "failure"}. Values that JSON lacks: arrays become lists, sets sorted lists, dataclasses objects, dates ISO
    8601 text, lengths of time seconds, bytes base64, decimals, paths and UUIDs text, NaN null, anything else its repr.

    A file is checked to its end before anything is launched; of what workers read, rows are counted. Stdin is
    answered while it is read, and a line that is wrong ends the run; with --detach it is checked like a file. Empty
    lines are skipped. Columns of a CSV are separated by commas, or by semicolons or tabs where its first line is; its
    values are text.

    --output FILE is replaced once every item has its line: until then, and where the run was stopped or cancelled, it
    stays as it was. With --retry-failed the lines are those of all items of that run, with what was answered now.
    With --results-to workers write the values to files, whose names are printed in place of results.

    Ctrl-C cancels the run, and so do SIGTERM and a closed terminal (SIGHUP): with `--on-term detach` these leave it
    to itself. `nohup` keeps SIGHUP away.
    """
    from starburst_common.cli.lines import Answers, print_json
    from starburst_common.cli.show import say

    _refuse(function, items, retry_failed, kind, output, detach=detach, on_term=on_term)
    if output is not None and options.get("results_to"):
        raise BadInput("--results-to writes files of its own: leave out --output")
    options |= _listed(retry_on, file, tag) | ({"progress": False} if quiet else {})
    run: Run | None = None
    try:
        around, start, shown = _prepared(function, items, retry_failed, kind, backend, options, whole=detach)
        with around:
            if detach:
                run = start()
                leave(run, backend)
                print_json({"id": run.id}) if json else print(run.id)
                return
            with Answers(output, tagged=json) as out:
                run = start()
                if retry_failed is not None and run.parent is None and not quiet:
                    say(f"{run.id} has nothing left to be run")
                if options.get("results_to"):
                    drive_to_files(run, quiet=quiet, shown=shown, detaches=lambda: _detaches(on_term))
                drive(run, out, quiet=quiet, shown=shown, detaches=lambda: _detaches(on_term))
    except KeyboardInterrupt:
        _tell_interrupted(run, output, backend, leaves=_detaches(on_term))
        raise typer.Exit(stops.exit_code()) from None


def _refuse(
    function: str | None,
    items: str | None,
    retry_failed: str | None,
    kind: str | None,
    output: Path | None,
    *,
    detach: bool,
    on_term: str,
) -> None:
    """Raise `BadInput` for what does not go together."""
    if on_term not in ("cancel", "detach"):
        raise BadInput(f"--on-term {on_term}: write cancel or detach")
    if retry_failed is None and (function is None or items is None):
        lacks = "argument 'MODULE:FUNCTION'" if function is None else "option '--items' / '-i'"
        raise BadInput(f"Missing {lacks} (see `starburst map --help`)")
    if retry_failed is not None and (items is not None or kind is not None):
        raise BadInput("--retry-failed takes the items of that run: leave out --items and --format")
    if detach and output is not None:
        raise BadInput("--output goes with waiting: `starburst results last --output FILE` after --detach")
    if output is not None and items is not None and output.exists() and Path(items).exists() and output.samefile(items):
        raise BadInput(f"--output {output} would overwrite the items")


def _listed(retry_on: list[str] | None, file: list[str] | None, tag: list[str] | None) -> dict[str, Any]:
    """The options that may be given several times, as far as they are."""
    from starburst_common.cli.function import find_exception

    given: dict[str, Any] = {
        "retry_on": tuple(find_exception(name) for name in retry_on or []),
        "files": file,
        "tags": tags_of(tag),
    }
    return {name: value for name, value in given.items() if value}


def _prepared(
    function: str | None,
    items: str | None,
    retry_failed: str | None,
    kind: str | None,
    backend: str,
    options: dict[str, Any],
    *,
    whole: bool,
) -> tuple[AbstractContextManager[object], Callable[[], Run], bool | None]:
    """What has to be entered, what begins the run then, and whether its progress is wanted."""
    from starburst_common.cli.function import find_function, look_here
    from starburst_common.cli.items import open_items
    from starburst_common.cli.which import find_run
    from starburst_common.cluster import Cluster
    from starburst_common.config import with_outside

    if retry_failed is not None:
        Cluster(backend=backend, **options)  # refuses what is wrong
        called = None if function is None else find_function(function)
        look_here()
        return nullcontext(), partial(find_run(retry_failed, backend).retry_failed, called, **options), None
    asked = with_outside(options)
    asked["label"] = asked.get("label") or function
    cluster = Cluster(backend=backend, **asked)
    start = partial(cluster.start, find_function(function or ""), open_items(items or "", kind, whole=whole))
    return cluster, start, asked.get("progress")


def _detaches(on_term: str) -> bool:
    return on_term == "detach" and stops.told_to_end()


def _tell_interrupted(run: Run | None, output: Path | None, backend: str, *, leaves: bool) -> None:
    from starburst_common.cli.show import say
    from starburst_common.model import RunState

    if run is None:
        say("cancelled before it began")
        return
    if leaves:
        leave(run, backend)
        say(f"detached; the run goes on: starburst results {run.id}")
        return
    ended = run.status().state
    if not ended.over:  # nobody had its end in hand yet
        run.cancel()
    if ended.over and ended is not RunState.CANCELLED:
        say(f"interrupted after the run had {ended}: starburst results {run.id}")
    else:
        say(f"cancelled; what was answered is kept: starburst results {run.id}; starburst resume {run.id} goes on")
    if output is not None and output.is_file():
        say(f"--output {output} is as it was")


def drive(run: Run, out: Answers, *, quiet: bool, shown: bool | None, detaches: Callable[[], bool]) -> None:
    """To the end, with progress and a summary on stderr; whatever stops us cancels the run, unless that `detaches`."""
    from starburst_common.cli.lines import CannotWrite, kept
    from starburst_common.cli.show import exit_code, say, summary, with_retries
    from starburst_common.model import RunState
    from starburst_common.progress import progress

    retried = run.parent is None and bool(run.retries())
    with progress(run, False if quiet else shown):
        try:
            if run.parent is not None:
                run.wait()
            out.write(run.whole() if retried or run.parent is not None else run.answers(ordered=True))
            status = run.wait()
            status = with_retries(status, out.failed - out.unanswered, out.unanswered) if retried else status
            if status.state in (RunState.SUCCEEDED, RunState.FAILED):
                out.done()
        except (RunStopped, RunCancelled):
            status = run.status()  # the summary tells
        except CannotWrite as error:  # its items are paid for: it goes on
            run.wait()
            raise kept(error, run) from None
        except BaseException:
            if not detaches():
                run.cancel()
            raise
    if out.unfinished:
        say(f"{out.unfinished} is left as it was: starburst results {run.id} --output FILE writes what there is")
    summary(run, status, out.first, here="results", quiet=quiet)
    raise typer.Exit(exit_code(run, status))


def drive_to_files(run: Run, *, quiet: bool, shown: bool | None, detaches: Callable[[], bool]) -> None:
    """The same, where workers write what comes: the files' names are printed."""
    from starburst_common.cli.show import exit_code, summary
    from starburst_common.model import RunState
    from starburst_common.progress import progress

    with progress(run, False if quiet else shown):
        try:
            status = run.wait()
        except BaseException:
            if not detaches():
                run.cancel()
            raise
    if status.state in (RunState.SUCCEEDED, RunState.FAILED):
        print("\n".join(run.written(return_exceptions=True)))
    summary(run, status, run.failures()[:5] if status.failed else [], here="results", quiet=quiet)
    raise typer.Exit(exit_code(run, status))


def leave(run: Run, backend: str) -> None:
    """Have another process drive the run to its end, once its workers are launched."""
    import subprocess

    from starburst_common.cli.show import say

    until = time.monotonic() + _LAUNCH_S
    try:
        while (status := run.status()).workers == 0 and not status.state.over and time.monotonic() < until:
            time.sleep(0.05)
    except BaseException:
        run.cancel()
        raise
    if not status.state.over:
        words = ["-P", "-m", "starburst_common.cli", "attach"]
        command = [sys.executable, *words, run.id, "--backend", backend, "--quiet", "--patience", _UNSEEN]
        nowhere = subprocess.DEVNULL
        subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
        if not status.workers:
            waits = "no worker could be started yet: a process of this machine does when there is room"
            say(f"{waits}; if that ends, `starburst attach {run.id}` does")
