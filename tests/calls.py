"""Functions that the executor tests send to other processes, which import them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


class Unpicklable:
    """Cannot be sent anywhere."""

    def __reduce__(self) -> Any:
        raise TypeError("I stay here")


class Odd(Exception):
    """A user's exception, with arguments of its own."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code, self.why = code, why


def add(a: int, b: int = 0) -> int:
    """A sum."""
    return a + b


def hungry(item: int) -> int:
    """Its item; that of 5 needs 700 MiB for it."""
    if item == 5:
        hoard = [os.urandom(1 << 20) * 50 for _ in range(14)]
        time.sleep(0.3 if hoard else 0)
    return item


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What it was called with."""
    return args, kwargs


def its_worker() -> int:
    """The worker whose slot this is: the parent of the slot's guard."""
    return int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])


def where() -> int:
    """The process it runs in."""
    return os.getpid()


def after(seconds: float, value: Any = None) -> Any:
    """The value, later."""
    time.sleep(seconds)
    return value


def note(file: str, value: Any = None) -> Any:
    """Note a call in a file."""
    with Path(file).open("a") as out:
        out.write("x")
    return value


def note_slowly(file: str, value: Any) -> Any:
    """Note a call in a file, and take some time."""
    time.sleep(0.05)
    return note(file, value)


def wait_for(file: str, value: Any = None) -> Any:
    """The value, once the file is there; notes that it waits in another."""
    Path(f"{file}.started").touch()
    until = time.monotonic() + 300
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.005)
    return value


def fail(code: int) -> None:
    """Raise an exception of the user's own."""
    raise Odd(code, "as asked")


def fail_on(bad: int, value: int) -> int:
    """Fail on one value."""
    if value == bad:
        raise ValueError(f"{value} is bad")
    return value


def unpicklable() -> Unpicklable:
    """A result that cannot come home."""
    return Unpicklable()


def die(code: int = 3) -> None:
    """Take the process along."""
    os._exit(code)
