"""Where items stand: each begins in the same folder, with the same umask, whatever the one before did to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from os import umask
from pathlib import Path
from time import perf_counter

from starburst_common.pickling.within import around

#: What Python tells of that may leave an item elsewhere. To change the folder takes as long as all else about an item.
_MOVES = frozenset({"os.chdir", "os.rename", "os.rmdir", "shutil.rmtree", "shutil.move"})
_SURE_S = 0.05  #: where it does not tell, as of code in C, or another process, items stand there again after so long


class Stand:
    """A slot's place: the caller's folder where this machine has it, else one of its own."""

    def __init__(self, own: Path) -> None:
        self._root = self._own = own
        self._umask = umask(0o077)
        umask(self._umask)
        self._folder, self._files = "", ""
        self._moved, self._until = True, 0.0
        sys.addaudithook(self._hear)

    def move(self, folder: str, files: str, argv: Sequence[str]) -> None:
        """From now on items stand here; with the files in the folder `files`, where this is in one of its own."""
        shared = Path(folder).is_absolute()
        self._files, self._own = files, self._root / (Path(files).name or "empty")
        self._folder = folder if shared else str(self._own / folder)
        around.folder = folder if shared else ""
        sys.argv = list(argv)
        self._moved = True
        self.take()

    def _hear(self, event: str, _: object) -> None:
        if event in _MOVES:
            self._moved = True

    def take(self) -> bool:
        """Go back there, for the next item; False where a moment ago one stood there and nobody has moved since."""
        umask(self._umask)
        if self._moved or perf_counter() > self._until:
            return self._go()
        return False

    def _go(self) -> bool:
        try:
            os.chdir(self._folder)
        except OSError:  # it was not made yet, or is gone
            self._make()
        self._moved, self._until = False, perf_counter() + _SURE_S
        return True

    def _make(self) -> None:
        self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
        for where, _, names in os.walk(self._files) if self._files else ():
            there = self._own / Path(where).relative_to(self._files)
            there.mkdir(mode=0o700, exist_ok=True)
            for name in names:
                with suppress(FileExistsError):
                    os.link(Path(where, name), there / name)
        place = Path(self._folder)
        if place.is_relative_to(self._own):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chdir(place)
        else:
            os.chdir(self._own)
