"""Old runs in, free space out: what expired is removed, with what crashed drivers left of it.

All ages are by the store's own clock, which no jump of this machine's clock moves.
"""

from __future__ import annotations

import time
from contextlib import suppress

from starburst_common.errors import Denied, NotFound, Refused, Unavailable
from starburst_common.fleets.fleet import KEPT_WARM
from starburst_common.fleets.warm import cool
from starburst_common.ids import held_for, ids, made_at
from starburst_common.model import FleetId, RunId, WorkerPhase
from starburst_common.names import (
    CLAIMS,
    FLEETS,
    LOOKED,
    PRUNED,
    RUNS,
    RunNames,
    claim,
    fleet_folder,
    holders,
    work_queue,
)
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.runs.accounts import keep_lacking
from starburst_common.runs.act import READ_S
from starburst_common.runs.begin import recovered
from starburst_common.runs.reasons import DIED
from starburst_common.runs.sharing import prune_shared
from starburst_common.runs.spec import kept_longer_s, read_spec

_log = our_log()
_EVERY_S = 3600.0
_ABANDONED_S = 3600.0  #: what nothing has happened to for so long may have nobody any more; drivers say more often


def prune(backend: Backend, now: float | None = None) -> list[RunId]:
    """Remove runs that have expired, and fleets that crashed drivers left; the removed runs. Accounts stay.

    A run is kept for `keep_s` from its end, and for ten minutes from that and from when somebody last read on in it.
    One that goes on is never removed: if nobody drives it any more, it is ended here, as what it is if all its items
    are answered, or as stopped when nothing has happened to it for `keep_s`; for an hour, if its input is not whole,
    since who feeds it would have given signs. One that cannot be read is kept for `keep_s` after its last change. `now`
    is for what will be (wall clock).
    """
    ahead = 0.0 if now is None else now - time.time()
    last = _last_pruned(backend)
    now = _store_time(backend) + ahead
    fleets = [FleetId(name) for name in sorted({*ids(backend.store.folders(FLEETS)), *backend.compute.fleets()})]
    held_by = {name: fleet for fleet in fleets for name in held_for(backend.store.list(holders(fleet)))}
    removed = []
    for name in ids(backend.store.folders(RUNS)):  # an id tells when it was made: of most nothing is read
        age_s = now - _made_at(name)
        look = not 0 <= age_s < backend.keep_s
        if _made_at(name) > last - 2 * _ABANDONED_S or name in held_by:  # others were looked at by an earlier pruning
            look |= age_s >= _ABANDONED_S
        if look and _expired(backend, RunId(name), held_by, now):
            names = RunNames(RunId(name))
            newest = names.newest({*backend.store.list(names.folder)}).leg
            keep_lacking(backend, names.run, newest)
            for leg in range(newest + 1):
                backend.queue.drop(RunNames(names.run, leg).notices)
            backend.store.delete_folder(RunNames(RunId(name)).folder)
            removed.append(RunId(name))
    for fleet in fleets:
        if now - _made_at(fleet) > _ABANDONED_S or held_for(backend.store.list(holders(fleet))) == [KEPT_WARM]:
            try:
                _close_if_abandoned(backend, fleet)
            except Refused as error:  # it costs itself alone
                _log.warning("fleet %s is passed over: %s", fleet, error)
    prune_shared(backend, now)
    _prune_claims(backend, now)
    if removed:
        _log.info("pruned %d expired runs", len(removed))
    return removed


def expired(backend: Backend, now: float) -> list[RunId]:
    """What `prune` would remove at that moment of the store's clock; what it would first have to end is left out."""
    old = [RunId(name) for name in ids(backend.store.folders(RUNS)) if now - _made_at(name) >= backend.keep_s]
    return [run for run in old if _expired(backend, run, None, now)]


def store_time(backend: Backend) -> float:
    """What the store's clock shows."""
    backend.store.put(LOOKED, b"")
    return backend.store.written_at(LOOKED)


