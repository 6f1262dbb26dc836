"""A function and further arguments in; what workers call with one item out. Imported on workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class ItemCall:
    """Calls `fn(item, *args, **kwargs)`, and is called as the function is.

    >>> ItemCall(pow, (2,), {})(3)
    9
    """

    def __init__(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._fn, self._args, self._kwargs = fn, tuple(args), dict(kwargs)
        self.__qualname__ = str(getattr(fn, "__qualname__", fn))

    def __call__(self, item: Any) -> Any:
        return self._fn(item, *self._args, **self._kwargs)
