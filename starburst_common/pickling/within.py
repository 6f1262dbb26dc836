"""What a worker tells the code that runs in it, and does for it: where it stands, its item's seed, what is awaited."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio


class Checkpoints(Protocol):
    """Of the item that is running; see `starburst_common.checkpoint`."""

    def load(self) -> bytes | None:
        """What was saved last, if anything was."""

    def save(self, state: bytes) -> None:
        """Keep this."""

    def leaving(self) -> bool:
        """Whether its worker must go."""


class _Around:
    """Of the item that this process runs, if it is a worker's slot."""

    folder: str | None = None  #: None at home; empty where workers have folders of their own
    seed: int | None = None  #: see `item_seed`
    checkpoints: Checkpoints | None = None


around = _Around()
CO_COROUTINE = 0x80  #: as `inspect` has it, which takes long to import


def explain(error: BaseException) -> None:
    """Note where a file was looked for, on a worker, if it was not found by a path that does not tell."""
    if around.folder is None or not isinstance(error, FileNotFoundError):
        return
    with suppress(Exception):  # what its class does to `filename` and notes
        _explain(error, around.folder)


def _explain(error: FileNotFoundError, folder: str) -> None:
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if Path(name).is_absolute() or not (name or error.filename is None):
        return
    if folder:
        error.add_note(f"the worker stands in {folder}, where the run was started")
    else:
        which = repr(name) if name else "…"
        error.add_note(
            f"the worker stands in a folder of its own, not in yours: files=[{which}] sends a file along, if it is "
            "there at home"
        )


def importing() -> str:
    """On a worker, the module that is just being imported and has called this; empty elsewhere."""
    frame = sys._getframe() if around.folder is not None else None
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return str(frame.f_globals.get("__name__", frame.f_code.co_filename))
        frame = frame.f_back
    return ""


def item_seed() -> int | None:
    """The seed of the item that is running, from 0 to 2**64 - 1, where its run has a `seed`; else None, as at home.

    It depends on the run's seed and the item's number only, so `numpy.random.default_rng(item_seed())` gives an item
    the same numbers wherever and however often it runs.
    """
    return around.seed


def sow(seed: int | None, index: int) -> None:
    """An item begins: its seed is what `random` starts from, and numpy's global generator where there is numpy."""
    if seed is None:
        around.seed = None
        return
    import random
    from hashlib import blake2b

    around.seed = int.from_bytes(blake2b(f"{seed} {index}".encode(), digest_size=8).digest(), "big")
    random.seed(around.seed)
    if (numpys := _numpys_random()) is not None:
        numpys.seed(around.seed % 2**32)


@cache
def _numpys_random() -> Any:
    """Loaded before an item imports it and draws."""
    try:
        return import_module("numpy.random")
    except ImportError:
        return None


@cache
def _loop() -> asyncio.Runner:
    """One for all items, as a client that is kept between them is its loop's."""
    import asyncio
    import atexit

    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


def make_ready(function: Any) -> None:
    """Load what awaiting this takes, before the clock of its first item runs."""
    function = getattr(function, "func", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        _loop().get_loop()


def awaited(value: Any) -> Any:
    """What a coroutine gives in the end; any other value as it is."""
    return _loop().run(value) if type(value) is CoroutineType else value
