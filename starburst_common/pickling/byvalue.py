"""A value in, its pickle out: by value what workers cannot import, by reference what is one of its kind where they can.

What goes by value and is one of its kind here (a class, a cached function, a sentinel of the main script) is one there
too, whatever it comes with and however often, and itself again when it comes home.
"""

from __future__ import annotations

import copyreg
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pickle import PickleBuffer, PicklingError
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import cloudpickle

from starburst_common.pickling.alone import imported_alone, imports_of_code, module_by_value
from starburst_common.pickling.bodies import names_in_classes
from starburst_common.pickling.bound import Stays, told_bound
from starburst_common.pickling.classes import class_by_value
from starburst_common.pickling.hints import fill_hinted, names, texts
from starburst_common.pickling.identity import known, made_once, token_of
from starburst_common.pickling.places import (
    MAINS,
    anywhere,
    by_reference,
    fetched,
    names_in_main,
    place_by_another_name,
    place_in_library,
    place_of,
    sent_by_value,
)
from starburst_common.pickling.reducers import REDUCERS
from starburst_common.pickling.script import RUN, name_by_running, of_script
from starburst_common.pickling.setup import Spaces, in_module

#: What cloudpickle 3.1.3 writes for the name: it hides from a traceback where it was, and which line it was.
_HIDDEN = "<dynamic-code>"
_HIDES = any(
    isinstance(each, str) and each == _HIDDEN
    for each in cloudpickle.Pickler.dispatch_table[CodeType]((lambda: None).__code__)[1]
)
#: What cloudpickle has an answer to, which is no other for any of them.
_THEIRS = frozenset(cloudpickle.Pickler.dispatch_table)
#: Kinds of random generators, and where they are from.
_GENERATORS = frozenset({"Random", "Generator", "RandomState", "BitGenerator", "SeedSequence"})
_RANDOM = ("random", "numpy.random")
_OF_PYTHON = 1 << 9  #: of a class's flags: that it was made while the program ran
_WITHIN = frozenset({"BitGenerator", "SeedSequence"})  #: which others hold, and come after them then


def dumps(
    value: Any,
    *,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    imports: set[str] | None = None,
    codes: list[CodeType] | None = None,
    generators: set[str] | None = None,
) -> bytes:
    """`cloudpickle.dumps`, but what is one of its kind stays so, and code keeps the name of its file.

    `imports` is given the top-level modules that code imports when it runs, `codes` all code that goes by value,
    `generators` the kinds of random generators. Raises what pickling raises, also for what a worker would look for in
    its own main program.

    >>> import dataclasses, pickle
    >>> code = compile("def double(x): return 2 * x", "/home/me/mine.py", "exec")
    >>> pickle.loads(dumps(code)).co_filename
    '/home/me/mine.py'
    >>> pickle.loads(dumps(dataclasses.MISSING)) is dataclasses.MISSING
    True
    """
    if (spawned := sys.modules.get("__mp_main__")) is not None:
        cloudpickle.register_pickle_by_value(spawned)
    out = io.BytesIO()
    pickler = Pickler(out, 5, buffer_callback=buffer_callback)
    pickler.imports = imports
    pickler.codes = codes
    pickler.generators = generators
    pickler.dump(value)
    return out.getvalue()


