"""A file's state in; what changes when it does, out."""

from __future__ import annotations

import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """What changes when a file does."""

    changed_ns: int
    touched_ns: int  #: unlike the time of change, nobody can set it
    size: int
    mode: int  #: whether its owner may read, write and execute it


def stamp_of(found: os.stat_result) -> Stamp:
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode & 0o700)
