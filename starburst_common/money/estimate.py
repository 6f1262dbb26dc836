"""Worker time and resources in; what AWS charges out, by component, with the prices' source and date.

Fargate bills vCPU and memory by the second, from pulling the image to the end of the task, at least one minute a task.
Source: https://aws.amazon.com/fargate/pricing/, "Pricing details". A public address is charged for as long.
Source: https://aws.amazon.com/vpc/pricing/, "Public IPv4 address".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import ROUND_UP, Decimal
from typing import Any

from starburst_common.dollars import usd_text
from starburst_common.model import Granted, RunStatus, Tariff
from starburst_common.money.book import DERIVED, OBSERVED, ON_DEMAND, SPOT, fargate_price, item_price
from starburst_common.money.shared import FEE, shared_hour
from starburst_common.resources import EC2, Resources

LEAST_BILLED_S = 60  #: of each worker; source: as above
FREE_STORAGE_GB = 20  #: of each worker; source: as above
COMPUTE, STORAGE, ADDRESSES = "compute", "storage", "public addresses"
UNUSED = "idle instances"  #: a component, too
_ON = {ON_DEMAND: "Fargate", SPOT: "Fargate Spot"}
_LOCAL = Tariff()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A price for work, not rounded, and what it was made of."""

    parts: dict[str, Decimal] = field(default_factory=dict)  #: US dollars by component
    unknown: str = ""  #: which price is not known; there are no parts then
    vcpu_hours: Decimal
    gb_hours: Decimal
    region: str
    arch: str
    capacity: str  #: "on-demand" or "spot"
    on: str = "Fargate"  #: or "EC2", and which type that is, or is taken to be
    source: str
    as_of: str
    basis: str = OBSERVED  #: of the price of vCPU and memory; or "derived" from others
    discount: float = 0.0  #: that is taken off, as a share
    metered: bool = False  #: by the time of its workers, and no estimate
    provisional: bool = False  #: its workers have not all stopped, as far as is known
    priced: str = ""  #: by which prices, in words, where its workers were on several types of instances
    spot_saved: Decimal = Decimal(0)  #: US dollars that those on Spot would have cost more on demand

    @property
    def usd(self) -> Decimal | None:
        """US dollars; None where a price is not known."""
        return None if self.unknown else sum(self.parts.values(), Decimal(0))

    @property
    def foreseen_usd(self) -> Decimal | None:
        """The same without idle instances, which no former run tells of: what is held against what was expected."""
        return None if self.usd is None else self.usd - self.parts.get(UNUSED, Decimal(0))

    @property
    def lacks(self) -> str:
        """What is not in it, in words."""
        whole = UNUSED in self.parts or self.priced or not self.on.startswith("EC2")
        return "" if whole else f"without {UNUSED}"

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON, rounded to six digits."""
        return {
            "usd": None if self.usd is None else round(float(self.usd), 6),
            "by_component": {name: round(float(usd), 6) for name, usd in self.parts.items()},
            "unknown": self.unknown,
            "vcpu_hours": round(float(self.vcpu_hours), 6),
            "gb_hours": round(float(self.gb_hours), 6),
            "region": self.region,
            "arch": self.arch,
            "capacity": self.capacity,
            "discount": self.discount,
            "prices_as_of": self.as_of,
            "priced": self.priced,
            "basis": self.basis,
            "metered": self.metered,
            "provisional": self.provisional,
            "spot_saved_usd": round(float(self.spot_saved), 6),
            "source": self.source,
        }

    @property
    def about(self) -> str:
        """It as in "it costs …"."""
        return str(self) if self.unknown or self.metered else f"about {self}"

    def __str__(self) -> str:
        if self.unknown:
            return f"cost not known: {self.unknown}"
        saved = f"; Spot saved {usd_text(self.spot_saved)}" if self.spot_saved else ""
        metered = ("metered so far" if self.provisional else "metered") if self.metered else ""
        if self.priced:
            return f"{usd_text(self.usd)} ({metered}{'; ' * self.metered}{self.priced}){saved}"
        off = f", less {100 * self.discount:g}%" if self.discount else ""
        derived = ", derived" if self.basis == DERIVED else ""
        spot = "Spot" if self.capacity == SPOT else "on demand"
        how = f"{self.arch}, {spot}{derived}{off}{', ' * bool(self.lacks)}{self.lacks}"
        prices = f"{metered}{', ' * self.metered}prices of {self.as_of}"
        return f"{usd_text(self.usd)} on {self.on} in {self.region} ({prices}, {how}){saved}"


def fargate_usd(
    resources: Resources,
    worker_seconds: float,
    workers: int,
    tariff: Tariff = _LOCAL,
    *,
    discount: float = 0.0,
) -> Estimate:
    """What so many seconds of work, spread evenly over the workers, cost; on Spot if the resources are.

    Two workers with 2 vCPU and 8 GB for an hour each, each with a public address; then for ten seconds each, of which
    one minute each is billed:

    >>> hour = fargate_usd(Resources.of(2, "8GB"), 7200, 2)
    >>> hour.parts["compute"], hour.parts["public addresses"], hour.vcpu_hours, hour.gb_hours
    (Decimal('0.233040'), Decimal('0.010'), Decimal('4'), Decimal('16'))
    >>> usd_text(fargate_usd(Resources.of(2, "8GB"), 20, 2).usd), fargate_usd(Resources.of(1), 0, 0).usd
    ('$0.0041', Decimal('0'))
    >>> print(fargate_usd(Resources.of(1, spot=True), 60, 1, Tariff(region="ca-west-1")))
    cost not known: no price of compute on Fargate Spot for x86 in ca-west-1
    """
    hours = billed_hours(worker_seconds, workers)
    return charge(resources, hours, tariff, discount=discount)


def charge(resources: Resources, hours: Decimal, tariff: Tariff = _LOCAL, *, discount: float = 0.0) -> Estimate:
    """What so many hours of workers of these resources cost."""
    if resources.on_ec2:
        return _charge_on_ec2(resources, hours, tariff, discount)
    capacity = SPOT if resources.spot else ON_DEMAND
    vcpu_hours, gb_hours = hours * Decimal(str(resources.cpu)), hours * resources.memory_mib / 1024
    price = fargate_price(tariff.region, arch=tariff.arch, capacity=capacity)
    address = item_price("public-ipv4", tariff.region) if tariff.public_ipv4 else None
    extra_gb = max(resources.storage_gb - FREE_STORAGE_GB, 0)
    parts: dict[str, Decimal | None] = {
        COMPUTE: vcpu_hours * price.usd_per_vcpu_hour + gb_hours * price.usd_per_gb_hour if price else None
    }
    if extra_gb:
        rate = price.usd_per_storage_gb_hour if price else None
        parts[STORAGE] = None if rate is None else hours * extra_gb * rate
    if tariff.public_ipv4:
        parts[ADDRESSES] = hours * address.usd if address else None
    off = Decimal(str(1 - discount)) if discount else 1
    lacking = [name for name, usd in parts.items() if usd is None] if hours else []
    where = f"for {tariff.arch} in {tariff.region}"
    return Estimate(
        parts={} if lacking or not hours else {name: usd * off for name, usd in parts.items() if usd is not None},
        unknown=f"no price of {lacking[0]} on {_ON[capacity]} {where}" if lacking else "",
        vcpu_hours=vcpu_hours,
        gb_hours=gb_hours,
        region=tariff.region,
        arch=tariff.arch,
        capacity=capacity,
        source="" if price is None else price.source,
        as_of="" if price is None else price.as_of,
        basis=OBSERVED if price is None else price.basis,
        discount=discount,
    )


def _charge_on_ec2(resources: Resources, hours: Decimal, tariff: Tariff, discount: float) -> Estimate:
    """The same of their shares of instances. A contract takes nothing off what AWS takes for managing them."""
    found, off = shared_hour(resources, tariff), Decimal(str(1 - discount)) if discount else 1
    parts: dict[str, Decimal] = {}
    if found is not None and hours:
        parts = {COMPUTE: hours * found.compute * off} | ({FEE: hours * found.fee} if found.fee else {})
        parts |= {ADDRESSES: hours * found.address * off} if tariff.public_ipv4 else {}
    where = f"for {tariff.arch} in {tariff.region}"
    return Estimate(
        parts=parts,
        unknown=f"no price of compute on EC2{' Spot' * resources.spot} {where}" if found is None and hours else "",
        vcpu_hours=hours * Decimal(str(resources.cpu)),
        gb_hours=hours * resources.memory_mib / 1024,
        region=tariff.region,
        arch=tariff.arch,
        capacity=SPOT if resources.spot else ON_DEMAND,
        on=f"EC2 {resources.instance_type}".strip(),
        source="" if found is None else found.source,
        as_of="" if found is None else found.as_of,
        basis=OBSERVED if found is None else found.basis,
        discount=discount,
    )


def size_of(granted: Granted) -> Resources:
    """What a worker was given, as it is priced; on an instance that nobody knows as on the cheapest."""
    on_fargate = not granted.instance and granted.capacity in ("", "FARGATE", "FARGATE_SPOT")
    of_instance = {
        "capacity": EC2, "instance_type": granted.instance_type, "gpus": granted.gpus, "managed": granted.managed
    }  # fmt: skip
    return Resources(
        cpu=granted.vcpu,
        memory_mib=granted.memory_mib,
        slots=1,
        spot=granted.spot or granted.capacity == "FARGATE_SPOT",
        storage_gb=granted.storage_gb,
        **({} if on_fargate else of_instance),  # type: ignore[arg-type]
    )


def hourly(granted: Granted, tariff: Tariff, discount: float = 0.0) -> Estimate:
    """What a worker costs an hour, by what it was given.

    >>> granted = Granted(capacity="FARGATE", architecture="", zone="", vcpu=1, memory_mib=2048)
    >>> str(hourly(granted, Tariff()).usd), hourly(granted, Tariff(region="mars-1")).usd
    ('0.054370', None)
    """
    arch = "arm" if granted.architecture.lower() in ("arm64", "aarch64") else "x86"
    at = replace(tariff, arch=arch) if granted.architecture else tariff
    return charge(size_of(granted), Decimal(1), at, discount=discount)


def billed_hours(worker_seconds: float, workers: int) -> Decimal:
    """Hours on the bill: whole seconds of each worker, one minute at least.

    >>> billed_hours(7200, 2), billed_hours(90, 3) == Decimal(180) / 3600
    (Decimal('2'), True)
    """
    if workers <= 0:
        return Decimal(0)
    each_s = (Decimal(str(worker_seconds)) / workers).to_integral_value(ROUND_UP)
    return max(each_s, Decimal(LEAST_BILLED_S)) * workers / 3600


def estimate_of(
    status: RunStatus, resources: Resources, workers: int = 1, tariff: Tariff = _LOCAL, discount: float = 0.0
) -> Estimate:
    """What the time that a run's slots were measured to work would have cost on Fargate, on workers of these resources.

    `workers` is how many were asked for; those without an item do not count. Image pulls and idle slots are not in it.

    >>> from starburst_common.model import RunId, RunState
    >>> status = RunStatus(id=RunId("run-1"), state=RunState.SUCCEEDED, label="", items=100, answered=100, failed=0,
    ...                    workers=0, created_at=0.0, ended_at=90.0, slot_seconds=720.0)
    >>> estimate_of(status, Resources.of(4), workers=2).vcpu_hours  # 4 slots: two workers, 90 s each
    Decimal('0.20')
    """
    items = max(status.items or 0, status.answered)
    return slots_usd(resources, status.slot_seconds, items, workers, tariff, discount=discount)


def slots_usd(
    resources: Resources,
    slot_seconds: float,
    items: int,
    workers: int,
    tariff: Tariff = _LOCAL,
    *,
    discount: float = 0.0,
) -> Estimate:
    """The same of so much slot time, which so many items took."""
    useful = min(workers, -(-items // resources.slots)) if slot_seconds else 0  # else nobody has worked for it
    return fargate_usd(resources, slot_seconds / resources.slots, useful, tariff, discount=discount)


def metered_estimate(usd: Decimal, resources: Resources, tariff: Tariff = _LOCAL, discount: float = 0.0) -> Estimate:
    """What workers of these resources cost by the meter, as the hours of them that it pays for.

    >>> print(metered_estimate(Decimal("0.243040"), Resources.of(2, "8GB")).parts)
    {'compute': Decimal('0.233040'), 'public addresses': Decimal('0.010')}
    """
    each = charge(resources, Decimal(1), tariff, discount=discount)
    found = charge(resources, usd / each.usd if each.usd else Decimal(0), tariff, discount=discount)
    return replace(found, metered=True)


def spent_text(status: RunStatus) -> str:
    """What its workers have cost so far, of what they may, and by which prices; empty where nothing is charged for."""
    spent = spent_short(status)
    return f"{spent} ({status.priced})" if spent and status.priced else spent


def spent_short(status: RunStatus) -> str:
    """The same for where it was said by which prices."""
    if status.spent_usd is None:
        return ""
    of = f" of {usd_text(Decimal(str(status.budget_usd)))}" if status.budget_usd is not None else ""
    return f"{usd_text(status.spent_usd)}{of}"
