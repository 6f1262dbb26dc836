"""What slots take of a worker's memory, as the kernel tells it; which of them takes too much."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_MEMORY = re.compile(rb"^(VmHWM|Rss\w+):\s*(\d+)", re.MULTILINE)
_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)


def resident_mib(pid: int) -> float:
    """A process's memory now, but for mapped files, which slots have in common; 0 where /proc does not tell."""
    told = _status(pid)
    return sum(map(int, (told.get(b"RssAnon", 0), told.get(b"RssShmem", 0)))) / 1024


def peak_mib(pid: int) -> float:
    """The most that a process ever had, but for the files that it maps now; 0 where /proc does not tell."""
    told = _status(pid)
    return max(int(told.get(b"VmHWM", 0)) - int(told.get(b"RssFile", 0)), 0) / 1024


def _status(pid: int) -> dict[bytes, bytes]:
    """What /proc tells of a process's memory, in KiB."""
    return dict(_MEMORY.findall(_read(f"/proc/{pid}/status")))


def too_big(mine_mib: float, slots_mib: Sequence[float], limit_mib: int) -> str:
    """Why a slot must be killed for memory, if so: all slots together exceed the limit, and it is the largest.

    >>> too_big(300, [300, 100], 512), too_big(300, [300, 400], 512)
    ('', '')
    >>> too_big(400, [300, 400], 512)
    'the worker used 700 MiB of its 512 MiB: give more memory, or fewer slots'
    """
    used = sum(slots_mib)
    if used <= limit_mib or mine_mib < max(slots_mib):
        return ""
    return f"the worker used {used:.0f} MiB of its {limit_mib} MiB: give more memory, or fewer slots"


def oom_kills() -> int:
    """How often the kernel has killed for memory in this control group; 0 where it does not tell."""
    for file in _EVENTS:
        if (found := _OOM_KILLS.search(_read(file))) is not None:
            return int(found[1])
    return 0


def _read(file: str) -> bytes:
    """A file of the kernel's, or nothing."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # the process is gone
        return b""
    finally:
        os.close(handle)
