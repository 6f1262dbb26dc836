"""Names in; the user's own modules among them, with those that they import, out.

A module is the user's own by where this process has it from, whatever its name: not from the standard library, and not
from where packages are installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Set
from functools import lru_cache

from starburst_common.code.bundle import Bundle, bundle_of
from starburst_common.code.differing import refuse_lacking, tell_differing, tell_nowhere
from starburst_common.code.files import File, Module, module_at
from starburst_common.code.imports import imports_of, parsed_imports
from starburst_common.code.pieces import origin_of, pieces_of
from starburst_common.code.projects import metadata_of, plugins_here, quoted
from starburst_common.model import Buffer
from starburst_common.pickling.nowhere import lies_nowhere
from starburst_common.pickling.places import MAINS

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
    return {name.partition(".")[0] for name in loaded(names)}


def loaded(names: Iterable[bytes]) -> set[str]:
    """Modules among them, submodules too."""
    known = _imported(len(sys.modules), next(reversed(sys.modules)))
    return {name.decode() for name in known.intersection(names)}


@lru_cache(maxsize=1)
def _imported(count: int, last: str) -> frozenset[bytes]:
    """All there are, which change when their number or the last one does."""
    return frozenset(name.encode(errors="replace") for name in list(sys.modules) if name not in MAINS)


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
    plugins = plugins_here()
    todo: list[tuple[str, File | None]] = [(name, None) for name in sorted(names)]
    while todo:
        name, source = todo.pop()
        if name in known:
            continue
        pieces = pieces_of(name, below.get(name, ()))
        if pieces and source is not None and _is_mere_folder(name) and name not in parsed_imports(*source[::2]):
            continue  # the text only looked like an import, and a folder may hold whatever
        known.add(name)
        if not pieces and source is not None and lies_nowhere(name):
            tell_nowhere(name, source.inside)
        if pieces:
            about, points = metadata_of([piece.place for piece in pieces])
            found[name] = module_at([*pieces, *about])
            todo += [(point, None) for point in sorted(points - known)]
            for file in found[name].files:
                if file.path.suffix == ".py":
                    todo += [(each, file) for each in sorted(imports_of(file.path, file.stamp) - known)]
                    for group in quoted(file.path, file.stamp, frozenset(plugins)) if plugins else ():
                        todo += [(each, None) for each in sorted(plugins[group] - known)]
    return found


def bundled(own: dict[str, Module], named: Set[bytes]) -> tuple[Bundle | None, tuple[File, ...]]:
    """The modules as they travel, and which files were edited since they were imported here.

    What may differ there is told, once for all files as they are now. Raises `BadInput` as `refuse_lacking`.
    """
    bundle = bundle_of(own)
    if bundle is None:
        return None, ()
    edited = tell_differing(bundle.digest, tuple(file for module in own.values() for file in module.files))
    refuse_lacking(edited, named)
    return bundle, edited


def _is_mere_folder(name: str) -> bool:
    """Whether it is not imported, and would be a folder without `__init__.py`."""
    return name not in sys.modules and origin_of(name, None)[0] is None
