"""A module's name in; the files and folders that make it up, if it is the user's own, out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from starburst_common.code.files import Piece
from starburst_common.code.imports import relative_imports
from starburst_common.code.projects import INIT, SUFFIXES, compiled, in_packages
from starburst_common.pickling.nowhere import OURS
from starburst_common.pickling.places import MAINS
from starburst_common.pickling.script import RUN, script_file


def pieces_of(name: str, below: Collection[str] = ()) -> list[Piece]:
    """The files and folders that make up a top-level module, if it is the user's own; none if not.

    `below` are its modules that are imported: some lie elsewhere, as a build that is linked to leaves them.
    """
    if name == RUN and (script := script_file()) is not None:
        return [Piece(script, f"{RUN}.py")]
    if name in OURS or name in MAINS:  # these go by value
        return []
    module = sys.modules.get(name)
    origin, folders = origin_of(name, module)
    pieces: list[Piece] = []
    if origin is not None and origin.stem != INIT:
        pieces = [Piece(origin, name + _suffix(origin))]
        beside = _loaded_with_folders(name, origin, folders) if folders else []
        if beside or any(getattr(sys.modules.get(sub), "__file__", None) for sub in below):
            pieces = [Piece(origin, f"{name}/{INIT}{_suffix(origin)}"), *beside]
    else:
        places = dict.fromkeys([*([] if origin is None else [origin.parent]), *folders])
        pieces = [Piece(place, name) for place in places]
    pieces = [piece for piece in pieces if _is_own(piece.place)]
    if origin is None:
        return [*pieces, *_elsewhere({*below, *_mapped(name)}, pieces)]
    return [*pieces, *_elsewhere(below, pieces)] if pieces and _is_own(origin) else []


def _mapped(name: str) -> Iterator[str]:
    """A namespace's modules that editable projects of setuptools have by name alone, in no searched folder."""
    finders = [module for key, module in list(sys.modules.items()) if key.startswith("__editable___")]
    known = {sub for finder in finders for sub in getattr(finder, "MAPPING", ())}
    yield from (sub for sub in known if sub.startswith(f"{name}.") and sub.rpartition(".")[0] not in known)


def origin_of(name: str, module: ModuleType | None) -> tuple[Path | None, list[Path]]:
    """A module's file, and the folders of its submodules, as far as it has them."""
    spec: ModuleSpec | None = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if spec is None and module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None, []
    if spec is not None and file is None:
        file = spec.origin if spec.has_location else None
    folders = getattr(module, "__path__", None) or getattr(spec, "submodule_search_locations", None) or ()
    return Path(file) if isinstance(file, str) else None, [Path(folder) for folder in folders]


def _elsewhere(below: Iterable[str], pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Those of some submodules that lie where no piece of their module has them."""
    known = {piece.inside: piece.place for piece in pieces}
    for name in sorted(below):
        origin, inside = origin_of(name, sys.modules.get(name))[0], name.replace(".", "/")
        if origin is None:
            continue
        place, inside = (origin.parent, inside) if origin.stem == INIT else (origin, inside + _suffix(origin))
        expected = {
            piece.place.joinpath(*inside.removeprefix(f"{piece.inside}/").split("/"))
            for piece in pieces
            if inside.startswith(f"{piece.inside}/")
        }
        if place not in expected and inside not in known and _is_own(place):
            known[inside] = place
            yield Piece(place, inside)


def _loaded_with_folders(name: str, file: Path, folders: Sequence[Path]) -> list[Piece]:
    """What a script imports from beside it, where it was loaded as if it were a package, as Prefect loads a flow's."""
    found: dict[str, Piece] = {}
    todo = [file]
    while todo:
        for sub in relative_imports(todo.pop()):
            spec = PathFinder.find_spec(f"{name}.{sub}", [str(folder) for folder in folders])
            origin = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
            if sub in found or spec is None or origin == file:
                continue
            if spec.submodule_search_locations:
                found[sub] = Piece(Path(next(iter(spec.submodule_search_locations))), f"{name}/{sub}")
            elif origin is not None:
                found[sub] = Piece(origin, f"{name}/{sub}{_suffix(origin)}")
                todo.append(origin)
    return list(found.values())


def _suffix(file: Path) -> str:
    return next((suffix for suffix in SUFFIXES if file.name.endswith(suffix)), ".py")


def _is_own(place: Path) -> bool:
    return place.exists() and (not in_packages(place.resolve()) or place.resolve() in compiled(tuple(sys.path)))
