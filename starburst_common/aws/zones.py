"""Where workers start in; that some zone has no capacity and which have, told now and then, out."""

from __future__ import annotations

import math
from collections.abc import Iterable

from starburst_common.phrases import our_log

_log = our_log("starburst.aws")
_AGAIN_S = 600.0
_LATELY_S = 60.0


class Zones:
    """Of one site. ECS looks for a task's room in one zone that it picks, so a launch may find some in others."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}  # when last, by zone
        self._told: dict[bool, float] = {}

    def started(self, zones: Iterable[str], now: float) -> None:
        """Workers, there."""
        self._started |= dict.fromkeys(zones, now)

    def lack(self, *, spot: bool, now: float) -> None:
        """One had none for a launch, and others had."""
        if now - self._told.get(spot, -math.inf) > _AGAIN_S:
            self._told[spot] = now
            where = ", ".join(sorted(zone for zone, at in self._started.items() if now - at < _LATELY_S))
            kind = f"Fargate{' Spot' * spot}"
            _log.info("%s has no capacity in one of the site's zones now: workers start in %s", kind, where)
