"""Worker time and resources in; Fargate's charge out, with the price's source and date. Prices are data.

Fargate bills vCPU and memory by the second, from pulling the image to the end of the task, at least one minute a task.
Source: https://aws.amazon.com/fargate/pricing/, "Pricing details".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal
from difflib import get_close_matches
from importlib.resources import files

from starburst_common.errors import BadInput
from starburst_common.model import RunStatus
from starburst_common.resources import Resources

LEAST_BILLED_S = 60  #: of each worker; source: as above
REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of Fargate costs in one region; a GB is 1024 MiB."""

    region: str
    capacity: str  #: "on-demand" or "spot"
    arch: str  #: "x86" or "arm"
    usd_per_vcpu_hour: Decimal
    usd_per_gb_hour: Decimal
    source: str
    as_of: str  #: year and month, with the day where it is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A price for work, not rounded, and what it was made of."""

    usd: Decimal
    vcpu_hours: Decimal
    gb_hours: Decimal
    region: str
    source: str
    as_of: str

    def __str__(self) -> str:
        return f"{usd_text(self.usd)} on Fargate in {self.region} (prices of {self.as_of})"


def fargate_prices() -> list[Price]:
    """Every price that is shipped, from `prices.json`."""
    written = json.loads(files("starburst_common.money").joinpath("prices.json").read_text(encoding="utf-8"))
    return [
        Price(
            region=row["region"],
            capacity=row["capacity"],
            arch=row["arch"],
            usd_per_vcpu_hour=Decimal(row["usd_per_vcpu_hour"]),
            usd_per_gb_hour=Decimal(row["usd_per_gb_hour"]),
            source=written["sources"][row["source"]],
            as_of=row["as_of"],
        )
        for row in written["prices"]
    ]


def fargate_price(region: str = REGION, *, capacity: str = "on-demand", arch: str = "x86") -> Price:
    """The price in a region. Raises `BadInput` for one that is not in the table.

    >>> fargate_price("eu-west-1").usd_per_vcpu_hour, fargate_price("eu-west-1", arch="arm").usd_per_vcpu_hour
    (Decimal('0.04048'), Decimal('0.03238'))
    >>> fargate_price("us-east-9")
    Traceback (most recent call last):
    starburst_common.errors.BadInput: region='us-east-9' has no on-demand x86 price here: did you mean 'us-east-2'?
    """
    prices = {price.region: price for price in fargate_prices() if (price.capacity, price.arch) == (capacity, arch)}
    if region not in prices:
        near = get_close_matches(region, sorted(prices), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(prices)) or 'none'}"
        raise BadInput(f"region={region!r} has no {capacity} {arch} price here: {hint}")
    return prices[region]


def fargate_usd(
    resources: Resources, worker_seconds: float, workers: int, region: str = REGION, *, capacity: str = "on-demand"
) -> Estimate:
    """What so many seconds of work, spread evenly over the workers, cost.

    Two workers with 1 vCPU and 2 GB for an hour each, then for ten seconds each, of which one minute each is billed:

    >>> hour = fargate_usd(Resources.of(1), 7200, 2)
    >>> hour.usd, hour.vcpu_hours, hour.gb_hours
    (Decimal('0.098740'), Decimal('2'), Decimal('4'))
    >>> usd_text(fargate_usd(Resources.of(1), 20, 2).usd)
    '$0.0016'
    >>> fargate_usd(Resources.of(1), 0, 0).usd == 0
    True
    """
    price = fargate_price(region, capacity=capacity)
    hours = billed_hours(worker_seconds, workers)
    vcpu_hours = hours * Decimal(str(resources.cpu))
    gb_hours = hours * resources.memory_mib / 1024
    return Estimate(
        usd=vcpu_hours * price.usd_per_vcpu_hour + gb_hours * price.usd_per_gb_hour,
        vcpu_hours=vcpu_hours,
        gb_hours=gb_hours,
        region=region,
        source=price.source,
        as_of=price.as_of,
    )


def billed_hours(worker_seconds: float, workers: int) -> Decimal:
    """Hours on the bill: whole seconds of each worker, one minute at least.

    >>> billed_hours(7200, 2), billed_hours(90, 3) == Decimal(180) / 3600
    (Decimal('2'), True)
    """
    if workers <= 0:
        return Decimal(0)
    each_s = (Decimal(str(worker_seconds)) / workers).to_integral_value(ROUND_UP)
    return max(each_s, Decimal(LEAST_BILLED_S)) * workers / 3600


def estimate_of(status: RunStatus, resources: Resources, workers: int = 1, region: str = REGION) -> Estimate:
    """What the time that a run's slots were measured to work would have cost on Fargate, on workers of these resources.

    `workers` is how many were asked for; those without an item do not count. Image pulls and idle slots are not in it.

    >>> from starburst_common.model import RunId, RunState
    >>> status = RunStatus(id=RunId("run-1"), state=RunState.SUCCEEDED, label="", items=100, answered=100, failed=0,
    ...                    workers=0, created_at=0.0, ended_at=90.0, slot_seconds=720.0)
    >>> estimate_of(status, Resources.of(4), workers=2).vcpu_hours  # 4 slots: two workers, 90 s each
    Decimal('0.20')
    """
    useful = -(-max(status.items or 0, status.answered) // resources.slots)
    return fargate_usd(resources, status.slot_seconds / resources.slots, min(workers, useful), region)


_WRITTEN_OUT = 15  #: digits of an amount; one that is larger, of a spec that nobody meant, is told by its size


def usd_text(usd: Decimal) -> str:
    """Dollars as printed: cents, or two digits that count where there are fewer.

    >>> [usd_text(Decimal(usd)) for usd in ("1234.567", "0.0472", "0.00164", "0.00000001", "0")]
    ['$1,234.57', '$0.047', '$0.0016', '$0.000000010', '$0.00']
    """
    if usd == 0:
        return "$0.00"
    if usd.adjusted() >= _WRITTEN_OUT:
        return f"${usd:.2E}"
    digits = max(2, 1 - usd.adjusted())
    return f"${usd.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,f}"
