"""How fast do items that do nothing pass, start-up included?"""

from __future__ import annotations

import resource

from benchmarks.contenders import CONTENDERS, noop
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target

#: Items that some can do in good time.
MOST = {"dask": 10_000, "ProcessPool": 100_000, "ProcessPool, spawned, chunksize 100": 10_000, "loky": 100_000}
REPEATS = 3


def cases(quick: bool) -> list[Case]:
    """Everybody at 10,000; further up only who gets there in good time."""
    sizes = (10_000,) if quick else (10_000, 100_000, 1_000_000)
    repeats = 1 if quick else REPEATS
    return [Case(name, size, repeats) for size in sizes for name in CONTENDERS if size <= MOST.get(name, size)]


def measure(contender: str, size: int) -> dict[str, float]:
    """Map, check every answer, close; then read this process's own peak memory."""
    with CONTENDERS[contender]() as pool:
        assert pool.map(noop, range(size)) == list(range(size))
    return {"driver_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def speed(record: Record, size: int, peer: str) -> Spread | None:
    """Our items a second over a peer's, which is its wall time over ours."""
    return record.ratio(size, "wall_s", over=peer, under="starburst")


SCENARIO = Scenario(
    name="noop_map",
    title="Items that do nothing",
    about="Two workers map a function that returns its argument over a range. The wall time is that of the whole "
    "process: interpreter, imports, starting the workers, the map, comparing every result, shutting down. "
    "Driver memory is the peak resident set of that process, without its workers. A ProcessPool that spawns shows what "
    "two fresh interpreters cost, where the others are forks of the one that maps. Before, an item was a pickle of its "
    "own, there and back, and each worker and slot imported all anew. Now 256 are pickled together; an item costs 1.1 "
    "system calls (the umask that the one before it may have changed), and a map of a few 0.4 s of CPU: half of it "
    "imports, in the caller and in the process that workers are forked from, side by side. That is the floor for few "
    "items; for many it is the interpreter, 1 µs an item on each side.",
    size_heading="items",
    cases=cases,
    measure=measure,
    columns=(
        Column("wall_s", "wall, s", ".2f"),
        Column("items_per_s", "items/s", ",.0f"),
        Column("driver_peak_mib", "driver peak, MiB", ".0f"),
    ),
    targets=(
        Target("10,000 items: times dask's speed", lambda r: speed(r, 10_000, "dask"), 20, at_least=True),
        Target("10,000 items: times ProcessPool's speed", lambda r: speed(r, 10_000, "ProcessPool"), 1, at_least=True),
        Target(
            "10,000 items: times the speed of a ProcessPool that spawns, chunksize 100",
            lambda r: speed(r, 10_000, "ProcessPool, spawned, chunksize 100"),
            0.5,
            at_least=True,
        ),
        Target(
            "100,000 items: times the speed of loky, chunksize 100",
            lambda r: speed(r, 100_000, "loky, chunksize 100"),
            1,
            at_least=True,
        ),
        Target(
            "1,000,000 items: times the speed of ProcessPool, chunksize 100",
            lambda r: speed(r, 1_000_000, "ProcessPool, chunksize 100"),
            1,
            at_least=True,
        ),
        Target("100,000 items: driver peak, MiB", lambda r: r.spread("starburst", 100_000, "driver_peak_mib"), 300),
        Target(
            "1,000,000 items: driver peak, over that of ProcessPool, chunksize 100",
            lambda r: r.ratio(1_000_000, "driver_peak_mib", over="starburst", under="ProcessPool, chunksize 100"),
            1,
        ),
    ),
    not_run="dask above 10,000 items, and ProcessPool and loky with chunksize 1 at 1,000,000, take minutes a run: "
    "not run, and nothing is extrapolated.",
)
