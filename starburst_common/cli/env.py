"""`starburst env show`: what workers would be given to run the code of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.environment import Environment

_SHOWN = 5


def show(
    requirements: Annotated[
        Path | None,
        typer.Option("--requirements", "-r", metavar="FILE", help="A lock or requirements file, instead of looking."),
    ] = None,
    group: Annotated[list[str] | None, typer.Option("--group", metavar="NAME", help="A dependency group too.")] = None,
    extra: Annotated[list[str] | None, typer.Option("--extra", metavar="NAME", help="An extra too.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every package, not just the first few.")] = False,
    json: Json = False,
) -> None:
    """Show which packages workers get, and where that was found.

    Looks in this folder and upwards for a lock (of uv, Poetry, PDM, Pipenv, rye, or pylock.toml), requirements.txt, and
    the dependencies in pyproject.toml or setup.py; else takes what is installed for the Python that runs this.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.config import settings
    from starburst_common.environment.find import find_environment
    from starburst_common.steps import steps_shown, told_while

    here = Path.cwd()
    chosen = settings().image.in_project(here)
    named = requirements or (here / chosen.requirements if chosen.requirements else None)
    with steps_shown(True):
        found = find_environment(
            here,
            requirements=named,
            groups=group or chosen.groups,
            extras=extra or chosen.extras,
            index_strategy=chosen.index_strategy,
        )
        with told_while("the image is looked up in the site's registry"):
            image = image_fields(found)
    if json:
        print_json({**fields(found), **image})
    else:
        _show(found, image, every=every)


def fields(found: Environment) -> dict[str, object]:
    """An environment as JSON."""
    return {
        "source": found.source,
        "python": found.python,
        "fingerprint": digest_of(found),
        "packages": len(found.requirements),
        "requirements": [without_hashes(line) for line in found.requirements],
        "local": list(found.local),
    }


def image_fields(found: Environment) -> dict[str, str]:
    """Which image that makes, where a site is configured, and whether it is there."""
    from starburst_common.backends import open_site_images
    from starburst_common.config import settings
    from starburst_common.errors import StarburstError

    site = settings().site
    if site is None:
        return {}
    if site.image:
        return {"image": f"{site.image}, the site's own"}
    try:
        _, images = open_site_images()
        recipe = images.recipe(Path.cwd(), found)
        there = images.there(recipe)
    except (StarburstError, OSError) as error:
        return {"image": f"unknown: {error}"}
    return {
        "image": recipe.tag,
        "state": "ready" if there else "not built yet: the first run does it, or `starburst image build`",
    }


def digest_of(found: Environment) -> str:
    """Of what workers get, wherever it was found.

    >>> from starburst_common.environment import Environment
    >>> digest_of(Environment(python="3.11", requirements=("six==1.17.0",)))
    '1751872638e8989f'
    """
    import hashlib

    return hashlib.sha256("\n".join((found.python, *found.requirements)).encode()).hexdigest()[:16]


def without_hashes(line: str) -> str:
    """A requirement as people write it.

    >>> without_hashes("six==1.17.0 --hash=sha256:1 --hash=sha256:2")
    'six==1.17.0'
    """
    return line.split(" --hash=")[0]


def _show(found: Environment, image: dict[str, str], *, every: bool) -> None:
    from starburst_common.cli.show import print_fields

    shown = list(found.requirements if every else found.requirements[:_SHOWN])
    more = len(found.requirements) - len(shown)
    rows: dict[str, str | list[str]] = {
        "found": found.source,
        "python": found.python,
        "packages": f"{len(found.requirements):,}" if found.requirements else "none: Python and starburst alone",
        "": [*map(without_hashes, shown), *([f"… and {more:,} more (--all)"] if more else [])],
        "with code": ", ".join(found.local),
        "fingerprint": digest_of(found),
        **image,
    }
    print_fields(rows)
