"""A backend, what is to be mapped and how, in; what would come of it out: nothing is launched, stored or pickled."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sized
from decimal import Decimal
from typing import Any

from starburst_common.errors import Denied, Unavailable
from starburst_common.fleets.fleet import Fleet
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Plan, Wish, plan
from starburst_common.money.estimate import charge
from starburst_common.options import Options
from starburst_common.phrases import one_line
from starburst_common.ports import Backend, LaunchSpeed
from starburst_common.resources import Resources
from starburst_common.runs.costs import item_seconds

_HERE = LaunchSpeed(burst=1000, each_s=1000.0, start_s=1.0)  #: on this machine nobody counts
_SINCE_S = 30 * 86_400.0


def name_of(fn: Callable[..., Any]) -> str:
    """What a run says that it calls."""
    return getattr(fn, "__qualname__", repr(fn))


def planned(
    backend: Backend,
    name: str,
    items: object,
    options: Options,
    *,
    seconds: float | None = None,
) -> Plan:
    """As `Cluster.plan` tells it, of a function of this name."""
    fleet = Fleet.of(backend, options.resources, options.workers or backend.default_workers)
    known = seconds if seconds is not None else item_seconds(backend, name, time.time() - _SINCE_S)
    left_s = options.limits.ends_at(now := time.time()) - now
    wish = Wish(
        workers=fleet.workers,
        resources=options.resources,
        items=len(items) if isinstance(items, Sized) else None,
        item_s=known,
        budget_usd=options.limits.budget_usd,
        deadline_s=None if left_s == math.inf else left_s,
    )
    return _plan(fleet, wish, fleet.headroom([]))


def say_plan(fleet: Fleet, items: object, wanted: bool | None) -> None:
    """What is about to come, on stderr, where an account says how much that is, and unless progress is not wanted."""
    if wanted is False or fleet.backend.quotas is None or sys.stderr is None:
        return
    try:
        workers = fleet.states()
    except (Denied, Unavailable):
        return  # who launches is told
    if any(worker.end is None for worker in workers):
        return  # they are there already
    count = len(items) if isinstance(items, Sized) else None
    wish = Wish(workers=fleet.workers, resources=fleet.spec.resources, items=count)
    print(one_line(str(_plan(fleet, wish, fleet.headroom(workers)))), file=sys.stderr, flush=True)


def _plan(fleet: Fleet, wish: Wish, room: Headroom) -> Plan:
    backend = fleet.backend
    speed = _HERE if backend.quotas is None else backend.quotas.speed
    return plan(wish, room, speed, usd_an_hour=_usd_an_hour(backend, wish.resources))


def _usd_an_hour(backend: Backend, resources: Resources) -> Decimal | None:
    return charge(resources, Decimal(1), backend.tariff, discount=backend.discount).usd
