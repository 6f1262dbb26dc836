"""A run that has ended in; its entry for the accounts out, written by who ended it, or by the next who looks."""

from __future__ import annotations

from contextlib import suppress

from starburst_common.errors import Denied, Exists, NotFound, Refused
from starburst_common.model import RunId
from starburst_common.money.accounts import FARGATE, FARGATE_SPOT, LOCAL, AccountEntry, Stint
from starburst_common.money.estimate import fargate_usd
from starburst_common.names import account
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import legs_of, read_spec

_log = our_log()


def keep_entry(backend: Backend, run: RunId) -> str:
    """Write what is kept of a run that has ended; its key, or none of one that goes on, or cannot be read.

    Twice is the same; of a run that was resumed, an earlier entry is replaced.
    """
    try:
        entry = _entry(backend, read_spec(backend, run))
    except (NotFound, Refused):
        return ""
    if entry is None:
        return ""
    key, store = account(run), backend.store
    body = entry.sealed(backend.key, key)
    try:
        if len(entry.stints) > 1:
            store.put(key, body)
        else:
            with suppress(Exists):
                store.create(key, body)
    except Denied as error:
        _log.warning("run %s is not in the accounts: %s", run, error)
        return ""
    return key


def keep_lacking(backend: Backend, run: RunId, leg: int) -> None:
    """The same for whoever comes later, where who ended that leg did not get to it."""
    if leg or not is_there(backend.store, account(run)):
        keep_entry(backend, run)


def read_entry(backend: Backend, key: str) -> AccountEntry:
    """One of them. Raises `NotFound`, `Refused`."""
    return AccountEntry.read(backend.key, key, backend.store.get(key, SMALL_BYTES))


def _entry(backend: Backend, spec: Spec) -> AccountEntry | None:
    stints: list[Stint] = []
    end: End | None = None
    for leg in legs_of(backend, spec):
        if (end := leg.end) is None or end.ended_at is None:
            return None
        before = sum(stint.slot_seconds for stint in stints)
        stints.append(Stint(leg.fleet, round(max(end.slot_seconds - before, 0.0), 3)))
    if end is None or end.ended_at is None:
        return None
    resources = spec.resources
    price = fargate_usd(resources, end.slot_seconds / resources.slots, end.workers, backend.tariff)
    asked = LOCAL if backend.name == "local" else FARGATE_SPOT if resources.spot else FARGATE
    return AccountEntry(
        run=spec.run,
        parent=spec.parent,
        backend=backend.name,
        tariff=backend.tariff,
        who=spec.who,
        function=spec.function,
        label=spec.label,
        tags=spec.tags,
        state=end.state,
        items=end.items,
        succeeded=end.answered - end.failed - end.withdrawn,
        failed=end.kinds,
        withdrawn=end.withdrawn,
        workers={asked: end.workers},
        cpu=resources.cpu,
        memory_mib=resources.memory_mib,
        slots=resources.slots,
        stints=tuple(stints),
        created_at=spec.created_at,
        ended_at=end.ended_at,
        usd=price.parts,
        unknown=price.unknown,
        prices=price.source,
        prices_as_of=price.as_of,
    )
