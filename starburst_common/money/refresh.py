"""What AWS has told of prices in; which of it is taken, what it changes, and what is wrong with the rest, out.

The price in force stays wherever the new one is missing, malformed, old, or so different that it is likely a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from starburst_common.money.book import ON_DEMAND, STORAGE, fargate_price
from starburst_common.money.instances import prices_in
from starburst_common.money.kept import FARGATE, INSTANCES, SPOT, Sheet, sheets

if TYPE_CHECKING:
    from starburst_common.aws.price_list import PriceList

#: A price that more than doubled or halved is likelier misread: in 2025 and 2026 none moved so far at once.
MOST_TIMES = 2
#: AWS publishes each list several times a month; one that is older was kept by somebody on the way.
MOST_AGE = timedelta(days=365)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A price that is another one now."""

    name: str
    before: Decimal | None  #: None where there was none
    now: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What came of it."""

    kind: str
    sheet: Sheet | None  #: None where nothing is taken
    changes: list[Change]
    kept: list[str]  #: why earlier prices stay in force, a sentence each


def in_force(kind: str, region: str) -> dict[str, Decimal]:
    """Prices as they are reckoned with, by name."""
    if kind == FARGATE:
        found: dict[str, Decimal] = {}
        for arch in ("x86", "arm"):
            if (price := fargate_price(region, arch=arch)) is not None:
                found |= {f"{arch} vCPU": price.usd_per_vcpu_hour, f"{arch} GB": price.usd_per_gb_hour}
                if price.usd_per_storage_gb_hour is not None:
                    found[STORAGE] = price.usd_per_storage_gb_hour
        return found
    capacity = ON_DEMAND if kind == INSTANCES else kind
    return {name: price.usd_per_hour for (name, on), price in prices_in(region).items() if on == capacity}


def refreshed(kind: str, told: PriceList, source: str, region: str, today: date) -> Refreshed:
    """What of an answer is taken; Spot floats, so its prices are held to those on demand only."""
    before = in_force(kind, region)
    if why := _stale(told.published, sheets(region).get(kind), today):
        return Refreshed(kind=kind, sheet=None, changes=[], kept=[f"{why}: {_stay(before)}"])
    most = in_force(INSTANCES, region) if kind == SPOT else {}
    good: dict[str, Decimal] = {}
    wild: dict[str, str] = {}
    for name, usd in told.prices.items():
        if name in most and usd > most[name]:
            wild[name] = f"{usd} is more than {most[name]} on demand"
        elif kind != SPOT and name in before and not before[name] / MOST_TIMES <= usd <= before[name] * MOST_TIMES:
            wild[name] = f"{usd} in place of {before[name]}, more than {MOST_TIMES} times as much or as little"
        else:
            good[name] = usd
    missing = [name for name in before if name not in told.prices and name not in told.odd]
    kept = [f"{name}: {why}: {_stays(name, before)}" for name, why in [*told.odd.items(), *wild.items()]]
    if missing:
        kept.append(f"{_some(missing)}: not in AWS's answer: {_stay(missing)}")
    sheet = Sheet(
        prices=good, source=f"{source}, published {told.published}", as_of=today.isoformat(), published=told.published
    )
    changes = [
        Change(name=name, before=before.get(name), now=usd) for name, usd in good.items() if before.get(name) != usd
    ]
    return Refreshed(kind=kind, sheet=_whole(sheet, kind, region) if good else None, changes=changes, kept=kept)


def _whole(sheet: Sheet, kind: str, region: str) -> Sheet:
    """With what was looked up earlier, and is not in the answer now."""
    earlier = sheets(region).get(kind)
    return sheet if earlier is None else replace(sheet, prices={**earlier.prices, **sheet.prices})


def _stale(published: str, earlier: Sheet | None, today: date) -> str:
    try:
        day = date.fromisoformat(published)
    except ValueError:
        return f"AWS's answer is of no day ({published!r:.30})"
    if day < today - MOST_AGE:
        return f"AWS's answer was published on {day}, more than a year ago"
    if earlier is not None and published < earlier.published:
        return f"AWS's answer was published on {day}, before the one of {earlier.published} that is in force"
    return ""


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _stays(name: str, before: Mapping[str, Decimal]) -> str:
    return f"{before[name]} stays in force" if name in before else "it stays without a price"


def _stay(names: object) -> str:
    return "earlier prices stay in force" if names else "there is still no price"
