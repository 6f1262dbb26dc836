"""`starburst doctor`: whether maps can be done here or there, and what to do if not."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import BackendWord, Json

if TYPE_CHECKING:
    from starburst_common.aws.reach import Reached
    from starburst_common.config import Settings

_LEAST_FREE = 1 << 30  #: bytes below which a disk is told as nearly full
_FAILED = 5  #: as for any service, or machine, that failed


def doctor(
    backend: BackendWord = "auto",
    from_worker: Annotated[
        bool, typer.Option("--from-worker", help="Also map an item on one worker: image, network and roles.")
    ] = False,
    json: Json = False,
) -> None:
    """Look whether maps can be done: credentials, clock, and each part of the site, or this machine; a line each.

    Nothing is made, but for what --from-worker needs, which costs a minute of one small worker. Exit code 5 if anything
    is wrong.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import painted
    from starburst_common.config import settings
    from starburst_common.phrases import one_line

    found = settings(backend=None if backend == "auto" else backend)
    parts = [*(_site(found) if found.site is not None and found.backend != "local" else _machine(found))]
    if from_worker and all(part.fine for part in parts):
        parts.append(_worker(backend))
    if json:
        print_json([part._asdict() for part in parts])
    else:
        for part in parts:
            word = painted("ok   ", "green", sys.stdout) if part.fine else painted("WRONG", "red", sys.stdout)
            print(f"{word}  {part.part}: {one_line(part.told, 1000)}")
    if not all(part.fine for part in parts):
        raise typer.Exit(_FAILED)


def _site(found: Settings) -> list[Reached]:
    from starburst_common.aws.reach import Reached, site_parts

    assert found.site is not None
    named = Reached("site", True, f"{found.site.name} in {found.site.region}, {found.site.architecture}")
    return [named, *site_parts(found.site)]


def _machine(found: Settings) -> list[Reached]:
    """This one: where runs are kept, and with what."""
    from starburst_common.aws.reach import Reached
    from starburst_common.backends import local_at
    from starburst_common.errors import StarburstError

    version = ".".join(map(str, sys.version_info[:3]))
    parts = [Reached("python", True, f"{version} on {os.cpu_count()} cores")]
    try:
        local_at(found.home).close()
        free = shutil.disk_usage(found.home).free
        told = f"{found.home}, {free / (1 << 30):,.1f} GB free"
        parts.append(Reached("home", free > _LEAST_FREE, told if free > _LEAST_FREE else f"{told}: make room there"))
    except (StarburstError, OSError) as error:
        parts.append(Reached("home", False, str(error)))
    parts.append(Reached("site", True, "none is configured: `starburst setup` makes one in your AWS account"))
    return parts


def _worker(backend: str) -> Reached:
    """What one says of itself."""
    import platform

    from starburst_common.aws.reach import Reached
    from starburst_common.cluster import Cluster
    from starburst_common.errors import StarburstError
    from starburst_common.progress import progress
    from starburst_common.steps import steps_shown

    try:
        with steps_shown(True), Cluster(backend=backend, workers=1, label="doctor") as cluster:
            run = cluster.start(_python_of, [platform.python_version()])
            with progress(run, None):
                (told,) = run.results()
            run.wait()
            return Reached("worker", True, told)
    except StarburstError as error:
        return Reached("worker", False, str(error))


def _python_of(here: str) -> str:
    import platform

    return f"Python {platform.python_version()} on {platform.machine()}, here {here}"
