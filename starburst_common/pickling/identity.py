"""What is one of its kind: named here, and by that name one there too, however often it comes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

_lock = threading.Lock()
_by_token: WeakValueDictionary[str, Any] = WeakValueDictionary()
_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_copies: WeakSet[Any] = WeakSet()
_empty: WeakSet[Any] = WeakSet()  # copies that have not got their state yet
_renewing = False
_kept: dict[str, Any] = {}  # what no weak reference can be to: such as context variables, which live as long as we do
_kept_tokens: dict[int, str] = {}


def known(obj: Any) -> str | None:
    """The name that this object has, if it has one."""
    with suppress(TypeError):  # no weak reference can be to it, or it has no hash
        if (token := _tokens.get(obj)) is not None and _by_token.get(token) is obj:
            return token
    return _kept_tokens.get(id(obj))


def token_of(obj: Any) -> str:
    """Names this object in whatever process, from the one on which it was first sent."""
    with _lock:
        if (token := known(obj)) is None:
            token = uuid.uuid4().hex
            _name(obj, token)
        return token


def _name(obj: Any, token: str) -> None:
    try:
        _by_token[token] = obj
        _tokens[obj] = token
    except TypeError:
        _by_token.pop(token, None)
        _kept[token], _kept_tokens[id(obj)] = obj, token


def made_once(token: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The object of that name, or a copy of it."""
    with _lock:
        if (known := _by_token.get(token, _kept.get(token))) is not None:
            return known
    made = make(*arguments)
    with _lock:
        if (known := _by_token.get(token, _kept.get(token))) is not None:
            return known
        _name(made, token)
        with suppress(TypeError):
            _copies.add(made)
            _empty.add(made)
    return made


def fill_once(made: Any, state: tuple[Callable[[Any, Any], Any], Any]) -> None:
    """Give a new copy what its original has. An old one keeps what it has got since, but where a function is loaded.

    The original, come home, stays as it is.
    """
    if made in _empty or (_renewing and made in _copies):
        _empty.discard(made)
        fill, rest = state
        with without(type(made).__mro__, "__setattr__", "__delattr__"):  # of a metaclass
            fill(made, rest)


@contextmanager
def renewing() -> Iterator[None]:
    """What is loaded meanwhile brings the state of its original along: a function does, items and answers do not."""
    global _renewing
    _renewing = True
    try:
        yield
    finally:
        _renewing = False


@contextmanager
def without(classes: Iterable[type], *names: str) -> Iterator[None]:
    """Copies among these classes do not do this meanwhile."""
    hooks = [
        (each, name, vars(each)[name]) for each in classes if each in _copies for name in names if name in vars(each)
    ]
    for each, name, _ in hooks:
        type.__delattr__(each, name)
    try:
        yield
    finally:
        for each, name, hook in hooks:
            type.__setattr__(each, name, hook)
