"""What of a run is kept beyond it, for whoever counts costs: one small sealed entry. Bytes and back.

Everything in it is as the run's stored documents tell it, so that whoever writes it writes the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, Self

from starburst_common.model import NATS, NO_NAT, Buffer, FailureKind, FleetId, RunId, RunState, Tariff
from starburst_common.ports import TOLLS
from starburst_common.resources import EC2 as ON_EC2
from starburst_common.resources import FARGATE as ON_FARGATE
from starburst_common.resources import Resources
from starburst_common.wire.documents import open_kept, seal_document
from starburst_common.wire.fields import Fields, malformed

_LEAST_USD, _MOST_USD = Decimal("1e-15"), Decimal("1e15")
LOCAL, FARGATE, FARGATE_SPOT = "local", "FARGATE", "FARGATE_SPOT"  #: capacities
EC2, EC2_SPOT = "EC2", "EC2_SPOT"


class Stint(NamedTuple):
    """A leg of a run: what it had of a fleet's time."""

    fleet: FleetId
    slot_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEntry:
    """What a run was, what it used, and what that was estimated to cost when it ended."""

    run: RunId
    parent: RunId | None  #: the run whose failed items it ran again
    backend: str  #: "local" or "aws"
    tariff: Tariff
    who: str
    function: str
    label: str
    tags: dict[str, str]
    state: RunState
    items: int
    succeeded: int
    failed: dict[str, int]  #: by kind
    withdrawn: int
    attempts: int  #: at settled chunks
    tolls: dict[str, int]  #: requests to S3 and SQS, and bytes, about; see `ports.TOLLS`
    memory_peak_mib: float  #: the most that a slot has taken; 0 where nobody knows
    workers: dict[str, int]  #: that settled something, by the capacity that was asked for
    cpu: float  #: of each, as its memory and slots
    memory_mib: int
    slots: int
    stints: tuple[Stint, ...]
    created_at: float  #: wall clock
    ended_at: float
    usd: dict[str, Decimal] = field(default_factory=dict)  #: list prices by component; none where one is not known
    unknown: str = ""  #: which price is not known
    prices: str = ""  #: where these are from
    prices_as_of: str = ""
    keep_warm_s: float = 0.0  #: its fleet stayed open so long after it

    @property
    def slot_seconds(self) -> float:
        """Slot time of all legs."""
        return sum(stint.slot_seconds for stint in self.stints)

    @property
    def asked(self) -> Resources:
        """What each of its workers was to have; on this machine as it would be asked of Fargate."""
        on_ec2 = not self.workers.keys().isdisjoint((EC2, EC2_SPOT))
        return Resources(
            cpu=self.cpu,
            memory_mib=self.memory_mib,
            slots=self.slots,
            spot=not self.workers.keys().isdisjoint((FARGATE_SPOT, EC2_SPOT)),
            capacity=ON_EC2 if on_ec2 else ON_FARGATE,
        )

    @property
    def flow(self) -> str:
        """The Prefect flow that it was of, or the flow run where only that is known; empty for neither."""
        return self.tags.get("prefect-flow") or self.tags.get("prefect-flow-run", "")

    @property
    def dag(self) -> str:
        """The Airflow DAG that it was of, if one."""
        return self.tags.get("airflow-dag", "")

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(
            key, about, {**asdict(self), "usd": {name: f"{usd:.12g}" for name, usd in self.usd.items()}}
        )

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer, written_at: Callable[[], float] = time.time) -> Self:
        """The inverse of `sealed`, as `open_kept`. Raises `UnknownVersion` or `Refused`."""
        fields = open_kept(key, about, blob, written_at)
        if (state := fields.text("state")) not in [*RunState]:
            raise malformed(about, f"no state {state!r:.40}")
        return cls(
            run=RunId(fields.name("run")),
            parent=RunId(fields.name("parent")) if fields.given("parent") else None,
            backend=fields.text("backend"),
            tariff=_tariff(fields.fields("tariff")),
            who=fields.text("who"),
            function=fields.text("function"),
            label=fields.text("label"),
            tags=fields.texts("tags"),
            state=RunState(state),
            items=fields.whole("items"),
            succeeded=fields.whole("succeeded"),
            failed=fields.counts("failed", [*FailureKind]),
            withdrawn=fields.whole("withdrawn"),
            attempts=fields.whole("attempts") if fields.given("attempts") else 0,
            tolls=fields.counts("tolls", TOLLS) if fields.given("tolls") else {},
            memory_peak_mib=fields.number("memory_peak_mib") if fields.given("memory_peak_mib") else 0.0,
            workers=fields.counts("workers", (LOCAL, FARGATE, FARGATE_SPOT, EC2, EC2_SPOT)),
            cpu=fields.number("cpu"),
            memory_mib=fields.whole("memory_mib", least=1),
            slots=fields.whole("slots", least=1),
            stints=tuple(_stint(about, each) for each in fields.many("stints")),
            created_at=fields.moment("created_at"),
            ended_at=fields.moment("ended_at"),
            usd=_usd(about, fields.texts("usd")),
            unknown=fields.text("unknown"),
            prices=fields.text("prices"),
            prices_as_of=fields.text("prices_as_of"),
            keep_warm_s=fields.number("keep_warm_s") if fields.given("keep_warm_s") else 0.0,
        )


def _tariff(fields: Fields) -> Tariff:
    if (nat := fields.text("nat") if fields.given("nat") else NO_NAT) not in NATS:
        raise malformed("a tariff", f"no NAT gateway {nat!r:.40}")
    return Tariff(
        site=fields.text("site"),
        region=fields.text("region"),
        arch=fields.text("arch"),
        public_ipv4=fields.flag("public_ipv4"),
        nat=nat,
        types=tuple(map(str, fields.many("types"))) if fields.given("types") else (),
        gpu_types=tuple(map(str, fields.many("gpu_types"))) if fields.given("gpu_types") else (),
        managed=fields.flag("managed") if fields.given("managed") else True,
        gpus_managed=fields.flag("gpus_managed") if fields.given("gpus_managed") else True,
    )


def _stint(about: str, value: Any) -> Stint:
    if not isinstance(value, list) or len(value) != 2:
        raise malformed(about, f"{value!r:.40} is no leg of a run")
    fields = Fields(about, {"fleet": value[0], "slot_seconds": value[1]})
    return Stint(FleetId(fields.name("fleet")), fields.number("slot_seconds"))


def _usd(about: str, texts: Mapping[str, str]) -> dict[str, Decimal]:
    try:
        found = {name: Decimal(text) for name, text in texts.items()}
    except InvalidOperation:
        found = {"": Decimal("NaN")}
    if not all(usd.is_finite() and (usd == 0 or _LEAST_USD <= usd <= _MOST_USD) for usd in found.values()):
        raise malformed(about, f"{texts!r:.80} are no amounts of money")
    return found
