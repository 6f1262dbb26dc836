"""`starburst map`: a function and a file of items in, a JSON line for each item out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import BackendWord, Json, Output, Quiet, TagWords, tags_of
from starburst_common.errors import BadInput, RunCancelled, RunStopped

if TYPE_CHECKING:
    from starburst_common.cli.lines import Answers
    from starburst_common.run import Run

_LAUNCH_S = 30.0


def map_items(
    function: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Called with each item; found from the current folder.")
    ],
    items: Annotated[
        str,
        typer.Option("--items", "-i", metavar="FILE", help="JSON lines, CSV or Parquet (rows as dicts); - is stdin."),
    ],
    kind: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="jsonl, csv or parquet; else by the file's suffix.")
    ] = None,
    output: Output = None,
    workers: Annotated[int | None, typer.Option(help="Containers, or processes on this machine.")] = None,
    cpu: Annotated[float, typer.Option(help="vCPU of a worker: 0.25, 0.5, 1, 2, 4, 8 or 16.")] = 1,
    memory: Annotated[str | None, typer.Option(help='Memory of a worker, such as "8GB" or "512MB".')] = None,
    slots: Annotated[int | None, typer.Option(help="Items a worker runs at once; else one a vCPU.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="On cheaper capacity that may be taken back.")] = False,
    chunk_size: Annotated[int | None, typer.Option(help="Items leased together; else by how long they take.")] = None,
    image: Annotated[
        str | None, typer.Option(help="What workers on AWS run in, in place of one made for your environment.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Further tries for an item that raised, or ran into --timeout.")] = 0,
    retry_delay: Annotated[float, typer.Option(help="Seconds before a further try of one that raised.")] = 0.0,
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
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Call a function with every item of a file.

    Results are JSON lines in the order of the items. A line is what the function returned, or null where an item
    failed (stderr says so, and the exit code is 1 unless it was tolerated); with --json it is {"item", "value"} or
    {"item", "failure"}. Values that JSON lacks: arrays become lists, sets sorted lists, dataclasses objects, dates ISO
    8601 text, decimals, paths and UUIDs text, NaN null, anything else its repr.

    A file is checked to its end before anything is launched. Stdin is answered while it is read, and a line that is
    wrong ends the run; with --detach it is checked like a file. Empty lines are skipped, values of a CSV are text.

    Ctrl-C cancels the run.
    """
    from starburst_common.cli.function import find_exception, find_function
    from starburst_common.cli.items import open_items
    from starburst_common.cli.lines import Answers, print_json
    from starburst_common.cli.show import say
    from starburst_common.cluster import Cluster

    options: dict[str, Any] = {
        "workers": workers,
        "cpu": int(cpu) if cpu.is_integer() else cpu,
        "memory": memory,
        "slots": slots,
        "spot": spot,
        "image": image,
        "chunk_size": chunk_size,
        "retries": retries,
        "retry_delay": retry_delay,
        "timeout": timeout,
        "return_exceptions": return_exceptions,
        "tolerate": int(tolerate) if tolerate is not None and tolerate.isdecimal() else tolerate,
        "budget": budget,
        "seed": seed,
        "files": file or (),
        "label": label or function,
        "tags": tags_of(tag),
    }
    if detach and output is not None:
        raise BadInput("--output goes with waiting: `starburst results last --output FILE` after --detach")
    if output is not None and output.exists() and Path(items).exists() and output.samefile(items):
        raise BadInput(f"--output {output} would overwrite the items")
    if retry_on:
        options["retry_on"] = tuple(find_exception(name) for name in retry_on)
    cluster = Cluster(backend=backend, **options)
    called = find_function(function)
    run: Run | None = None
    try:
        todo = open_items(items, kind, whole=detach)
        with cluster:
            if detach:
                run = cluster.start(called, todo)
                leave(run, backend)
                print_json({"id": run.id}) if json else print(run.id)
                return
            with Answers(output, tagged=json) as out:
                run = cluster.start(called, todo)
                drive(run, out, quiet=quiet)
    except KeyboardInterrupt:
        say(f"cancelled; what was answered is kept: starburst results {run.id}" if run else "cancelled before it began")
        raise typer.Exit(130) from None


def drive(run: Run, out: Answers, *, quiet: bool) -> None:
    """To the end, with progress and a summary on stderr; whatever stops us cancels the run."""
    from starburst_common.cli.lines import CannotWrite, kept
    from starburst_common.cli.show import exit_code, summary
    from starburst_common.progress import progress

    with progress(run, False if quiet else None):
        try:
            out.write(run.answers(ordered=True))
            run.wait()
        except (RunStopped, RunCancelled):
            pass  # the summary tells
        except CannotWrite as error:  # its items are paid for: it goes on
            run.wait()
            raise kept(error, run) from None
        except BaseException:
            run.cancel()
            raise
    status = run.status()
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
