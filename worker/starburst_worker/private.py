"""What a worker keeps to itself: its key, out of the environment that /proc shows; its memory, and what it has open.

A slot is a process of the same user, and /proc shows a user's processes to each other: their memory, their open files,
and the environment that they were started with, whatever they have removed from it since.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DUMPABLE = 4  # <linux/prctl.h>


def keep_private() -> None:
    """From now on /proc shows nothing of this process to others, but to root where it may trace. Linux only.

    Source: man 2const PR_SET_DUMPABLE and man 2 ptrace, "Ptrace access mode checking", read 2026-11-30.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)


def take(name: str) -> str:
    """A variable's text, which is then gone from this process's environment, as it was started with too."""
    text, libc = os.environ[name], ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    if where := libc.getenv(name.encode()):
        ctypes.memset(where, 0, len(os.fsencode(text)))
    del os.environ[name]
    return text


def others_with(name: str) -> Iterator[str]:
    """Processes above this one that were started with a variable of this name, as a shell before it would be."""
    pid = os.getpid()
    with suppress(OSError):
        while pid := int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1]):
            if any(each.startswith(b"%b=" % name.encode()) and each[-1:] != b"=" for each in _environment(pid)):
                yield f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []
