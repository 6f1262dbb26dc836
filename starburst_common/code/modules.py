"""Names in; the user's own modules among them, with those that they import, out: where each is, and what it is called.

A module is the user's own by where this process has it from, whatever its name: not from the standard library, and not
from where packages are installed.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import site
import struct
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

from starburst_common.code.bundle import Bundle, File, Module, Piece, Stamp, bundle_of, module_at
from starburst_common.model import Buffer
from starburst_common.phrases import our_log
from starburst_common.pickling.places import MAINS

_log = our_log()
_OURS = frozenset({"starburst_common", "starburst_worker", "prefect_starburst", "airflow_provider_starburst"})
_SUFFIXES = sorted([*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES], key=len, reverse=True)
_ENDINGS = tuple(_SUFFIXES)
_INIT = "__init__"

#: A short text in a pickle that may be a module's name: its length, itself, and that it is remembered.
_TEXT = re.compile(rb"\x8c.((?:[A-Za-z_]|[\xc2-\xf4][\x80-\xbf]+)(?:[\w.]|[\xc2-\xf4][\x80-\xbf]+)*)\x94", re.DOTALL)


def names_in(pickled: Buffer) -> set[bytes]:
    """Texts in a pickle (protocol 5) that look like names: of modules whose classes and functions it refers to, too.

    >>> import pickle
    >>> from pathlib import PurePosixPath
    >>> sorted(names_in(pickle.dumps([PurePosixPath("a"), 1])))
    [b'PurePosixPath', b'a', b'pathlib']
    """
    return set(_TEXT.findall(pickled))


def imported(names: Iterable[bytes]) -> set[str]:
    """Top-level modules among such names that this process has imported, as it has whatever a pickle refers to."""
    known = _imported(len(sys.modules), next(reversed(sys.modules)))
    return {name.partition(b".")[0].decode() for name in known.intersection(names)}


@lru_cache(maxsize=1)
def _imported(count: int, last: str) -> frozenset[bytes]:
    """All there are, which change when their number or the last one does."""
    return frozenset(name.encode(errors="replace") for name in list(sys.modules))


def mentioned(names: Iterable[bytes]) -> set[str]:
    """Those, and what a text such as "shop.orders.Order" names, as texts do that tell a library what to import."""
    tops = {name.partition(b".")[0].decode(errors="replace") for name in names if b"." in name}
    return imported(names) | {top for top in tops if not _is_mere_folder(top) and pieces_of(top)}


def own_modules(names: Iterable[str]) -> dict[str, Module]:
    """The user's own top-level modules among the names, with those that they import. Raises as `module_at`."""
    found: dict[str, Module] = {}
    below: dict[str, list[str]] = {}
    for name in list(sys.modules):
        if "." in name:
            below.setdefault(name.partition(".")[0], []).append(name)
    known: set[str] = set()
    plugins = _plugins()
    todo: list[tuple[str, File | None]] = [(name, None) for name in sorted(names)]
    while todo:
        name, source = todo.pop()
        if name in known:
            continue
        pieces = pieces_of(name, below.get(name, ()))
        if pieces and source is not None and _is_mere_folder(name) and name not in _parsed_imports(*source[::2]):
            continue  # the text only looked like an import, and a folder may hold whatever
        known.add(name)
        if pieces:
            about, points = _metadata([piece.place for piece in pieces])
            found[name] = module_at([*pieces, *about])
            todo += [(point, None) for point in sorted(points - known)]
            for file in found[name].files:
                if file.path.suffix == ".py":
                    todo += [(each, file) for each in sorted(_imports(file.path, file.stamp) - known)]
                    for group in _quoted(file.path, file.stamp, frozenset(plugins)) if plugins else ():
                        todo += [(each, None) for each in sorted(plugins[group] - known)]
    return found


def bundled(own: dict[str, Module]) -> Bundle | None:
    """The modules as they travel; what may differ there is told, once for all files as they are now."""
    bundle = bundle_of(own)
    if bundle is not None:
        _tell(bundle.digest, tuple(file for module in own.values() for file in module.files))
    return bundle


#: A file's name as it stands in a source: in quotes, perhaps after those of its folders, and not from the root.
_JOINED, _NAMED = re.compile(r"[\"'][ \t]*[/,][ \t]*[\"']"), re.compile(r"[\"']([^\"'\n/][^\"'\n]*\.\w+)[\"']")


_LOOKS, _FROM_FILE = re.compile(r"__file__|get_data"), re.compile(r"^[ \t]*(\w+)[^=\n]*=[^=\n].*__file__", re.MULTILINE)
_FOLDER, _WORD = re.compile(r"[\"']([\w-]+(?:/[\w-]+)*)[\"']"), re.compile(r"\w+")
_UP = 3  #: folders above a module in which it may look


