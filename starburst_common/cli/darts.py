"""A seed in; how many of so many random darts hit the quarter circle out. The workload of `starburst demo`."""

from __future__ import annotations

from random import Random

DARTS = 300_000


def throw_darts(seed: int) -> int:
    """How many of `DARTS` darts at the unit square land within 1 of its corner: about a share of pi / 4."""
    random = Random(seed).random
    return sum(random() ** 2 + random() ** 2 <= 1 for _ in range(DARTS))
