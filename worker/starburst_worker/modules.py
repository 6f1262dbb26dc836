"""The user's modules in a slot: those of several functions side by side, as long as no two are different."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path


def fit(bundles: Iterable[str]) -> bool:
    """Whether these folders of modules can serve one process: each name means the same, whichever comes first."""
    folders = [Path(bundle) for bundle in bundles]
    if len(folders) < 2:
        return True
    elsewhere = [path for path in sys.path if Path(path) not in folders]
    found: dict[str, dict[str, bytes]] = {}
    for folder in folders:
        for place in folder.iterdir():
            name, files = place.name.partition(".")[0], _files(place)
            if found.setdefault(name, files) != files or _installed(name, elsewhere) not in (None, files):
                return False
    return True


def _installed(name: str, paths: list[str]) -> dict[str, bytes] | None:
    """What a module of that name consists of that is not the user's, if there is one."""
    spec = PathFinder.find_spec(name, paths)
    if spec is None:
        return None
    if spec.origin is None or not spec.has_location:
        return {}
    place = Path(spec.origin)
    return _files(place.parent if place.stem == "__init__" else place)


def _files(place: Path) -> dict[str, bytes]:
    """What a module consists of."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return {str(path.relative_to(place.parent)): path.read_bytes() for path in files if path.suffix != ".pyc"}
