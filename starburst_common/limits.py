"""Budgets and a deadline, in numbers or words, in; what holds a run back though nothing is wrong, out. Pure."""

# no annotations as text here: `rows` reads them
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple, Self, TypedDict

from starburst_common.alerts import ALERTS, alerts_in
from starburst_common.errors import BadInput
from starburst_common.rows import Row, Rule, is_number, number

_LONGEST_S = 10 * 365 * 86400.0
_LAST_AT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()  # after which no date is
_MOST_USD = 1e12
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def length_s(text: str) -> float | None:
    """A length of time as somebody types it, in seconds; None for what is none.

    >>> [length_s(text) for text in ("90", "2h", "30d", "1.5 min", "soon")]
    [90.0, 7200.0, 2592000.0, 90.0, None]
    """
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*(s|sec|m|min|h|d|days?|w)?\s*", text)
    return float(found[1]) * _UNITS_S[(found[2] or "s")[0]] if found else None


class _Deadline(NamedTuple):
    after_s: float | None = None
    at: float | None = None  # wall clock


def _read(deadline: Any) -> _Deadline | None:
    """A deadline as it is given; None for what is none."""
    if isinstance(deadline, timedelta):
        deadline = deadline.total_seconds()
    if isinstance(deadline, str):
        seconds = length_s(deadline)
        try:
            deadline = datetime.fromisoformat(deadline) if seconds is None else seconds
        except ValueError:
            return None
    if isinstance(deadline, datetime):
        return _Deadline(at=min(deadline.timestamp(), _LAST_AT)) if deadline.tzinfo is not None else None
    return _Deadline(after_s=float(deadline)) if is_number(deadline) and 0 < deadline <= _LONGEST_S else None


DEADLINE = Rule(
    lambda value: _read(value) is not None,
    ': give seconds above 0, a length of time such as "2h", or a moment with its zone such as "2027-01-31T06:00+01:00"',
)
_USD = number(lambda value: 0 < value <= _MOST_USD, f"US dollars above 0, at most {_MOST_USD:,.0f}, or None")


class LimitOptions(TypedDict, total=False):
    """Of a map, or of an executor's calls."""

    budget: Annotated[
        float | None,
        Row(
            "USD that the run may cost: no more workers are started than it pays for, and all stop before it is spent.",
            (_USD,),
            None,
            outside="US dollars, such as 25 or 2.50",
            shell="USD that it may cost; it stops before that is spent.",
        ),
    ]
    max_hourly_cost: Annotated[
        float | None,
        Row(
            "USD that the run's workers together may cost an hour: no more are started beyond that.",
            (_USD,),
            None,
            outside="US dollars, such as 10",
            shell="USD that its workers together may cost an hour.",
        ),
    ]
    alert_at: Annotated[
        str | float | Sequence[float] | None,
        Row(
            "per cent of its budget, and of the month's, at which the log says how much is used; None is as the site "
            'has it, "50, 80" where nobody says.',
            (ALERTS,),
            None,
            outside='percentages, such as "50, 80", or "none"',
            shell='Per cent of a budget at which it is said how much is used, such as "50, 80".',
        ),
    ]
    deadline: Annotated[
        float | str | timedelta | datetime | None,
        Row(
            'when the run stops, whatever is answered then: in seconds from its start, as "2h", or a moment with a '
            "zone.",
            (DEADLINE,),
            None,
            outside='a length of time, such as "2h", or a moment with a zone, such as "2027-01-31T06:00+01:00"',
            shell="When it stops, such as 2h from its start, or 2027-01-31T06:00+01:00.",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may cost, and until when it may go on; from when it began, or was resumed.

    >>> limits = Limits.of(5, "2h", alert_at="50")
    >>> limits.budget_usd, limits.deadline_s, limits.alerts
    (5.0, 7200.0, (50.0,))
    >>> Limits.of(None, "2027-01-31T06:00+00:00").ends_at(0.0)
    1801375200.0
    """

    budget_usd: float | None = None
    hourly_usd: float | None = None  #: of all its workers
    alerts: tuple[float, ...] | None = None  #: per cent of a budget; None: as the site has it
    deadline_s: float | None = None  #: so long after that
    deadline_at: float | None = None  #: wall clock

    @classmethod
    def of(
        cls, budget: float | None, deadline: Any = None, max_hourly_cost: float | None = None, alert_at: Any = None
    ) -> Self:
        """From the user's options, which fit their rules."""
        found = None if deadline is None else _read(deadline)
        if deadline is not None and found is None:
            raise BadInput(f"deadline={deadline!r:.80}{DEADLINE.wrong}")
        after_s, at = found or _Deadline()
        return cls(
            budget_usd=None if budget is None else float(budget),
            hourly_usd=None if max_hourly_cost is None else float(max_hourly_cost),
            alerts=None if alert_at is None else alerts_in(alert_at),
            deadline_s=after_s,
            deadline_at=at,
        )

    def ends_at(self, began_at: float) -> float:
        """The deadline of what began then (wall clock); infinite without one."""
        if self.deadline_at is not None:
            return self.deadline_at
        return math.inf if self.deadline_s is None else began_at + self.deadline_s

    def but(self, later: Self) -> Self:
        """With what of later ones is given in place of these."""
        ours = later if later.ends_at(0.0) < math.inf else self
        given = {name: getattr(later, name) for name in ("budget_usd", "hourly_usd", "alerts")}
        more = {name: value for name, value in given.items() if value is not None}
        return replace(self, deadline_s=ours.deadline_s, deadline_at=ours.deadline_at, **more)

    def refuse_past(self, now: float) -> None:
        """Raises `BadInput` for a deadline that has passed."""
        if self.deadline_at is not None and self.deadline_at <= now:
            raise BadInput(f"deadline: it was {now - self.deadline_at:,.0f} s ago: give one that is to come")


NO_LIMITS = Limits()
