"""Argument, environment, file and default in; one frozen `Settings` out that remembers where each value came from."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from platformdirs import user_cache_path, user_config_path

from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.site import Site
from starburst_common.toml import toml
from starburst_common.trust import own_place, uv_believed, what_others_may

BUILDERS = ("auto", "layer", "docker", "codebuild")
PLATFORMS = ("linux/amd64", "linux/arm64")
STRATEGIES = ("", "first-index", "unsafe-first-match", "unsafe-best-match")
MOST_DAYS = 36_500
_NAME_BYTES = 255  #: of a file or folder, as good as everywhere
_OURS_BYTES = 400  #: of the longest path that is written below `home`


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How images are made for environments: `[image]` of the settings, `[tool.starburst.image]` of a project."""

    base: str = ""  #: the image below, with this Python and glibc; default: Python's official slim one
    builder: str = "auto"  #: layer, docker or codebuild; auto: the first of them that can
    platforms: tuple[str, ...] = ()  #: linux/amd64, linux/arm64 or both; default: the site's architecture
    system_packages: tuple[str, ...] = ()  #: packages of Debian
    build_steps: tuple[str, ...] = ()  #: shell commands, run as root
    requirements: str = ""  #: the file that says what is needed; default: found in the project
    groups: tuple[str, ...] = ()  #: dependency groups of the project that are needed too
    extras: tuple[str, ...] = ()  #: and its extras
    index_strategy: str = ""  #: among package indexes, as uv has it; default: its own, the first that has a package
    keep_days: int = 30  #: how long an image is kept, from when it was last pulled; runs have their own `keep_days`

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str) -> Self:
        """From a settings table. Raises `BadInput` naming the source, the field and what it should be.

        >>> ImageSettings.of({"builder": "podman"}, "config.toml")
        Traceback (most recent call last):
        starburst_common.errors.BadInput: config.toml: builder='podman': give one of auto, layer, docker, codebuild
        """
        known = {field.name: field.default for field in fields(cls)}
        if not isinstance(table, Mapping):
            raise BadInput(f"{source}: {told(table)} is no table: give `name = value` lines below it")
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in known:
                raise BadInput(f"{source}: unknown setting {told(name)}: known are {', '.join(known)}")
            if isinstance(known[name], tuple):
                if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
                    raise BadInput(f"{source}: {name}={told(value)}: give a list of texts")
                value = tuple(value)
            elif type(value) is not type(known[name]):
                raise BadInput(f"{source}: {name}={told(value)}: give {'days' if name == 'keep_days' else 'a text'}")
            values[name] = value
        made = cls(**values)
        if made.builder not in BUILDERS:
            raise BadInput(f"{source}: builder={told(made.builder)}: give one of {', '.join(BUILDERS)}")
        if made.index_strategy not in STRATEGIES:
            raise BadInput(
                f"{source}: index_strategy={told(made.index_strategy)}: give one of {', '.join(STRATEGIES[1:])}"
            )
        if wrong := [each for each in made.platforms if each not in PLATFORMS]:
            raise BadInput(f"{source}: platforms={told(wrong[0])}: give some of {', '.join(PLATFORMS)}")
        if not 1 <= made.keep_days <= MOST_DAYS:
            raise BadInput(f"{source}: keep_days={told(made.keep_days)}: give at least 1 day, at most {MOST_DAYS:,}")
        return made

    def in_project(self, folder: Path) -> Self:
        """With what the nearest project from a folder upwards says in place of what the settings say.

        Raises `BadInput` where a file up there, of which uv reads others too, is another's: it could say what is run.
        """
        uv_believed(folder)
        for place in (folder, *folder.parents):
            file = place / "pyproject.toml"
            if file.is_file():
                table: Any = toml(file)
                for name in ("tool", "starburst", "image"):
                    table = table.get(name, {})
                    if not isinstance(table, Mapping):
                        raise BadInput(f"{file}: {name}={told(table)} is no table")
                mine = {field.name: getattr(self, field.name) for field in fields(self)}
                return self.of({**mine, **table}, f"{file}: [tool.starburst.image]")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to run and where to keep things."""

    backend: str  #: auto, aws or local; auto is AWS where the file has a [site]
    home: Path  #: folder of the local backend's store and queue, which hold all its runs; a file's is relative to it
    keep_days: float  #: days for which a run is kept, from its end
    site: Site | None  #: where in AWS, if the file has a table of that name
    image: ImageSettings  #: how images are made there
    sources: dict[str, str]  #: setting to "argument", "environment", the file's path, or "default"


def config_file() -> Path:
    """Where settings are kept: `$STARBURST_CONFIG`, else `starburst/config.toml` in the user's configuration folder."""
    if given := os.environ.get("STARBURST_CONFIG"):
        return Path(given)
    return user_config_path("starburst") / "config.toml"


