"""Items of a run that failed, or have no answer, in; a run of its own over them, whose answers merge, out.

Inside, its items are numbered as any run's; to its user they keep their numbers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from starburst_common.code.bundle import Bundle
from starburst_common.code.pack import PackedFunction
from starburst_common.code.place import Place
from starburst_common.code.shared import Shared
from starburst_common.errors import NotFound, Refused
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.warm import lent_fleet
from starburst_common.ids import ids
from starburst_common.model import Chunk, RunId, Span
from starburst_common.names import RunNames, code_key
from starburst_common.options import Options
from starburst_common.ports import Backend
from starburst_common.runs.begin import NewRun, beginning, given_to_its_caller
from starburst_common.runs.chunking import chunk_items
from starburst_common.runs.drive import Driver
from starburst_common.runs.inputs import Function
from starburst_common.runs.records import Spec
from starburst_common.runs.renumbered import Numbers
from starburst_common.runs.sharing import needed_too
from starburst_common.runs.spec import read_spec
from starburst_common.runs.stored import planned_chunks, stored_bundle
from starburst_common.wire.items import Frames, checked_frames


def retries_of(backend: Backend, run: RunId) -> list[Spec]:
    """The runs that ran items of this one again, oldest first."""
    found = []
    for name in ids(key.rpartition("/")[2] for key in backend.store.list(RunNames(run).retries)):
        with suppress(NotFound, Refused):  # it never began, or was removed, or what it is cannot be read
            spec = read_spec(backend, RunId(name))
            if spec.parent == run:
                found.append(spec)
    return sorted(found, key=lambda spec: spec.created_at)


def newest_of(backend: Backend, run: RunId) -> RunId:
    """The last of the runs that ran its failed items again; itself if there is none."""
    retries = retries_of(backend, run)
    return retries[-1].run if retries else run


def start_retry(
    backend: Backend,
    parent: Spec,
    spans: Sequence[Span],
    options: Options,
    packed: PackedFunction | None,
    name: str,
    anew: Mapping[int, Any] | None,
) -> tuple[Spec, Driver]:
    """Begin a run over these items of a run, with its function or with another one.

    The items are given `anew`, or copied as they are: then they need not be loaded here. Where the function is given,
    too, they stand where this process does, else where the parent's did.
    """
    same = options.resources.image if options.resources.image == parent.resources.image else ""  # made for that run
    with lent_fleet(backend, options, same) as fleet:
        return _started(fleet, parent, spans, options, packed, name, anew)


def _started(
    fleet: Fleet,
    parent: Spec,
    spans: Sequence[Span],
    options: Options,
    packed: PackedFunction | None,
    name: str,
    anew: Mapping[int, Any] | None,
) -> tuple[Spec, Driver]:
    backend = fleet.backend
    here = bool(options.files) or (packed is not None and anew is not None)
    stands = None if here else _stood(backend, parent)
    new = NewRun.of(fleet, name, options, stands=stands, parent=parent.run)
    run, period = new.spec.run, ""

    def note() -> None:
        nonlocal period
        period = needed_too(backend, parent.run, run)
        key = RunNames(run).numbers
        backend.store.put(key, Numbers(tuple(spans)).sealed(backend.key, key))
        backend.store.put(RunNames(parent.run).retry(run), b"")

    with beginning(fleet, new, note=note) as begun:
        feed = begun.feed
        feed.period = period
        functions: dict[str, str] = {}
        size = options.chunk_size or chunk_items(sum(span.size for span in spans), fleet.slots, options.batch or 1)
        for chunk, wanted in _chunks(backend, parent.run, spans):
            if chunk.function not in functions:
                functions[chunk.function] = feed.function(packed or _stored_function(backend, chunk.function))
            function = functions[chunk.function]
            for item in _stored(backend, parent.run, chunk, wanted) if anew is None else map(anew.__getitem__, wanted):
                if anew is None:
                    feed.add_pickled(function, *item)
                else:
                    feed.add(function, item)
                if feed.open_items >= size:
                    feed.close_chunk()
        feed.end()
        begun.driver.books.input_ended(feed.fed)
    with given_to_its_caller(begun, whole=True):
        return new.spec, begun.driver


def _stood(backend: Backend, parent: Spec) -> tuple[Place, Bundle | None]:
    """Where a run's items stood, and the files that were sent there."""
    if not parent.place.files:
        return parent.place, None
    digest = parent.place.files
    return parent.place, stored_bundle(backend, RunNames(parent.run).files(digest), digest)


def style_of(backend: Backend, run: RunId) -> str:
    """How a run calls its function."""
    function = next(iter(backend.store.list(RunNames(run).functions)))
    return Function.read(backend.key, function, backend.store.get(function)).style


def _chunks(backend: Backend, run: RunId, spans: Sequence[Span]) -> Iterator[tuple[Chunk, list[int]]]:
    """The planned chunks that hold some of these items, and which those are."""
    for key in backend.store.list(RunNames(run).plans):
        for chunk in planned_chunks(backend, run, key):
            first = bisect_right(spans, chunk.span.lo, key=lambda span: span.hi)
            held = spans[first : bisect_left(spans, chunk.span.hi, key=lambda span: span.lo)]
            wanted = [range(max(span.lo, chunk.span.lo), min(span.hi, chunk.span.hi)) for span in held]
            if wanted:
                yield chunk, [*chain.from_iterable(wanted)]


def _stored(backend: Backend, run: RunId, chunk: Chunk, wanted: Sequence[int]) -> Iterator[Any]:
    """Items of a chunk as they were pickled."""
    frames = Frames(b"".join(checked_frames(backend.key, run, backend.store.get_range(*chunk.ref), chunk.span)[0]))
    return map(frames.pickled, wanted)


def _stored_function(backend: Backend, key: str) -> PackedFunction:
    function = Function.read(backend.key, key, backend.store.get(key))
    bundle = None
    if function.bundle is not None:
        bundle = stored_bundle(backend, code_key(key, function.bundle), function.bundle)
    return PackedFunction(
        digest=key.rpartition("/")[2],
        blob=function.blob,
        style=function.style,
        retry_timeouts=function.retry_timeouts,
        bundle=bundle,
        shared=tuple(Shared(digest, 0) for digest in function.shared),
        buffers=function.buffers,
    )
