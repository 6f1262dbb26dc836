"""A class or enum in; what makes it anew in another process, whatever its own code would do there, out."""

from __future__ import annotations

import typing
from collections.abc import Callable
from enum import Enum
from pickle import PicklingError
from types import MemberDescriptorType, resolve_bases
from typing import Any

from starburst_common.pickling.identity import fill_once, made_once, token_of, without

_TypedDictMeta: Any = type(typing.TypedDict("_", {}))  # type: ignore[operator]


def class_by_value(cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, with what it forgets: slots, aliases and attributes of enums, typed dicts."""
    make, arguments, (attributes, slots_state), *_, fill = made
    if issubclass(cls, Enum):
        return _enum_by_value(cls, attributes, fill)
    metaclass, name, bases, given, *_ = arguments
    if type(metaclass.__new__) is type(type.__new__) and metaclass.__new__ is not type.__new__:
        raise PicklingError(
            f"the class {cls.__qualname__}, made in C by {metaclass.__module__}, can only travel with a module of yours"
        )
    own = vars(cls)
    given["__qualname__"] = cls.__qualname__
    if "__slots__" in own:
        slots = [key for key, value in own.items() if _is_slot(value, cls)]
        slots += [key for key in ("__dict__", "__weakref__") if key in own]
        if typing.NamedTuple not in own.get("__orig_bases__", ()):  # which gives its classes their own
            given["__slots__"] = tuple(slots)
        attributes = {key: value for key, value in attributes.items() if not _is_slot(value, cls)}
        if not isinstance(attributes.get("__slots__"), str | tuple | list | dict):
            attributes["__slots__"] = tuple(slots)
    if metaclass is _TypedDictMeta:
        bases = tuple(base for base in own.get("__orig_bases__", ()) if typing.get_origin(base) is typing.Generic)
    parts = token_of(cls), _make_class, (make, (metaclass, name, bases, given, None, None))
    return made_once, parts, (fill, (attributes, slots_state)), None, None, fill_once


def _make_class(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """As its bases and metaclass did what they do at home, with keywords, and it comes as its state."""
    bases = {base for each in resolve_bases(arguments[2]) for base in each.__mro__}
    with without(bases, "__init_subclass__"), without(arguments[0].__mro__, "__prepare__", "__new__", "__init__"):
        return make(*arguments)


def _is_slot(value: Any, cls: type) -> bool:
    return type(value) is MemberDescriptorType and value.__objclass__ is cls


def _enum_by_value(cls: Any, attributes: dict[str, Any], fill: Any) -> tuple[Any, ...]:
    data = cls._member_type_
    members = []
    for name, member in cls.__members__.items():
        raw = data(member) if data in (int, float, complex, str, bytes, tuple, frozenset) else None
        members.append((name, raw, member._value_))
    for name in (*cls.__members__, "_member_map_", "_value2member_map_", "_member_names_", "_member_type_"):
        attributes.pop(name, None)
    told = {name: _told(member) for name, member in cls.__members__.items()}
    arguments = (cls.__name__, cls.__qualname__, cls.__module__, cls.__bases__, type(cls), members)
    return (
        made_once,
        (token_of(cls), _make_enum, arguments),
        (_fill_enum, (fill, attributes, told)),
        None,
        None,
        fill_once,
    )


_MEMBERS = ("_name_", "_value_", "_sort_order_", "__objclass__")


def _told(member: Any) -> dict[str, Any]:
    """The attributes that its class's own code has given a member."""
    state = object.__getstate__(member)
    parts = state if isinstance(state, tuple) else (state,)
    return {key: value for part in parts for key, value in (part or {}).items() if key not in _MEMBERS}


class _Raw:
    """A member to be, for the stand-in of its class's `__new__`."""

    def __init__(self, raw: Any, value: Any) -> None:
        self.raw, self.value = raw, value


def _make_enum(name: str, qualname: str, module: str, bases: tuple[Any, ...], metaclass: Any, members: Any) -> Any:
    """An enum with its members and nothing else; no code of the user's runs to make them."""

    def new(cls: Any, given: Any, *_: Any) -> Any:
        made = given[0] if isinstance(given, tuple) else given
        data = cls._member_type_
        member = data.__new__(cls) if made.raw is None else data.__new__(cls, made.raw)
        member._value_ = made.value
        return member

    body = metaclass.__prepare__(name, bases)
    body["__module__"], body["__qualname__"] = module, qualname
    body["__new__"], body["__init__"] = new, lambda self, *_: None
    for member, raw, value in members:
        body[member] = _Raw(raw, value)
    made = metaclass.__new__(metaclass, name, bases, body)
    type.__delattr__(made, "__init__")
    return made


def _fill_enum(made: Any, state: Any) -> None:
    fill, attributes, told = state
    fill(made, (attributes, {}))
    for name, rest in told.items():
        for key, value in rest.items():
            object.__setattr__(made.__members__[name], key, value)
