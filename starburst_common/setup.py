"""What a slot calls before the first item of a function: `initializer(*initargs)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Setup(NamedTuple):
    """An initializer with its arguments; it travels in one pickle with the function, whose globals it may set."""

    initializer: Callable[..., Any]
    initargs: tuple[Any, ...]
    digest: str  #: names what was pickled of both

    @property
    def name(self) -> str:
        """For people."""
        return str(getattr(self.initializer, "__qualname__", self.initializer))

    def __call__(self) -> Any:
        """Do it."""
        return self.initializer(*self.initargs)
