"""`starburst map`: a function and a file of items in, a JSON line for each item out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli import stops
from starburst_common.cli.words import BackendWord, Json, Output, Quiet, TagWords, tags_of
from starburst_common.errors import BadInput, RunCancelled, RunStopped

if TYPE_CHECKING:
    from starburst_common.cli.lines import Answers
    from starburst_common.runs.run import Run

_LAUNCH_S = 30.0


def map_items(
    function: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:FUNCTION", help="Called with each item; found from the current folder."),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option("--items", "-i", metavar="FILE", help="JSON lines, CSV or Parquet (rows as dicts); - is stdin."),
    ] = None,
    retry_failed: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="In place of --items: what failed in that run, or has no answer. Without a function, with the one "
            "that was stored; options that are not given are as they were.",
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="jsonl, csv or parquet; else by the file's suffix.")
    ] = None,
    output: Output = None,
    workers: Annotated[int | None, typer.Option(help="Containers, or processes on this machine.")] = None,
    cpu: Annotated[float | None, typer.Option(help="vCPU of a worker: 0.25, 0.5, 1, 2, 4, 8 or 16; else 1.")] = None,
    memory: Annotated[str | None, typer.Option(help='Memory of a worker, such as "8GB" or "512MB".')] = None,
    slots: Annotated[int | None, typer.Option(help="Items a worker runs at once; else one a vCPU.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="On cheaper capacity that may be taken back.")] = False,
    chunk_size: Annotated[int | None, typer.Option(help="Items leased together; else by how long they take.")] = None,
    image: Annotated[
        str | None, typer.Option(help="What workers on AWS run in, in place of one made for your environment.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="Further tries for an item that raised, or ran into --timeout; else none.")
    ] = None,
    retry_delay: Annotated[
        float | None, typer.Option(help="Seconds before a further try of one that raised; else 0.")
    ] = None,
    retry_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXCEPTION",
            help="Try again after this only, such as OSError or requests:Timeout; may be given several times.",
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one item may run.")] = None,
    return_exceptions: Annotated[
        bool, typer.Option("--return-exceptions", help="Answer every item, even if all of the first fail alike.")
    ] = False,
    tolerate: Annotated[
        str | None,
        typer.Option(
            help='Failures that do not stop the run, such as 5 or "2%"; else any number, unless the first 20 or more '
            "all fail alike."
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="What it should cost at most, in USD; written down only, nothing stops there yet."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Gives each item a seed of its own, made of this number.")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help='Sent to workers on AWS: a file, a folder, or a pattern such as "data/*.csv"; may be given several '
            "times.",
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="What listings show; else MODULE:FUNCTION.")] = None,
    tag: TagWords = None,
    backend: BackendWord = "auto",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Start it, print its id, and leave it to itself.")
    ] = False,
    on_term: Annotated[
        str, typer.Option(metavar="WORD", help="What SIGTERM does: cancel the run, or detach and leave it to itself.")
    ] = "cancel",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Call a function with every item of a file.

    Results are JSON lines in the order of the items. A line is what the function returned, or null where an item
    failed (stderr says so, and the exit code is 1 unless it was tolerated); with --json it is {"item", "value"} or
    {"item", "failure"}. Values that JSON lacks: arrays become lists, sets sorted lists, dataclasses objects, dates ISO
    8601 text, lengths of time seconds, bytes base64, decimals, paths and UUIDs text, NaN null, anything else its repr.

    A file is checked to its end before anything is launched. Stdin is answered while it is read, and a line that is
    wrong ends the run; with --detach it is checked like a file. Empty lines are skipped, values of a CSV are text.

    --output FILE is replaced once every item has its line: until then, and where the run was stopped or cancelled, it
    stays as it was. With --retry-failed the lines are those of all items of that run, with what was answered now.

    Ctrl-C cancels the run, and so does SIGTERM: with `--on-term detach` that leaves it to itself.
    """
    from starburst_common.cli.function import find_exception, find_function, look_here
    from starburst_common.cli.items import open_items
    from starburst_common.cli.lines import Answers, print_json
    from starburst_common.cli.show import say
    from starburst_common.cli.which import find_run
    from starburst_common.cluster import Cluster

    given: dict[str, Any] = {
        "workers": workers,
        "cpu": int(cpu) if cpu is not None and cpu.is_integer() else cpu,
        "memory": memory,
        "slots": slots,
        "spot": spot or None,
        "image": image,
        "chunk_size": chunk_size,
        "retries": retries,
        "retry_delay": retry_delay,
        "timeout": timeout,
        "return_exceptions": return_exceptions or None,
        "tolerate": tolerate,
        "budget": budget,
        "seed": seed,
        "files": file or None,
        "label": label or (None if retry_failed else function),
        "tags": tags_of(tag) or None,
    }
    options = {name: value for name, value in given.items() if value is not None}
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
    if retry_on:
        options["retry_on"] = tuple(find_exception(name) for name in retry_on)
    cluster = Cluster(backend=backend, **options)
    called = None if function is None else find_function(function)
    run: Run | None = None
    try:
        if retry_failed is not None:
            look_here()
            first = find_run(retry_failed, backend)
            start = partial(first.retry_failed, called, **options)
        elif called is not None:
            start = partial(cluster.start, called, open_items(items or "", kind, whole=detach))
        with nullcontext() if retry_failed is not None else cluster:
            if detach:
                run = start()
                leave(run, backend)
                print_json({"id": run.id}) if json else print(run.id)
                return
            with Answers(output, tagged=json) as out:
                run = start()
                if retry_failed is not None and run.parent is None and not quiet:
                    say(f"{run.id} has nothing left to be run")
                drive(run, out, quiet=quiet, detaches=lambda: on_term == "detach" and stops.told_to_end())
    except KeyboardInterrupt:
        if run is None:
            say("cancelled before it began")
        elif on_term == "detach" and stops.told_to_end():
            leave(run, backend)
            say(f"detached; the run goes on: starburst results {run.id}")
        else:
            _tell_interrupted(run, output)
        raise typer.Exit(stops.exit_code()) from None


