"""What is held in the order of its last use; what is beyond so many bytes goes."""

from __future__ import annotations

from typing import Protocol, TypeVar


class Sized(Protocol):
    """Has a size."""

    @property
    def nbytes(self) -> int:
        """How much it takes, about."""


_K = TypeVar("_K")
_V = TypeVar("_V", bound=Sized)


def let_go(held: dict[_K, _V], most_bytes: int) -> list[_K]:
    """Remove the first until the others have so many bytes at most, but never the last; the keys of those removed.

    >>> held = {"a": memoryview(bytes(40)), "b": memoryview(bytes(40)), "c": memoryview(bytes(40))}
    >>> let_go(held, 100), list(held)
    (['a'], ['b', 'c'])
    """
    gone = []
    total = sum(value.nbytes for value in held.values())
    for key in list(held)[:-1]:
        if total <= most_bytes:
            break
        total -= held.pop(key).nbytes
        gone.append(key)
    return gone
