"""Lines for people in; the same, broken at blanks where a terminal would break them anywhere, out."""

from __future__ import annotations

import re
from shutil import get_terminal_size
from textwrap import fill
from typing import TextIO

_LEAST = 40  #: columns below which a terminal breaks lines as it likes


def wrapped(text: str, stream: TextIO, *, indent: int | None = None) -> str:
    """As it is shown there; what has no terminal is left in one piece.

    Further lines are indented by so much, or else by as much as the first, and two columns more.
    """
    if not stream.isatty() or (width := get_terminal_size().columns) < _LEAST or len(text) <= width:
        return text
    first = re.match(" *", text)
    assert first is not None  # it fits anything
    after = " " * (len(first[0]) + 2 if indent is None else indent)
    return fill(text, width, subsequent_indent=after, break_long_words=False, break_on_hyphens=False)
