"""Who has and wants how much of a quota, told by all who start workers in a site in one small object for each quota.

It is swapped if it is as it was. Where it cannot be read or written, each goes by what AWS leaves free.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from threading import Lock

from starburst_common.aws.launch_rate import Swaps
from starburst_common.errors import NotFound, Refused, StarburstError
from starburst_common.names import LAUNCHING
from starburst_common.phrases import our_log
from starburst_common.ports import QuotaAsk
from starburst_common.wire.fields import Fields, parsed

_log = our_log("starburst.aws")
_LEAVES_S = 60.0  #: who has said nothing for so long has and wants none
_COUNTED_S = 600.0  #: and what it had may be counted still; as with the quotas' metrics
_TRIES = 3
_LEAST_WEIGHT, _LEAST_EACH = 0.01, 0.125


class QuotaTurns:
    """Of one site, as this process knows it: each fleet says what it has and wants every so often."""

    def __init__(self, swaps: Swaps, every_s: float, *, clock: Callable[[], float] = time.time) -> None:
        self._swaps, self._every_s, self._clock = swaps, every_s, clock
        self._lock = Lock()
        self._known: dict[tuple[str, str], tuple[float, Mapping[str, QuotaAsk]]] = {}

    def say(self, quota: str, fleet: str, mine: QuotaAsk) -> Mapping[str, QuotaAsk]:
        """What all have and want of it, this fleet what it says."""
        now = self._clock()
        with self._lock:
            at, asks = self._known.get((quota, fleet), (-math.inf, {}))
            if now - at >= self._every_s:
                asks = self._said(_key(quota), fleet, replace(mine, at=now))
                self._known[quota, fleet] = now, asks
        return {**asks, fleet: replace(mine, at=now)}

    def look(self, quota: str) -> Mapping[str, QuotaAsk]:
        """What all have and want of it, as they say."""
        try:
            return self._lately(self._read(_key(quota))[0])
        except StarburstError as error:
            _log.info("what fleets of the site have of quotas is not known: %s", error)
            return {}

    def leave(self, fleet: str, *, stays: bool = False) -> None:
        """It wants none any more; that it had some is known as long as that may be counted."""
        with self._lock:
            for quota, name in [said for said in self._known if said[1] == fleet]:
                del self._known[quota, name]
                self._said(_key(quota), fleet, None, stays=stays)

    def _said(self, key: str, fleet: str, mine: QuotaAsk | None, *, stays: bool = False) -> Mapping[str, QuotaAsk]:
        now = self._clock()
        try:
            for _ in range(_TRIES):
                asks, tag = self._read(key)
                here = self._lately(asks)
                if mine is not None:
                    here[fleet] = mine
                elif (own := here.get(fleet)) is not None:
                    here[fleet] = QuotaAsk(has=0.0, wants=0.0, had=own.had - own.has * stays, each=own.each, at=now)
                told = {name: asdict(ask) for name, ask in here.items()}
                if self._swaps.swap(key, json.dumps(told).encode(), tag) is not None:
                    return here
        except StarburstError as error:
            _log.info("quotas are not shared by priority: %s", error)
        return {}

    def _lately(self, asks: Mapping[str, QuotaAsk]) -> dict[str, QuotaAsk]:
        now = self._clock()
        here = {name: ask for name, ask in asks.items() if abs(now - ask.at) < _COUNTED_S}
        return {
            name: ask if now - ask.at < _LEAVES_S else replace(ask, has=0.0, wants=0.0) for name, ask in here.items()
        }

    def _read(self, key: str) -> tuple[dict[str, QuotaAsk], str | None]:
        try:
            body, tag = self._swaps.tagged(key)
        except NotFound:
            return {}, None
        try:
            fields = Fields(key, parsed(key, body))
            told = {name: Fields(name, each) for name, each in fields.raw.items()}
            return {
                name: QuotaAsk(
                    has=each.number("has"),
                    wants=each.number("wants"),
                    had=each.number("had"),
                    each=max(each.number("each"), _LEAST_EACH),
                    weight=max(each.number("weight"), _LEAST_WEIGHT),
                    at=each.moment("at"),
                )
                for name, each in told.items()
            }, tag
        except Refused as error:  # is replaced
            _log.warning("%s", error)
            return {}, tag


def _key(quota: str) -> str:
    """Where it is told; `quota` is as of `Limit.code`."""
    return f"{LAUNCHING}{quota.replace('/', '-')}"
