"""What cannot be pickled in; what stands in for it in another process, as a reduction, out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

#: Of a process, and as good when new; each with what makes one.
_NEW: dict[type, Any] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    **{kind: kind for kind in (threading.Condition, threading.Event, threading.local)},
}


class StandIn:
    """In place of what could not be pickled: it prints the same."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def instead_of(value: Any) -> tuple[Any, tuple[Any, ...]]:
    """A new lock, condition or event for one, a copy for a view of a mapping, else what prints the same.

    >>> class View(dict):
    ...     def __reduce_ex__(self, protocol): raise TypeError
    >>> make, arguments = instead_of(View(a=1))
    >>> make(*arguments)
    {'a': 1}
    """
    if type(value) in _NEW:
        return _NEW[type(value)], ()
    try:
        if isinstance(value, Mapping):
            copy = value.copy() if hasattr(value, "copy") else {**value}
            return _itself, (copy if type(copy) is not type(value) else {**value},)
        return StandIn, (repr(value),)
    except Exception:
        return StandIn, (f"<{type(value).__name__}>",)


def _itself(value: Any) -> Any:
    return value
