"""Modules that travel in; a warning of what may differ where they arrive out."""

from __future__ import annotations

import importlib.util
import os
import re
import struct
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from starburst_common.code.files import File
from starburst_common.code.imports import source_of
from starburst_common.code.projects import ENDINGS, INIT
from starburst_common.phrases import our_log

_log = our_log()
#: A file's name as it stands in a source: in quotes, perhaps after those of its folders, and not from the root.
_JOINED, _NAMED = re.compile(r"[\"'][ \t]*[/,][ \t]*[\"']"), re.compile(r"[\"']([^\"'\n/][^\"'\n]*\.\w+)[\"']")
_LOOKS, _FROM_FILE = re.compile(r"__file__|get_data"), re.compile(r"^[ \t]*(\w+)[^=\n]*=[^=\n].*__file__", re.MULTILINE)
_FOLDER, _WORD = re.compile(r"[\"']([\w-]+(?:/[\w-]+)*)[\"']"), re.compile(r"\w+")
_UP = 3  #: folders above a module in which it may look


@lru_cache(maxsize=256)
def tell_made_up(name: str) -> None:
    """That no worker has a module; once, whoever refers to it."""
    _log.warning(
        "module %s was made by this program and lies in no file, so no worker can import it: put it into a file, or "
        "what is called from it into the script",
        name,
    )


@lru_cache(maxsize=256)
def tell_differing(digest: str, files: tuple[File, ...]) -> None:
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
