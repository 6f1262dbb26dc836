"""How much may run at once by an account's quotas, and what of it is in use: what a place can tell before a launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Basis(StrEnum):
    """How a limit is known."""

    APPLIED = "applied"  #: the account has one of its own
    DEFAULT = "default"  #: it has none of its own, so AWS's holds
    ASSUMED = "assumed"  #: nobody could be asked: what new accounts have. It holds nobody back


class Unit(StrEnum):
    """What a limit is counted in."""

    VCPU = "vCPU"  #: a worker takes as many as it has
    ADDRESS = "addresses"  #: a worker takes one


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What workers of some capacity may take together, and what of that everybody took when it was looked at."""

    name: str  #: for people
    unit: Unit
    total: float
    basis: Basis = Basis.APPLIED
    capacity: str = ""  #: of the workers that take of it, as `Granted` tells it; empty for all
    code: str = ""  #: what the account's service calls it, as "fargate/L-3032A538"; empty where it cannot be raised
    used: float = 0.0  #: by everybody, the fleet that asks included
    seen: tuple[float, float] = (0.0, 0.0)  #: at most so much in this time, from and to (wall clock)
    unknown: str = ""  #: what of this could not be asked, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaAsk:
    """What a fleet has and wants of a quota, in vCPU."""

    has: float
    wants: float  #: all together
    had: float = 0.0  #: at most, in the last minutes: of what is counted late
    each: float = 1.0  #: of its workers
    weight: float = 1.0
    at: float = 0.0  #: when it said so (wall clock)


class Turns(Protocol):
    """Who knows what all fleets of a site want of a quota that they share."""

    def say(self, quota: str, fleet: str, mine: QuotaAsk) -> Mapping[str, QuotaAsk]:
        """What all have and want of it, this fleet what it says. Cheap to ask at every tick; never raises."""

    def look(self, quota: str) -> Mapping[str, QuotaAsk]:
        """The same for who has and wants none of it. Never raises."""

    def leave(self, fleet: str, *, stays: bool = False) -> None:
        """It wants none any more, whether or not what it has `stays`; else that is known in a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpeed:
    """How fast workers come, where nothing else holds them up."""

    burst: int = 100  #: at once
    each_s: float = 20.0  #: then so many a second
    start_s: float = 45.0  #: from a launch to its first item


class Quotas(Protocol):
    """Who knows the limits."""

    speed: LaunchSpeed

    def limits(self, *, spot: bool, ec2: bool = False, gpus: bool = False) -> Sequence[Limit]:
        """Those that hold for workers, on Spot or not, on instances or not, with GPUs or not.

        First come those of the capacity that they are launched on first.
        Cheap to ask at every tick: what it tells is kept for a while. Never raises for want of a right or a service.
        """
