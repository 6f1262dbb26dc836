"""A run in; what was stored for it out: its items, or one item's function and arguments, to be called here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starburst_common.code.pieces import pieces_of
from starburst_common.code.shared import digests_in, lies, loads_with
from starburst_common.code.unpack import unpack_bundle
from starburst_common.errors import BadInput
from starburst_common.model import Chunk, RunId, Span
from starburst_common.names import RunNames, code_key
from starburst_common.pickling.preferred import prefer
from starburst_common.pickling.setup import SetUp, Setup
from starburst_common.pickling.sources import lay_out
from starburst_common.pickling.within import awaited, sow
from starburst_common.ports import Backend
from starburst_common.runs.inputs import Function
from starburst_common.runs.sharing import shared_by
from starburst_common.runs.spec import read_spec
from starburst_common.runs.stored import planned_chunks
from starburst_common.wire.functions import inflated
from starburst_common.wire.items import Frames, checked_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """One item's call, as a worker made it; where it had a batch, in one of its own."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    setup: Setup | None
    seed: int | None
    item: int

    def begin(self) -> None:
        """What a worker does before: call the initializer, and sow the item's seed."""
        if self.setup is not None:
            SetUp().once(self.setup)
        sow(self.seed, self.item)

    def __call__(self) -> Any:
        self.begin()
        return awaited(self.function(*self.args, **self.kwargs))


def stored_call(backend: Backend, run: RunId, item: int, scratch: Path | None) -> StoredCall:
    """What a worker called for an item.

    The modules that travelled with the function are unpacked in `scratch` and come first on `sys.path`; None takes them
    from this process's `sys.path`, as they are today. Raises `BadInput` where the run has no such item.
    """
    chunk = _chunk_of(backend, run, item)
    known = Function.read(backend.key, chunk.function, backend.store.get(chunk.function))
    modules = None
    if scratch is not None and known.bundle is not None:
        folder = scratch / "modules"
        unpack_bundle(backend, code_key(chunk.function, known.bundle), folder)
        kept = {name for name in (place.name.partition(".")[0] for place in folder.iterdir()) if pieces_of(name)}
        prefer(str(folder), {name: each for name, each in sys.modules.items() if name.partition(".")[0] not in kept})
        modules = str(folder)
    pickled, sources = inflated(known.blob)
    lay_out(sources, modules)
    stored = backend.store.get_range(*chunk.ref)
    frames = b"".join(checked_frames(backend.key, run, stored, Span(item, item + 1))[0])
    lies(shared_by(backend, run, {*known.shared, *digests_in(frames)}))
    (function, _, setup), _ = loads_with(pickled, known.buffers)
    argument = Frames(frames, backend.buckets)[item]
    terms = read_spec(backend, run).terms
    argument = argument if terms.batch is None else [argument]
    args, kwargs = argument if known.style == "call" else (argument if known.style == "star" else (argument,), {})
    return StoredCall(function=function, args=tuple(args), kwargs=kwargs, setup=setup, seed=terms.seed, item=item)


def stored_items(backend: Backend, run: RunId, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Any]]:
    """Index and value of every item that was stored for a run, or of those wanted; one chunk's in memory at a time.

    An executor's items are the arguments of its calls, as (args, kwargs).
    """
    return ((index, frames[index]) for index, frames in stored_frames(backend, run, wanted))


def stored_frames(backend: Backend, run: RunId, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Frames]]:
    """The same with the frames that each item is had from, which is not unpickled."""
    for chunk in _chunks(backend, run):
        indices = [i for i in range(chunk.span.lo, chunk.span.hi) if wanted is None or i in wanted]
        if not indices:
            continue
        frames = Frames(
            b"".join(checked_frames(backend.key, run, backend.store.get_range(*chunk.ref), chunk.span)[0]),
            backend.buckets,
        )
        for index in indices:
            yield index, frames


def _chunks(backend: Backend, run: RunId) -> Iterator[Chunk]:
    """Every planned chunk."""
    for key in backend.store.list(RunNames(run).plans):
        yield from planned_chunks(backend, run, key)


def _chunk_of(backend: Backend, run: RunId, item: int) -> Chunk:
    """The planned chunk that holds an item."""
    items = 0
    for chunk in _chunks(backend, run):
        if chunk.span.lo <= item < chunk.span.hi:
            return chunk
        items = max(items, chunk.span.hi)
    known = f"its items are 0 to {items - 1}" if items else "it has no items"
    raise BadInput(f"run {run} has no item {item}: {known}")
