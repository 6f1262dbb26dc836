"""A run's folder in, also where parts of it cannot be read; whether it goes on, what it holds, and its removal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from starburst_common.errors import NotFound, Refused
from starburst_common.ids import ids
from starburst_common.model import FleetId, Outcome, RunState, WorkerPhase, told_spans
from starburst_common.names import FLEETS, RunNames, holders
from starburst_common.phrases import our_log
from starburst_common.ports import Backend
from starburst_common.runs.accounts import keep_lacking
from starburst_common.runs.begin import recovered
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import Leg, find_leg, is_cancelled, mark_cancelled, read_end, write_end
from starburst_common.runs.stored import find_outcome

_log = our_log()


def last_leg(backend: Backend, spec: Spec) -> Leg:
    """Its last leg, also where nobody can read how that began."""
    try:
        return find_leg(backend, spec)
    except Refused:
        names = RunNames(spec.run)
        last = names.newest({*backend.store.list(names.folder)}).leg
        end = read_end(backend, spec.run, last)
        return Leg(number=last, fleet=FleetId(""), resources=spec.resources, end=end)


def goes_on(backend: Backend, spec: Spec) -> bool:
    """Whether it has not ended; a damaged one also has when it was cancelled, or no worker is there for it."""
    leg = last_leg(backend, spec)
    if leg.end is not None:
        return False
    if not spec.damage and leg.fleet:
        return True
    if is_cancelled(backend, spec.run, leg.number):
        return False
    workers = (worker for fleet in _fleets(backend, spec) for worker in backend.compute.workers(fleet))
    return any(worker.phase is not WorkerPhase.STOPPED for worker in workers)


def _fleets(backend: Backend, spec: Spec) -> list[FleetId]:
    """The fleets that are held for it; found so, a damaged run need not say which."""
    fleets = [FleetId(name) for name in ids(backend.store.folders(FLEETS))]
    return [fleet for fleet in fleets if holders(fleet) + spec.run in backend.store.list(holders(fleet))]


def cancel_damaged(backend: Backend, spec: Spec) -> None:
    """Nobody can drive it: workers are told to leave it alone, and if it has no end, it has one now."""
    names = RunNames(spec.run, last_leg(backend, spec).number)
    mark_cancelled(backend, spec.run, names.leg)
    write_end(backend, spec.run, names.leg, End(state=RunState.CANCELLED, reason="cancelled", ended_at=time.time()))


def remove(backend: Backend, spec: Spec) -> None:
    """Remove a run that has ended, and all that is kept of it."""
    for fleet in _fleets(backend, spec):
        backend.store.delete([holders(fleet) + spec.run])  # pruning closes it if nobody else needs it
    last = last_leg(backend, spec).number
    keep_lacking(backend, spec.run, last)
    for leg in range(last + 1):
        backend.queue.drop(RunNames(spec.run, leg).notices)
    backend.store.delete_folder(RunNames(spec.run).folder)


def stored_outcomes(backend: Backend, spec: Spec, item: int | None = None) -> Iterator[Outcome]:
    """Its outcomes as they are stored, or those of one item's chunks; what cannot be read is left out, and told."""
    names = RunNames(spec.run)
    keys = map(names.settled, backend.store.list(names.outcomes))
    found = [span for span in keys if span is not None]
    spans = [*dict.fromkeys(found)]
    if len(spans) < len(found):  # some were answered again, and nobody may delegate to others any more
        books = recovered(backend, spec).books
        books.tally.salvage(books.damaged)
        spans = [span for span in spans if books.tally.booked(span) is not None]
    for span in spans:
        if item is None or span.lo <= item < span.hi:
            try:
                yield find_outcome(backend, spec.run, span)[0]
            except (NotFound, Refused) as error:
                _log.warning("run %s: what is known of items %s is left out: %s", spec.run, told_spans([span]), error)
