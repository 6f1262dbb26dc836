"""What a function sees of the processes above it by what /proc shows: its slot's guard, and their worker."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """Of one process."""

    command: bytes
    environment: bytes  #: as it was started with; empty where that is not shown
    memory: bool  #: it can be read
    files: list[str]  #: of those that it has open, what could be opened again


def pry(_: int = 0) -> list[Seen]:
    """Itself and all above it, up to its worker; nothing is read of whoever started that."""
    pid, seen = os.getpid(), []
    while pid:
        place = Path(f"/proc/{pid}")
        command = (place / "cmdline").read_bytes()
        if b"starburst_worker" not in command and b"/opt/starburst/supervisor" not in command:
            break
        seen.append(Seen(command, _environment(place), _memory(place), sorted(_files(place))))
        pid = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    return seen


def _environment(place: Path) -> bytes:
    with suppress(OSError):
        return (place / "environ").read_bytes()
    return b""


def _memory(place: Path) -> bool:
    with suppress(OSError), (place / "mem").open("rb", buffering=0) as memory:
        lines = (line.split() for line in (place / "maps").read_text().splitlines())
        heap = next(line[0] for line in lines if line[-1] == "[heap]")
        memory.seek(int(heap.partition("-")[0], 16))
        return bool(memory.read(16))
    return False


def _files(place: Path) -> list[str]:
    found = []
    with suppress(OSError):
        for each in (place / "fd").iterdir():
            with suppress(OSError):
                os.close(os.open(each, os.O_RDONLY | os.O_NONBLOCK))
                found.append(str(each.readlink()))
    return found
