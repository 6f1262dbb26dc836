"""The searched path in; projects that are installed from their folders, with what their metadata says, out."""

from __future__ import annotations

import json
import re
import site
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from urllib.parse import unquote, urlsplit

from starburst_common.code.files import Piece
from starburst_common.code.imports import source_of
from starburst_common.code.stamps import Stamp

SUFFIXES = sorted([*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES], key=len, reverse=True)
ENDINGS = tuple(SUFFIXES)
INIT = "__init__"


@lru_cache(maxsize=4)
def compiled(paths: tuple[str, ...]) -> dict[Path, Path]:
    """What editable projects have where packages are installed, as compiled modules are; each with its metadata."""
    found: dict[Path, Path] = {}
    for _, about in projects(paths):
        rows = [Path(line.rpartition(",")[0].rpartition(",")[0]) for line in source_of(about / "RECORD").splitlines()]
        files = [about.parent / row for row in rows if row.name.endswith(ENDINGS) and "editable" not in row.parts[0]]
        places = [*files, *(file.parent for file in files if file.stem == INIT)]
        found.update((place.resolve(), about) for place in places)
    return found


def in_packages(place: Path) -> bool:
    """Whether it is where packages are, or the standard library."""
    return any(place.is_relative_to(folder) for folder in _library_folders()) or bool(
        {"site-packages", "dist-packages"} & set(place.parts)
    )


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    known = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return tuple({Path(path).resolve() for path in known})


#: Of a distribution's metadata: what says nothing of where it is installed.
_TELLING = ("METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt")
_HEAD, _POINT = re.compile(r"\[([^]]+)]"), re.compile(r"=[ \t]*(\w+)")


def metadata_of(places: Sequence[Path]) -> tuple[list[Piece], set[str]]:
    """What `importlib.metadata` reads of the projects that these places are in, and modules that it names."""
    pieces: list[Piece] = []
    points: set[str] = set()
    paths = tuple(sys.path)
    owners = {compiled(paths).get(place.resolve()) for place in places}
    for project, about in projects(paths):
        if about not in owners and not any(place.resolve().is_relative_to(project) for place in places):
            continue
        for name in _TELLING:
            if (file := about / name).is_file():
                pieces.append(Piece(file, f"{about.name}/{name}"))
                if name == "entry_points.txt":
                    points.update(_POINT.findall(source_of(file)))
    return pieces, points


def plugins_here() -> dict[str, set[str]]:
    """Modules that projects here offer to others, by the group of entry points that those look for."""
    found: dict[str, set[str]] = {}
    for _, about in projects(tuple(sys.path)):
        group = ""
        for line in source_of(about / "entry_points.txt").splitlines():
            if head := _HEAD.match(line):
                group = head[1]
            elif (point := _POINT.search(line)) and group not in ("console_scripts", "gui_scripts"):
                found.setdefault(group, set()).add(point[1])
    return found


@lru_cache(maxsize=4096)
def quoted(path: Path, stamp: Stamp, names: frozenset[str]) -> list[str]:
    text = source_of(path)
    return sorted(name for name in names if f'"{name}"' in text or f"'{name}'" in text)


@lru_cache(maxsize=4)
def projects(paths: tuple[str, ...]) -> tuple[tuple[Path, Path], ...]:
    """Folders of projects whose metadata can be found on the path though they are not installed as others are."""
    found: list[tuple[Path, Path]] = []
    for path in dict.fromkeys(Path(each or ".") for each in paths):
        try:
            places = sorted(each for each in path.iterdir() if each.suffix in (".dist-info", ".egg-info"))
        except OSError:
            continue
        for about in places:
            project = _editable(about / "direct_url.json") if in_packages(path.resolve()) else path.resolve()
            if project is not None and about.is_dir():
                found.append((project, about))
    return tuple(found)


def _editable(file: Path) -> Path | None:
    """The folder that a package is installed from, so that changes there count."""
    try:
        told = json.loads(file.read_text())
        url = urlsplit(told["url"])
        return Path(unquote(url.path)).resolve() if url.scheme == "file" and told["dir_info"]["editable"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
