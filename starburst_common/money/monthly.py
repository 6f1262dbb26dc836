"""Monthly budgets as somebody writes them, and what was spent, in; what is left, in figures and words, out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from starburst_common.alerts import reached
from starburst_common.dollars import usd_text
from starburst_common.sites.site import MONTHLY


class MonthlyBudget(NamedTuple):
    """What runs with a tag may cost in a month, all together."""

    tag: str  #: as "team=a"; "*" for all
    usd: Decimal

    def covers(self, tags: Mapping[str, str]) -> bool:
        """Whether a run comes under it.

        >>> [each.covers({"team": "a"}) for each in budgets_of(("team=a: 200", "team=b: 5", "*: 1000"))]
        [True, False, True]
        """
        name, _, value = self.tag.partition("=")
        return self.tag == "*" or tags.get(name) == value

    @property
    def named(self) -> str:
        """In words."""
        return f"the monthly budget of {'all runs' if self.tag == '*' else self.tag}, {usd_text(self.usd)}"


class Month(NamedTuple):
    """A month, in UTC."""

    name: str  #: as "2026-11"
    begins: float  #: wall clock
    next: str  #: the day on which it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What others than a run have spent of a monthly budget that it comes under."""

    budget: MonthlyBudget
    month: Month
    usd: Decimal
    runs: int
    priced: str = ""  #: by which prices, in words
    alerts: tuple[float, ...] = (50.0, 80.0)  #: per cent of it at which it is said how much is used

    @property
    def left(self) -> Decimal:
        """For the run."""
        return self.budget.usd - self.usd

    @property
    def alert(self) -> float:
        """Per cent of it that are used at least, of `alerts`; 0 below them."""
        return reached(self.alerts, self.usd, self.budget.usd)

    @property
    def told(self) -> str:
        """How much is used.

        >>> spent = Spent(budget=budgets_of(["team=a: 200"])[0], month=month_of(0), usd=Decimal("162"), runs=14)
        >>> spent.told, spent.alert, spent.left
        ('$162.00 of the monthly budget of team=a, $200.00, are used since 1970-01-01, by 14 runs', 80.0, Decimal('38'))
        """
        runs = f"{self.runs:,} run{'s' * (self.runs != 1)}"
        by = f" ({self.priced})" if self.priced else ""
        return f"{usd_text(self.usd)} of {self.budget.named}, are used since {self.month.name}-01, by {runs}{by}"

    def refused(self, least: Decimal) -> str:
        """Why no run begins that costs so much at least, and what helps."""
        by = "" if self.budget.tag == "*" else f" --by tag:{self.budget.tag.partition('=')[0]}"
        return (
            f"{self.told}: {usd_text(max(self.left, Decimal(0)))} are left, and to begin and end a worker costs "
            f"{usd_text(least)}: wait for {self.month.next}, or raise it in the site's monthly_budget; `starburst "
            f"costs --since {self.month.name}-01{by}` tells what it went for"
        )


def budgets_of(texts: Sequence[str]) -> list[MonthlyBudget]:
    """As a site has them."""
    found = filter(None, map(MONTHLY.fullmatch, texts))
    return [MonthlyBudget(each["tag"], Decimal(each["usd"])) for each in found]


def month_of(now: float) -> Month:
    """The one that a moment lies in.

    >>> month_of(1_796_000_000.0)
    Month(name='2026-11', begins=1793491200.0, next='2026-12-01')
    """
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now)
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)
    return Month(f"{first:%Y-%m}", first.timestamp(), f"{year:04}-{month:02}-01")