def _generator(kind: type) -> str | None:
    """Which kind of random generator it is, or derives from, if any."""
    bases = (each for each in kind.__mro__ if each.__name__ in _GENERATORS and each.__module__.startswith(_RANDOM))
    return next((each.__name__ for each in bases), None)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with that difference."""

    imports: set[str] | None = None
    codes: list[CodeType] | None = None
    generators: set[str] | None = None
    trying: frozenset[type] = frozenset()  #: classes of which is tried whether they can go by value
    hints = True  #: what annotations name goes along
    cells: dict[int, tuple[Any, Any]] | None = None  #: variables of closures, and what stands for each, empty still

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            return self._code(obj)
        if kind is FunctionType:
            return self._function(obj)
        if issubclass(kind, type):
            sent_by_value(str(obj.__module__))
            made = super().reducer_override(obj)
            if made is NotImplemented or len(made) < 6:
                return made
            if not obj.__flags__ & _OF_PYTHON:
                return fetched, place_by_another_name(obj)
            return self._from_script(obj) or self._hinted(obj, class_by_value(obj, made))
        if kind is ModuleType:
            return self._module(obj)
        if kind in REDUCERS:
            return REDUCERS[kind](self, obj)
        if kind is Spaces:
            return Spaces, (list(self.globals_ref.values()),)
        return NotImplemented if kind in _THEIRS else self._instance(obj)

    def _module(self, module: ModuleType) -> Any:
        """By name, but one that this program has alone."""
        name = module.__name__
        if name in MAINS:
            raise PicklingError(f"the module {name!r} itself: workers have another, use what is in it by name")
        return module_by_value(module)

    def _code(self, code: CodeType) -> Any:
        if self.imports is not None:
            self.imports.update(imports_of_code(code))
        if self.codes is not None:
            self.codes.append(code)
        make, arguments = self.dispatch_table[CodeType](code)
        if _HIDES:
            told = (code.co_filename if isinstance(each, str) and each == _HIDDEN else each for each in arguments)
            return make, tuple(told)
        return make, arguments

    def _instance(self, obj: Any) -> Any:
        """What another process finds where it is here, else what makes it anew."""
        kind = type(obj)
        if isinstance(obj, Enum) and not by_reference(kind) and obj.__class__.__members__.get(obj.name) is obj:
            return getattr, (kind, obj.name)
        if (place := place_in_library(obj)) is not None:
            return fetched, place
        if kind.__name__ == "NsResolver" and kind.__module__.startswith("pydantic."):
            return kind, ()  # a script's whole namespace, which a checked call has read its annotations in
        if told := told_bound(obj):
            if (place := anywhere(obj)) is None:
                raise Stays(told)
            return fetched, place
        known = self.generators
        if known is not None and (found := _generator(kind)) is not None and not (known and found in _WITHIN):
            known.add(found)
        return self._reduced(obj)

    def _from_script(self, cls: type) -> Any:
        """A class that can only be had by running the script; None for one that goes by value. Raises `Stays`."""
        if (name := name_by_running(cls, self._try if self.hints and cls not in self.trying else None)) is None:
            return None
        if self.imports is not None:
            self.imports.add(RUN)
        return made_once, (token_of(cls), of_script, (name,))

    def _try(self, cls: type) -> None:
        """Raises what keeps a class from going by value."""
        trial = Pickler(io.BytesIO(), 5, buffer_callback=lambda _: None)
        trial.trying = self.trying | {cls}
        trial.dump(cls)

    def function_parts(self, function: FunctionType) -> Any:
        """How a function is made empty, and then filled; None if it goes by reference."""
        parts = self._function(function)
        return None if parts is NotImplemented else parts

    def _hinted(self, cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
        """With what its annotations name in the script, where `typing.get_type_hints` will look for it."""
        if not self.hints or not (names := named_by(cls)):
            return made
        make, arguments, state, *rest = made
        return make, arguments, (fill_hinted, (state, cls.__module__, names)), *rest

    def _function(self, function: FunctionType) -> Any:
        """Functions over one variable are so there as well: cloudpickle gives each a variable of its own."""
        sent_by_value(str(function.__module__))
        parts = super().reducer_override(function)
        if parts is not NotImplemented:
            parts[2][1]["_cloudpickle_submodules"] += imported_alone(function.__code__)
            space, found = function.__globals__, parts[2][1]["__globals__"]
            found.update({name: space[name] for name in names_in_classes(function.__code__) if name in space})
            if self.hints:
                found.update(named_by(function))
        if parts is NotImplemented or not function.__closure__ or len(parts[1][-1] or ()) != len(function.__closure__):
            return parts
        make, (*arguments, empty), *rest = parts
        pairs = zip(function.__closure__, empty, strict=True)
        if self.cells is None:
            self.cells = {}
        shared = tuple(self.cells.setdefault(id(cell), (cell, own))[1] for cell, own in pairs)
        return make, (*arguments, shared), *rest

    def _reduced(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self.dispatch_table:
            made = self.dispatch_table[kind](obj)
        else:
            try:
                made = obj.__reduce_ex__(5)
            except Exception:
                if (place := anywhere(obj)) is not None:
                    return fetched, place
                raise
        if isinstance(made, tuple) and any(type(each) is str and names_in_main(each, obj) for each in made[1]):
            raise PicklingError(f"{obj!r:.100} of {MAINS[0]} is sent as a name, which workers do not have")
        if isinstance(made, str):
            if (module := getattr(obj, "__module__", None)) not in MAINS:
                return made
            if known(obj) or in_module(module, made) is obj:
                return made_once, (token_of(obj), copyreg.__newobj__, (kind,)), obj.__getstate__()  # type: ignore[attr-defined]
            raise PicklingError(f"{made!r} of {module} is sent as a name, which workers do not have")
        if not _is_empty(made):
            return _with_setter(kind, made)
        place = place_of(obj)
        if place is not None and place[0] not in MAINS:
            return fetched, place
        return (made_once, (token_of(obj), *made[:2])) if place is not None or known(obj) else made


def _with_setter(kind: Any, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """Filled without asking its own `__getattr__`, which may need what is not there yet, or `__setattr__`."""
    asks = hasattr(kind, "__getattr__") or kind.__setattr__ is not object.__setattr__
    fills = asks and not hasattr(kind, "__setstate__") and 2 < len(made) < 6 and made[2]
    return (*made, *[None] * (5 - len(made)), _fill) if fills else made


def _fill(obj: Any, state: Any) -> None:
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


def _is_empty(made: tuple[Any, ...]) -> bool:
    """Whether nothing but its identity tells an object from another one of its class."""
    return made[0] is copyreg.__newobj__ and len(made[1]) == 1 and not any(made[2:])  # type: ignore[attr-defined]


# --- what annotations name --------------------------------------------------------------------------------------------

_travelling: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def named_by(obj: type | FunctionType) -> dict[str, Any]:
    """What texts in its annotations name among the globals of its function or script, and can travel."""
    if isinstance(obj, FunctionType):
        annotations, space = obj.__annotations__, obj.__globals__
    elif (main := sys.modules.get(obj.__module__) if obj.__module__ in MAINS else None) is not None:
        annotations, space = vars(obj).get("__annotations__", {}), vars(main)
    else:
        return {}
    found: dict[str, Any] = {}
    todo = [text for hint in annotations.values() for text in texts(hint)]
    while todo:
        for name in names(todo.pop()):
            if name in space and name not in found and _travels(value := space[name]):
                found[name] = value
                todo += texts(value)
    return found


def _travels(value: Any) -> bool:
    """Whether this can stand in an annotation, and be pickled: what cannot must not keep others from travelling."""
    if isinstance(value, ModuleType):
        return value.__name__ not in MAINS and sys.modules.get(value.__name__) is value
    if by_reference(value):
        return True
    lasts = isinstance(value, type | FunctionType) or type(value).__module__ in ("typing", "types")
    with suppress(Exception):  # no weak reference can be to it, or it has no hash
        if lasts and (known := _travelling.get(value)) is not None:
            return known
    pickler = Pickler(io.BytesIO(), 5)
    pickler.hints = False
    try:
        pickler.dump(value)
        can = True
    except Exception:
        can = False
    with suppress(Exception):
        if lasts:
            _travelling[value] = can
    return can
