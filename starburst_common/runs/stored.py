"""What the store has of a run's modules, input, plan and outcomes, where a power cut may have left one not whole.

A chunk's outcome is the first that was written for it and is whole. Objects never change, so one that cannot be read
stays so for everybody: the chunk is answered again, and the next *generation* of its outcome is written beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from starburst_common.code.bundle import Bundle, tell_unfit
from starburst_common.errors import Exists, NotFound, Refused, UnknownVersion
from starburst_common.model import Buffer, Chunk, Outcome, PackRef, RunId, Span
from starburst_common.names import GENERATIONS, RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.runs.inputs import Input, PlannedChunks
from starburst_common.runs.legs import Until
from starburst_common.runs.marks import Withdrawn
from starburst_common.runs.outcomes import SUMMARY_BYTES, Summary, read_outcome, read_summary, summary_nbytes
from starburst_common.runs.patience import Waits, create_ours, patiently
from starburst_common.wire.items import frames_in
from starburst_common.wire.seals import seal, unseal

_log = our_log()

FOLLOWED_S = 60.0  #: what items print is told of at once for so long after somebody has asked for it


def find_outcome(backend: Backend, run: RunId, span: Span) -> tuple[Outcome, Buffer]:
    """A chunk's outcome, and its bytes.

    Raises `NotFound` where there is none, `Refused` where none there is whole, `UnknownVersion` for another release's.
    """
    names, damage = RunNames(run), None
    for generation in range(GENERATIONS):
        try:
            body = backend.store.get(names.outcome(span, generation))
        except NotFound:
            if damage is None:
                raise
            break
        try:
            return read_outcome(backend.key, names.outcome(span), body), body
        except UnknownVersion:
            raise
        except Refused as error:
            damage = damage or error
    assert damage is not None
    raise damage


def stored_summary(backend: Backend, key: str, size: int | None = None) -> Summary:
    """What an outcome answers. Where its `size` is known, its values are not read. Raises `NotFound`, `Refused`."""
    if size is None:
        body = backend.store.get(key)
        return read_summary(backend.key, key, body, len(body))
    start = backend.store.get_range(key, 0, min(size, SUMMARY_BYTES))
    if len(start) < (wanted := min(size, summary_nbytes(start))):
        start = backend.store.get_range(key, 0, wanted)
    return read_summary(backend.key, key, start, size)


def create_outcome(backend: Backend, run: RunId, span: Span, body: Buffer | Sequence[Buffer]) -> bool:
    """Write a chunk's outcome; False if it has one. Raises `Refused` where too many were damaged to write another."""
    names = RunNames(run)
    for generation in range(GENERATIONS):
        key = names.outcome(span, generation)
        try:
            backend.store.create(key, body)
            return True
        except Exists:
            try:
                read_outcome(backend.key, names.outcome(span), backend.store.get(key))
                return False
            except NotFound:  # it was removed meanwhile, with its run
                return False
            except UnknownVersion:
                raise
            except Refused as error:
                _log.warning("%s is answered again: %s", key, error)
    raise Refused(f"{names.outcome(span)}: {GENERATIONS} of them were damaged; refused")


def withdraw_items(backend: Backend, run: RunId, spans: Sequence[Span]) -> None:
    """Say which items are not to begin any more, in place of what was said before; who writes is who feeds the run."""
    backend.store.put(RunNames(run).withdrawn, Withdrawn(spans).body)


def withdrawn_items(backend: Backend, run: RunId) -> tuple[Span, ...]:
    """The items that are not to begin any more; none where that is no list of spans."""
    try:
        return tuple(Withdrawn.read(backend.store.get(RunNames(run).withdrawn, SMALL_BYTES)).spans)
    except (NotFound, Refused):
        return ()


def aside_items(backend: Backend, names: RunNames) -> Iterator[int]:
    """The items that ran out of memory and are to go on with more, where that was asked for."""
    found = (key.rpartition("/")[2] for key in backend.store.list(names.aside()))
    return (int(name) for name in found if name.isdecimal() and len(name) < 20)


