"""How long does one item take there and back, on workers that are warm?"""

from __future__ import annotations

import time
from collections import deque
from statistics import median, quantiles

from benchmarks.contenders import CONTENDERS, noop
from benchmarks.scenario import Case, Column, Scenario, Target

WARMING = 100
MAPPED = 100
NAMES = ("starburst", "ProcessPool", "loky", "dask")


def cases(quick: bool) -> list[Case]:
    """200 round trips in each of five processes a contender."""
    return [Case(name, 200, 1 if quick else 5) for name in NAMES]


def measure(contender: str, size: int) -> dict[str, float]:
    """Warm the workers by a map; time the first result of a second map; then round trips one after another."""
    with CONTENDERS[contender]() as pool:
        pool.map(noop, range(WARMING))

        started = time.perf_counter()
        results = pool.stream(noop, range(MAPPED))
        next(results)
        first_s = time.perf_counter() - started
        deque(results, maxlen=0)

        trips_ms = []
        for item in range(size):
            started = time.perf_counter()
            assert pool.submit(noop, item).result() == item
            trips_ms.append((time.perf_counter() - started) * 1000)
    return {"first_ms": first_s * 1000, "median_ms": median(trips_ms), "p95_ms": quantiles(trips_ms, n=20)[-1]}


SCENARIO = Scenario(
    name="round_trip",
    title="There and back on warm workers",
    about=f"Two workers, warmed by a map of {WARMING} items. First result: from starting another map of {MAPPED} "
    "items to holding its first result. Round trip: submit one item and wait for its result, one after "
    "another; the median and 95th percentile within a process. A call goes through four processes and five "
    "threads, each of which is woken, and leaves three files (what was asked, that it was, the answer) before"
    " anybody is told: about 270 system calls, 100 of them SQLite's, 70 for waking somebody, and 1.9 ms of "
    "CPU. A pool's goes through two pipes, and is gone with its processes. Before, the driver also decided "
    "twice a call whether the run was to end, and a slot said twice that it was done.",
    size_heading="round trips",
    cases=cases,
    measure=measure,
    columns=(
        Column("median_ms", "round trip, median ms", ".2f"),
        Column("p95_ms", "round trip, p95 ms", ".2f"),
        Column("first_ms", "first result, ms", ".1f"),
    ),
    targets=(
        Target("round trip, median ms", lambda r: r.spread("starburst", 200, "median_ms"), 1.5),
        Target("round trip, p95 ms", lambda r: r.spread("starburst", 200, "p95_ms"), 3),
        Target("first result of 100 items, ms", lambda r: r.spread("starburst", 200, "first_ms"), 300),
    ),
)
