"""What is asked of a run, in a small sealed document. Bytes and back."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from starburst_common.alerts import alerts_in
from starburst_common.code.place import Place, user_here
from starburst_common.ids import made_at
from starburst_common.limits import Limits
from starburst_common.model import Buffer, FleetId, RunId
from starburst_common.resources import FARGATE, Resources
from starburst_common.runs.driven import kept_s
from starburst_common.tolerance import Tolerance
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import Fields, malformed
from starburst_common.wire.seals import WIRE_VERSION, signer_of, unknown_version

if TYPE_CHECKING:  # a worker reads these documents, and makes and decides none
    from starburst_common.fleets.fleet import Fleet
    from starburst_common.options import Options
    from starburst_common.runs.view import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a run's items are run, and what stops it."""

    chunk_size: int | None
    retries: int
    retry_delay_s: float
    timeout_s: float | None
    tolerate: Tolerance
    return_exceptions: bool
    seed: int | None
    batch: int | None = None
    results_to: str = ""  #: pattern of the files that values are written to
    priority: float = 1.0  #: its share where runs wait for what starts workers
    speculate: bool = False  #: what takes long near the end is given to an idle worker, too
    escalate: bool = False  #: what runs out of memory goes on with more, once
    driver_ttl_s: float | None = None  #: workers go on so long without a driver; None as long as there is work
    limits: Limits = field(default_factory=Limits)
    keep_warm_s: float = 0.0  #: its fleet stays open so long after it

    @classmethod
    def of(cls, options: Options, *, stop_at_first: bool = False, tick_s: float = 0.0) -> Self:
        """From checked options, for a driver at that pace; `stop_at_first` failure unless they say what is tolerated.

        Where failures were asked for, they stop nothing, however many are alike.
        """
        tolerate = options.tolerate
        if stop_at_first and tolerate == Tolerance():
            tolerate = Tolerance(count=0)
        return cls(
            chunk_size=options.chunk_size,
            retries=options.retries,
            retry_delay_s=options.retry_delay_s,
            timeout_s=options.timeout_s,
            tolerate=tolerate,
            return_exceptions=options.return_exceptions,
            seed=options.seed,
            batch=options.batch,
            results_to=options.results_to,
            priority=options.priority,
            speculate=options.speculate,
            escalate=options.escalate,
            keep_warm_s=options.keep_warm_s,
            driver_ttl_s=None if options.driver_ttl_s is None else kept_s(options.driver_ttl_s, tick_s),
            limits=options.limits,
        )

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        fields = asdict(self)
        tolerate = fields.pop("tolerate")
        return fields | {f"tolerate_{name}": limit for name, limit in tolerate.items()}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """The inverse of `fields`. Raises `Refused`."""
        return cls(
            chunk_size=fields.whole("chunk_size", least=1) if fields.given("chunk_size") else None,
            retries=fields.whole("retries"),
            retry_delay_s=fields.number("retry_delay_s"),
            timeout_s=fields.number("timeout_s") if fields.given("timeout_s") else None,
            tolerate=Tolerance(
                count=fields.whole("tolerate_count") if fields.given("tolerate_count") else None,
                percent=fields.number("tolerate_percent") if fields.given("tolerate_percent") else None,
            ),
            return_exceptions=fields.flag("return_exceptions"),
            seed=fields.whole("seed") if fields.given("seed") else None,
            batch=fields.whole("batch", least=1) if fields.given("batch") else None,
            results_to=fields.text("results_to"),
            priority=fields.number("priority") if fields.given("priority") else 1.0,
            speculate=fields.flag("speculate") if fields.given("speculate") else False,
            escalate=fields.flag("escalate") if fields.given("escalate") else False,
            driver_ttl_s=fields.number("driver_ttl_s") if fields.given("driver_ttl_s") else None,
            limits=limits_in(fields.fields("limits")),
            keep_warm_s=fields.number("keep_warm_s") if fields.given("keep_warm_s") else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What was asked of a run."""

    run: RunId
    fleet: FleetId
    label: str
    tags: dict[str, str]
    function: str
    created_at: float
    workers: int
    resources: Resources
    terms: Terms
    place: Place
    parent: RunId | None = None  #: the run whose items it runs again
    who: str = ""  #: began it: a user, and on which machine
    python: tuple[int, int] = field(default_factory=lambda: sys.version_info[:2])  #: that its values were pickled by
    key: bytes = field(default=b"", repr=False, compare=False)  #: that it was found to be sealed by
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
        parent: RunId | None = None,
    ) -> Self:
        """From checked options, as `Terms.of`."""
        return cls(
            run=run,
            fleet=fleet.id,
            label=options.label,
            tags=options.tags,
            function=function,
            created_at=time.time(),
            workers=fleet.workers,
            resources=fleet.spec.resources,
            terms=Terms.of(options, stop_at_first=stop_at_first, tick_s=fleet.backend.tick_s),
            place=place or Place(),
            parent=parent,
            who=user_here(),
        )

    @classmethod
    def unreadable(cls, run: RunId, damage: str) -> Self:
        """Of a run of which no more is known than that, and why."""
        from starburst_common.options import Options

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
            terms=Terms.of(asked),
            place=Place(),
            damage=damage,
        )

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        names = ("python", "run", "fleet", "label", "tags", "function", "created_at", "workers", "parent", "who")
        fields = {"wire": WIRE_VERSION, **{name: getattr(self, name) for name in names}, **asdict(self.resources)}
        return seal_document(key, about, fields | {"options": self.terms.fields, "place": self.place.fields})

    @classmethod
    def read(cls, key: bytes, about: str, run: RunId, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        fields, _ = open_document(key, about, blob)
        if fields.whole("wire") != WIRE_VERSION:
            raise unknown_version(about, fields.whole("wire"))
        python = fields.many("python")
        if len(python) != 2 or {*map(type, python)} != {int}:
            raise malformed(about, f"Python {python!r:.40}")
        return cls(
            run=run,
            key=signer_of(key, about, blob),
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
                storage_gb=fields.whole("storage_gb") if fields.given("storage_gb") else 0,
                env=fields.texts("env") if fields.given("env") else {},
                task_role=fields.text("task_role") if fields.given("task_role") else "",
                aws_tags=fields.texts("aws_tags") if fields.given("aws_tags") else {},
                capacity=fields.text("capacity") if fields.given("capacity") else FARGATE,
                gpus=fields.whole("gpus") if fields.given("gpus") else 0,
            ),
            terms=Terms.read(fields.fields("options")),
            place=Place.read(fields.fields("place")),
            parent=RunId(fields.name("parent")) if fields.given("parent") else None,
            who=fields.text("who"),
            python=(python[0], python[1]),
        )

    @property
    def policy(self) -> Policy:
        """For the reconciler, with a tolerance as it was asked."""
        from starburst_common.runs.view import Policy

        return Policy(
            workers=self.workers,
            slots=self.resources.slots,
            tolerate=self.terms.tolerate,
            breaker=not self.terms.return_exceptions,
            priority=self.terms.priority,
            speculate=self.terms.speculate,
            escalate=self.terms.escalate,
            limits=self.terms.limits,
            began_at=self.created_at,
        )


def limits_in(fields: Fields) -> Limits:
    """Those of a run, or of a leg of it. Raises `Refused`."""
    return Limits(
        budget_usd=fields.number("budget_usd") if fields.given("budget_usd") else None,
        hourly_usd=fields.number("hourly_usd") if fields.given("hourly_usd") else None,
        alerts=_alerts(fields) if fields.given("alerts") else None,
        deadline_s=fields.number("deadline_s") if fields.given("deadline_s") else None,
        deadline_at=fields.moment("deadline_at") if fields.given("deadline_at") else None,
    )


def _alerts(fields: Fields) -> tuple[float, ...]:
    found = alerts_in(fields.many("alerts"))
    if found is None:
        raise malformed("limits", f"{fields['alerts']!r:.40} are no percentages")
    return found
