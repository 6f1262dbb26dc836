"""A folder in, a clock out that no jump of this machine's clock moves: what passes on it has really passed."""

from __future__ import annotations

import ctypes
import os
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path

from starburst_common.trust import owner_only
from starburst_common.wire.fields import LAST_MOMENT

#: Seconds since the machine was started, sleep included; on macOS the monotonic clock is that.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class FolderClock:
    """The time for all processes that share a folder.

    It is the wall clock's when it is first asked for after a boot, and from then on goes by what really passed. After
    a boot it never shows less than it showed before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offset: float | None = None  # what to add to the seconds since the boot

    def now(self) -> float:
        """Seconds, as on a wall clock."""
        if self._offset is None:
            self._offset = self._agreed()
        return self._offset + since_boot()

    def _agreed(self) -> float:
        """The offset of this boot, as its first asker decided it. Each boot has a file, whose time is its last use."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / (boot_id() or f"unknown-{secrets.token_hex(4)}")
        offset = _offset_in(file)
        if offset is None:
            offset = max(time.time(), *self._seen()) - since_boot()
            draft = file.with_name(f"{file.name}#{secrets.randbits(63)}")  # no store lists such names
            with open(draft, "x", opener=owner_only) as out:
                out.write(repr(offset))
            try:
                os.link(draft, file)
            except FileExistsError:  # another was first, or a power cut left nothing in it
                if (theirs := _offset_in(file)) is None:
                    draft.replace(file)
                else:
                    offset = theirs
            draft.unlink(missing_ok=True)
        now = offset + since_boot()
        with suppress(FileNotFoundError):
            os.utime(file, (now, now))
        return offset

    def _seen(self) -> list[float]:
        """What the clock showed at least in earlier boots; one of them is remembered that showed most."""
        seen = [0.0]
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):
                seen.append(file.stat().st_mtime)
                if seen[-1] < max(seen):
                    file.unlink()
        return seen


def since_boot() -> float:
    """Seconds since the machine was started, which nobody can set."""
    return time.clock_gettime(_SINCE_BOOT)


def boot_id() -> str:
    """Names this start of the machine; empty where the system does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if sys.platform == "darwin":
        text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        if ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0) == 0:
            return text.value.decode()
    return ""


def _offset_in(file: Path) -> float | None:
    try:
        offset = float(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return offset if abs(offset) <= LAST_MOMENT else None
