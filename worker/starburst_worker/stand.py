"""Where items stand: each begins in the same folder, with the same umask, whatever the one before did to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from starburst_common.within import around


class Stand:
    """A slot's place: the caller's folder where this machine has it, else one of its own."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._folder = ""

    def move(self, folder: str, argv: Sequence[str]) -> None:
        """From now on items stand here."""
        self._folder = around.folder = folder
        sys.argv = list(argv)
        self.take()

    def take(self) -> None:
        """Go back there, for the next item."""
        os.umask(self._umask)
        try:
            os.chdir(self._folder)
        except OSError:  # it has none, or it is gone
            self._own.mkdir(mode=0o700, exist_ok=True)
            os.chdir(self._own)
