"""`starburst demo`: a few seconds of real work on this machine, and where to look next."""

from __future__ import annotations

import math
import time
from typing import Annotated

import typer

from starburst_common.cli.words import BackendWord, Json, Quiet

_HANDFULS = 64


def demo(
    workers: Annotated[int | None, typer.Option(help="Processes; else one a core.")] = None,
    backend: BackendWord = "local",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Estimate pi with random darts: a few seconds of work, on this machine."""
    from starburst_common.cli.darts import DARTS, throw_darts
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import console, run_fields, say
    from starburst_common.cluster import Cluster
    from starburst_common.phrases import duration
    from starburst_common.progress import progress
    from starburst_common.runs.find import attach

    thrown = DARTS * _HANDFULS
    began = time.perf_counter()
    with Cluster(backend=backend, workers=workers, label="demo: pi") as cluster:
        if not (quiet or json):
            say(f"Estimating pi from {thrown:,} random darts, in {_HANDFULS} items …")
        run = cluster.start(throw_darts, range(_HANDFULS))
        try:
            with progress(run, False if quiet else None):
                hits = run.results()
                run.wait()
        except BaseException:
            run.cancel()
            raise
    wall_s = time.perf_counter() - began
    found = attach(run.id, backend=backend)
    status = found.status()
    pi = 4 * sum(hits) / thrown
    if json:
        print_json({"pi": pi, "darts": thrown, "run": run_fields(found, status)})
        return
    out = console()
    speed = status.slot_seconds / wall_s
    out.print(f"pi is about {pi:.5f} (off by {abs(pi - math.pi):.5f})", style="bold")
    out.print(
        f"time    {duration(wall_s)} for {duration(status.slot_seconds)} of work: {speed:.1f} times as fast as a loop"
    )
    out.print(f"on AWS  {found.estimate(status).about}")
    out.print(f"next    starburst status {run.id}\n        starburst results {run.id} | head -3")
    out.print("        starburst map MODULE:FUNCTION --items FILE")
