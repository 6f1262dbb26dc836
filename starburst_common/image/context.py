"""A recipe in; the folder that `docker build` makes its image from, whatever runs that, out."""

from __future__ import annotations

import json
import os
import shutil
import stat
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from starburst_common.environment.indexes import indexes_of
from starburst_common.image import contents, wheels
from starburst_common.image import recipe as layout
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
    mine = {name: text for name, text in os.environ.items() if name.startswith("UV_INDEX") or name in _INDEXES}
    given = indexes_of(recipe.environment) | mine
    # what lies on this machine cannot be had elsewhere
    links = [link for link in given.pop(_LINKS, "").split(",") if link.startswith(("http:", "https:"))]
    return given | ({_LINKS: ",".join(links)} if links else {})


_LINKS = "UV_FIND_LINKS"
_INDEXES = ("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST", _LINKS)


def prepare(folder: Path, recipe: Recipe, *, platforms: tuple[str, ...] = ()) -> None:
    """Fill `folder` with all that the build needs but the base image and packages, for all or some platforms.

    Raises `CannotBuild`.
    """
    for platform in platforms or recipe.platforms:
        place = folder / architecture(platform)
        contents.prepare(place, platform=platform, python=recipe.environment.python)
        _fetch_uv(place, platform, recipe.environment.python)
    (folder / "requirements.txt").write_text(recipe.environment.text)
    named = (Path(os.environ[name]) for name in _TRUST if os.environ.get(name))
    if trusted := next((file for file in named if file.is_file()), None):
        shutil.copyfile(trusted, folder / "trust.pem")
    (folder / "Dockerfile").write_text(dockerfile(recipe, tuple(arguments(recipe))))
    _let_all_read(folder)


def dockerfile(recipe: Recipe, arguments: tuple[str, ...] = ()) -> str:
    """The Dockerfile; `arguments` are the names of those that installing packages needs, and only that sees."""
    python, lines = recipe.environment.python, recipe.environment.requirements
    templates = Templates(
        loader=PackageLoader("starburst_common.image", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return templates.get_template("Dockerfile.j2").render(
        base=pinned(recipe),
        system_packages=sorted(recipe.system_packages),
        # as a list, a step may have several lines, and nothing in it means anything to docker
        build_steps=[json.dumps(["/bin/sh", "-c", step]) for step in recipe.build_steps],
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


def _fetch_uv(place: Path, platform: str, python: str) -> None:
    """Put uv's program for a platform there: so the base needs nothing but Python."""
    scratch = place / "uv-wheel"
    wheels.install(scratch, f"uv=={version('uv')}\n", platform=platform, python=python)
    shutil.copy(scratch / "bin" / "uv", place / "uv")
    shutil.rmtree(scratch)


def _let_all_read(folder: Path) -> None:
    """Give everybody what a strict umask took: in the image, the workers' user is another than the files'."""
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        wanted = mode | (0o555 if path.is_dir() or mode & stat.S_IXUSR else 0o444)
        if mode != wanted:
            path.chmod(wanted)