def _tell_interrupted(run: Run, output: Path | None) -> None:
    from starburst_common.cli.show import say
    from starburst_common.model import RunState

    ended = run.status().state
    if ended.over and ended is not RunState.CANCELLED:
        say(f"interrupted after the run had {ended}: starburst results {run.id}")
    else:
        say(f"cancelled; what was answered is kept: starburst results {run.id}; starburst resume {run.id} goes on")
    if output is not None and output.is_file():
        say(f"--output {output} is as it was")


def drive(run: Run, out: Answers, *, quiet: bool, detaches: Callable[[], bool] = lambda: False) -> None:
    """To the end, with progress and a summary on stderr; whatever stops us cancels the run, unless that `detaches`."""
    from starburst_common.cli.lines import CannotWrite, kept
    from starburst_common.cli.show import exit_code, merged, say, summary
    from starburst_common.model import RunState
    from starburst_common.progress import progress

    retried = run.parent is None and bool(run.retries())
    with progress(run, False if quiet else None):
        try:
            if run.parent is not None:
                run.wait()
            out.write(run.whole() if retried or run.parent is not None else run.answers(ordered=True))
            status = run.wait()
            status = merged(status, out.failed - out.unanswered, out.unanswered) if retried else status
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


def leave(run: Run, backend: str) -> None:
    """Have another process drive the run to its end, once its workers are launched."""
    import subprocess

    until = time.monotonic() + _LAUNCH_S
    try:
        while (status := run.status()).workers == 0 and not status.state.over and time.monotonic() < until:
            time.sleep(0.05)
    except BaseException:
        run.cancel()
        raise
    if not status.state.over:
        command = [
            sys.executable,
            "-P",
            "-m",
            "starburst_common.cli",
            "attach",
            run.id,
            "--backend",
            backend,
            "--quiet",
        ]
        nowhere = subprocess.DEVNULL
        subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
