"""A function in; what of it may change out, to be compared: far cheaper than to pickle it again for each call."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from enum import Enum
from functools import cached_property, partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NewType, ParamSpec, TypeVar, TypeVarTuple

import cloudpickle

from starburst_common.pickling.byvalue import named_by
from starburst_common.pickling.places import MAINS, by_reference
from starburst_common.pickling.setup import names_of

#: Of no other state than their identity.
_CONSTANT = frozenset(
    {int, float, complex, str, bytes, bool, type(None), type(...), range, CodeType, ModuleType, BuiltinFunctionType}
    | {MemberDescriptorType, GetSetDescriptorType, NewType, TypeVar, ParamSpec, TypeVarTuple, ContextVar}
)
_REDUCES: tuple[Any, Any] = (object.__reduce_ex__, object.__reduce__)
_FEW = 100  #: elements, up to which a container is walked
#: Of objects that are no more than a few others.
_PARTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    tuple: iter,
    MethodType: lambda method: (method.__func__, method.__self__),
    partial: lambda call: (call.func, *call.args, *call.keywords, *call.keywords.values(), vars(call)),
    classmethod: lambda method: (method.__func__,),
    staticmethod: lambda method: (method.__func__,),
    property: lambda prop: (prop.fget, prop.fset, prop.fdel),
    cached_property: lambda prop: (prop.func,),
}
_PARTS_OF_CLASSES = (FunctionType, classmethod, staticmethod, property)


class State:
    """What a function was when this was made: equal states are sent as the same bytes.

    >>> scale = [2]
    >>> double = lambda x: scale[0] * x
    >>> before = State.of(double)
    >>> before == State.of(double)
    True
    >>> scale[0] = 3
    >>> before == State.of(double)
    False
    """

    __slots__ = ("_digest", "_held")

    def __init__(self, held: list[Any], digest: bytes) -> None:
        self._held, self._digest = held, digest

    @classmethod
    def of(cls, function: Callable[..., Any]) -> State | None:
        """Its state now; None where only pickling it can tell."""
        walk = _Walk()
        try:
            walk.see(function)
            return cls(walk.held, walk.digest())
        except Exception:  # whatever the user's own code does when it is looked at: pickling will say so
            return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State) or self._digest != other._digest or len(self._held) != len(other._held):
            return False
        return all(map(_is, self._held, other._held))

    __hash__ = None  # type: ignore[assignment]


def _is(one: Any, other: Any) -> bool:
    return one is other


class _Walk:
    """Through what goes by value: each object by identity, and what only its pickle tells, by that."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self._seen: set[int] = set()
        self._pickled: list[Any] = []

    def see(self, obj: Any) -> None:
        self.held.append(obj)
        kind = type(obj)
        if kind in _CONSTANT and not (kind is BuiltinFunctionType and type(obj.__self__) is not ModuleType):
            return
        if id(obj) in self._seen:
            return
        self._seen.add(id(obj))
        if kind in _PARTS:
            self._all(_PARTS[kind](obj))
        elif kind is FunctionType or kind is _CACHED or isinstance(obj, type):
            if not by_reference(obj):
                self._see_code(obj)
        elif kind in (list, dict) and len(obj) <= _FEW:
            self._all([*obj, *obj.values()] if kind is dict else obj)
        elif isinstance(obj, Enum):
            self.see(kind)
        elif (kind.__reduce_ex__, kind.__reduce__) == _REDUCES:
            self._see_instance(obj)
        else:
            self._pickled.append(obj)

    def _see_code(self, obj: Any) -> None:
        if type(obj) is FunctionType:
            self._see_function(obj)
        elif type(obj) is _CACHED:
            self._all((obj.__wrapped__, vars(obj)))
        else:
            self._see_class(obj)

    def _all(self, objects: Any) -> None:
        for obj in objects:
            self.see(obj)

    def _see_function(self, function: FunctionType) -> None:
        self.held.append(function.__code__)
        self._all((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            self._see_cell(cell)
        space = function.__globals__
        for name in names_of(function.__code__):
            if name in space:
                self.see(space[name])
        self._all(named_by(function).values())
        if function.__dict__:
            self.see(function.__dict__)

    def _see_instance(self, obj: Any) -> None:
        _, (kind, *arguments), state, *elements = obj.__reduce_ex__(2)
        if any(each is not None for each in elements):
            self._pickled.append(obj)
            return
        self.see(kind)
        self._all(arguments)
        for part in state if type(state) is tuple else (state,):
            if type(part) is dict:
                self._all((*part, *part.values()))
            else:
                self.see(part)

    def _see_cell(self, cell: CellType) -> None:
        try:
            self.see(cell.cell_contents)
        except ValueError:  # it is empty
            self.held.append(cell)

    def _see_class(self, cls: type) -> None:
        for base in cls.__mro__[1:]:
            self.see(base)
        self._all(named_by(cls).values())
        for name, value in list(vars(cls).items()):
            if type(value) in _PARTS_OF_CLASSES or not name.startswith(("__", "_abc_")):
                self.see(value)
            else:  # what Python, dataclasses and the like have written there
                self.held.append(value)

    def digest(self) -> bytes:
        """Of what only its pickle tells. Raises what that raises, or `TypeError` if it names what goes by value."""
        if not self._pickled:
            return b""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(self._pickled, 5, buffer_callback=buffers.append)
        by_value = (*MAINS, *cloudpickle.list_registry_pickle_by_value())
        if any(name.encode() in pickled for name in by_value):
            raise TypeError("a name in it stands for what goes by value")
        digest = hashlib.sha256(pickled)
        for buffer in buffers:
            digest.update(buffer.raw())
        return digest.digest()


_CACHED = type(names_of)
