"""What was asked of a run, how its legs ended and how long it is kept, as the store has it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Thread

from starburst_common.errors import Denied, Exists, NotFound, Refused, Unavailable, UnknownVersion
from starburst_common.ids import new_fleet_id
from starburst_common.limits import NO_LIMITS, Limits
from starburst_common.model import Buffer, FleetId, RunId, RunState
from starburst_common.names import RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.resources import Resources
from starburst_common.runs.legs import End, Resumed
from starburst_common.runs.marks import Expires
from starburst_common.runs.patience import create_ours
from starburst_common.runs.records import Spec

_log = our_log()
WHOLE = (RunState.SUCCEEDED, RunState.FAILED)  #: every item had its answer: nothing is there to be resumed


def write_spec(backend: Backend, spec: Spec) -> None:
    """Store what is asked, and say what of it nothing keeps. Twice is no error."""
    if spec.terms.limits.budget_usd is not None and not backend.charged:
        _log.info(
            "run %s: budget=%g stops nothing here: this machine charges nothing", spec.run, spec.terms.limits.budget_usd
        )
    if spec.terms.escalate and not (backend.charged or spec.resources.memory_given):
        _log.info("run %s: escalate=True: this machine limits memory where memory= is named, and it is not", spec.run)
    key = RunNames(spec.run).spec
    create_ours(backend.store, key, spec.sealed(backend.key, key))


def read_spec(backend: Backend, run: RunId) -> Spec:
    """What was asked. Raises `NotFound`, `Refused`."""
    return _read(backend, run, _stored(backend, run))


def _stored(backend: Backend, run: RunId) -> Buffer:
    try:
        return backend.store.get(RunNames(run).spec, SMALL_BYTES)
    except NotFound:
        raise NotFound(
            f"no run {run!r} on the {backend.name} backend: `starburst runs` lists those there are"
        ) from None


def _read(backend: Backend, run: RunId, blob: Buffer) -> Spec:
    try:
        return Spec.read(backend.key, RunNames(run).spec, run, blob)
    except UnknownVersion as error:
        raise UnknownVersion(f"run {run} was started by another starburst release: {error}") from None


def under_its_key(backend: Backend, spec: Spec) -> Backend:
    """The backend with the run's own key to sign by, which all who work on it know."""
    return backend.keyed(spec.key) if spec.key else backend


def find_spec(backend: Backend, run: RunId) -> Spec:
    """As `read_spec`, but of one that cannot be read says why. Raises `NotFound` where nothing is kept of the run."""
    return next(iter(find_tagged(backend, run, {})))


def find_tagged(backend: Backend, run: RunId, tags: Mapping[str, str]) -> list[Spec]:
    """As `find_spec`; none where it has not these tags, and then nothing but its bytes was looked at."""
    try:
        blob = _stored(backend, run)
        body = bytes(blob) if tags else b""
        if not all(json.dumps({name: tag}, separators=(",", ":"))[1:-1].encode() in body for name, tag in tags.items()):
            return []
        found = _read(backend, run, blob)
    except NotFound:  # or its name is none
        names = RunNames(run)
        if all(names.comes_late(key) for key in backend.store.list(names.folder)):  # not begun yet, or removed
            raise
        found = Spec.unreadable(run, f"{RunNames(run).spec} is gone")
    except Refused as error:
        found = Spec.unreadable(run, str(error))
    return [found] if tags.items() <= found.tags.items() else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A stretch of a run: from its start, or from where it was resumed, to its end. Only the last may have none."""

    number: int
    fleet: FleetId
    forgiven: int = 0  #: as in `Resumed`
    limits: Limits = NO_LIMITS
    began_at: float = 0.0  #: wall clock; from when these count
    spent_usd: float | None = None  #: by the legs before
    resources: Resources  #: of its workers
    larger: bool = False  #: than the run's: what ran out of memory has its second turn
    begun: Resumed | None = None  #: with the end of the one before; nobody need have written more of it
    end: End | None = None

    @property
    def budget_usd(self) -> float | None:
        """What the run may have cost by its end, with the legs before."""
        budget = self.limits.budget_usd
        return None if budget is None else budget + (self.spent_usd or 0.0)


def find_leg(backend: Backend, spec: Spec) -> Leg:
    """A run's last leg. Each of its objects is written once: so nobody who is late can end, or cancel, a later leg.

    Raises `Refused` where it cannot be read how one began.
    """
    *_, leg = legs_of(backend, spec)
    return leg


def legs_of(backend: Backend, spec: Spec) -> Iterator[Leg]:
    """A run's legs, one after another. Raises `Refused` as `find_leg`."""
    leg = Leg(
        number=0,
        fleet=spec.fleet,
        limits=spec.terms.limits,
        began_at=spec.created_at,
        resources=spec.resources,
        end=read_end(backend, spec.run),
    )
    yield leg
    while leg.end is not None and leg.end.state not in WHOLE:
        number = leg.number + 1
        if (begun := leg.end.onward or _resumed(backend, RunNames(spec.run, number))) is None:
            return
        end, resources = read_end(backend, spec.run, number), leg.resources
        if begun.memory_mib:
            resources = begun.sized(resources)
        leg = Leg(
            number=number,
            fleet=begun.fleet,
            forgiven=begun.forgiven,
            limits=begun.limits,
            began_at=begun.began_at,
            spent_usd=leg.end.spent_usd,
            resources=resources,
            larger=leg.larger or begun.memory_mib > 0,
            begun=leg.end.onward,
            end=end,
        )
        yield leg


