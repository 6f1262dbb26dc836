"""Old runs in, free space out: what expired is removed, with what crashed drivers left of it."""

from __future__ import annotations

import calendar
import logging
import time
from contextlib import suppress

from starburst_common.errors import NotFound, Refused
from starburst_common.model import FleetId, RunId, WorkerPhase
from starburst_common.names import CODE, FLEETS, RUNS, RunNames, holders, work_queue
from starburst_common.ports import Backend
from starburst_common.run import Spec, expires_at
from starburst_common.wire import read_document, unseal

_log = logging.getLogger("starburst")
_PRUNED = "pruned-at"
_EVERY_S = 3600.0


def prune(backend: Backend) -> list[RunId]:
    """Remove runs that have expired, their queues, fleets nobody holds, and code no run refers to; what was removed."""
    removed = []
    bundles: set[str] = set()
    fleets: dict[str, bool] = {}  # fleet to whether a kept run or a cluster may still need it
    for name in backend.store.folders(RUNS):
        run = RunId(name)
        names = RunNames(run)
        try:
            spec = Spec.read(backend, run)
        except (NotFound, Refused):
            if _age_s(name) > backend.keep_s:  # a start that died, or a run whose key is gone
                _remove(backend, names)
                removed.append(run)
            continue
        if time.time() < expires_at(backend, spec):
            bundles |= _bundles(backend, names)
            fleets[spec.fleet] = True
            continue
        backend.queue.drop_group(work_queue(spec.fleet), run)
        _remove(backend, names)
        backend.store.delete([holders(spec.fleet) + run])
        fleets.setdefault(spec.fleet, False)
        removed.append(run)
    for fleet, needed in fleets.items():
        if not needed:
            _close(backend, fleet)
    for fleet in backend.store.folders(FLEETS):
        if fleet not in fleets and _age_s(fleet) > backend.keep_s:
            _close(backend, fleet)
    if removed:
        stale = [key for key in backend.store.list(CODE) if key.removeprefix(CODE) not in bundles]
        backend.store.delete(stale)
        _log.info("pruned %d expired runs", len(removed))
    return removed


def prune_now_and_then(backend: Backend) -> None:
    """`prune`, at most once an hour however many processes ask."""
    last = 0.0
    with suppress(NotFound, ValueError):
        last = float(bytes(backend.store.get(_PRUNED)))
    if time.time() - last > _EVERY_S:
        backend.store.put(_PRUNED, str(time.time()).encode())
        prune(backend)


def _remove(backend: Backend, names: RunNames) -> None:
    backend.queue.drop(names.notices)
    backend.store.delete_folder(names.folder)


def _close(backend: Backend, fleet: str) -> None:
    name = FleetId(fleet)
    alive = [worker.id for worker in backend.compute.workers(name) if worker.phase is not WorkerPhase.STOPPED]
    backend.compute.stop(name, alive, grace_s=5.0)
    backend.queue.drop(work_queue(name))
    backend.compute.forget(name)
    backend.store.delete_folder(f"{FLEETS}{fleet}/")


def _bundles(backend: Backend, names: RunNames) -> set[str]:
    found = set()
    for key in backend.store.list(f"{names.folder}functions/"):
        with suppress(Refused):
            header, _ = read_document(unseal(backend.key, key, backend.store.get(key)))
            if header["bundle"]:
                found.add(header["bundle"])
    return found


def _age_s(name: str) -> float:
    """From the time in an id."""
    try:
        made = time.strptime("-".join(name.split("-")[1:3]), "%Y%m%d-%H%M%S")
    except ValueError:
        return 0.0
    return time.time() - calendar.timegm(made)
