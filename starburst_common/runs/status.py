"""A run's store in; how it stands out."""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from typing import Any

from starburst_common.errors import NotFound, Refused
from starburst_common.model import RunId, RunState, RunStatus, WorkerPhase
from starburst_common.names import RunNames
from starburst_common.phrases import duration
from starburst_common.ports import Backend
from starburst_common.runs.accounts import last_leg
from starburst_common.runs.begin import recovered
from starburst_common.runs.drive import Driver
from starburst_common.runs.history import stored_waits
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.sign import read_sign
from starburst_common.runs.spec import WHOLE, Leg, find_spec, is_cancelled
from starburst_common.runs.stored import read_until

_ANSWERED = ("answered", "failed", "withdrawn", "slot_seconds", "attempts", "memory_mib")
_COUNTED = ("items", *_ANSWERED)
READING = "its input is still being read"


def stored_status(backend: Backend, spec: Spec) -> RunStatus:
    """A run's status as the store tells it: its end, or its outcomes so far."""
    try:
        leg, damage = last_leg(backend, spec), spec.damage
    except Refused as error:
        leg, damage = None, spec.damage or str(error)
    end = None if leg is None else leg.end
    if end is None:
        find_spec(backend, spec.run)  # raises `NotFound` if it was removed meanwhile
    fields: dict[str, Any] = dict.fromkeys(_COUNTED, 0) | {"items": None, "ended_at": None}
    state, workers, reason = RunState.DAMAGED, 0, damage
    if end is not None and end.known:
        fields = {name: getattr(end, name) for name in fields} | _late(backend, spec, end)
    if not reason and end is not None and end.known:
        fields |= _money(leg, end)
        state, reason = end.state, "; ".join(filter(None, [end.reason, end.damage]))
        if end.damage and state in WHOLE:
            state = RunState.DAMAGED
    elif not reason:
        try:
            driver = recovered(backend, spec)
        except Refused as error:
            reason = str(error)
        else:
            fields |= {name: getattr(driver.books.tally, name) for name in _COUNTED}
            if end is not None:
                reason = end.reason
            else:
                state = RunState.RUNNING
                states = driver.fleet.states()
                workers = sum(worker.phase is not WorkerPhase.STOPPED for worker in states)
                fields |= driver.spent(states) | {"rate": _rate(driver)}
                reason = _reason(driver, spec, workers)
    return RunStatus(
        id=spec.run,
        state=state,
        label=spec.label,
        workers=workers,
        created_at=spec.created_at,
        reason=reason,
        **fields,
    )


def _money(leg: Leg | None, end: End) -> dict[str, Any]:
    """What a leg has cost by its end, and might."""
    spent = None if end.spent_usd is None else Decimal(str(end.spent_usd))
    budget = None if leg is None else leg.budget_usd
    return {"limit": end.limit, "spent_usd": spent, "priced": end.priced, "budget_usd": budget, "tolls": end.tolls}


def _late(backend: Backend, spec: Spec, end: End) -> dict[str, Any]:
    """Of a run that ended early, the numbers that have changed since: who was at work then may have answered after it.

    As its readers count them, who look at all outcomes.
    """
    names = RunNames(spec.run)
    if spec.damage or end.state in WHOLE:
        return {}
    if end.outcomes == sum(names.settled(key) is not None for key in backend.store.list(names.outcomes)):
        return {}
    with suppress(Refused):
        tally = recovered(backend, spec).books.tally
        return {name: getattr(tally, name) for name in _ANSWERED}
    return {}


def _rate(driver: Driver) -> float:
    """Items a second, as far as its drivers have stored since when."""
    return driver.books.events.speed.rate(driver.books.tally.answered, time.time())


def _reason(driver: Driver, spec: Spec, workers: int) -> str:
    """What a run without an end waits for."""
    if damage := driver.books.damage():
        return f"{damage}; {'they run' if workers else '`starburst attach` runs them'} again"
    if driver.books.tally.complete or is_cancelled(driver.backend, driver.run, driver.leg):
        why = "every item is answered" if driver.books.tally.complete else "cancelled"
        return f"{why}; its driver, or `starburst attach`, ends it"
    if undriven := _undriven(driver.backend, spec, workers):
        return undriven
    if not workers and (until := read_until(driver.backend, driver.run, driver.leg)) and until.at <= time.time():
        return f"its {until.kind} is over, and its workers have stopped: `starburst attach {spec.run}` ends it"
    if driver.books.waits.space and workers:
        return f"waiting for {driver.books.waits.space}"
    if waits := stored_waits(driver.backend, driver.run, driver.leg):
        return f"waiting for {waits}"
    if driver.books.tally.items is None and (reading := _reading(driver.backend, driver.run)):
        return reading
    return "" if workers else "no worker is alive: `starburst attach` goes on with it"


def _undriven(backend: Backend, spec: Spec, workers: int) -> str:
    """For how long nobody has driven it, if its workers stop for that. Clocks differ, so it is for people only."""
    if spec.terms.driver_ttl_s is None:
        return ""
    heard = spec.created_at
    with suppress(NotFound):
        heard = max(heard, backend.store.written_at(RunNames(spec.run).driven))
    if (silent_s := time.time() - heard) <= spec.terms.driver_ttl_s:
        return ""
    stopped = "its workers stop" if workers else "its workers have stopped"
    return f"no driver for {duration(silent_s)}: {stopped}: `starburst attach {spec.run}` goes on with it"


def _reading(backend: Backend, run: RunId) -> str:
    """What one look tells of whether the rest of the input will come."""
    sign = read_sign(backend, run)
    if sign is None or sign.ended:
        return ""
    heard_s = time.time() - sign.at
    if heard_s < 2 * backend.feeder_lost_s:
        return READING
    return f"who reads its input was last heard of {heard_s:,.0f} s ago: `starburst attach` ends it if that died"
