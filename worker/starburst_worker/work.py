"""A leased chunk with what is needed to run it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starburst_common.model import Buffer, Chunk, RunId
from starburst_worker.fetched import FetchedFunction
from starburst_worker.known import KnownRun
from starburst_worker.parts import Part

#: Takes a part, the chunks that are to be sent for its open items, and those for open items that stay here.
Settle = Callable[[Part, list[Chunk], list[Chunk]], None]


@dataclass(slots=True, kw_only=True)
class Work:
    """What a slot is given, and what its worker has to know of it."""

    run: RunId
    known: KnownRun
    chunk: Chunk
    function: FetchedFunction
    frames: list[Buffer]
    receipt: str
    planned: bool = False  #: the chunk is as it was planned, and no piece of one
    lies: tuple[str, int, int] | None = None  #: the file that the frames lie in, from where, and how many bytes
    shared: dict[str, str] = field(default_factory=dict)  #: files of the shared values it refers to, by digest
    files: Path | None = None  #: what was sent to lie where its items stand
    fetched_at: float = field(default_factory=time.monotonic)

    @property
    def withdrawable(self) -> bool:
        """Whether its items are an executor's calls, which may be withdrawn."""
        return self.function.stored.style == "call"
