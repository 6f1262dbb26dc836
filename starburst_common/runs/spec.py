"""What was asked of a run, how it ended and how long it is kept: its few single objects in the store."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starburst_common.code.place import Place
from starburst_common.errors import Denied, Exists, NotFound, Refused, Unavailable, UnknownVersion
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import Buffer, FleetId, RunId, RunState
from starburst_common.names import RunNames, made_at, new_fleet_id
from starburst_common.options import Options
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend, is_there
from starburst_common.resources import Resources
from starburst_common.runs.patience import create_ours
from starburst_common.runs.reconcile import Policy
from starburst_common.runs.records import read_options
from starburst_common.tolerance import Tolerance
from starburst_common.wire.documents import document, read_document
from starburst_common.wire.fields import malformed
from starburst_common.wire.seals import WIRE_VERSION, seal, unknown_version, unseal

_log = our_log()
WHOLE = (RunState.SUCCEEDED, RunState.FAILED)  #: every item had its answer: nothing is there to be resumed
_LONGEST_S = 1e11  #: three thousand years: no date is much later


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What was asked of a run, as it is stored."""

    run: RunId
    fleet: FleetId
    label: str
    tags: dict[str, str]
    function: str
    created_at: float
    workers: int
    resources: Resources
    options: dict[str, Any]
    place: Place
    parent: RunId | None = None  #: the run whose items it runs again
    damage: str = ""  #: why it cannot be read; nothing above but the run's name is known then

    @classmethod
    def of(
        cls,
        run: RunId,
        fleet: Fleet,
        function: str,
        options: Options,
        *,
        stop_at_first: bool,
        place: Place | None = None,
    ) -> Spec:
        """From checked options; `stop_at_first` failure unless they say what is tolerated.

        Where failures were asked for, they stop nothing, however many are alike.
        """
        tolerate = options.tolerate
        if stop_at_first and tolerate == Tolerance():
            tolerate = Tolerance(count=0)
        return cls(
            run=run,
            fleet=fleet.id,
            label=options.label,
            tags=options.tags,
            function=function,
            created_at=time.time(),
            workers=fleet.workers,
            resources=fleet.spec.resources,
            options=_kept(options, tolerate),
            place=place or Place(),
        )

    def write(self, backend: Backend) -> None:
        """Store it, and say what of it nothing keeps. Twice is no error."""
        if self.options["budget_usd"] is not None:
            _log.warning(
                "run %s: budget=%g is written down, but nothing stops there yet: bound the cost by workers and timeout",
                self.run,
                self.options["budget_usd"],
            )
        resources = self.resources
        fields = {
            "wire": WIRE_VERSION,
            "python": sys.version_info[:2],
            "run": self.run,
            "fleet": self.fleet,
            "label": self.label,
            "tags": self.tags,
            "function": self.function,
            "created_at": self.created_at,
            "workers": self.workers,
            "cpu": resources.cpu,
            "memory_mib": resources.memory_mib,
            "slots": resources.slots,
            "memory_given": resources.memory_given,
            "spot": resources.spot,
            "image": resources.image,
            "options": self.options,
            "place": self.place.fields,
            "parent": self.parent,
        }
        key = RunNames(self.run).spec
        create_ours(backend.store, key, seal(backend.key, key, document(fields)))

    @classmethod
    def read(cls, backend: Backend, run: RunId) -> Spec:
        """From the store. Raises `NotFound`."""
        return cls._read(backend, run, cls._stored(backend, run))

    @staticmethod
    def _stored(backend: Backend, run: RunId) -> Buffer:
        try:
            return backend.store.get(RunNames(run).spec, SMALL_BYTES)
        except NotFound:
            raise NotFound(
                f"no run {run!r} on the {backend.name} backend: `starburst runs` lists those there are"
            ) from None

    @classmethod
    def _read(cls, backend: Backend, run: RunId, blob: Buffer) -> Spec:
        key = RunNames(run).spec
        try:
            fields, _ = read_document(unseal(backend.key, key, blob), key)
            if fields.whole("wire") != WIRE_VERSION:
                raise unknown_version(key, fields.whole("wire"))
        except UnknownVersion as error:
            raise UnknownVersion(f"run {run} was started by another starburst release: {error}") from None
        return cls(
            run=run,
            fleet=FleetId(fields.name("fleet")),
            label=fields.text("label"),
            tags=fields.texts("tags"),
            function=fields.text("function"),
            created_at=fields.moment("created_at"),
            workers=fields.whole("workers", least=1),
            resources=Resources(
                cpu=fields.number("cpu"),
                memory_mib=fields.whole("memory_mib", least=1),
                slots=fields.whole("slots", least=1),
                memory_given=fields.flag("memory_given"),
                spot=fields.flag("spot"),
                image=fields.text("image"),
            ),
            options=read_options(fields.fields("options")),
            place=Place.read(fields.fields("place")),
            parent=RunId(fields.name("parent")) if fields.given("parent") else None,
        )

    @classmethod
    def find(cls, backend: Backend, run: RunId) -> Spec:
        """As `read`, but of a run whose spec cannot be read says why. Raises `NotFound` where nothing is kept of it."""
        return next(iter(cls.find_tagged(backend, run, {})))

    @classmethod
    def find_tagged(cls, backend: Backend, run: RunId, tags: Mapping[str, str]) -> list[Spec]:
        """As `find`; none where it has not these tags, and then nothing but its bytes was looked at."""
        try:
            blob = cls._stored(backend, run)
            body = bytes(blob) if tags else b""
            if not all(
                json.dumps({name: tag}, separators=(",", ":"))[1:-1].encode() in body for name, tag in tags.items()
            ):
                return []
            found = cls._read(backend, run, blob)
        except NotFound:  # or its name is none
            names = RunNames(run)
            if all(names.comes_late(key) for key in backend.store.list(names.folder)):  # not begun yet, or removed
                raise
            found = cls._unknown(run, f"{RunNames(run).spec} is gone")
        except Refused as error:
            found = cls._unknown(run, str(error))
        return [found] if tags.items() <= found.tags.items() else []

    @classmethod
    def _unknown(cls, run: RunId, damage: str) -> Spec:
        asked = Options.of()
        try:
            made = made_at(run)
        except ValueError:
            made = 0.0
        return cls(
            run=run,
            fleet=FleetId(""),
            label="",
            tags={},
            function="",
            created_at=made,
            workers=0,
            resources=asked.resources,
            options=_kept(asked, asked.tolerate),
            place=Place(),
            damage=damage,
        )

    @property
    def policy(self) -> Policy:
        """For the reconciler, with a tolerance as it was asked."""
        return Policy(
            workers=self.workers,
            slots=self.resources.slots,
            tolerate=Tolerance(count=self.options["tolerate_count"], percent=self.options["tolerate_percent"]),
            resend_after_s=5.0,
            breaker=not self.options["return_exceptions"],
        )


