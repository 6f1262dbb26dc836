"""Fleets that stay warm: found by the next run of any process, shared, closed once, and gone when nobody needs them."""

from __future__ import annotations

import os
import time

from starburst_common import Cluster, StarburstExecutor, starburst_map
from starburst_common.fleets.warm import open_fleet
from starburst_common.model import FleetId, RunState
from starburst_common.names import FLEETS, WARM
from starburst_common.options import Options
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from tests.faults.conftest import Bed, on_both

WARM_S = 3.0
IDLE_S = 0.5  #: of workers that nobody keeps warm


def who(_: int) -> str:
    """Which worker, or slot of one, this is."""
    return os.environ.get("ECS_CONTAINER_METADATA_URI_V4", "") or str(os.getpgid(os.getsid(0)))


def slow(item: int) -> int:
    """Takes a while."""
    time.sleep(0.1)
    return item


def fleets_of(backend: Backend) -> list[str]:
    """Those there are, with and without workers."""
    return sorted({*backend.store.folders(FLEETS), *backend.compute.fleets()})


def gone(bed: Bed) -> None:
    """It ends by itself: workers by their own clocks, the rest with the next pruning, and nothing is left."""
    bed.until(lambda: not bed.workers())
    prune(bed.backend)
    assert fleets_of(bed.backend) == [] and [*bed.backend.store.list(WARM)] == []


@on_both
def test_the_next_run_has_the_workers_of_the_last(bed: Bed) -> None:
    """Whatever began it: a map, another cluster, an executor; no worker is launched for it, and others find none."""
    warm = {"workers": 2, "keep_warm": WARM_S, "backend": bed.backend.paced(idle_s=IDLE_S), "progress": False}
    first = {*starburst_map(who, range(20), chunk_size=1, **warm)}
    (fleet,) = fleets_of(bed.backend)
    before = [worker.id for worker in bed.backend.compute.workers(FleetId(fleet))]
    with Cluster(**warm) as cluster:
        assert {*cluster.map(who, range(20), chunk_size=1)} <= first
    with StarburstExecutor(**{name: value for name, value in warm.items() if name != "progress"}) as executor:
        assert executor.submit(who, 1).result(60) in first
    assert [worker.id for worker in bed.backend.compute.workers(FleetId(fleet))] == before
    for other in ({"cpu": 2}, {"slots": 3}, {"keep_warm": 2.0}, {"spot": True} if bed.backend.name == "aws" else {}):
        if other:
            held = open_fleet(warm["backend"], Options.of(workers=1, **{"keep_warm": WARM_S, **other}), "other")
            assert held.id != fleet
            assert held.release("other") is False
    assert len(fleets_of(bed.backend)) > 3
    gone(bed)


@on_both
def test_runs_share_a_fleet_fairly(bed: Bed) -> None:
    """A short one is over long before a long one that came first; the first to end takes no worker from the other."""
    warm = {"workers": 2, "keep_warm": WARM_S, "backend": bed.backend.paced(idle_s=IDLE_S), "progress": False}
    with Cluster(**warm) as cluster:
        long = cluster.start(slow, range(300), chunk_size=1)
        bed.until(lambda: long.status().answered > 2)
        assert starburst_map(slow, range(4), chunk_size=1, **warm) == [*range(4)]
        assert long.status().answered < 150
        assert len(fleets_of(bed.backend)) == 1
        assert len(bed.backend.compute.workers(FleetId(fleets_of(bed.backend)[0]))) == 2
        long.cancel()
        assert long.wait(60).state is RunState.CANCELLED
    gone(bed)
