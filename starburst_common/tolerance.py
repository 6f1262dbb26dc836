"""How many failures the user tolerates, in words or numbers, in; whether so many are within it out. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.rows import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How many failures a run may have and go on: a count, or a share of its items.

    >>> Tolerance.of("2%").allows(failed=3, items=100), Tolerance.of(3).allows(failed=3, items=100)
    (False, True)
    """

    count: int | None = None
    percent: float | None = None

    @classmethod
    def of(cls, tolerate: int | str | None) -> Tolerance:
        """From the user's `tolerate`; None means any number of failures."""
        if tolerate is None:
            return cls()
        found = _read(tolerate)
        if found is None:
            raise BadInput(f"tolerate={told(tolerate)}{TOLERABLE.wrong}")
        return found

    def allows(self, *, failed: int, items: int) -> bool:
        """Whether so many failures among so many items are within it."""
        if self.percent is not None:
            return 100 * failed <= round(self.percent * items, 4)  # floats are not exact, a share of items is
        return self.count is None or failed <= self.count


def _read(tolerate: Any) -> Tolerance | None:
    if isinstance(tolerate, int) and not isinstance(tolerate, bool) and tolerate >= 0:
        return Tolerance(count=tolerate)
    match = re.fullmatch(r"\s*(\d{1,9})(\.\d+)?\s*(%?)\s*", tolerate) if isinstance(tolerate, str) else None
    if match is None:
        return None
    if not match[3]:
        return None if match[2] else Tolerance(count=int(match[1]))
    share = float(match[1] + (match[2] or ""))
    return Tolerance(percent=share) if share <= 100 else None


TOLERABLE = Rule(lambda value: _read(value) is not None, ': give a count such as 5, or a share such as "2%"')