def settings(*, backend: str | None = None, home: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting once. Raises `BadInput` for one that is unknown or wrong, saying where it came from."""
    file = config_file()
    written: dict[str, Any] = {}
    if file.exists():
        if not (named := bool(env.get("STARBURST_CONFIG"))):
            own_place(file, "name a file of your own in STARBURST_CONFIG")
        if why := what_others_may(file, whose=not named):
            raise BadInput(f"{file}: {why}, and settings say what is run: make it yours alone, or remove it")
        written = toml(file)
    defaults: dict[str, Any] = {"backend": "auto", "home": user_cache_path("starburst"), "keep_days": 7}
    table = written.pop("site", None)
    image = ImageSettings.of(written.pop("image", {}), f"{file}: [image]")
    if unknown := sorted(set(written) - set(defaults)):
        known = ", ".join([*sorted(defaults), "[site]", "[image]"])
        raise BadInput(f"{file}: unknown setting {told(unknown[0])}: known are {known}")
    site = Site.of(table, str(file)) if table is not None else None
    arguments = {"backend": backend, "home": home, "keep_days": None}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, default in defaults.items():
        variable = f"STARBURST_{name.upper()}"
        candidates = (
            (arguments[name], "argument"),
            (env.get(variable) or None, f"environment ({variable})"),
            (written.get(name), str(file)),
            (default, "default"),
        )
        values[name], sources[name] = next((value, source) for value, source in candidates if value is not None)
    if values["backend"] not in ("auto", "aws", "local"):
        raise BadInput(f'backend={told(values["backend"])} (from {sources["backend"]}): use "auto", "aws" or "local"')
    if values["backend"] == "aws" and site is None:
        raise BadInput(f'backend="aws" (from {sources["backend"]}), but {file} has no [site] table: add one')
    try:
        keep_days = math.nan if isinstance(values["keep_days"], bool) else float(values["keep_days"])
    except (ValueError, TypeError, OverflowError):
        keep_days = math.nan
    if not 0 <= keep_days <= MOST_DAYS:
        raise BadInput(
            f"keep_days={told(values['keep_days'])} (from {sources['keep_days']}): give days from 0 to {MOST_DAYS:,}"
        )
    try:
        home = Path(values["home"]).expanduser()
    except (TypeError, RuntimeError):
        raise BadInput(f"home={told(values['home'])} (from {sources['home']}): give a folder") from None
    if sources["home"] == str(file):
        home = file.absolute().parent / home
    if longest := _too_long(home):
        raise BadInput(
            f"home={told(values['home'])} (from {sources['home']}): too long a {longest}: give a shorter one"
        )
    return Settings(
        backend=values["backend"],
        home=home,
        keep_days=keep_days,
        site=site,
        image=image,
        sources=sources,
    )


def _too_long(folder: Path) -> str:
    """What of it no file system takes with our files below: a name or the path; empty if it can be."""
    sizes = [len(part.encode(errors="surrogatepass")) for part in folder.parts]
    if max(sizes, default=0) > _NAME_BYTES:
        return "name"
    return "path" if sum(sizes) + len(sizes) + _OURS_BYTES > os.pathconf("/", "PC_PATH_MAX") else ""
