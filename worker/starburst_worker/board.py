"""A few numbers that slot and supervisor both see, in a file: no message, no waiting.

The slot runs what anybody wrote, which may cut the file, or write into it: to touch a mapping of what is not there any
more ends a process. So only the slot, which writes at each item, maps it; the supervisor reads it as a file.
"""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path
from struct import Struct
from threading import Lock

from starburst_common.trust import owner_only

SETTING_UP = -2  #: in place of the current item: the initializer runs
GO, NO_NEW, DRAIN = 0, 1, 2  #: what the supervisor asks of a slot: start items, start no new one, give up waiting too
CURRENT, REACHED, ASK, STEPS = range(4)  #: the first of the cells
_CELLS = Struct("=qqqqqq")  # the names that `SlotBoard` has, in this order
_BEGIN, _ASK = Struct("=qqq"), Struct("=q")
_ASK_AT, _FOLLOWED_AT, _LAST_AT = 16, 32, 40


class SlotBoard:
    """The slot's side.

    `current` is the item being run (-1: none, `SETTING_UP`: the initializer), or the first of a batch, whose last one
    is `last`; `reached` the last one started, `ask` what the supervisor wants, `steps` counts: odd while an item is
    unpickled, then even. `followed`: somebody wants to see prints at once.
    """

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as handle:
            self._map = mmap(handle.fileno(), _CELLS.size)
        #: what the properties are, for who reads and writes them with each item
        self.cells = self._cells = memoryview(self._map).cast("q")

    @property
    def current(self) -> int:
        return self._cells[0]

    @current.setter
    def current(self, index: int) -> None:
        self._cells[0] = index

    @property
    def reached(self) -> int:
        return self._cells[1]

    @reached.setter
    def reached(self, index: int) -> None:
        self._cells[1] = index

    @property
    def ask(self) -> int:
        return self._cells[2]

    @property
    def steps(self) -> int:
        return self._cells[3]

    @steps.setter
    def steps(self, count: int) -> None:
        self._cells[3] = count

    @property
    def followed(self) -> bool:
        return bool(self._cells[4])

    @property
    def last(self) -> int:
        return self._cells[5]

    @last.setter
    def last(self, index: int) -> None:
        self._cells[5] = index


class Board:
    """The supervisor's side, which makes the file."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, Lock()
        self._handle = owner_only(str(file), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._seen = (-1, -1, GO, 0, 0, -1)
        self._followed = False
        self.cut = False  #: the file is not whole any more, and tells nothing
        self._write(_CELLS.pack(*self._seen), 0)

    def begin(self) -> None:
        """Items are to be started; none has been."""
        self._write(_BEGIN.pack(-1, -1, GO), 0)
        self._write(_ASK.pack(-1), _LAST_AT)

    def ask(self, what: int) -> None:
        """Tell the slot what is wanted."""
        self._write(_ASK.pack(what), _ASK_AT)

    def follow(self, followed: bool) -> None:
        """Tell the slot whether somebody wants to see prints at once."""
        if followed is not self._followed:
            self._followed = followed
            self._write(_ASK.pack(followed), _FOLLOWED_AT)

    def look(self) -> tuple[int, int, int, int, int, int]:
        """The numbers now; the last ones that were seen, once it is closed or cut."""
        with self._lock:
            if self._handle >= 0:
                found = os.pread(self._handle, _CELLS.size, 0)
                self.cut |= len(found) < _CELLS.size
                if not self.cut:
                    self._seen = _CELLS.unpack(found)
            return self._seen

    @property
    def current(self) -> int:
        return self.look()[0]

    @property
    def reached(self) -> int:
        return self.look()[1]

    @property
    def steps(self) -> int:
        return self.look()[3]

    @property
    def last(self) -> int:
        return self.look()[5]

    @property
    def tries(self) -> int:
        """Another number for each try at an item."""
        return (self.steps - 1) // 2

    def close(self) -> None:
        """Remove the file; what it said last is known still."""
        self.look()
        self.leave()
        self._file.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def _write(self, what: bytes, at: int) -> None:
        with self._lock:
            if self._handle >= 0:
                os.pwrite(self._handle, what, at)