@lru_cache(maxsize=256)
def _tell(digest: str, files: tuple[File, ...]) -> None:
    travel = {file.path for file in files}
    edited = [file.inside for file in files if _is_edited(file)]
    if edited:
        _log.warning(
            "edited since they were imported here: %s: workers run the files, this process goes on with what it "
            "imported: reload them, or start anew",
            ", ".join(sorted(edited)),
        )
    looked = {file.inside: _named_and_staying(file.path, travel) for file in files if _imported_as(file) is not None}
    if reads := [f"{inside} reads {', '.join(stays)}" for inside, stays in looked.items() if stays]:
        _log.warning(
            "data near modules stays here: %s: it travels with packages only, in a folder with `__init__.py`; also "
            "there, not what is ignored or may be secret",
            "; ".join(reads),
        )


def _named_and_staying(source: Path, travel: Collection[Path]) -> list[str]:
    """Files that a source names, and folders that it names where it looks around itself, but for modules."""
    text = _JOINED.sub("/", _source(source)) if source.suffix == ".py" else ""
    if not _LOOKS.search(text):
        return []
    here = {"__file__", *_FROM_FILE.findall(text)}
    lines = [line for line in text.splitlines() if here.intersection(_WORD.findall(line)) and "sys.path" not in line]
    names = [*_NAMED.findall(text), *_FOLDER.findall("\n".join(lines))]
    places = (folder / name for name in names if not name.endswith(_ENDINGS) for folder in source.parents[:_UP])
    return [*dict.fromkeys(place.name for place in places if place.name[:1] != "." and _stays(place, travel))]


def _stays(place: Path, travel: Collection[Path]) -> bool:
    with suppress(OSError):  # too long a name
        if place.is_dir():
            return not any(path.is_relative_to(place) for path in travel)
        return place not in travel and place.is_file()
    return False


def _imported_as(file: File) -> ModuleType | None:
    """The module that this process has of it."""
    module = sys.modules.get(file.inside.removesuffix(".py").removesuffix(f"/{_INIT}").replace("/", "."))
    return module if getattr(module, "__file__", None) == str(file.path) else None


def _is_edited(file: File) -> bool:
    """Whether a module that is imported was compiled from another state of its file."""
    if _imported_as(file) is None or sys.dont_write_bytecode:
        return False
    try:
        compiled = Path(importlib.util.cache_from_source(file.path))
        head = compiled.read_bytes()[:16]
    except (OSError, NotImplementedError):
        return False
    told = (0, int(file.stamp.changed_ns / 1e9) & 0xFFFFFFFF, file.stamp.size & 0xFFFFFFFF)
    return (
        len(head) == 16 and head[4:8] == bytes(4) and struct.unpack("<III", head[4:]) != told and _may_write(compiled)
    )


def _may_write(file: Path) -> bool:
    """Or what was compiled may be of any age."""
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


# --- where a module is ------------------------------------------------------------------------------------------------


def pieces_of(name: str, below: Collection[str] = ()) -> list[Piece]:
    """The files and folders that make up a top-level module, if it is the user's own; none if not.

    `below` are its modules that are imported: some lie elsewhere, as a build that is linked to leaves them.
    """
    if name in _OURS or name in MAINS:  # these go by value
        return []
    module = sys.modules.get(name)
    origin, folders = _origin(name, module)
    pieces: list[Piece] = []
    if origin is not None and origin.stem != _INIT:
        pieces = [Piece(origin, name + _suffix(origin))]
        beside = _loaded_with_folders(name, origin, folders) if folders else []
        if beside or any(getattr(sys.modules.get(sub), "__file__", None) for sub in below):
            pieces = [Piece(origin, f"{name}/{_INIT}{_suffix(origin)}"), *beside]
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


def _origin(name: str, module: ModuleType | None) -> tuple[Path | None, list[Path]]:
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
        origin, inside = _origin(name, sys.modules.get(name))[0], name.replace(".", "/")
        if origin is None:
            continue
        place, inside = (origin.parent, inside) if origin.stem == _INIT else (origin, inside + _suffix(origin))
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
        for sub in _relative_imports(todo.pop()):
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
    return next((suffix for suffix in _SUFFIXES if file.name.endswith(suffix)), ".py")


def _is_own(place: Path) -> bool:
    return place.exists() and (not installed(place.resolve()) or place.resolve() in _compiled(tuple(sys.path)))


