"""Code that travels in; where it is from and its lines out, so that tracebacks elsewhere show them as at home."""

from __future__ import annotations

import json
import linecache
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from traceback import TracebackException
from types import CodeType
from typing import Any

_MOST = 256 << 10  #: characters of source that travel with a function


# --- at home ----------------------------------------------------------------------------------------------------------


def sources_of(codes: Iterable[CodeType], travelling: Mapping[str, Path]) -> bytes:
    """The lines of code that goes by value, file by file; and where modules are at home, by what they travel as."""
    files: dict[str, dict[str, Any]] = {}
    room = _MOST
    for code in codes:
        name = code.co_filename
        file = files.setdefault(name, {"shown": _shown(name), "lines": {}})
        first, last = code.co_firstlineno, max((end or 0 for _, end, _, _ in code.co_positions()), default=0)
        if str(first) in file["lines"] and str(last) in file["lines"]:
            continue  # a function within one that was seen
        lines = _lines(name)[max(first - 1, 0) : last]
        if name == "<string>" and code.co_name.strip("<>") not in "".join(lines):
            continue  # what a dataclass, say, has made has this name, too
        if (room := room - sum(map(len, lines))) < 0:
            break
        file["lines"].update({str(number): line for number, line in enumerate(lines, first)})
    return json.dumps({"files": files, "homes": _homes(travelling)}).encode()


def _homes(travelling: Mapping[str, Path]) -> dict[str, str]:
    """Where folders are at home, and files that are not where their folder is."""
    homes: dict[str, str] = {}
    for inside, path in travelling.items():
        if path.suffix == ".py" and _at_home(homes, inside) != str(path):
            folder, _, name = inside.rpartition("/")
            if name == path.name and folder not in homes:
                homes[folder] = str(path.parent)
            else:
                homes[inside] = str(path)
    return homes


def _lines(name: str) -> list[str]:
    """A file's lines, as Python would show them here; also of what was given to it as an argument or a file."""
    linecache.checkcache(name)
    lines = linecache.getlines(name)
    text = ""
    if not lines and name == "<string>" and sys.argv[:1] == ["-c"]:
        given = iter(sys.orig_argv[1:])
        text = next((next(given, "") for option in given if option[:1] == "-" and option[-1:] == "c"), "")
    elif not lines and name == "<stdin>":
        with suppress(OSError, ValueError):
            found = os.fstat(0)
            if stat.S_ISREG(found.st_mode):
                text = os.pread(0, found.st_size, 0).decode()
    return lines or text.splitlines(keepends=True)


def _shown(name: str) -> str:
    """What a file is called where people read of it: a notebook's cell by its number."""
    if (ipython := sys.modules.get("IPython")) is not None:
        with suppress(Exception):  # of whatever release
            return " ".join(ipython.get_ipython().compile.format_code_name(name))
    return name


# --- elsewhere --------------------------------------------------------------------------------------------------------

_names: dict[str, str] = {}  # of files, as they are shown
_folders: dict[str, dict[str, str]] = {}  # of modules that travelled: where they are here, and at home


def lay_out(sources: bytes, folder: str | None) -> None:
    """Have this process know what `sources_of` tells; modules that travelled were unpacked in `folder`."""
    with suppress(
        ValueError, TypeError, LookupError, AttributeError
    ):  # a traceback without lines is no worse than none
        told = json.loads(sources)
        if folder is not None:
            _folders[folder] = told["homes"]
        for name, file in told["files"].items():
            _names[name] = file["shown"]
            _lay_lines(name, {int(number): line for number, line in file["lines"].items()})


def _lay_lines(name: str, lines: dict[int, str]) -> None:
    """Beside those of the file that are known; `linecache` looks for no file where it has no time of its change."""
    known = linecache.cache.get(name)
    whole = list(known[2]) if known is not None and len(known) > 2 and known[1] is None else []
    whole += ["\n"] * (max(lines, default=0) - len(whole))
    for number, line in lines.items():
        whole[number - 1] = line
    if lines:
        linecache.cache[name] = (sum(map(len, whole)), None, whole, name)


def as_at_home(told: TracebackException) -> TracebackException:
    """The same, with files by the names that they have at home."""
    for frame in told.stack:
        frame.filename = _home(frame.filename)
    if (filename := getattr(told, "filename", None)) is not None:  # of a syntax error
        told.filename = _home(filename)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            as_at_home(other)
    return told


def _home(name: str) -> str:
    for folder, homes in _folders.items():
        inside = name.removeprefix(f"{folder}/")
        if inside != name:
            return _at_home(homes, inside) or name
    return _names.get(name, name)


def _at_home(homes: Mapping[str, str], inside: str) -> str:
    """Where a file that travelled is at home, by the nearest that is known; empty where nothing is.

    >>> _at_home({"": "/home/me", "shop/far": "/home/me/build"}, "shop/far/a.py"), _at_home({"": "/home/me"}, "b.py")
    ('/home/me/build/a.py', '/home/me/b.py')
    """
    known = inside
    while known not in homes:
        if not known:
            return ""
        known = known.rpartition("/")[0]
    return "/".join(filter(None, [homes[known], inside[len(known) :].strip("/")]))
