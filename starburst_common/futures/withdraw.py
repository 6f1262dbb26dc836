"""Calls that nobody wants any more in; told to workers, which begin none of them, out."""

from __future__ import annotations

from starburst_common.errors import StarburstError
from starburst_common.futures.owed import Owed
from starburst_common.model import spans_of
from starburst_common.phrases import our_log
from starburst_common.runs.drive import Driver
from starburst_common.runs.patience import Waits, patiently

_log = our_log()


class Withdrawal:
    """Of what one executor has sent. One thread at a time."""

    def __init__(self, owed: Owed, driver: Driver, waits: Waits) -> None:
        self._owed, self._driver, self._waits = owed, driver, waits
        self._told: set[int] = set()

    def tell(self) -> None:
        """Tell of what is newly unwanted, beside what was told and is not answered yet."""
        if new := self._owed.no_longer_wanted():
            self._told = new | (self._told & set(self._owed.sent))
            try:
                patiently(lambda: self._driver.withdraw(spans_of(sorted(self._told))), self._waits)
            except (StarburstError, OSError) as error:
                _log.warning("calls that nobody wants any more go on: %s", error)
