"""How long does it take to decide about a fleet, and to plan one, and to simulate a whole run of it?"""

from __future__ import annotations

import resource
import time
from statistics import median

from benchmarks.scenario import Case, Column, Scenario, Target
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Wish, plan
from starburst_common.ports import LaunchSpeed
from starburst_common.resources import Resources
from starburst_common.runs.reconcile import decide
from tests.cloud_model import ON_DEMAND, SPOT, Account, Cloud, Driver

TICKS = 50
ITEMS_A_WORKER, ITEM_S = 100, 30.0


def cases(quick: bool) -> list[Case]:
    """Fleets of three sizes; the largest is the most that may be asked for."""
    sizes = (100, 1000) if quick else (100, 1000, 10_000)
    return [Case("decide", size, 1 if quick else 3) for size in sizes]


def measure(contender: str, size: int) -> dict[str, float]:
    """A whole run on the model of AWS; in its midst, what a tick decides by, and a plan, time and again."""
    account = Account(quota={ON_DEMAND: float(size), SPOT: 0.0})
    cloud = Cloud([ITEM_S] * (ITEMS_A_WORKER * size), workers=size + size // 10, account=account)
    ticks: list[float] = []

    def look() -> None:
        watcher = Driver(cloud, name="watcher")
        for _ in range(TICKS):
            began = time.process_time()
            decide(watcher.view(), cloud.policy)
            ticks.append((time.process_time() - began) * 1000)

    cloud.after(ITEMS_A_WORKER * ITEM_S / 2, look)
    began = time.process_time()
    cloud.run(1e6)
    whole_s = time.process_time() - began - sum(ticks) / 1000
    wish = Wish(workers=size, resources=Resources.of(1), items=ITEMS_A_WORKER * size, item_s=ITEM_S)
    plans = []
    for _ in range(TICKS):
        began = time.process_time()
        str(plan(wish, Headroom(free=size / 2), LaunchSpeed()))
        plans.append((time.process_time() - began) * 1000)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tick_ms": median(ticks), "plan_ms": median(plans), "whole_s": whole_s, "peak_mb": peak_mb}


SCENARIO = Scenario(
    name="decisions",
    title="Decisions about large fleets",
    about=f"A run of {ITEMS_A_WORKER} items of {ITEM_S:.0f} s a worker, on a model of AWS in one process. Its quota "
    "has room for so many workers; a tenth more are wanted. Tick: what a driver sees put together (workers that ended "
    "for nothing, headroom) and decided, in the midst of the run, without what AWS takes to answer. Plan: what "
    "`starburst plan` says. Whole: the run from its first launch to its last answer. All in CPU time of the process.",
    size_heading="workers",
    cases=cases,
    measure=measure,
    columns=(
        Column("tick_ms", "tick, ms", ".1f"),
        Column("plan_ms", "plan, ms", ".2f"),
        Column("whole_s", "whole run simulated, s", ".1f"),
        Column("peak_mb", "peak memory, MB", ".0f"),
    ),
    targets=(
        Target("tick at 10,000 workers, ms", lambda r: r.spread("decide", 10_000, "tick_ms"), 50),
        Target("plan for 10,000 workers, ms", lambda r: r.spread("decide", 10_000, "plan_ms"), 50),
        Target("1,000,000 items simulated, s", lambda r: r.spread("decide", 10_000, "whole_s"), 60),
        Target("1,000,000 items simulated, MB", lambda r: r.spread("decide", 10_000, "peak_mb"), 500),
    ),
)
