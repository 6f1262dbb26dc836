"""How long does a call take of a function that closes over a large array, the first time and again?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.scenario import Case, Column, Scenario, Target

ITEMS = 4
NAMES = ("starburst", "joblib")
_FLOATS = 25_000_000  # 200 MB


def looking_into(array: Any) -> Callable[[int], float]:
    """A function that closes over an array."""
    return lambda at: float(array[at])


def cases(quick: bool) -> list[Case]:
    """The standard library's pool takes no such function."""
    return [Case(name, ITEMS, 1 if quick else 5) for name in NAMES]


def measure(contender: str, size: int) -> dict[str, float]:
    """The first call with the workers' start; then another one of the same function."""
    import numpy

    array = numpy.random.default_rng(0).random(_FLOATS)
    function, wanted = looking_into(array), [float(value) for value in array[:size]]
    took = []
    began = time.perf_counter()
    with CONTENDERS[contender]() as pool:
        for _ in range(2):
            assert pool.map(function, range(size)) == wanted
            took.append(time.perf_counter() - began)
            began = time.perf_counter()
    return {"first_s": took[0], "again_s": took[1]}


SCENARIO = Scenario(
    name="closure",
    title="A function that closes over 200 MB",
    about=f"A lambda over an array of 25 million random floats is mapped over {ITEMS} items on two workers, and "
    "again. The first call holds the workers' start. joblib knows the array again by its place in memory, and"
    " would send what it has even if that was altered since; we look at all of it, in 0.03 s of CPU by "
    "BLAKE3, where SHA-256 took 0.1. Before, it was pickled, hashed and copied four times for each call. The "
    "first call's limits are one write of 200 MB to a file, and two reads of it that check the seal, one a "
    "worker.",
    size_heading="items",
    cases=cases,
    measure=measure,
    columns=(Column("first_s", "first call, s", ".2f"), Column("again_s", "again, s", ".3f")),
    targets=(
        Target("first call, over joblib's", lambda r: r.ratio(ITEMS, "first_s", over="starburst", under="joblib"), 1.0),
        Target("again, over joblib's", lambda r: r.ratio(ITEMS, "again_s", over="starburst", under="joblib"), 1.0),
    ),
)
