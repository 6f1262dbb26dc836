"""How long do items take that wait for very different times, over the least that two workers need?"""

from __future__ import annotations

import random
import time

from benchmarks.contenders import CONTENDERS, WORKERS
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target

UNEVEN, EVEN = 1_500, 5_000
NAMES = {UNEVEN: ("starburst", "ProcessPool", "mpire"), EVEN: ("starburst", "ProcessPool, chunksize 100", "mpire")}


def lengths(items: int) -> list[float]:
    """Seconds: of the fewer Pareto's, from 8 ms to 2 s, of the more all 1 ms."""
    chance = random.Random(7)
    return [0.001] * items if items == EVEN else [min(0.008 * chance.paretovariate(1.3), 2.0) for _ in range(items)]


def nap(seconds: float) -> float:
    """Wait."""
    time.sleep(seconds)
    return seconds


def cases(quick: bool) -> list[Case]:
    """Who hands out one at a time, or several."""
    return [Case(name, size, 1 if quick else 3) for size, names in NAMES.items() for name in names]


def measure(contender: str, size: int) -> dict[str, float]:
    """Map; how long that took from before the contender was opened, over what it must."""
    waits = lengths(size)
    least_s = max(sum(waits) / WORKERS, *waits)
    began = time.perf_counter()
    with CONTENDERS[contender]() as pool:
        assert pool.map(nap, waits) == waits
    return {"least_s": least_s, "of_least": (time.perf_counter() - began) / least_s}


def over(record: Record, size: int, peer: str) -> Spread | None:
    """Our time over a peer's."""
    return record.ratio(size, "wall_s", over="starburst", under=peer)


SCENARIO = Scenario(
    name="uneven",
    title="Items of different length",
    about=f"{UNEVEN:,} items that sleep for Pareto's times, 8 ms to 2 s, and {EVEN:,} of 1 ms. The least that two "
    "workers need is half of all sleeps together. Over that: from before the workers are started until they are gone. "
    "0.4 s of it are their start and end, as of any map; the rest is the last chunks', which are cut where one worker "
    "has nothing left, as soon as that is seen.",
    size_heading="items",
    cases=cases,
    measure=measure,
    columns=(
        Column("wall_s", "wall, s", ".2f"),
        Column("least_s", "least, s", ".2f"),
        Column("of_least", "over the least", ".3f"),
    ),
    targets=(
        Target(f"{UNEVEN:,} uneven items: over the least", lambda r: r.spread("starburst", UNEVEN, "of_least"), 1.05),
        Target(
            f"{EVEN:,} items of 1 ms: over ProcessPool, chunksize 100",
            lambda r: over(r, EVEN, "ProcessPool, chunksize 100"),
            1.1,
        ),
    ),
)
