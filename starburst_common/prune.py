"""Old runs in, free space out: what expired is removed, with what crashed drivers left of it."""

from __future__ import annotations

import calendar
import time
from contextlib import suppress

from starburst_common.errors import NotFound, Refused
from starburst_common.model import FleetId, RunId, WorkerPhase
from starburst_common.names import CODE, FLEETS, PRUNED, RUNS, RunNames, fleet_folder, holders, work_queue
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.spec import Spec, expires_at, read_end
from starburst_common.wire import read_document, unseal

_log = our_log()
_EVERY_S = 3600.0
_ABANDONED_S = 3600.0  #: a fleet older than this may be closed if nobody needs it


def prune(backend: Backend, now: float | None = None) -> list[RunId]:
    """Remove runs that have expired, fleets that crashed drivers left, and code no run refers to; the removed runs.

    A run's id tells when it was made, so that nothing is read of those that cannot have expired.
    """
    now = time.time() if now is None else now
    runs = [RunId(name) for name in backend.store.folders(RUNS)]
    removed = [run for run in runs if now - _made_at(run) >= backend.keep_s and _expired(backend, run, now)]
    if removed:  # the code first: who dies after it still sees by the runs that there is something to remove
        bundles = {bundle for run in set(runs) - set(removed) for bundle in _bundles(backend, RunNames(run))}
        backend.store.delete([key for key in backend.store.list(CODE) if key.removeprefix(CODE) not in bundles])
    for run in removed:
        names = RunNames(run)
        backend.queue.drop(names.notices)
        backend.store.delete_folder(names.folder)
    for fleet in sorted({*backend.store.folders(FLEETS), *backend.compute.fleets()}):
        if now - _made_at(fleet) > _ABANDONED_S:
            _close_if_abandoned(backend, FleetId(fleet))
    if removed:
        _log.info("pruned %d expired runs", len(removed))
    return removed


def _expired(backend: Backend, run: RunId, now: float) -> bool:
    try:
        return now >= expires_at(backend, Spec.read(backend, run))
    except (NotFound, Refused):  # a start that died, or a key that is gone
        return True


def prune_now_and_then(backend: Backend) -> None:
    """`prune`, at most once an hour however many processes ask."""
    last = 0.0
    with suppress(NotFound, ValueError):
        last = float(bytes(backend.store.get(PRUNED)))
    if time.time() - last > _EVERY_S:
        backend.store.put(PRUNED, str(time.time()).encode())
        prune(backend)


def _close_if_abandoned(backend: Backend, fleet: FleetId) -> None:
    """A fleet without a live worker and without a run that goes on was left by a driver that died."""
    if any(worker.phase is not WorkerPhase.STOPPED for worker in backend.compute.workers(fleet)):
        return
    held_by = [key.rsplit("/", 1)[-1] for key in backend.store.list(holders(fleet))]
    if any(_goes_on(backend, RunId(holder)) for holder in held_by if holder.startswith("run-")):
        return
    backend.queue.drop(work_queue(fleet))
    backend.compute.forget(fleet)
    backend.store.delete_folder(fleet_folder(fleet))


def _goes_on(backend: Backend, run: RunId) -> bool:
    try:
        Spec.read(backend, run)
    except (NotFound, Refused):
        return False
    return read_end(backend, run) is None


def _bundles(backend: Backend, names: RunNames) -> set[str]:
    found = set()
    for key in backend.store.list(names.functions):
        with suppress(Refused):
            header, _ = read_document(unseal(backend.key, key, backend.store.get(key)))
            if header["bundle"]:
                found.add(header["bundle"])
    return found


def _made_at(name: str) -> float:
    """From the time in an id (wall clock)."""
    try:
        return calendar.timegm(time.strptime("-".join(name.split("-")[1:3]), "%Y%m%d-%H%M%S"))
    except ValueError:
        return time.time()
