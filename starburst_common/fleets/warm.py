"""A fleet that is wanted in; one that others have left warm, or a new one, out: held, and kept for who comes later.

Beside those of who holds it, a warm fleet has a marker by which it stays open without them, and an entry by which it is
found. Whoever closes it takes both away first, and looks who holds it then; who finds it holds it first, and looks for
the marker then. So one of the two sees the other: nobody gets a fleet that is about to be closed, and none that
somebody has is closed. A marker that is gone never comes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Self

from starburst_common.errors import NotFound, Refused, Unsigned
from starburst_common.fleets.fleet import KEPT_WARM, Fleet
from starburst_common.ids import held_for, ids, new_holder
from starburst_common.model import FleetId, WorkerPhase
from starburst_common.names import WARM, holders
from starburst_common.options import Options
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.seals import signer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmEntry:
    """What is told of a warm fleet to who looks for one."""

    fleet: FleetId
    key: str  #: where it lies
    keep_warm_s: float  #: its workers stay so long, idle
    size: str  #: of a worker, in words
    image: str
    spot: bool
    signer: bytes = field(repr=False)  #: which of our keys it is of

    @classmethod
    def read(cls, backend: Backend, key: str) -> Self:
        """Raises `NotFound`, `Refused`."""
        blob = backend.store.get(key, SMALL_BYTES)
        fields, _ = open_document(backend.key, key, blob)
        return cls(
            signer=signer_of(backend.key, key, blob),
            fleet=FleetId(key.rpartition("/")[2]),
            key=key,
            keep_warm_s=fields.number("keep_warm_s"),
            size=fields.text("size"),
            image=fields.text("image"),
            spot=fields.flag("spot"),
        )


def open_fleet(backend: Backend, options: Options, holder: str, image: str = "") -> Fleet:
    """A fleet as it was asked for, held by that name; what its containers are made of is there when this returns.

    That is `image`, where it is known already. With `keep_warm`, it is one that is there, if there is one.
    """
    fleet = Fleet.new(backend, options, image)
    if not options.keep_warm_s:
        backend.compute.prepare(fleet.spec)
        fleet.hold(holder)
        return fleet
    folder = f"{WARM}{_likeness(fleet)}/"
    for name in reversed(ids(key.rpartition("/")[2] for key in backend.store.list(folder))):  # the newest first
        there = replace(fleet, spec=replace(fleet.spec, fleet=FleetId(name)))
        if _taken(there, holder):
            return there
    backend.compute.prepare(fleet.spec)
    _keep(fleet, holder, f"{folder}{fleet.id}")
    return fleet


@contextmanager
def lent_fleet(backend: Backend, options: Options, image: str = "") -> Iterator[Fleet]:
    """A fleet for a run that holds it itself within the block; until then a warm one is held for it."""
    if not options.keep_warm_s:
        fleet = Fleet.new(backend, options, image)
        backend.compute.prepare(fleet.spec)
        yield fleet
        return
    holder = new_holder()
    fleet = open_fleet(backend, options, holder, image)
    try:
        yield fleet
    finally:
        fleet.release(holder)


def warm_entries(backend: Backend) -> dict[FleetId, WarmEntry | None]:
    """Of all fleets that are kept warm; None where no known key has signed it. What else cannot be read is left out."""
    found: dict[FleetId, WarmEntry | None] = {}
    for key in backend.store.list(WARM):
        for fleet in ids([key.rpartition("/")[2]]):
            try:
                found[FleetId(fleet)] = WarmEntry.read(backend, key)
            except Unsigned:
                found.setdefault(FleetId(fleet), None)
            except (NotFound, Refused):
                pass
    return found


def cool(backend: Backend, fleet: FleetId, entry: str = "") -> list[str]:
    """Have nobody find a fleet from now on; who holds it now, and the last of them to let go closes it.

    `entry` is where its entry lies, where that is known.
    """
    keys = [entry] if entry else [key for key in backend.store.list(WARM) if key.endswith(f"/{fleet}")]
    backend.store.delete(keys)  # first: whoever dies here leaves the marker, by which it is closed later
    backend.store.delete([holders(fleet) + KEPT_WARM])
    return held_for(backend.store.list(holders(fleet)))


def _keep(fleet: Fleet, holder: str, entry: str) -> None:
    """Open a new fleet, held by that name, and have it found by others."""
    store, marker = fleet.backend.store, holders(fleet.id) + KEPT_WARM
    fleet.hold(holder)
    try:
        store.put(marker, fleet.spec.resources.image.encode())
        size, idle_s = fleet.spec.resources, fleet.spec.pace.idle_s
        told = {"keep_warm_s": idle_s, "size": size.size, "image": size.image, "spot": size.spot}
        store.create(entry, seal_document(fleet.backend.key, entry, told))
    except BaseException:
        store.delete([entry, marker])
        fleet.release(holder)
        raise


def _taken(fleet: Fleet, holder: str) -> bool:
    """Hold a fleet that was found, if it is open, and has workers or somebody who is about to have some."""
    store = fleet.backend.store
    store.put(holders(fleet.id) + holder, fleet.spec.resources.image.encode())
    try:
        by = held_for(store.list(holders(fleet.id)))
        if KEPT_WARM in by and ({*by} - {KEPT_WARM, holder} or _is_alive(fleet)):
            return True
        cool(fleet.backend, fleet.id, f"{WARM}{_likeness(fleet)}/{fleet.id}")
    except BaseException:
        store.delete([holders(fleet.id) + holder])
        raise
    fleet.release(holder)
    return False


def _is_alive(fleet: Fleet) -> bool:
    return any(worker.phase is not WorkerPhase.STOPPED for worker in fleet.states())


def _likeness(fleet: Fleet) -> str:
    """A digest of all that makes a fleet's workers what they are."""
    return sha256(fleet.backend.compute.alike(fleet.spec).encode()).hexdigest()[:16]
