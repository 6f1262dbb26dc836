"""A file in; its bytes, read where they are looked at, out: without a descriptor, of which a process has few."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from weakref import finalize

from starburst_common.errors import NotFound, Refused

_READ, _WRITE, _PRIVATE = 1, 2, 2  # <sys/mman.h>
_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def mapped(place: Path, *, ours: bool = False) -> memoryview:
    """A file's bytes; with `ours` they may be written to, which nobody else sees.

    Raises `NotFound`, and `Refused` for an empty one.
    """
    try:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{place} is gone") from None
    try:
        return mapped_from(handle, ours=ours, name=str(place))
    finally:
        os.close(handle)


def mapped_from(handle: int, *, ours: bool, name: str) -> memoryview:
    """The same of a file that is open, and may be closed then."""
    if not (nbytes := os.fstat(handle).st_size):
        raise Refused(f"{name} is empty; refused")
    address = _libc.mmap(None, nbytes, _READ | (_WRITE if ours else 0), _PRIVATE, handle, 0)
    if address == _FAILED:
        raise OSError(number := ctypes.get_errno(), os.strerror(number), name)
    there = (ctypes.c_char * nbytes).from_address(address)
    finalize(there, _libc.munmap, address, nbytes).atexit = False  # whoever looks at it holds it
    view = memoryview(there).cast("B")
    return view if ours else view.toreadonly()
