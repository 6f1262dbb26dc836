"""Calls made side by side; one after another where the interpreter is about to end and starts no more threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def abreast(call: Callable[[A], T], arguments: Iterable[A], *, at_once: int) -> list[T]:
    """What each call gives, in the order of the arguments. Raises what the first of them raised.

    >>> abreast(abs, [-1, 2, -3], at_once=2)
    [1, 2, 3]
    """
    with ThreadPoolExecutor(at_once) as pool:
        made = [_submitted(pool, call, argument) for argument in arguments]
        return [future.result() for future in made]


def _submitted(pool: ThreadPoolExecutor, call: Callable[[A], T], argument: A) -> Future[T]:
    try:
        return pool.submit(call, argument)
    except RuntimeError:  # how both a pool and a thread say that the interpreter ends
        done: Future[T] = Future()
        done.set_result(call(argument))
        return done
