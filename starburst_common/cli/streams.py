"""The three streams that a command expects, of which a service or `>&-` may have closed some, in; all of them out."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def open_closed() -> None:
    """Have those that were closed be as /dev/null: else what is opened next takes the place, and what is printed."""
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