@lru_cache(maxsize=4)
def _compiled(paths: tuple[str, ...]) -> dict[Path, Path]:
    """What editable projects have where packages are installed, as compiled modules are; each with its metadata."""
    found: dict[Path, Path] = {}
    for _, about in _projects(paths):
        rows = [Path(line.rpartition(",")[0].rpartition(",")[0]) for line in _source(about / "RECORD").splitlines()]
        files = [about.parent / row for row in rows if row.name.endswith(_ENDINGS) and "editable" not in row.parts[0]]
        places = [*files, *(file.parent for file in files if file.stem == _INIT)]
        found.update((place.resolve(), about) for place in places)
    return found


def installed(place: Path) -> bool:
    return any(place.is_relative_to(folder) for folder in _library_folders()) or bool(
        {"site-packages", "dist-packages"} & set(place.parts)
    )


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    known = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return tuple({Path(path).resolve() for path in known})


# --- what a module imports --------------------------------------------------------------------------------------------

#: An import statement, wherever one may begin, or a call that imports; a text that only looks like one does no harm.
_IMPORT = re.compile(
    r"(?:^|[:;])[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+import\b|import[ \t]+([^\n;#]+))"
    r"|(?:import_module|__import__)\([ \t]*[\"'](\w[\w.]*)",
    re.MULTILINE,
)


@lru_cache(maxsize=4096)  # who submits a thousand lambdas has each file read once
def _imports(path: Path, stamp: Stamp) -> frozenset[str]:
    """Top-level modules that a file imports. By pattern: to parse a project of some hundred files takes a second."""
    text = _source(path).replace("\\\n", " ")
    lines = "\n".join(line for line in text.splitlines() if "import" in line)
    found: set[str] = set()
    for source, several, called in _IMPORT.findall(lines):
        found.update(word.split(".")[0] for each in (source, *several.split(","), called) for word in each.split()[:1])
    return frozenset(found)


def _is_mere_folder(name: str) -> bool:
    """Whether it is not imported, and would be a folder without `__init__.py`."""
    return name not in sys.modules and _origin(name, None)[0] is None


@lru_cache(maxsize=256)
def _parsed_imports(path: Path, stamp: Stamp) -> frozenset[str]:
    found: set[str] = set()
    for node in _parsed(path):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def _relative_imports(path: Path) -> list[str]:
    """What a file imports from the package that it is in: the first name of each."""
    found: dict[str, None] = {}
    for node in _parsed(path):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(dict.fromkeys(name.partition(".")[0] for name in names))
    return list(found)


def _parsed(path: Path) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(_source(path))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# --- what is known of a project that is installed from its folder -----------------------------------------------------

#: Of a distribution's metadata: what says nothing of where it is installed.
_TELLING = ("METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt")
_HEAD, _POINT = re.compile(r"\[([^]]+)]"), re.compile(r"=[ \t]*(\w+)")


def _metadata(places: Sequence[Path]) -> tuple[list[Piece], set[str]]:
    """What `importlib.metadata` reads of the projects that these places are in, and modules that it names."""
    pieces: list[Piece] = []
    points: set[str] = set()
    paths = tuple(sys.path)
    owners = {_compiled(paths).get(place.resolve()) for place in places}
    for project, about in _projects(paths):
        if about not in owners and not any(place.resolve().is_relative_to(project) for place in places):
            continue
        for name in _TELLING:
            if (file := about / name).is_file():
                pieces.append(Piece(file, f"{about.name}/{name}"))
                if name == "entry_points.txt":
                    points.update(_POINT.findall(_source(file)))
    return pieces, points


def _plugins() -> dict[str, set[str]]:
    """Modules that projects here offer to others, by the group of entry points that those look for."""
    found: dict[str, set[str]] = {}
    for _, about in _projects(tuple(sys.path)):
        group = ""
        for line in _source(about / "entry_points.txt").splitlines():
            if head := _HEAD.match(line):
                group = head[1]
            elif (point := _POINT.search(line)) and group not in ("console_scripts", "gui_scripts"):
                found.setdefault(group, set()).add(point[1])
    return found


@lru_cache(maxsize=4096)
def _quoted(path: Path, stamp: Stamp, names: frozenset[str]) -> list[str]:
    text = _source(path)
    return sorted(name for name in names if f'"{name}"' in text or f"'{name}'" in text)


@lru_cache(maxsize=4)
def _projects(paths: tuple[str, ...]) -> tuple[tuple[Path, Path], ...]:
    """Folders of projects whose metadata can be found on the path though they are not installed as others are."""
    found: list[tuple[Path, Path]] = []
    for path in dict.fromkeys(Path(each or ".") for each in paths):
        try:
            places = sorted(each for each in path.iterdir() if each.suffix in (".dist-info", ".egg-info"))
        except OSError:
            continue
        for about in places:
            project = _editable(about / "direct_url.json") if installed(path.resolve()) else path.resolve()
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
