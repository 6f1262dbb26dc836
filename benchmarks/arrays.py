"""How fast do large arrays go to workers of this machine and back?"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.scenario import Case, Column, Scenario, Target

ITEMS = 200
NAMES = ("starburst", "ProcessPool", "joblib", "loky")
_FLOATS = 1 << 17  # in an array of 1 MiB


def doubled(array: Any) -> Any:
    """Another array."""
    return array * 2


def cases(quick: bool) -> list[Case]:
    """Two workers each."""
    return [Case(name, ITEMS, 1 if quick else 5) for name in NAMES]


def measure(contender: str, size: int) -> dict[str, float]:
    """Map arrays, and look into each that came back."""
    import numpy

    arrays = [numpy.full(_FLOATS, number, dtype=float) for number in range(size)]
    with CONTENDERS[contender]() as pool:
        for number, array in enumerate(pool.map(doubled, arrays)):
            assert array[0] == array[-1] == 2 * number
    return {}


SCENARIO = Scenario(
    name="arrays",
    title="Arrays there and back",
    about=f"{ITEMS} arrays of 1 MiB are mapped on two workers, each to another one of its size; the whole process. "
    "Before, each was copied eleven times and went through sockets. Now 200 MiB are written to files twice and sent "
    "through a socket once, and signed or checked four times, by BLAKE3 in 0.03 s each. The limit is those two writes: "
    "memory that the page cache gets anew for each run, where a pipe has the same 64 KiB again and again. Where that "
    "is memory which a virtual machine's host gives only as it is touched, a write takes 0.03 to 0.4 s.",
    size_heading="arrays",
    cases=cases,
    measure=measure,
    columns=(Column("wall_s", "wall, s", ".2f"),),
    targets=(
        Target("over ProcessPool", lambda r: r.ratio(ITEMS, "wall_s", over="starburst", under="ProcessPool"), 1.0),
    ),
)