def _resumed(backend: Backend, names: RunNames) -> Resumed | None:
    try:
        return Resumed.read(backend.key, names.resumed, backend.store.get(names.resumed, SMALL_BYTES))
    except NotFound:
        return None


def begin_leg(backend: Backend, run: RunId, after: int, *, forgiven: int, limits: Limits = NO_LIMITS) -> None:
    """Resume a run after that leg has ended, on a fleet of its own; if somebody else did so first, theirs holds."""
    write_leg(
        backend,
        RunNames(run, after + 1),
        Resumed(fleet=new_fleet_id(), forgiven=forgiven, limits=limits, began_at=time.time()),
    )


def write_leg(backend: Backend, names: RunNames, resumed: Resumed) -> None:
    """That a leg has begun so, for its workers, too; if somebody has written that before, theirs holds."""
    with suppress(Exists):
        backend.store.create(names.resumed, resumed.sealed(backend.key, names.resumed))


def read_end(backend: Backend, run: RunId, leg: int = 0) -> End | None:
    """How a leg ended; None while it has not. Of an end that cannot be read, that and why is all that is known."""
    key = RunNames(run, leg).end
    try:
        return End.read(backend.key, key, backend.store.get(key, SMALL_BYTES))
    except NotFound:
        return None
    except Refused as error:
        return End(state=RunState.DAMAGED, reason=str(error), ended_at=None)


def last_end(backend: Backend, run: RunId) -> End | None:
    """How a run ended that was not resumed; None while it has not, also where what ran out of memory goes on."""
    leg = 0
    while (end := read_end(backend, run, leg)) is not None and end.onward is not None:
        leg += 1
    return end


def write_end(backend: Backend, run: RunId, leg: int, end: End) -> End:
    """End a leg so; how it has ended, if another process was first."""
    key = RunNames(run, leg).end
    try:
        backend.store.create(key, end.sealed(backend.key, key))
    except Exists:
        return read_end(backend, run, leg) or end
    return end


def note_damage(backend: Backend, run: RunId, leg: int, damage: str) -> None:
    """Write beside how a leg ended which of its answers were found to be damaged since, for who merely looks.

    Where that cannot be, nothing is lost.
    """
    key = RunNames(run, leg).end
    with suppress(NotFound, Denied, Unavailable):
        end = read_end(backend, run, leg)
        if end is not None and end.known and end.damage != damage:
            backend.store.put(key, replace(end, damage=damage).sealed(backend.key, key))


def is_cancelled(backend: Backend, run: RunId, leg: int = 0) -> bool:
    """Whether somebody said so in that leg; it has ended once a driver has seen it."""
    return is_there(backend.store, RunNames(run, leg).cancel)


def mark_cancelled(backend: Backend, run: RunId, leg: int) -> None:
    """Tell everybody that a run is cancelled; whoever is interrupted here has told it all the same.

    Where what ran out of memory goes on, which nobody has asked for, that is cancelled, too.
    """
    failed: list[Exception] = []

    def mark() -> None:
        try:
            backend.store.put(RunNames(run, leg).cancel, b"")
            if (end := read_end(backend, run, leg)) is not None and end.onward is not None:
                backend.store.put(RunNames(run, leg + 1).cancel, b"")
        except Exception as error:
            failed.append(error)

    marking = Thread(target=mark, name=f"starburst-cancel-{run}")  # no daemon: the interpreter waits for it
    try:
        marking.start()
    except RuntimeError:  # the interpreter is about to end, and starts no more threads
        mark()
    else:
        marking.join()
    if failed:
        raise failed[0]


def kept_longer_s(backend: Backend, run: RunId) -> float:
    """How much longer than usual a run is kept after its end. Raises `Refused` where that cannot be read."""
    key = RunNames(run).expires
    try:
        return Expires.read(backend.store.get(key, SMALL_BYTES), key).longer_s
    except NotFound:
        return 0.0


def expires_at(backend: Backend, run: RunId, leg: int) -> float | None:
    """When a run may be pruned (store clock), None where that leg has no end. Raises `Refused` if that is no time."""
    try:
        ended = backend.store.written_at(RunNames(run, leg).end)
    except NotFound:
        return None
    return ended + backend.keep_s + kept_longer_s(backend, run)


def keep_longer(backend: Backend, run: RunId, seconds: float) -> None:
    """Keep a run so much longer, after its end, than it would be."""
    longer = seconds
    with suppress(Refused):  # what cannot be read is replaced
        longer += kept_longer_s(backend, run)
    backend.store.put(RunNames(run).expires, Expires(longer).body)
