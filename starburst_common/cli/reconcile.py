"""`starburst costs --reconcile`: what runs cost by our meter beside what AWS has put on the bill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from starburst_common.aws.billed import Billed
    from starburst_common.runs.costs import Cost
    from starburst_common.sites.site import Site


class Day(NamedTuple):
    """A day's workers, by both."""

    day: str
    metered: Decimal
    billed: Decimal

    @property
    def off(self) -> float | None:
        """By how much the meter is above the bill, as a share of that."""
        return float(self.metered / self.billed) - 1 if self.billed else None


class Reconciled(NamedTuple):
    """The site's workers by day, and what else of it is on the bill, by service."""

    days: list[Day]
    beside: dict[str, Decimal]


def reconcile(began: float, *, json: bool) -> None:
    """Ask AWS what it has put on the bill for the configured site, and show that beside what we metered."""
    from starburst_common.aws.billed import billed
    from starburst_common.aws.clients import Clients
    from starburst_common.config import settings
    from starburst_common.runs.costs import costs

    site = settings(backend="aws").site
    assert site is not None  # else it has raised
    begin, today = datetime.fromtimestamp(began, UTC).date(), datetime.now(UTC).date()
    rows = costs(since=began, by="day", backend="aws")
    clients = Clients(site.region)
    try:
        found = compared(rows, billed(clients, site.name, min(begin, today), today) if begin < today else [], today)
    finally:
        clients.close()
    priced = "; ".join(dict.fromkeys(row.priced for row in rows if row.priced))
    _print_json(site, begin, today, found) if json else _print(site, found, priced)


def compared(rows: Sequence[Cost], lines: Sequence[Billed], today: date) -> Reconciled:
    """By day, before today. Addresses are left out: AWS does not tag those of tasks; so is what is no worker's time."""
    from starburst_common.aws.billed import OF_WORKERS
    from starburst_common.money.estimate import ADDRESSES
    from starburst_common.money.tolls import APART

    apart = (ADDRESSES, *APART)
    metered: dict[str, Decimal] = defaultdict(Decimal)
    on_bill: dict[str, Decimal] = defaultdict(Decimal)
    beside: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        metered[row.name] += sum((usd for part, usd in row.parts.items() if part not in apart), Decimal(0))
    for line in lines:
        if line.service in OF_WORKERS:
            on_bill[line.day] += line.usd
        else:
            beside[line.service] += line.usd
    names = sorted(day for day in {*metered, *on_bill} if day[:1].isdigit() and day < today.isoformat())
    return Reconciled([Day(day, metered[day], on_bill[day]) for day in names], dict(beside))


def _sum(days: Sequence[Day]) -> Day:
    return Day("all", sum((day.metered for day in days), Decimal(0)), sum((day.billed for day in days), Decimal(0)))


def _print(site: Site, found: Reconciled, priced: str) -> None:
    from starburst_common.cli.show import say, simple_table
    from starburst_common.dollars import usd_text

    if not found.days:
        say(f"no run of {site.name} before today, and nothing on the bill: --since looks further back")
        return
    rows = [*found.days, *[_sum(found.days)][: len(found.days) > 1]]
    head = ["day (UTC)", "metered", "AWS's bill", "off by"]
    cells = [[day.day, usd_text(day.metered), usd_text(day.billed), _percent(day.off)] for day in rows]
    print(
        simple_table(
            head, cells, right=head[1:], flexible="day (UTC)", width=80, paint=lambda _row, _column, cell: cell
        )
    )
    beside = ", ".join(f"{usd_text(usd)} for {service}" for service, usd in sorted(found.beside.items()))
    if beside:
        say(f"also on the bill, and not metered: {beside}")
    say(f"metered by {priced or 'nothing'}")
    say("workers without their addresses, which AWS does not tag; runs count on the day that they began")


def _percent(off: float | None) -> str:
    return "-" if off is None else f"{off:+.1%}"


def _print_json(site: Site, begin: date, until: date, found: Reconciled) -> None:
    from starburst_common.cli.lines import print_json

    def told(day: Day) -> dict[str, Any]:
        off = None if day.off is None else round(day.off, 4)
        return {"metered_usd": round(float(day.metered), 6), "billed_usd": round(float(day.billed), 6), "off": off}

    print_json(
        {
            "site": site.name,
            "since": begin.isoformat(),
            "until": until.isoformat(),
            "days": [{"day": day.day, **told(day)} for day in found.days],
            "all": told(_sum(found.days)),
            "beside_usd": {service: round(float(usd), 6) for service, usd in sorted(found.beside.items())},
        }
    )
