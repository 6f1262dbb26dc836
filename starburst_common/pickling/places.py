"""An object in; the module and the name in it under which another process finds this very object, if any, out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from pickle import PicklingError
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import cloudpickle

from starburst_common.pickling.nowhere import SENT, lies_nowhere
from starburst_common.pickling.setup import in_module

MAINS = ("__main__", "__mp_main__")  #: what the user's program is called, in itself and in children that it spawned


def by_reference(obj: Any, name: str | None = None) -> bool:
    """Whether a worker finds this very object under its module and name."""
    module, name = getattr(obj, "__module__", None), name or getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module in MAINS:
        return False
    return not sent_by_value(module) and in_module(module, name) is obj


def sent_by_value(module: str) -> bool:
    """Whether what a module defines goes by value: somebody said so, or no worker could import it."""
    if module not in SENT and lies_nowhere(module):
        cloudpickle.register_pickle_by_value(sys.modules[module])
        SENT.add(module)
    by_value = cloudpickle.list_registry_pickle_by_value()
    return bool(by_value) and any(module == name or module.startswith(f"{name}.") for name in by_value)


def names_in_main(text: str, obj: Any) -> bool:
    """Whether a text, such as `__main__:double`, tells only where this program has the object."""
    main, _, name = text.partition(":")
    if main in MAINS and name:
        return in_module(main, name) is not None
    return any(text.startswith(f"{each}.") and in_module(each, text[len(each) + 1 :]) is obj for each in MAINS)


def fetched(module: str, name: str) -> Any:
    """What an importable module has under a dotted name."""
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


ModulePlace = tuple[str, str]
_Beside = tuple[int, list[dict[str, Any]], dict[int, ModulePlace]]
_by_kind: WeakKeyDictionary[type, _Beside] = WeakKeyDictionary()  # as long as the modules have so many attributes
#: Of what type the objects are whose module their class does not tell; no two can be told apart but by identity.
_NAMELESS = (object, ContextVar)
_nameless: tuple[int, dict[int, tuple[Any, ModulePlace]]] = (0, {})


def place_in_library(obj: Any) -> ModulePlace | None:
    """Where the standard library or an installed package has this object beside its class."""
    place = _beside_its_class(obj)
    return place if place is not None and installed(place[0].partition(".")[0]) else None


def place_of(obj: Any) -> ModulePlace | None:
    """Where a module has this object: beside its class, or anywhere if its class tells nothing."""
    kind = type(obj)
    if kind not in _NAMELESS:
        return _beside_its_class(obj)
    global _nameless
    if _nameless[0] != len(sys.modules):
        found = {id(value): (value, (module, name)) for module, name, value in _all() if type(value) in _NAMELESS}
        _nameless = len(sys.modules), found
    if (known := _nameless[1].get(id(obj))) is not None:
        return known[1]
    mains = [(module, vars(sys.modules[module])) for module in MAINS if module in sys.modules]
    return next(((module, name) for module, space in mains for name, value in [*space.items()] if value is obj), None)


def anywhere(obj: Any) -> ModulePlace | None:
    """Where any module has this object: slow, and for what cannot be sent otherwise."""
    return next(((module, name) for module, name, value in _all() if value is obj), None)


def place_by_another_name(kind: type) -> ModulePlace:
    """Of a class of C's that its module does not have under its name, such as that of a dictionary's keys.

    Raises `PicklingError` where it is nowhere.
    """
    if (place := anywhere(kind)) is None:
        raise PicklingError(f"{kind!r} is in no module by a name, where workers could find it")
    return place


def _all() -> Iterator[tuple[str, str, Any]]:
    for module, found in list(sys.modules.items()):
        if isinstance(found, ModuleType) and module not in MAINS and not sent_by_value(module):
            for name, value in list(vars(found).items()):
                yield module, name, value


def _beside_its_class(obj: Any) -> ModulePlace | None:
    kind = type(obj)
    known = _by_kind.get(kind)
    if known is None or known[0] != sum(map(len, known[1])):
        _by_kind[kind] = known = _attributes_of(kind)
    place = known[2].get(id(obj))
    return place if place is not None and vars(sys.modules[place[0]]).get(place[1]) is obj else None


def _attributes_of(kind: type) -> _Beside:
    module = kind.__module__
    if not isinstance(module, str) or sent_by_value(module):
        return 0, [], {}
    parts = module.split(".")
    modules = [".".join(parts[:upto]) for upto in range(1, len(parts) + 1)]
    spaces = {name: vars(sys.modules[name]) for name in modules if name in sys.modules}
    places = {}
    for name, space in spaces.items():
        places.update({id(value): (name, key) for key, value in list(space.items()) if type(value) is kind})
    return sum(map(len, spaces.values())), list(spaces.values()), places


@lru_cache(maxsize=1024)
def installed(package: str) -> bool:
    if package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