def store_bundle(backend: Backend, key: str, bundle: Bundle, waits: Waits) -> None:
    """Store modules or files that travel, and tell of what workers cannot load. Raises what ends the waiting."""
    tell_unfit(bundle.native, backend.machine)
    body = seal(backend.key, key, [bundle.archive])
    patiently(lambda: create_ours(backend.store, key, body), waits)


def stored_bundle(backend: Backend, key: str, digest: str) -> Bundle:
    """Modules or files that travelled, to travel again. Raises `NotFound`, `Refused`."""
    return Bundle(digest=digest, archive=bytes(unseal(backend.key, key, backend.store.get(key))), modules=())


def items_stored(backend: Backend, run: RunId) -> int | None:
    """How many items there are; None while not all are stored. Where that is damaged, as many as the plan tells of.

    Raises `Refused` where that is damaged as well.
    """
    key = RunNames(run).input
    try:
        return Input.read(backend.key, key, backend.store.get(key, SMALL_BYTES)).items
    except NotFound:
        return None
    except UnknownVersion:
        raise
    except Refused as error:
        _log.warning("run %s: its items are counted anew: %s", run, error)
        return _items_planned(backend, run)


def _items_planned(backend: Backend, run: RunId) -> int:
    """As many as the parts of the plan tell of, if there is one for each pack, and each is whole."""
    names, items = RunNames(run), 0
    plans = {_first(key): key for key in backend.store.list(names.plans)}
    if {*plans} != {_first(key) for key in backend.store.list(names.packs)}:
        raise Refused(f"{names.input} is damaged, and a part of the plan is missing")
    for first, key in sorted(plans.items()):
        plan = PlannedChunks.read(backend.key, key, backend.store.get(key))
        if first != items:
            raise Refused(f"{names.input} is damaged, and the plan says nothing of the items {items}-{first - 1}")
        items = max(chunk.span.hi for chunk in plan.chunks)
    return items


def planned_chunks(backend: Backend, run: RunId, plan: str) -> list[Chunk]:
    """The chunks of a part of the plan: where that is damaged, those of the items that were stored before it.

    Raises `NotFound` where there is no such part, `Refused` where the items do not tell all.
    """
    try:
        return list(PlannedChunks.read(backend.key, plan, backend.store.get(plan)).chunks)
    except UnknownVersion:
        raise
    except Refused as error:
        names = RunNames(run)
        functions = [*backend.store.list(names.functions)]
        pack = names.pack(_first(plan))
        if len(functions) != 1:
            raise Refused(f"{error}; which of {len(functions)} functions its items are for is not known") from None
        try:
            frames = frames_in(backend.key, run, backend.store.get(pack))
        except NotFound as lost:
            raise Refused(f"{error}; {lost}") from None
        _log.warning("run %s: a part of its plan is made anew from the items: %s", run, error)
        return [Chunk(span=span, function=functions[0], ref=PackRef(pack, *place)) for span, *place in frames]


def planned_chunk(backend: Backend, run: RunId, span: Span) -> Chunk:
    """The chunk with this span, which was cut out of a planned one. Raises `Refused` where the plan does not tell."""
    plans = backend.store.list(RunNames(run).plans)
    plan = max((key for key in plans if _first(key) <= span.lo), default=None)
    for chunk in [] if plan is None else planned_chunks(backend, run, plan):
        if span.within(chunk.span):
            return chunk.narrowed(span, deaths=0)
    raise Refused(f"the plan of {run} says nothing of the items {span}")


def _first(key: str) -> int:
    return int(key.rpartition("/")[2])


def read_until(backend: Backend, run: RunId, leg: int) -> Until | None:
    """When its workers stop; None where nobody has said so. Raises `Refused`."""
    key = RunNames(run, leg).until
    try:
        return Until.read(backend.key, key, backend.store.get(key, SMALL_BYTES))
    except NotFound:
        return None
