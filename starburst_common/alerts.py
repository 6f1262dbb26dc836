"""Per cent of a budget at which it is said how much is used: as somebody gives them, in; numbers, out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from starburst_common.rows import Rule, is_number

DEFAULT = "50, 80"  #: of a site that says nothing else
NONE = "none"  #: nothing is said
_MOST = 20


def alerts_in(given: Any) -> tuple[float, ...] | None:
    """The lowest first; None for what are none.

    >>> alerts_in("80, 50"), alerts_in([90]), alerts_in("none"), alerts_in(0.8), alerts_in("half"), alerts_in([120])
    ((50.0, 80.0), (90.0,), (), None, None, None)
    """
    if isinstance(given, str):
        parts = [] if given.strip() == NONE else given.split(",")
        try:
            given = [float(part) for part in parts]
        except ValueError:
            return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = [given]
    if not isinstance(given, Sequence) or len(given) > _MOST:
        return None
    if not all(is_number(each) and 1 <= each <= 100 for each in given):
        return None
    return tuple(sorted({float(each) for each in given}))


def reached(alerts: Sequence[float], spent: Decimal, budget: Decimal) -> float:
    """The highest of them that so much is at least; 0 below them all.

    >>> [reached((50, 80), Decimal(usd), Decimal(5)) for usd in (4, 2)], reached((), Decimal(1), Decimal(1))
    ([80, 0.0], 0.0)
    """
    return max((each for each in alerts if spent * 100 >= Decimal(str(each)) * budget), default=0.0)


ALERTS = Rule(
    lambda value: alerts_in(value) is not None, f': give percentages from 1 to 100, as "{DEFAULT}", or "{NONE}"'
)
