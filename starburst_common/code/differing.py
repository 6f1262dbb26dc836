"""Modules that travel in; a warning of what may differ where they arrive out."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import struct
import sys
import time
from collections.abc import Collection, Iterable, Set
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, ModuleType

from starburst_common.code.files import File
from starburst_common.code.imports import source_of
from starburst_common.code.projects import ENDINGS, INIT
from starburst_common.code.stamps import Stamp
from starburst_common.errors import BadInput
from starburst_common.phrases import our_log

_log = our_log()
#: A file's name as it stands in a source: in quotes, perhaps after those of its folders, and not from the root.
_JOINED, _NAMED = re.compile(r"[\"'][ \t]*[/,][ \t]*[\"']"), re.compile(r"[\"']([^\"'\n/][^\"'\n]*\.\w+)[\"']")
_LOOKS, _FROM_FILE = re.compile(r"__file__|get_data"), re.compile(r"^[ \t]*(\w+)[^=\n]*=[^=\n].*__file__", re.MULTILINE)
_FOLDER, _WORD = re.compile(r"[\"']([\w-]+(?:/[\w-]+)*)[\"']"), re.compile(r"\w+")
_UP = 3  #: folders above a module in which it may look


@lru_cache(maxsize=256)
def tell_nowhere(name: str, source: str) -> None:
    """That no worker can import a module, once for each file that does."""
    _log.warning(
        "%s imports %s, which lies in no file, or in none any more, so no worker can import it: put it into a file, or "
        "what is called into the script",
        *(source, name),
    )


@lru_cache(maxsize=256)
def tell_differing(digest: str, files: tuple[File, ...]) -> tuple[File, ...]:
    """Warn of it, once for files as they are now; those that were edited since they were imported."""
    travel = {file.path for file in files}
    edited = tuple(file for file in files if is_edited(file))
    if edited:
        _log.warning(
            "edited since they were imported here: %s: workers run the files, this process goes on with what it "
            "imported: reload them, or start anew",
            ", ".join(sorted(file.inside for file in edited)),
        )
    looked = {file.inside: _named_and_staying(file.path, travel) for file in files if _imported_as(file) is not None}
    if reads := [f"{inside} reads {', '.join(stays)}" for inside, stays in looked.items() if stays]:
        _log.warning(
            "data near modules stays here: %s: it travels with packages only, in a folder with `__init__.py`; also "
            "there, not what is ignored or may be secret",
            "; ".join(reads),
        )
    return edited


def refuse_lacking(edited: Iterable[File], named: Set[bytes]) -> None:
    """Raise `BadInput` where names of what a module here defines are not in its file any more."""
    for file in edited:
        module, words = _imported_as(file), _words_in(file.path, file.stamp)
        if module is None or "*" in words:
            continue
        names = {name.decode().partition(".")[0] for name in named} - words
        for name in sorted(names & vars(module).keys()):
            if getattr(vars(module)[name], "__module__", None) == module.__name__:
                raise BadInput(
                    f"{module.__name__}.{name} is not in {file.path} any more, which was edited since it was imported "
                    "here, and workers import the file: reload the module, or start anew"
                )


@lru_cache(maxsize=256)
def _words_in(source: Path, stamp: Stamp) -> frozenset[str]:
    """In a source, with `*` where it imports all of another's."""
    text = source_of(source)
    return frozenset([*_WORD.findall(text), *(["*"] if "import *" in text else [])])


def _named_and_staying(source: Path, travel: Collection[Path]) -> list[str]:
    """Files that a source names, and folders that it names where it looks around itself, but for modules."""
    text = _JOINED.sub("/", source_of(source)) if source.suffix == ".py" else ""
    if not _LOOKS.search(text):
        return []
    here = {"__file__", *_FROM_FILE.findall(text)}
    lines = [line for line in text.splitlines() if here.intersection(_WORD.findall(line)) and "sys.path" not in line]
    names = [*_NAMED.findall(text), *_FOLDER.findall("\n".join(lines))]
    places = (folder / name for name in names if not name.endswith(ENDINGS) for folder in source.parents[:_UP])
    return [*dict.fromkeys(place.name for place in places if place.name[:1] != "." and _stays(place, travel))]


def _stays(place: Path, travel: Collection[Path]) -> bool:
    with suppress(OSError):  # too long a name
        if place.is_dir():
            return not any(path.is_relative_to(place) for path in travel)
        return place not in travel and place.is_file()
    return False


def _imported_as(file: File) -> ModuleType | None:
    """The module that this process has of it."""
    module = sys.modules.get(file.inside.removesuffix(".py").removesuffix(f"/{INIT}").replace("/", "."))
    return module if getattr(module, "__file__", None) == str(file.path) else None


def is_edited(file: File) -> bool:
    """Whether a module that is imported was compiled from another state of its file."""
    module = _imported_as(file)
    if module is None:
        return False
    told = _told_by_bytecode(file)
    if told is None and file.stamp.touched_ns > _began_ns():
        return not _codes_of(module) <= _compiled(file.path)
    return told is False


def _told_by_bytecode(file: File) -> bool | None:
    """Whether what was compiled when it was imported is of the file as it is; None where that does not tell."""
    try:
        compiled = Path(importlib.util.cache_from_source(file.path))
        head = compiled.read_bytes()[:16]
    except (OSError, NotImplementedError):
        return None
    if len(head) < 16 or head[4:8] != bytes(4):
        return None
    now = (int(file.stamp.changed_ns / 1e9) & 0xFFFFFFFF, file.stamp.size & 0xFFFFFFFF)
    if struct.unpack("<II", head[8:]) == now:
        return True
    return None if sys.dont_write_bytecode or not _may_write(compiled) else False


def _may_write(file: Path) -> bool:
    """Or what was compiled may be of any age."""
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


@cache
def _began_ns() -> int:
    """When this process did (wall clock); long ago, where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time_ns() - int(1e9 * (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")))
    except (OSError, ValueError, AttributeError, IndexError):
        return 0


def _codes_of(module: ModuleType) -> set[CodeType]:
    """Of the functions that it defines, and those of its classes."""
    found: set[CodeType] = set()
    for value in [*vars(module).values()]:
        own = isinstance(value, type) and value.__module__ == module.__name__
        for each in [value, *(vars(value).values() if own else ())]:
            function = inspect.unwrap(getattr(each, "__func__", each)) if callable(each) else None
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType) and code.co_filename == module.__file__:
                found.add(code)
    return found


def _compiled(source: Path) -> set[CodeType]:
    """All code in a file; none where that is not Python."""
    try:
        todo = [compile(source.read_bytes(), str(source), "exec", dont_inherit=True)]
    except (OSError, SyntaxError, ValueError):
        return set()
    for code in todo:  # which grows
        todo += [each for each in code.co_consts if isinstance(each, CodeType)]
    return {*todo}
