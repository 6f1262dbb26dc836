"""A real run, done by real workers, whose objects are the samples; each input is put in the place of one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from obstore.store import MemoryStore

from starburst_common import starburst_map
from starburst_common.aws.objects import Objects
from starburst_common.local import local_backend
from starburst_common.model import Buffer, RunId
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.runs.find import attach
from starburst_common.wire.seals import seal, unseal

ITEMS = 12


#: What is mapped: it answers, fails, or prints.
MAPPED = """
def odd_ones_fail(item):
    if item % 4 == 1:
        raise ValueError(f"item {item}")
    print("item", item)
    return bytes(item) * 100
"""


class InMemory(Objects):
    """A store."""

    def publish(self, key: str, page: str) -> str:
        self.put(key, page.encode())
        return key


@dataclass(frozen=True)
class World:
    """A backend in memory, with one run on it that goes on, and the same one ended."""

    backend: Backend
    home: Path
    run: RunId
    bodies: dict[str, bytes]  #: every object, as stored

    @cached_property
    def names(self) -> RunNames:
        """Of the run."""
        return RunNames(self.run)

    @cached_property
    def fleet(self) -> str:
        """The run's."""
        return str(self.field(self.names.spec, "fleet"))

    def field(self, key: str, name: str) -> Any:
        """Of a stored document."""
        from starburst_common.wire.documents import read_document

        return read_document(unseal(self.backend.key, key, self.bodies[key]))[0][name]

    def keys(self, folder: str) -> list[str]:
        """Of stored objects."""
        return [key for key in self.bodies if key.startswith(folder)]

    def body(self, key: str) -> bytes:
        """What is under the seal."""
        return bytes(unseal(self.backend.key, key, self.bodies[key]))

    def sealed(self, key: str, body: Buffer) -> bytes:
        """As a peer with our key would write it."""
        return seal(self.backend.key, key, [body])

    @contextmanager
    def having(self, key: str, body: bytes) -> Iterator[Backend]:
        """With this in the place of what is there."""
        store = self.backend.store
        store.put(key, body)
        try:
            yield self.backend
        finally:
            if key in self.bodies:
                store.put(key, self.bodies[key])
            else:
                store.delete([key])


def made(folder: Path) -> World:
    """A second's work."""
    home, modules = folder / "home", folder / "modules"
    modules.mkdir()
    (modules / "fuzzed.py").write_text(MAPPED)
    sys.path.insert(0, str(modules))
    real = local_backend(home)
    try:
        starburst_map(
            import_module("fuzzed").odd_ones_fail,
            range(ITEMS), workers=1, chunk_size=3, return_exceptions=True, backend=real,
            progress=False, label="fuzz", tags={"a": "b"},
        )  # fmt: skip
        (name,) = real.store.folders("runs/")
        run = attach(name, backend=real)
        run.extend(60)
        bodies = {key: bytes(real.store.get(key)) for top in ("runs/", "accounts/") for key in real.store.list(top)}
    finally:
        sys.path.remove(str(modules))
        real.close()
    memory = InMemory(MemoryStore(), "memory")
    for key, body in bodies.items():
        memory.put(key, body)
    return World(replace(real, store=memory), home, run.id, bodies)