def _prune_claims(backend: Backend, now: float) -> None:
    """Remove the claims under names whose last one is as old as an expired run, and names none that is kept."""
    if not (names := ids(backend.store.folders(CLAIMS))):
        return
    from starburst_common.runs.claims import Claims

    kept = {*backend.store.folders(RUNS)}
    for name in names:
        written = [entry.written_at for entry in backend.store.entries(claim(name))]
        if now - max(written, default=now) < backend.keep_s:
            continue
        with suppress(Refused):
            last = Claims(backend, name, "").last()
            if last is None or last.run not in kept:
                backend.store.delete_folder(claim(name))


def prune_now_and_then(backend: Backend) -> None:
    """`prune`, at most once an hour however many processes ask; where it cannot be done now, the next one does it."""
    last = 0.0
    try:
        with suppress(NotFound, Refused, ValueError):
            last = float(bytes(backend.store.get(PRUNED, SMALL_BYTES)))
        if not 0 <= time.time() - last < _EVERY_S:
            prune(backend)
    except (Unavailable, Denied) as error:
        _log.warning("old runs are not removed now: %s", error)


def _last_pruned(backend: Backend) -> float:
    """When that was, by the store's clock."""
    with suppress(NotFound):
        return backend.store.written_at(PRUNED)
    return 0.0


def _store_time(backend: Backend) -> float:
    """What the store's clock shows, and a mark that pruning was done."""
    backend.store.put(PRUNED, str(time.time()).encode())
    return backend.store.written_at(PRUNED)


def _expired(backend: Backend, run: RunId, held_by: dict[str, FleetId] | None, now: float) -> bool:
    """Whether a run is to be removed; one without an end is given it, if it is due and it is known who is held."""
    names = RunNames(run)
    written = {entry.key: entry.written_at for entry in backend.store.entries(names.folder)}
    names = names.newest(written)
    untouched_s = now - max(written.values(), default=0.0)
    if names.end in written:
        read_s = now - max(written[names.end], written.get(names.driven, 0.0))
        try:
            return read_s >= READ_S and now - written[names.end] >= backend.keep_s + kept_longer_s(backend, run)
        except Refused as error:
            _log.warning("run %s is damaged: %s", run, error)
            return untouched_s >= backend.keep_s
    unfed = names.input not in written
    if untouched_s < (_ABANDONED_S if unfed else max(backend.keep_s, _ABANDONED_S)):
        return False
    if held_by is None or (run in held_by and _alive(backend, held_by[run])):
        return False
    why = f"abandoned: {DIED}, and" if unfed else "abandoned:"
    try:
        recovered(backend, read_spec(backend, run)).close(f"{why} nobody drove it on, and no worker was left")
    except (NotFound, Refused):  # of a start that died, damaged, or of a release that speaks otherwise
        return untouched_s >= backend.keep_s or written.keys() <= {names.feeding}
    return False


def _close_if_abandoned(backend: Backend, fleet: FleetId) -> None:
    """A fleet without a live worker and a run that goes on is warm no more, or was left by a driver that died."""
    if _alive(backend, fleet):
        return
    held_by = held_for(backend.store.list(holders(fleet)))
    if any(_goes_on(backend, RunId(holder)) for holder in held_by if holder.startswith("run-")):
        return
    if KEPT_WARM in held_by and {*cool(backend, fleet)} - {*held_by}:
        return  # somebody has just found it
    backend.queue.drop(work_queue(fleet))
    backend.compute.forget(fleet)
    backend.store.delete_folder(fleet_folder(fleet))


def _goes_on(backend: Backend, run: RunId) -> bool:
    """Whether a run is kept that has no end; one whose items are all answered is given it."""
    kept = [*backend.store.list(RunNames(run).folder)]
    newest = RunNames(run).newest(kept)
    if newest.end in kept:
        keep_lacking(backend, run, newest.leg)
    if not kept or newest.end in kept:
        return False
    try:
        return not recovered(backend, read_spec(backend, run)).close()
    except (NotFound, Refused):  # whoever can read it may drive it
        return True


def _alive(backend: Backend, fleet: FleetId) -> bool:
    return any(worker.phase is not WorkerPhase.STOPPED for worker in backend.compute.workers(fleet))


def _made_at(name: str) -> float:
    """From the time in an id; what is none was made long ago."""
    try:
        return made_at(name)
    except ValueError:
        return 0.0
