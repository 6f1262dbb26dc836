"""A module's place on disk in; which of its files travel, and which stay, out.

What stays, by the first of these that applies:

1. Caches, nested environments, `node_modules` and `.git`: always.
2. What `.starburstignore` says, either way: it leaves out, and `!data/table.csv` brings back whatever the rules below
   leave out.
3. Hidden files and folders, and what lies in a folder that is no regular package: only modules travel from there.
4. Files whose names say that they hold secrets: a warning names them.
5. What `.gitignore` leaves out, unless it can be imported, or the module's whole folder is left out. Generated modules
   and compiled extensions are often kept out of Git, and without them an import that works here would fail there.

Both files are written as for Git. They count in the module's own folders, each for what lies below it, and in those
above up to the project's root, the nearest folder with `.git` or `pyproject.toml` (without one: the folder that the
module is imported from). Where several speak, the innermost is right.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import translate
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from starburst_common.code.rules import Patterns, Rules, rules_above, said_of
from starburst_common.code.stamps import Stamp, stamp_of
from starburst_common.errors import BadInput

_NEVER = frozenset({"__pycache__", "node_modules", "venv", ".git"})
SECRETS = (
    *(".env", ".env.*", ".netrc", ".pypirc", ".aws", ".ssh", "credentials*"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ecdsa*", "id_ed25519*"),
)
_is_secret = re.compile("|".join(map(translate, SECRETS))).match
_IMPORTABLE = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
BUNDLE_BYTES = 1 << 30  #: a bundle's files have together at most
BUNDLE_FILES = 100_000


class File(NamedTuple):
    """A file that travels."""

    path: Path
    inside: str  #: its name in the zip
    stamp: Stamp


class Piece(NamedTuple):
    """A file, or a folder with all below it, of a module."""

    place: Path
    inside: str  #: its name in the zip


class Module(NamedTuple):
    """A top-level module: what of it travels and what does not."""

    files: tuple[File, ...]
    ignored: tuple[str, ...] = ()  #: by `.gitignore` or `.starburstignore`
    secrets: tuple[str, ...] = ()


def module_at(pieces: Iterable[Piece]) -> Module:
    """What of a module travels. Raises `BadInput` for a pattern that is none in a `.starburstignore`."""
    files: dict[str, File] = {}
    ignored: list[str] = []
    secrets: list[str] = []
    for place, name in pieces:
        place = place.absolute()
        for path, rules, in_package in _walk(place):
            parts = path.relative_to(place).parts
            inside = "/".join((name, *parts))
            if inside in files:  # of several folders, the first has it, as when it is imported
                continue
            match _fate(path, parts or (path.name,), place, rules, in_package=in_package):
                case "travels":
                    with suppress(FileNotFoundError):  # gone meanwhile, or a link to nothing
                        found = path.stat()
                        if stat.S_ISREG(found.st_mode):
                            files[inside] = File(path, inside, stamp_of(found))
                case "ignored":
                    ignored.append(inside)
                case "secret":
                    secrets.append(inside)
    return Module(tuple(files.values()), tuple(ignored), tuple(secrets))


def files_at(paths: Iterable[Path], root: Path) -> tuple[list[File], list[str]]:
    """Data files, and what is in folders, by their place below `root`. Raises `BadInput` for too many.

    Caches, and below folders what looks like a secret, are left out; the latter are named beside.
    """
    found: dict[str, File] = {}
    secrets: list[str] = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(path).parts
            if not file.is_file() or _NEVER & set(parts):
                continue
            inside = file.relative_to(root).as_posix()
            if any(map(_is_secret, parts)):
                secrets.append(inside)
            else:
                found[inside] = File(file, inside, stamp_of(file.stat()))
    nbytes = sum(file.stamp.size for file in found.values())
    if len(found) > BUNDLE_FILES or nbytes > BUNDLE_BYTES:
        raise BadInput(
            f"files= names {len(found):,} files with {nbytes / 1e6:,.0f} MB, and at most {BUNDLE_FILES:,} with "
            f"{BUNDLE_BYTES / 1e6:,.0f} MB travel: have workers read them from S3"
        )
    return [*found.values()], secrets


def _walk(place: Path) -> Iterator[tuple[Path, Rules, bool]]:
    """Files, each with the rules for it and whether it lies in a regular package; so too hidden folders passed by."""
    above = rules_above(place)
    if place.is_file():
        yield place, above, False
        return
    known = {place.parent: above}
    packages: set[Path] = set()  # a regular package's data travels; a namespace's folder may be any folder
    for where, folders, names in os.walk(place):
        folder = Path(where)
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        rules = known[folder] = known[folder.parent].with_those_in(folder, names)
        if folder.parent in packages or "__init__.py" in names:
            packages.add(folder)
        if folder not in packages and not rules.ours:  # which may be a folder of a great many files
            names = [name for name in names if name.endswith(_IMPORTABLE)]
        back = any(each.brings_back for each in rules.ours)
        passed_by = [] if back else [name for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if name not in _NEVER and name not in passed_by)
        for name in sorted([*names, *passed_by]):
            yield folder / name, rules, folder in packages


def _fate(path: Path, parts: tuple[str, ...], module: Path, rules: Rules, *, in_package: bool) -> str:
    """What becomes of a file: "travels", "stays", or why it is left out, "ignored" or "secret"."""
    if path.suffix == ".pyc":
        return "stays"
    said = said_of(str(path), rules.ours)
    if said is not None:
        return "ignored" if said else "travels"
    hidden = any(part.startswith(".") for part in parts)
    if not hidden and (path.name.endswith(_IMPORTABLE) or path == module):
        return "travels"
    if not in_package:
        return "stays"
    if any(map(_is_secret, parts)):
        return "secret"
    if hidden:
        return "stays"
    return "ignored" if _git_ignores(path, module, rules.gits) else "travels"


def _git_ignores(path: Path, module: Path, rules: tuple[Patterns, ...]) -> bool:
    """Rules from above a module have no say where they leave out all of it: it is imported all the same."""
    inner = tuple(each for each in rules if each.folder.is_relative_to(module))
    said = said_of(str(path), inner)
    if said is None:
        outer = rules[len(inner) :]
        said = not said_of(f"{module}/", outer) and said_of(str(path), outer)
    return bool(said)
