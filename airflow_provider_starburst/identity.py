"""A task instance, its function, its items in; the names out by which a later try knows them again.

Pickles name neither: those of equal code differ from process to process, and with where a file lies.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from starburst_common import Rows
from starburst_common.spi import in_packages, names_of

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_AT_ONCE = 1000  #: items hashed together


def name_of(*parts: str | int) -> str:
    """What is done for one task instance has this name, whichever try asks.

    >>> len(name_of("", "dag", "manual__1", "score", -1))
    64
    >>> name_of("", "dag", "run", "a", 1) == name_of("", "dag", "run", "a1", "")
    False
    """
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def code_print(fn: Any, *bound: Any) -> str:
    """Names what a function does: its code, what that reaches in the user's own modules, and the arguments bound to it.

    Comments, and where the files lie, do not matter. What installed packages do, and what is imported at run time, is
    not looked at.
    """
    return _Print().of((fn, bound))


def input_print(items: Sequence[Any] | Rows) -> str:
    """Names items by their values, in their order; rows by where they lie, since nobody here reads them.

    >>> input_print([{"a": 1, "b": {2, 3}}]) == input_print([{"b": {3, 2}, "a": 1}])
    True
    >>> input_print([1, 2]) == input_print([2, 1])
    False
    """
    if isinstance(items, Rows):
        return hashlib.sha256(repr(items).encode()).hexdigest()
    seen = hashlib.sha256(str(len(items)).encode())
    for lo in range(0, len(items), _AT_ONCE):
        seen.update(_text_of(list(items[lo : lo + _AT_ONCE])))
    return seen.hexdigest()


def _text_of(value: Any) -> bytes:
    """Plain data as JSON with its keys in order; else by an own walk, which takes longer."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_refuse).encode(errors="surrogatepass")
    except (TypeError, ValueError, RecursionError):
        return _Print().of(value).encode()


def _refuse(value: Any) -> Any:
    raise TypeError(type(value))


class _Print:
    """A walk through values and code; each object that can lead back to itself is walked once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def of(self, value: Any) -> str:
        return hashlib.sha256(self._told(value).encode(errors="surrogatepass")).hexdigest()

    def _told(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__}:{value!r}"
        if id(value) in self._seen:
            return f"again:{self._seen[id(value)]}"
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, Mapping):
            return f"map:{sorted((self._told(key), self._told(each)) for key, each in value.items())}"
        if isinstance(value, set | frozenset):
            return f"set:{sorted(map(self._told, value))}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__}:{[self._told(each) for each in value]}"
        return self._told_object(value)

    def _told_object(self, value: Any) -> str:
        if isinstance(value, CodeType):
            consts = [self._told(each) for each in value.co_consts]
            return f"code:{value.co_code.hex()}:{consts}:{value.co_names}:{value.co_varnames}:{value.co_flags}"
        if isinstance(value, partial):
            return f"partial:{self._told((value.func, value.args, value.keywords))}"
        if isinstance(value, MethodType):
            return f"method:{self._told((value.__func__, value.__self__))}"
        if isinstance(value, FunctionType):
            return self._told_function(value)
        if isinstance(value, ModuleType):
            return f"module:{value.__name__}:{_source_print(value)}"
        if isinstance(value, type):
            return self._told_class(value)
        return f"object:{type(value).__module__}.{type(value).__qualname__}:{_pickle_print(value)}"

    def _told_function(self, fn: FunctionType) -> str:
        if not _is_own(inspect.getmodule(fn) or fn.__module__):
            return f"function:{fn.__module__}.{fn.__qualname__}"
        space = fn.__globals__
        reached = [(name, space[name]) for name in sorted(names_of(fn.__code__)) if name in space]
        cells = [_inside(cell) for cell in fn.__closure__ or ()]
        told = self._told([fn.__code__, fn.__defaults__, fn.__kwdefaults__, cells, reached])
        return f"function:{fn.__qualname__}:{told}"

    def _told_class(self, kind: type) -> str:
        if not _is_own(kind.__module__):
            return f"class:{kind.__module__}.{kind.__qualname__}"
        members = [
            (name, each)
            for name, each in sorted(vars(kind).items())
            if isinstance(each, (FunctionType, *_PLAIN)) and name not in ("__module__", "__doc__")
        ]
        return f"class:{kind.__qualname__}:{self._told([*kind.__bases__, *members])}"


def _inside(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _is_own(module: ModuleType | str) -> bool:
    """Whether its code is the user's, and no package's or of Python."""
    found = sys.modules.get(module) if isinstance(module, str) else module
    file = getattr(found, "__file__", None)
    if file is None:  # a script that was typed in, or built in
        return getattr(found, "__name__", module) == "__main__" or found is None
    return not in_packages(Path(file))


def _source_print(module: ModuleType) -> str:
    """Names what an own module's text means; nothing of what is installed."""
    if not _is_own(module) or (file := module.__file__) is None:
        return ""
    try:
        meant = ast.dump(ast.parse(Path(file).read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(meant.encode(errors="surrogatepass")).hexdigest()


def _pickle_print(value: Any) -> str:
    """Names an object by its pickle, in which equal parts are written out each time; by its type if it has none."""
    for fast in (True, False):  # without a memo, what holds itself never ends
        out = BytesIO()
        pickler = pickle.Pickler(out, 5)
        pickler.fast = fast
        try:
            pickler.dump(value)
        except (RecursionError, ValueError):
            continue
        except Exception:
            return ""
        return hashlib.sha256(out.getbuffer()).hexdigest()
    return ""


def of_all(prints: Iterable[str]) -> str:
    """Several as one."""
    return hashlib.sha256("\0".join(prints).encode()).hexdigest()
