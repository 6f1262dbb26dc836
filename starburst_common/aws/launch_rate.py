"""Fargate's launch rate, shared by all who start workers in a site: one small object, swapped if it is as it was.

A launch costs one request while nobody else launches: who wrote last knows what is there. Where the object cannot be
read or written the process goes by itself, and AWS throttles what is too much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import Lock
from typing import Protocol

from starburst_common.aws.pace import Bucket
from starburst_common.aws.shares import Shares
from starburst_common.errors import NotFound, Refused, StarburstError
from starburst_common.model import FleetId
from starburst_common.names import LAUNCHING
from starburst_common.phrases import our_log
from starburst_common.ports import Wait
from starburst_common.wire.fields import Fields, parsed

_log = our_log("starburst.aws")
#: Workers at once, then so many a second, on each capacity. Source: Amazon ECS Developer Guide, "AWS Fargate throttling
#: quotas", read 2026-11-22. Newer regions have less, which AWS then says.
BURST, EACH_S = 100, 20
_TRIES = 5  #: while others write


class Swaps(Protocol):
    """A store that writes an object only if it is as it was; see `Objects`."""

    def swap(self, key: str, body: bytes, tag: str | None) -> str | None:
        """Its new tag, or None where it has changed."""

    def tagged(self, key: str) -> tuple[bytes, str | None]:
        """An object and its tag. Raises `NotFound`."""


class Rate(Protocol):
    """How fast workers may be launched."""

    @property
    def wait(self) -> Wait:
        """For more of it."""

    def take(self, fleet: FleetId, wanted: int, weight: float = 1.0) -> int:
        """So many of the fleet's workers may start now."""

    def give_back(self, tokens: int) -> None:
        """What was taken and not used."""


class Unpaced:
    """Of workers on instances: ECS starts those as they are there, and takes 500 tasks that wait for that."""

    wait = Wait("ECS to take more tasks", 1.0)

    def take(self, fleet: FleetId, wanted: int, weight: float = 1.0) -> int:
        """All."""
        return wanted

    def give_back(self, tokens: int) -> None:
        """Nothing."""


class LaunchRate:
    """Of one capacity; `swaps` is where it is shared, if it is."""

    def __init__(
        self,
        capacity: str,
        swaps: Swaps | None,
        *,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key, self._swaps, self._clock = f"{LAUNCHING}{capacity}", swaps, clock
        self._own = Bucket(burst=BURST, each_s=EACH_S, clock=pace)
        self._lock = Lock()
        self._known: tuple[Shares, str] | None = None  # as last seen, and its tag
        self._others = 0  # that wait, as last seen

    @property
    def wait(self) -> Wait:
        """For more of it."""
        others = f", shared with {self._others} fleets that wait for it, too" * bool(self._others)
        return Wait(f"Fargate's launch rate ({EACH_S} workers a second{others})", 1.0)

    def take(self, fleet: FleetId, wanted: int, weight: float = 1.0) -> int:
        """So many of the fleet's workers may start now."""
        return self._changed(
            lambda shares: shares.take(fleet, wanted, now=self._clock(), burst=BURST, each_s=EACH_S, weight=weight),
            lambda: self._own.take(wanted),
        )

    def give_back(self, tokens: int) -> None:
        """What was taken and not used."""
        if tokens:
            self._changed(
                lambda shares: (shares.give_back(tokens, burst=BURST), 0), lambda: self._own.give_back(tokens)
            )

    def _changed(self, change: Callable[[Shares], tuple[Shares, int]], otherwise: Callable[[], int | None]) -> int:
        if self._swaps is None:
            return otherwise() or 0
        try:
            with self._lock:
                for _ in range(_TRIES):
                    shares, tag = self._known or self._read(self._swaps)
                    after, given = change(shares)
                    written = self._swaps.swap(self._key, json.dumps(after.fields).encode(), tag)
                    self._known = (after, written) if written is not None else None
                    if written is not None:
                        self._others = max(len(after.waiting) - 1, 0)
                        return given
                return 0  # others take all the time; a second later is soon enough
        except StarburstError as error:
            self._known = None
            _log.info("launches go by this process's own rate: %s", error)
        return otherwise() or 0

    def _read(self, swaps: Swaps) -> tuple[Shares, str | None]:
        try:
            body, tag = swaps.tagged(self._key)
        except NotFound:
            return Shares(free=BURST, at=self._clock()), None
        try:
            return Shares.read(Fields(self._key, parsed(self._key, body))), tag
        except Refused as error:  # is replaced
            _log.warning("%s", error)
            return Shares(free=0, at=self._clock()), tag


def launch_rates(swaps: Swaps | None, *, clock: Callable[[], float], pace: Callable[[], float]) -> dict[str, Rate]:
    """That of each capacity."""
    fargate = {name: LaunchRate(name, swaps, clock=clock, pace=pace) for name in ("FARGATE", "FARGATE_SPOT")}
    return {**fargate, "EC2": Unpaced()}
