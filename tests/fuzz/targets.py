"""The table of all decoders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import answers, files, slots, wires
from tests.fuzz.hunt import Target
from tests.fuzz.world import made


@contextmanager
def all_targets() -> Iterator[list[Target]]:
    """Every target, with what it needs."""
    with TemporaryDirectory(prefix="starburst-fuzz-") as name:
        folder = Path(name)
        scratch = folder / "scratch"
        scratch.mkdir()
        world = made(folder)
        yield [
            *wires.targets(world, scratch),
            *files.targets(world, folder / "files"),
            *answers.targets(),
            *slots.targets(),
        ]