def _kept(options: Options, tolerate: Tolerance) -> dict[str, Any]:
    return {
        "chunk_size": options.chunk_size,
        "retries": options.retries,
        "retry_delay_s": options.retry_delay_s,
        "timeout_s": options.timeout_s,
        "tolerate_count": tolerate.count,
        "tolerate_percent": tolerate.percent,
        "return_exceptions": options.return_exceptions,
        "budget_usd": options.budget_usd,
        "seed": options.seed,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A stretch of a run: from its start, or from where it was resumed, to its end. Only the last may have none."""

    number: int
    fleet: FleetId
    forgiven: int = 0  #: items that had failed when it began: whoever resumed the run knew of them
    end: dict[str, Any] | None = None  #: as `read_end` gives it


def find_leg(backend: Backend, spec: Spec) -> Leg:
    """A run's last leg. Each of its objects is written once: so nobody who is late can end, or cancel, a later leg.

    Raises `Refused` where it cannot be read how one began.
    """
    leg = Leg(number=0, fleet=spec.fleet, end=read_end(backend, spec.run))
    while leg.end is not None and leg.end["state"] not in WHOLE:
        key = RunNames(spec.run, leg.number + 1).resumed
        try:
            begun, _ = read_document(unseal(backend.key, key, backend.store.get(key, SMALL_BYTES)), key)
        except NotFound:
            break
        leg = Leg(
            number=leg.number + 1,
            fleet=FleetId(begun.name("fleet")),
            forgiven=begun.whole("forgiven"),
            end=read_end(backend, spec.run, leg.number + 1),
        )
    return leg


def begin_leg(backend: Backend, run: RunId, after: int, *, forgiven: int) -> None:
    """Resume a run after that leg has ended, on a fleet of its own; if somebody else did so first, theirs holds."""
    key = RunNames(run, after + 1).resumed
    begun = {"fleet": new_fleet_id(), "forgiven": forgiven}
    with suppress(Exists):
        backend.store.create(key, seal(backend.key, key, document(begun)))


def read_end(backend: Backend, run: RunId, leg: int = 0) -> dict[str, Any] | None:
    """How a leg ended; None while it has not. Of an end that cannot be read, that and why is all that is known."""
    key = RunNames(run, leg).end
    try:
        end, _ = read_document(unseal(backend.key, key, backend.store.get(key, SMALL_BYTES)), key)
        if end.text("state") not in [*RunState]:
            raise malformed(key, f"no state {end.text('state')!r:.40}")
        return {
            "state": end.text("state"),
            "reason": end.text("reason"),
            **{name: end.whole(name) for name in ("items", "answered", "failed")},
            "slot_seconds": end.number("slot_seconds"),
            "ended_at": end.moment("ended_at"),
            "input_lost": end.flag("input_lost") if end.given("input_lost") else None,  # earlier releases do not tell
            "damage": end.text("damage") if end.given("damage") else "",
        }
    except NotFound:
        return None
    except Refused as error:
        return {"state": RunState.DAMAGED, "reason": str(error), "ended_at": None}


def note_damage(backend: Backend, run: RunId, leg: int, damage: str) -> None:
    """Write beside how a leg ended which of its answers were found to be damaged since, for who merely looks.

    Where that cannot be, nothing is lost.
    """
    key = RunNames(run, leg).end
    with suppress(NotFound, Refused, Denied, Unavailable):
        end, _ = read_document(unseal(backend.key, key, backend.store.get(key, SMALL_BYTES)), key)
        if end.raw.get("damage") != damage:
            backend.store.put(key, seal(backend.key, key, document({**end.raw, "damage": damage})))


def is_cancelled(backend: Backend, run: RunId, leg: int = 0) -> bool:
    """Whether somebody said so in that leg; it has ended once a driver has seen it."""
    return is_there(backend.store, RunNames(run, leg).cancel)


def kept_longer_s(backend: Backend, run: RunId) -> float:
    """How much longer than usual a run is kept after its end. Raises `Refused` where that cannot be read."""
    key = RunNames(run).expires
    try:
        longer = float(bytes(backend.store.get(key, SMALL_BYTES)))
    except NotFound:
        return 0.0
    except ValueError:
        longer = math.nan
    if not 0 <= longer <= _LONGEST_S:
        raise Refused(f"{key}: not a number of seconds")
    return longer


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
    backend.store.put(RunNames(run).expires, repr(min(longer, _LONGEST_S)).encode())
