"""The user's modules in a slot: those of several functions side by side, as long as no two are different."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def fit(bundles: Iterable[str], began_with: Mapping[str, ModuleType]) -> bool:
    """Whether these folders of modules can serve one process: each name means the same, whichever comes first.

    The process is this one, which began with these modules. What it has imported since is not imported anew.
    """
    folders = [Path(bundle) for bundle in bundles]
    elsewhere = [path for path in sys.path if Path(path) not in folders]
    found: dict[str, list[Path]] = {}
    for place in (place for folder in folders for place in folder.iterdir()):
        name = place.name if place.suffix.endswith("-info") else place.name.partition(".")[0]
        found.setdefault(name, []).append(place)
    for name, places in found.items():
        in_all = len(places) == len(folders)
        if in_all and len(folders) == 1 and sys.modules.get(name) is began_with.get(name):
            continue
        first, *others = map(_files, places)
        if any(other != first for other in others):
            return False
        if (not in_all or len(folders) == 1) and _installed(name, elsewhere) not in (None, first):
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
