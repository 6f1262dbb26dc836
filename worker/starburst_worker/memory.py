"""What slots take of a worker's memory, as the kernel tells it; which of them takes too much."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def resident_mib(pid: int) -> float:
    """A process's memory now, but for mapped files, which slots have in common; 0 where /proc does not tell."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) / 1024
    return 0.0


def peak_mib(pid: int) -> float:
    """The most that a process ever had, but for the files that it maps now; 0 where /proc does not tell."""
    with suppress(OSError):
        lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        told = {line[0]: int(line[1]) for line in lines if line[0] in ("VmHWM:", "RssFile:")}
        return max(told.get("VmHWM:", 0) - told.get("RssFile:", 0), 0) / 1024
    return 0.0


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
    for file in (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control")):
        try:
            fields = dict(line.split() for line in file.read_text().splitlines())
        except (OSError, ValueError):
            continue
        return int(fields.get("oom_kill", 0))
    return 0
