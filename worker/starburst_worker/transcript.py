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


class Transcript:
    """Stands where stdout, stderr and the root log handler were. `dirty` is True when there is something to take."""

    def __init__(self) -> None:
        self.dirty = False
        self._kept: tuple[int, list[str]] = (0, [])  # replaced together: characters that are gone, and those after them
        self._size = 0
        self._seen = 0
        self.nbytes = 0  #: that were passed on since somebody last took this number

    def install(self) -> None:
        """Take over stdout, stderr and, at INFO, the root logger."""
        sys.stdout = _stand_in(self._written, sys.stdout)
        sys.stderr = _stand_in(self._written, sys.stderr)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])

    def write(self, text: str) -> None:
        """Keep some text."""
        self.dirty = True
        gone, parts = self._kept
        parts.append(text)
        self._size += len(text)
        if self._size > 2 * _KEPT:
            whole = "".join(parts)
            self._kept = gone + len(whole) - _KEPT, [whole[-_KEPT:]]
            self._size = _KEPT

    def _written(self, text: str, nbytes: int) -> None:
        self.nbytes += nbytes
        self.write(text)

    def fresh(self) -> tuple[int, str]:
        """What was written since this was last asked, as far as it is kept; first, how much came before it."""
        at, text = self._last()
        new = text[max(self._seen - at, 0) :]
        self._seen = at + len(text)
        return self._seen - len(new), new

    def follow(self) -> None:
        """Somebody new asks what is fresh: all that is kept is."""
        self._seen = 0

    def take(self) -> tuple[int, str]:
        """What was written since the last take, as far as it is kept; first, how much that was."""
        at, text = self._last()
        self.dirty, self._kept, self._size, self._seen = False, (0, []), 0, 0
        return at + len(text), f"… {at} characters left out …\n{text}" if at else text

    def _last(self) -> tuple[int, str]:
        """How many characters are left out, and those after them."""
        gone, parts = self._kept
        text = "".join(parts)
        cut = max(len(text) - _KEPT, 0)
        return gone + cut, text[cut:]


def _stand_in(keep: Callable[[str, int], None], stream: TextIO) -> io.TextIOWrapper:
    """A text stream as it was, but what goes through it is kept too; nothing that is printed fails to be."""
    over = io.TextIOWrapper(
        cast("BinaryIO", _Tee(keep, stream.buffer)), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    over.mode = "w"  # type: ignore[misc]  # as the interpreter says of its own
    return over


class _Tee(io.BufferedIOBase):
    """The bytes below a text stream: on their way, and kept as text."""

    mode = "wb"

    def __init__(self, keep: Callable[[str, int], None], onward: BinaryIO) -> None:
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
        self._keep(self._text.decode(taken), len(taken))
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
