"""What an item prints or logs, kept for that item (bounded) and passed on to the worker's own output."""

from __future__ import annotations

import codecs
import io
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_KEPT = 64 << 10  #: characters kept of one item: the last ones


class Capture:
    """Stands where stdout, stderr and the root log handler were. `dirty` is True when there is something to take."""

    def __init__(self) -> None:
        self.dirty = False
        self._parts: list[str] = []
        self._size = 0

    def install(self) -> None:
        """Take over stdout, stderr and, at INFO, the root logger."""
        sys.stdout = _stand_in(self.write, sys.stdout)
        sys.stderr = _stand_in(self.write, sys.stderr)
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


def _stand_in(keep: Callable[[str], None], stream: TextIO) -> io.TextIOWrapper:
    """A text stream as it was, but what goes through it is kept too; nothing that is printed fails to be."""
    over = io.TextIOWrapper(
        cast("BinaryIO", _Tee(keep, stream.buffer)), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    over.mode = "w"  # type: ignore[misc]  # as the interpreter says of its own
    return over


class _Tee(io.BufferedIOBase):
    """The bytes below a text stream: on their way, and kept as text."""

    mode = "wb"

    def __init__(self, keep: Callable[[str], None], onward: BinaryIO) -> None:
        self._keep, self._onward = keep, onward
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def name(self) -> str:
        return str(self._onward.name)

    @property
    def raw(self) -> io.RawIOBase:
        return getattr(self._onward, "raw", cast("io.RawIOBase", self._onward))  # PYTHONUNBUFFERED: it is that itself

    def write(self, data: ReadableBuffer) -> int:
        taken = bytes(data)
        self._keep(self._text.decode(taken))
        self._onward.write(taken)
        if b"\n" in taken:
            self._onward.flush()  # or a slot that is killed takes its last lines with it
        return len(taken)

    def flush(self) -> None:
        self._onward.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._onward.fileno()

    def isatty(self) -> bool:
        return self._onward.isatty()
