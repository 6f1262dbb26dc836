"""A recipe in; the folder that `docker build` makes its image from, whatever runs that, out."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from starburst_common.environment.indexes import index_settings
from starburst_common.errors import CannotBuild
from starburst_common.image import recipe as layout
from starburst_common.image import wheels, worker
from starburst_common.image.recipe import Recipe

_TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")


def architecture(platform: str) -> str:
    """What docker calls it where it builds.

    >>> architecture("linux/arm64")
    'arm64'
    """
    return platform.partition("/")[2]


def arguments(recipe: Recipe) -> dict[str, str]:
    """Build arguments that say which package indexes there are. They may hold credentials: never to be shown."""
    file = Path(recipe.environment.source)
    mine = {name: value for name, value in os.environ.items() if name.startswith("UV_INDEX") or name in _INDEXES}
    return index_settings(file if file.is_file() else None) | mine


_INDEXES = ("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_FIND_LINKS")


def prepare(folder: Path, recipe: Recipe, *, platforms: tuple[str, ...] = ()) -> None:
    """Fill `folder` with all that the build needs but the base image and packages, for all or some platforms.

    Raises `CannotBuild`.
    """
    for platform in platforms or recipe.platforms:
        place = folder / architecture(platform)
        worker.prepare(place, platform=platform, python=recipe.environment.python)
        _fetch_uv(place, platform)
    (folder / "requirements.txt").write_text(recipe.environment.text)
    if trusted := next((os.environ[name] for name in _TRUST if os.environ.get(name)), ""):
        shutil.copyfile(trusted, folder / "trust.pem")
    (folder / "Dockerfile").write_text(dockerfile(recipe, tuple(arguments(recipe))))


def dockerfile(recipe: Recipe, arguments: tuple[str, ...] = ()) -> str:
    """The Dockerfile; `arguments` are the names of those that installing packages needs."""
    python, lines = recipe.environment.python, recipe.environment.requirements
    templates = Templates(
        loader=PackageLoader("starburst_common.image", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return templates.get_template("Dockerfile.j2").render(
        base=pinned(recipe),
        system_packages=sorted(recipe.system_packages),
        build_steps=recipe.build_steps,
        arguments=sorted(arguments),
        hashed=bool(lines) and all("--hash=" in line for line in lines),
        folder=layout.packages_folder(python),
        packages=layout.PACKAGES,
        supervisor=layout.SUPERVISOR,
        slots=layout.SLOTS,
        home=layout.HOME,
        user=":".join(map(str, layout.USER)),
        variables=layout.variables("${PATH}"),
        python=python,
        python_label=layout.PYTHON_LABEL,
    )


def pinned(recipe: Recipe) -> str:
    """The base image by its digest, as an engine pulls it."""
    name = recipe.base.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}@{recipe.base_digest}"


def _fetch_uv(place: Path, platform: str) -> None:
    """Put uv's program for a platform there: so the base needs nothing but Python."""
    scratch = place / "uv-wheel"
    where = ["--target", str(scratch), "--python-platform", wheels.PLATFORMS[platform]]
    command = [wheels.uv_program(), "pip", "install", "--quiet", "--no-deps", *where, f"uv=={version('uv')}"]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise CannotBuild(f"uv for {platform} cannot be had:\n{done.stderr.strip()}")
    shutil.move(scratch / "bin" / "uv", place / "uv")
    shutil.rmtree(scratch)
