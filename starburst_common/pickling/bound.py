"""An object in; if only this process and its own children can use it, what is said of it out."""

from __future__ import annotations

from pickle import PicklingError
from typing import Any

_NEWS = "return what is to be known here (`iter_completed` gives it as it comes), or print it (`run.logs(follow=True)`)"
_LOCK = "lock in what items have in common, a file or a database, or have one item do what must not be done at once"
_MEMORY = "give the array itself, or `share(array)`, which workers map as one"
_START = "make it in the function"
_OWN = "make it in the function, or in a module of yours, of which each worker has its own"
#: By the module that its class is from, what to do.
_INSTEAD = {
    **dict.fromkeys(("multiprocessing.managers", "multiprocessing.queues", "multiprocessing.connection"), _NEWS),
    **dict.fromkeys(("multiprocessing.shared_memory", "multiprocessing.sharedctypes"), _MEMORY),
    **dict.fromkeys(("multiprocessing.pool", "multiprocessing.process"), _START),
    **dict.fromkeys(("concurrent.futures.process", "concurrent.futures.thread"), _START),
    "multiprocessing.synchronize": _LOCK,
    **dict.fromkeys(("queue", "threading"), _OWN),
}
_WORDS = ("__reduce__", "__reduce_ex__", "__getstate__")
#: In pickles of what pickles, and then reaches nothing, or what is another's, in a process that was started otherwise.
SIGN = b"multiprocessing."


class Stays(PicklingError):
    """Something cannot leave this process; the text says which, and what to do."""


def told_bound(obj: Any) -> str:
    """What to say of an object of such a kind, where its class has no word of its own on how it travels; or nothing.

    >>> import queue, threading
    >>> told_bound(threading.Event())[:72], told_bound(threading.ThreadError()), told_bound({})
    ('only this process and its own children can use a threading.Event: make i', '', '')
    """
    kind = type(obj)
    for base in kind.__mro__:
        if (instead := _INSTEAD.get(base.__module__)) is not None and not isinstance(obj, BaseException):
            which = f"{base.__module__}.{kind.__qualname__}"
            return f"only this process and its own children can use a {which}: {instead}"
        if any(word in vars(base) for word in _WORDS):
            return ""
    return ""
