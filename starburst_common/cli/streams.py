"""The three streams that a command expects, of which a service or `>&-` may have closed some, in; all of them out."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def write_whole() -> None:
    """Have all be written that is printed, also where Python is told not to buffer, as in many containers.

    Unbuffered, it drops the rest of a long line where a slow reader kept it as the command was stopped and went on.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = open(  # noqa: SIM115
            sys.stdout.fileno(), "w", buffering=1, encoding=encoding, errors=errors, closefd=False
        )


def leave() -> None:
    """What could not be printed has been told of: the interpreter, as it ends, does not fail of it again."""
    try:
        sys.stdout.flush()
    except OSError:
        to_nowhere(sys.stdout.fileno())


def open_closed() -> None:
    """Have those that were closed be as /dev/null: else what is opened next takes the place, and what is printed."""
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                to_nowhere(number)
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115


def to_nowhere(number: int) -> None:
    """Have what is read and written by that number be as of /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
