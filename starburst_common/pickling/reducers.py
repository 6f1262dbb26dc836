"""Kinds of objects that cloudpickle has no answer to, or another: what makes each anew, by kind."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, Token
from functools import cached_property, lru_cache, update_wrapper
from types import FunctionType
from typing import Any, NewType, ParamSpec, Protocol, TypeVarTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from starburst_common.pickling.identity import fill_once, made_once, token_of
from starburst_common.pickling.places import (
    MAINS,
    by_reference,
    fetched,
    installed,
    place_of,
    sent_by_value,
)
from starburst_common.pickling.setup import in_module


class FunctionPickler(Protocol):
    """Who pickles, as far as functions are concerned."""

    def function_parts(self, function: FunctionType) -> Any:
        """How a function is made empty, and then filled; None if it goes by reference."""


Reducer = Callable[[FunctionPickler, Any], Any]


def _reduce_cached(pickler: FunctionPickler, cached: Any) -> Any:
    """A function with a cache: by value without what is in the cache, of which each process has its own."""
    name = getattr(cached, "__qualname__", None)
    if name and by_reference(cached):
        return name
    module = getattr(cached, "__module__", None)
    ours = module in MAINS or sent_by_value(module or "")
    if name and module and not ours and getattr(in_module(module, name), "__func__", None) is cached:  # of a method
        return fetched, (module, f"{name}.__func__")
    function, parameters = cached.__wrapped__, cached.cache_parameters()
    own = {key: value for key, value in vars(cached).items() if key != "__wrapped__"}
    if type(function) is FunctionType and (parts := pickler.function_parts(function)) is not None:
        make, arguments, state, *_, fill = parts
        parts = token_of(cached), _make_cached, (parameters, make, arguments)
        return made_once, parts, (_fill_cached, (fill, state, own)), None, None, fill_once
    parts = token_of(cached), _cached, (parameters, function)
    return made_once, parts, (_fill_cached, (None, None, own)), None, None, fill_once


def _make_cached(parameters: dict[str, Any], make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return _cached(parameters, make(*arguments))


def _cached(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    return lru_cache(**parameters)(function)


def _fill_cached(cached: Any, state: Any) -> None:
    fill, rest, own = state
    if fill is not None:
        fill(cached.__wrapped__, rest)
        update_wrapper(cached, cached.__wrapped__)
    vars(cached).update(own)


def _reduce_named(make: Callable[..., Any], *attributes: str) -> Reducer:
    """Of what is made of a few of its attributes, and is otherwise found by its name."""

    def reduce(_: FunctionPickler, obj: Any) -> Any:
        if by_reference(obj, obj.__name__):
            return obj.__name__
        return made_once, (token_of(obj), make, (obj.__module__, *(getattr(obj, each) for each in attributes)))

    return reduce


def _new_type(module: str, qualname: str, supertype: Any) -> Any:
    made = NewType(qualname, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def _param_spec(module: str, name: str, bound: Any, covariant: bool, contravariant: bool) -> Any:
    made = ParamSpec(name, bound=bound, covariant=covariant, contravariant=contravariant)  # type: ignore[misc]
    with suppress(AttributeError):
        made.__module__ = module
    return made


def _type_var_tuple(module: str, name: str) -> Any:
    made = TypeVarTuple(name)  # type: ignore[misc]
    with suppress(AttributeError):
        made.__module__ = module
    return made


def _type_alias(_: str, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    return typing.TypeAliasType(name, value, type_params=parameters)  # type: ignore[attr-defined]


def _reduce_context_variable(_: FunctionPickler, variable: ContextVar[Any]) -> Any:
    if (place := place_of(variable)) is not None and place[0] not in MAINS:
        return fetched, place
    default: list[Any] = []
    with suppress(LookupError):  # it has none
        default.append(Context().run(variable.get))
    return made_once, (token_of(variable), _context_variable, (variable.name, *default))


def _context_variable(name: str, *default: Any) -> ContextVar[Any]:
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def _reduce_cached_property(_: FunctionPickler, prop: cached_property[Any]) -> Any:
    return _cached_property, (prop.func, prop.attrname)


def _cached_property(function: Callable[[Any], Any], name: str | None) -> cached_property[Any]:
    made = cached_property(function)
    made.attrname = name
    return made


def _reduce_missing_token(_: FunctionPickler, __: Any) -> Any:
    return fetched, ("contextvars", "Token.MISSING")


def _reduce_weak(_: FunctionPickler, weak: Any) -> Any:
    return type(weak), (dict(weak),)


REDUCERS: dict[type, Reducer] = {
    type(installed): _reduce_cached,
    NewType: _reduce_named(_new_type, "__qualname__", "__supertype__"),
    ParamSpec: _reduce_named(_param_spec, "__name__", "__bound__", "__covariant__", "__contravariant__"),
    TypeVarTuple: _reduce_named(_type_var_tuple, "__name__"),
    ContextVar: _reduce_context_variable,
    type(Token.MISSING): _reduce_missing_token,
    cached_property: _reduce_cached_property,
    WeakKeyDictionary: _reduce_weak,
    WeakValueDictionary: _reduce_weak,
}
if sys.version_info >= (3, 12):
    REDUCERS[typing.TypeAliasType] = _reduce_named(_type_alias, "__name__", "__value__", "__type_params__")
