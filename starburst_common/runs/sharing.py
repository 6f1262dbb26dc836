"""Shared values in the store: a period's lie in one folder, with markers of the runs that need them.

A run refers to the values of one period: of that in which it first did, or its parent's. It marks that before it looks
what is there. Who prunes takes a period after another has passed, when nobody begins to refer to it, and if no kept run
has marked it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress

from starburst_common.code.shared import Shared, digests_in
from starburst_common.errors import BadInput, Exists, NotFound, Refused, UnknownVersion
from starburst_common.ids import held_for
from starburst_common.model import Buffer, RunId
from starburst_common.names import RUNS, SHARED, RunNames, needed_by, shared_folder
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.runs.inputs import Period
from starburst_common.runs.patience import create_ours
from starburst_common.wire.keys import key_id
from starburst_common.wire.seals import WIRE_VERSION, nbytes_of, sealed_parts, unseal
from starburst_common.wire.shared import read_shared, shared_document

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _days(backend: Backend) -> int:
    """How long a period is: a value is sent anew in each, which costs a copy here, where disks are small."""
    return 1 if backend.shares_files else 7


def period_now(backend: Backend, run: RunId) -> str:
    """The period whose values a run that is being fed refers to from now on: it is marked."""
    with suppress(NotFound):  # an earlier try got as far
        return period_of(backend, run)
    period = period_at(backend.store.written_at(RunNames(run).feeding), _days(backend))
    _mark(backend, run, period)
    return period


def period_of(backend: Backend, run: RunId) -> str:
    """The period whose values a run refers to. Raises `NotFound` where it refers to none, `Refused`."""
    key = RunNames(run).shared
    return Period.read(backend.key, key, backend.store.get(key, SMALL_BYTES)).period


def needed_too(backend: Backend, parent: RunId, run: RunId) -> str:
    """A run, which has begun, needs what its parent does: its period, or "" for none. Raises `NotFound`, `Refused`.

    Whoever prunes looks first which runs there are and then at the markers. So where the parent is there after our
    marker was written, they keep the period for one of both.
    """
    try:
        period = period_of(backend, parent)
    except NotFound:
        return ""
    _mark(backend, run, period)
    backend.store.written_at(RunNames(parent).spec)
    return period


def _mark(backend: Backend, run: RunId, period: str) -> None:
    key = RunNames(run).shared
    backend.store.put(f"{needed_by(period)}{run}", b"")
    create_ours(backend.store, key, Period(period=period).sealed(backend.key, key))


def value_key(period: str, key: bytes, digest: str) -> str:
    """Where a value lies, by what its readers have: the key that seals it, their wire version, its content."""
    return f"{shared_folder(period)}values/{WIRE_VERSION}-{key_id(key)}-{digest}"


def store_shared(backend: Backend, period: str, shared: Shared[object]) -> None:
    """Store a value, if it is not there. Raises `BadInput` for one that has changed, or is neither here nor there."""
    store, key = backend.store, value_key(period, backend.key, shared.digest)
    content = shared.content
    if content is None:
        if not is_there(store, key):
            raise BadInput(f"the value of {shared!r} is another process's, and stored no more: share it here again")
        return
    body = shared_document(content.pickled, content.buffers, digests_in(content.pickled))
    size = len(sealed_parts(b"", "", [])[0]) + nbytes_of(body)
    with suppress(NotFound):
        store.get_range(key, size - 1, 1)  # a power cut may have left less of it
        return
    if content.digest() != shared.digest:
        raise BadInput(f"{shared!r} has changed since it was shared: share it again after a change, or share a copy")
    store.delete([key])
    with suppress(Exists):
        store.create(key, sealed_parts(backend.key, key, body))


def fetch_shared(backend: Backend, period: str, digest: str) -> tuple[Buffer, list[str]]:
    """A stored value's bytes, and the values it refers to. Raises `NotFound`, and `Refused` unless we sealed it."""
    key = value_key(period, backend.key, digest)
    found = backend.store.get(key)
    return found, checked(backend, key, found)


def checked(backend: Backend, key: str, found: Buffer) -> list[str]:
    """What a stored value refers to. Raises `Refused` unless we sealed it."""
    try:
        _, _, refers = read_shared(unseal(backend.key, key, found), key)
    except UnknownVersion:
        raise
    except Refused as error:
        raise Refused(f"{error}: a shared value, damaged or forged: remove it, and start a new run") from None
    return refers


def shared_by(backend: Backend, run: RunId, digests: Iterable[str]) -> dict[str, Buffer]:
    """The stored values that a run refers to, with those that they do; what is not there is left out."""
    found: dict[str, Buffer] = {}
    waiting = [*digests]
    with suppress(NotFound):
        period = period_of(backend, run) if waiting else ""
        while waiting:
            if (digest := waiting.pop()) not in found:
                with suppress(NotFound):
                    found[digest], more = fetch_shared(backend, period, digest)
                    waiting += more
    return found


def prune_shared(backend: Backend, now: float) -> list[str]:
    """Remove the periods that no kept run needs; those removed. `now` is by the store's clock."""
    store = backend.store
    kept = {*store.folders(RUNS)}  # before the markers, see `needed_too`
    removed, last = [], period_at(now - _days(backend) * 86400, _days(backend))
    for period in periods(store.folders(SHARED)):
        if period < last and not kept.intersection(held_for(store.list(needed_by(period)))):
            store.delete_folder(shared_folder(period))
            removed.append(period)
    return removed


def period_at(moment: float, days: int) -> str:
    """Values that runs share lie in a folder a period, called by its first day, by the store's clock.

    >>> period_at(1798761600.0, 7), period_at(1798761600.0, 1)
    ('2026-12-31', '2027-01-01')
    """
    return time.strftime("%Y-%m-%d", time.gmtime(moment // (days * 86400) * days * 86400))


def periods(names: Iterable[str]) -> list[str]:
    """Those that are days."""
    return [name for name in names if _DAY.fullmatch(name)]
