"""Buffers that are one body together in; files that read it, unjoined, out."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from starburst_common.model import Buffer

_READ_BYTES = 256 << 10


class Parts:
    """Buffers that are one body together, read without joining them."""

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self.views = [memoryview(part).cast("B") for part in parts]
        self._ends = [*accumulate(len(view) for view in self.views)]
        self.nbytes = self._ends[-1] if self._ends else 0

    def window(self, lo: int, hi: int) -> io.BufferedReader:
        """The bytes from `lo` to `hi`, as a file that can be read again, as a retry needs.

        >>> Parts([b"abc", b"", b"defg"]).window(2, 6).read()
        b'cdef'
        """
        return io.BufferedReader(_Window(self, lo, hi), _READ_BYTES)

    def copy(self, at: int, to: memoryview) -> int:
        """Fill a buffer from the byte `at` on, or up to the end of the part that it lies in; how many bytes."""
        number = bisect_right(self._ends, at)
        view = self.views[number]
        start = at - (self._ends[number] - len(view))
        size = min(len(to), len(view) - start)
        to[:size] = view[start : start + size]
        return size


class _Window(io.RawIOBase):
    def __init__(self, parts: Parts, lo: int, hi: int) -> None:
        self._parts, self._lo, self._hi, self._at = parts, lo, hi, lo

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: self._lo, io.SEEK_CUR: self._at, io.SEEK_END: self._hi}[whence]
        self._at = start + offset
        return self._at - self._lo

    def readinto(self, to: Any) -> int:
        left = max(self._hi - self._at, 0)
        if not left or not len(to):
            return 0
        size = self._parts.copy(self._at, memoryview(to).cast("B")[:left])
        self._at += size
        return size
