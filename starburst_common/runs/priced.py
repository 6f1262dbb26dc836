"""A run in; what it costs, and what former runs of its function let expect of that, out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from starburst_common.dollars import usd_text
from starburst_common.errors import NotFound, Refused
from starburst_common.model import RunId, RunStatus
from starburst_common.money.estimate import Estimate, estimate_of, metered_estimate, slots_usd
from starburst_common.money.kept import prices_then
from starburst_common.money.tolls import tolls_usd
from starburst_common.ports import Backend
from starburst_common.runs.accounts import CLOSES_S, charged
from starburst_common.runs.ledger import LATELY_S, past_items
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import find_leg, read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a run was to cost, in US dollars: as much an item as in former runs, on the workers that it has.

    >>> before = Expected(parts={"compute": Decimal("3.1")}, low=Decimal("2.8"), high=Decimal("3.4"), runs=5)
    >>> before.told(Decimal("3.224")), before.off(Decimal("2.48"))
    ('$3.10 expected ($2.80 to $3.40, by 5 runs before): 4.0% dearer', -0.2)
    """

    parts: dict[str, Decimal]  #: by component
    low: Decimal
    high: Decimal
    runs: int  #: former ones that tell

    @property
    def usd(self) -> Decimal:
        """Of all components."""
        return sum(self.parts.values(), Decimal(0))

    def off(self, usd: Decimal | None) -> float | None:
        """By what share a cost is above it; None where nobody knows."""
        return round(float(usd / self.usd) - 1, 4) if usd is not None and self.usd else None

    def told(self, usd: Decimal | None) -> str:
        """For a person, with a cost that is held against it."""
        runs = f"{self.runs} run{'s' * (self.runs != 1)} before"
        whole = f"{usd_text(self.usd)} expected ({usd_text(self.low)} to {usd_text(self.high)}, by {runs})"
        off = self.off(usd)
        return whole if off is None else f"{whole}: {100 * abs(off):.1f}% {'cheaper' if off < 0 else 'dearer'}"

    def fields(self, usd: Decimal | None) -> dict[str, Any]:
        """As JSON, with a cost that is held against it."""
        return {
            "usd": round(float(self.usd), 6),
            "usd_between": [round(float(self.low), 6), round(float(self.high), 6)],
            "runs": self.runs,
            "off": self.off(usd),
        }


def cost_of(backend: Backend, spec: Spec, status: RunStatus, *, listed: bool = False) -> Estimate:
    """What it costs so far, by its workers where they are charged for, or would; less the user's discount.

    `listed` among others, by what its end tells of that. By the prices that were in force when it began.
    """
    with prices_then(spec.created_at):
        return _cost_of(backend, spec, status, listed=listed)


def _cost_of(backend: Backend, spec: Spec, status: RunStatus, *, listed: bool) -> Estimate:
    spent, saved, beside, parts = status.spent_usd, Decimal(0), dict[str, Decimal](), dict[str, Decimal]()
    priced, provisional = "", not status.state.over
    if status.state.over:
        beside = _of(status.tolls, backend) if listed else _beside(backend, spec)
        known = charged(backend, spec) if backend.charged and not listed else None
        ended = status.ended_at or 0.0  # of a fleet that is open for longer, what it cost until then counts
        provisional = known is None and not listed and time.time() - ended < CLOSES_S
        if known is not None and known.usd:
            spent, saved, parts = known.usd, known.on_demand_usd - known.usd, known.parts
            priced = known.priced if spec.resources.on_ec2 else ""
        elif spent is not None:  # all of it
            spent -= sum(beside.values(), Decimal(0))
    if spent is not None:
        found = metered_estimate(spent, spec.resources, backend.tariff, backend.discount)
        found = replace(found, provisional=provisional)
    else:
        found = estimate_of(status, spec.resources, spec.workers, backend.tariff, backend.discount)
    if not found.parts:
        return found
    return replace(found, parts=(parts or found.parts) | beside, spot_saved=max(saved, Decimal(0)), priced=priced)


def ended_cost(backend: Backend, run: RunId, end: End) -> dict[str, Any]:
    """As JSON, what a run cost that is about to end so, and was to: its workers have not stopped yet."""
    spec = read_spec(backend, run)
    resources, tariff, discount = spec.resources, backend.tariff, backend.discount
    beside = _of(end.tolls, backend)
    if end.spent_usd is not None:
        of_workers = Decimal(str(end.spent_usd)) - sum(beside.values(), Decimal(0))
        found = metered_estimate(of_workers, resources, tariff, discount)
    else:
        found = slots_usd(resources, end.slot_seconds, end.answered, spec.workers, tariff, discount=discount)
    found = replace(found, parts=found.parts | beside) if found.parts else found
    expected = expected_of(backend, spec, end.items)
    return {**found.fields, "expected": None if expected is None else expected.fields(found.usd)}


def _of(tolls: Mapping[str, int], backend: Backend) -> dict[str, Decimal]:
    """By component, what is charged for beside workers."""
    off = 1 - Decimal(str(backend.discount))
    return {part: usd * off for part, usd in tolls_usd(tolls, backend.tariff).items()}


def _beside(backend: Backend, spec: Spec) -> dict[str, Decimal]:
    """What else than its workers it was charged for; nothing where its end cannot be read."""
    try:
        end = find_leg(backend, spec).end
        return {} if end is None else _of(end.tolls, backend)
    except (NotFound, Refused):
        return {}


def expected_of(backend: Backend, spec: Spec, items: int) -> Expected | None:
    """What so many items were to cost, by runs of a month before it; None where there is none, or no price."""
    past = past_items(backend, spec.function, spec.created_at - LATELY_S, before=spec.created_at)
    if not past or not items:
        return None

    def at(seconds: float) -> Estimate:
        """With items of such a length."""
        slot_seconds, tariff, discount = seconds * items, backend.tariff, backend.discount
        return slots_usd(spec.resources, slot_seconds, items, spec.workers, tariff, discount=discount)

    times = [each.seconds for each in past]
    middle, low, high = at(sum(times) / len(times)), at(min(times)), at(max(times))
    if middle.usd is None:
        return None
    dearer = sum((each.dearer for each in past), Decimal(0)) / len(past)
    share, beside = Decimal(str((1 - backend.discount) * items)) / len(past), defaultdict[str, Decimal](Decimal)
    for each in past:
        for part, usd in each.beside.items():
            beside[part] += usd * share
    more = sum(beside.values(), Decimal(0))
    return Expected(
        parts={part: usd * dearer for part, usd in middle.parts.items()} | beside,
        low=(low.usd or Decimal(0)) * dearer + more,
        high=(high.usd or Decimal(0)) * dearer + more,
        runs=len(past),
    )
