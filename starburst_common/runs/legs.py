"""How a leg of a run began, when it stops and how it ended, in small sealed documents. Bytes and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Self

from starburst_common.limits import Limits
from starburst_common.model import Buffer, FailureKind, FleetId, RunState
from starburst_common.ports import TOLLS
from starburst_common.resources import Resources
from starburst_common.runs.records import limits_in
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import Fields, malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """That a run goes on, in a further leg."""

    fleet: FleetId
    forgiven: int  #: items that had failed when it began: whoever resumed the run knew of them
    limits: Limits = field(default_factory=Limits)
    began_at: float = 0.0  #: wall clock
    cpu: float = 0.0  #: of its workers, which are larger than the run's; 0 where they are as those of the leg before
    memory_mib: int = 0  #: the same

    def sized(self, resources: Resources) -> Resources:
        """What its workers have, where those before had that."""
        return replace(resources, cpu=self.cpu, memory_mib=self.memory_mib, memory_given=True)

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, asdict(self))

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        return cls.within(open_document(key, about, blob)[0])

    @classmethod
    def within(cls, fields: Fields) -> Self:
        """As a part of a document. Raises `Refused`."""
        return cls(
            fleet=FleetId(fields.name("fleet")),
            forgiven=fields.whole("forgiven"),
            limits=limits_in(fields.fields("limits")),
            began_at=fields.moment("began_at"),
            cpu=fields.number("cpu") if fields.given("cpu") else 0.0,
            memory_mib=fields.whole("memory_mib") if fields.given("memory_mib") else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a leg of a run ended."""

    state: RunState
    reason: str = ""  #: why, where that is not because all is answered
    items: int = 0
    answered: int = 0
    failed: int = 0
    withdrawn: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  #: of failures, with how many of each
    workers: int = 0  #: that settled something
    slot_seconds: float = 0.0  #: slot time that was spent
    attempts: int = 0  #: at chunks that are settled
    tolls: dict[str, int] = field(default_factory=dict)  #: requests to store and queue that were charged for, about
    untold: dict[str, int] = field(default_factory=dict)  #: of these, what no outcome tells
    memory_mib: float = 0.0  #: the most that a slot has taken; 0 where nobody knows
    outcomes: int | None = None  #: that these numbers are of; None where nobody says
    ended_at: float | None  #: wall clock; None where it cannot be read how it ended
    input_lost: bool | None = None  #: because the rest of its input never came; None where nobody says
    limit: FailureKind | None = None  #: BUDGET or DEADLINE, where that ended it
    spent_usd: float | None = None  #: what it had cost by then, in all legs; None where nothing is charged for
    priced: str = ""  #: by which prices, in words
    damage: str = ""  #: which of its answers were found to be damaged since
    onward: Resumed | None = None  #: the leg that what ran out of memory goes on in; nobody need begin it

    @property
    def known(self) -> bool:
        """Whether it can be read."""
        return self.ended_at is not None

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, asdict(self))

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        end, _ = open_document(key, about, blob)
        if (state := end.text("state")) not in [*RunState]:
            raise malformed(about, f"no state {state!r:.40}")
        return cls(
            state=RunState(state),
            reason=end.text("reason"),
            **{name: end.whole(name) for name in ("items", "answered", "failed", "withdrawn", "workers")},
            kinds=end.counts("kinds", [*FailureKind]),
            slot_seconds=end.number("slot_seconds"),
            attempts=end.whole("attempts"),
            memory_mib=end.number("memory_mib"),
            tolls=end.counts("tolls", TOLLS) if end.given("tolls") else {},
            untold=end.counts("untold", TOLLS) if end.given("untold") else {},
            outcomes=end.whole("outcomes") if end.given("outcomes") else None,
            ended_at=end.moment("ended_at"),
            input_lost=end.flag("input_lost") if end.given("input_lost") else None,
            limit=_kind(end, "limit") if end.given("limit") else None,
            spent_usd=end.number("spent_usd") if end.given("spent_usd") else None,
            priced=end.text("priced") if end.given("priced") else "",
            damage=end.text("damage") if end.given("damage") else "",
            onward=Resumed.within(end.fields("onward")) if end.given("onward") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """When the workers of a leg stop, whoever drives it or does not: by its deadline, or when its budget is spent."""

    at: float  #: wall clock, as its store tells the time
    kind: FailureKind

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, asdict(self))

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        fields, _ = open_document(key, about, blob)
        return cls(at=fields.moment("at"), kind=_kind(fields, "kind"))


def _kind(fields: Fields, name: str) -> FailureKind:
    if (kind := fields.text(name)) not in [*FailureKind]:
        raise malformed(name, f"no kind {kind!r:.40}")
    return FailureKind(kind)
