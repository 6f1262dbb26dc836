"""When a run is told of again, in its task's log and on the page to which its link leads."""

from __future__ import annotations

import time

PROGRESS_S = 30.0  #: between two lines that tell how a run stands
SOON_S = 5.0  #: and before the first one
REPORT_S = 300.0  #: between two pages that do


class Due:
    """Says at most every `each_s` seconds that it is time, and first after `first_s`.

    >>> due = Due(30.0, first_s=0.0)
    >>> due.now(), due.now()
    (True, False)
    """

    def __init__(self, each_s: float, *, first_s: float | None = None) -> None:
        self._each_s = each_s
        self._at = time.monotonic() + (each_s if first_s is None else first_s)

    def now(self) -> bool:
        """Whether it is; then it is not again for a while."""
        if time.monotonic() < self._at:
            return False
        self._at = time.monotonic() + self._each_s
        return True
