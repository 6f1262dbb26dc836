"""Workers on Spot instances in; for whom none comes, and how many others may be asked for there, out. Pure.

A task that ECS has taken waits for its instance, and nobody puts one on demand in the place of one on Spot. So a worker
that has waited for long is let go; those that come next are asked for on demand, and a while later on Spot again.
Source: Amazon ECS Developer Guide, "Spot Instances for Amazon ECS capacity", read 2026-12-01.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from starburst_common.model import WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.ports import Basis, Limit

WAIT_S = 180.0  #: an instance takes a minute or so; so long one on Spot is waited for
AGAIN_S = 900.0  #: after so long Spot is tried again
NONE_CAME = "starburst: no Spot instance came for it"  #: why a worker was stopped


def in_vain(workers: Iterable[WorkerState], asked_at: Mapping[WorkerId, float], now: float) -> list[WorkerId]:
    """Those that have waited for an instance on Spot for too long.

    >>> from starburst_common.model import Granted
    >>> spot = Granted(capacity="p", architecture="", zone="", vcpu=1, memory_mib=1792, spot=True)
    >>> waits = WorkerState(id=WorkerId("w"), ordinal=0, phase=WorkerPhase.STARTING, granted=spot)
    >>> [in_vain([waits], {"w": 1000.0}, now) for now in (1180, 1181)]
    [[], ['w']]
    """
    late = [worker for worker in workers if worker.phase is WorkerPhase.STARTING and _unplaced(worker)]
    return [worker.id for worker in late if now - asked_at[worker.id] > WAIT_S]


def lacking(workers: Iterable[WorkerState], now: float) -> bool:
    """Whether none came for somebody lately."""
    return any(
        worker.phase is WorkerPhase.STOPPED
        and _unplaced(worker)
        and (worker.end is WorkerEnd.UNSTARTED or worker.reason.startswith(NONE_CAME))
        and now - worker.stopped_at < AGAIN_S
        for worker in workers
    )


def room(limits: Iterable[Limit], workers: Iterable[WorkerState], vcpu: float) -> float:
    """How many more such workers the account's quotas on Spot allow; without limit where these are not known.

    >>> quota = Limit(name="EC2 Standard Spot vCPU quota", unit="vCPU", total=8, capacity="p", used=3)
    >>> room([quota], [], 2)
    2
    """
    known = [*limits]
    if not known or any(limit.basis is Basis.ASSUMED for limit in known):
        return math.inf
    mine = vcpu * sum(_on_spot(worker) and worker.phase is not WorkerPhase.STOPPED for worker in workers)
    return max(sum(math.floor((limit.total - max(limit.used, mine)) / vcpu) for limit in known), 0)


def parts_on_spot(steps: Iterable[tuple[int, int]], left: float) -> list[tuple[int, int, bool]]:
    """First ordinal and count of each step, and whether it is to be asked for on Spot, of which so many are.

    >>> parts_on_spot([(0, 10), (10, 4)], 6)
    [(0, 6, True), (6, 4, False), (10, 4, False)]
    """
    found: list[tuple[int, int, bool]] = []
    for lo, count in steps:
        on_spot = int(min(count, left))
        left -= on_spot
        found += [(lo, on_spot, True)] if on_spot else []
        found += [(lo + on_spot, count - on_spot, False)] if on_spot < count else []
    return found


def _on_spot(worker: WorkerState) -> bool:
    return worker.granted is not None and worker.granted.spot


def _unplaced(worker: WorkerState) -> bool:
    return worker.granted is not None and worker.granted.spot and not worker.granted.instance and not worker.started_at
