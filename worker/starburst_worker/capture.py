"""What an item prints or logs, kept for that item (bounded) and passed on to the worker's own output."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

_KEPT = 64 << 10  #: characters kept of one item: the last ones


class Capture:
    """Stands where stdout, stderr and the root log handler were. `dirty` is True when there is something to take."""

    def __init__(self) -> None:
        self.dirty = False
        self._parts: list[str] = []
        self._size = 0

    def install(self) -> None:
        """Take over stdout, stderr and, at INFO, the root logger."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # or a slot that is killed takes its last lines with it
        sys.stdout = _Tee(self, sys.stdout)
        sys.stderr = _Tee(self, sys.stderr)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])

    def write(self, text: str) -> None:
        """Keep some text."""
        self.dirty = True
        self._parts.append(text)
        self._size += len(text)
        if self._size > 2 * _KEPT:
            self._parts = ["".join(self._parts)[-_KEPT:]]
            self._size = _KEPT

    def take(self) -> str:
        """What was written since the last take."""
        text = "".join(self._parts)
        self.dirty, self._parts, self._size = False, [], 0
        return text if len(text) <= _KEPT else f"… {len(text) - _KEPT} characters left out …\n{text[-_KEPT:]}"


class _Tee(io.TextIOBase):
    def __init__(self, capture: Capture, onward: TextIO | None) -> None:
        self._capture, self._onward = capture, onward

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def write(self, text: str) -> int:
        self._capture.write(text)
        if self._onward is not None:
            self._onward.write(text)
        return len(text)

    def flush(self) -> None:
        if self._onward is not None:
            self._onward.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._onward is None:
            raise OSError("no file behind it")
        return self._onward.fileno()
