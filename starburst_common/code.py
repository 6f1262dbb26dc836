"""A function in; what workers need to call it out: itself pickled, and a bundle of the user's own modules."""

from __future__ import annotations

import hashlib
import importlib.util
import pickletools
import re
import site
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from starburst_common.bundle import Bundle, Module, Stamp, bundle_of, module_at
from starburst_common.byvalue import dumps
from starburst_common.errors import BadInput, ItemTimeout
from starburst_common.model import Buffer
from starburst_common.phrases import our_log
from starburst_common.wire import FUNCTION_BYTES

_log = our_log()
_OURS = frozenset({"starburst_common", "starburst_worker", "prefect_starburst", "airflow_provider_starburst"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFunction:
    """A function ready to be stored; `digest` names its content."""

    digest: str
    blob: bytes  #: compressed pickle of (function, retry_on)
    style: str  #: "one" argument, "star" for several, "call" for (args, kwargs)
    retry_timeouts: bool
    bundle: Bundle | None
    nbytes: int = 0  #: of the pickle


def pack_function(
    function: Callable[..., Any], *, style: str, retry_on: tuple[type[BaseException], ...], samples: Iterable[Any] = ()
) -> PackedFunction:
    """Pickle a function (by value where workers cannot import it) and bundle the local modules it imports.

    `samples` are items whose classes may live in local modules too. Raises `BadInput` if it cannot be pickled.
    """
    if not callable(function):
        raise BadInput(f"{function!r} is not callable: give a function")
    try:
        pickled = dumps((function, retry_on))
    except Exception as error:
        raise BadInput(
            f"the function {getattr(function, '__qualname__', function)!r} cannot be pickled: {error}: "
            "open connections, files and locks inside it rather than capturing them"
        ) from error
    if len(pickled) > FUNCTION_BYTES:
        raise BadInput(
            f"the function {getattr(function, '__qualname__', function)!r} and what it closes over have "
            f"{len(pickled) / 1e6:,.0f} MB, at most {FUNCTION_BYTES / 1e6:,.0f} MB travel: have workers read large data"
        )
    names = set(names_in(pickled))
    for sample in samples:
        try:
            names.update(names_in(dumps(sample)))
        except Exception as error:
            _log.debug("a sample item cannot be pickled; storing it will say so: %s", error)
    bundle = bundle_of(_local_closure(names))
    blob = zlib.compress(pickled, 1)
    digest = hashlib.sha256(style.encode() + pickled + (bundle.digest.encode() if bundle else b"")).hexdigest()[:32]
    return PackedFunction(
        digest=digest,
        blob=blob,
        nbytes=len(pickled),
        style=style,
        retry_timeouts=any(issubclass(ItemTimeout, kind) for kind in retry_on),
        bundle=bundle,
    )


def names_in(pickled: Buffer) -> Iterator[str]:
    """Top-level names of what may be modules: every short text in a pickle that looks like one.

    Modules show up as text whether by reference, as an imported module, or as a name that code imports when it runs.
    """
    for opcode, argument, _ in pickletools.genops(bytes(pickled)):
        if "UNICODE" in opcode.name and isinstance(argument, str) and len(argument) < 200:
            top = argument.partition(".")[0]
            if top.isidentifier():
                yield top


def _local_closure(names: Iterable[str]) -> dict[str, Module]:
    """Local top-level modules among the names, with those that they import."""
    found: dict[str, Module] = {}
    todo = sorted(names)
    while todo:
        name = todo.pop()
        if name in found or (place := _local_place(name)) is None:
            continue
        found[name] = module_at(place)
        todo.extend(sorted(set(_imports_of(found[name]))))
    return found


def _local_place(name: str) -> Path | None:
    """The file or folder of a top-level module, if it is the user's own."""
    if name in _OURS or name in sys.stdlib_module_names or name == "__main__":
        return None
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        if module is not None and getattr(module, "__file__", None) is None:
            return None
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    origin = Path(spec.origin) if spec.has_location and spec.origin else None
    if origin is not None and origin.stem != "__init__":  # Prefect loads a flow's script with folders to search
        folders = []
    place = Path(folders[0]) if folders else origin
    if place is None or not place.exists() or _installed(place.resolve()):
        return None
    return place


def _installed(place: Path) -> bool:
    return any(place.is_relative_to(folder) for folder in _library_folders()) or bool(
        {"site-packages", "dist-packages"} & set(place.parts)
    )


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    known = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return tuple({Path(path).resolve() for path in known})


def _imports_of(module: Module) -> Iterator[str]:
    for file in module.files:
        if file.path.suffix == ".py":
            yield from _imports(file.path, file.stamp)


#: An import statement, wherever one may begin; one in a text that only looks like it does no harm.
_IMPORT = re.compile(r"(?:^|[:;])[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+import\b|import[ \t]+([^\n;#]+))", re.MULTILINE)


@lru_cache(maxsize=4096)  # who submits a thousand lambdas has each file read once
def _imports(path: Path, stamp: Stamp) -> frozenset[str]:
    """Top-level modules that a file imports. By pattern: to parse a project of some hundred files takes a second."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    except FileNotFoundError:
        return frozenset()
    lines = "\n".join(line for line in text.splitlines() if "import" in line)
    found: set[str] = set()
    for source, several in _IMPORT.findall(lines):
        found.update(word.split(".")[0] for each in (source, *several.split(",")) for word in each.split()[:1])
    return frozenset(found)
