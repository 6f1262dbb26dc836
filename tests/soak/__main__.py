"""`python -m tests.soak`: ends by itself, with exit code 0 only when everything held."""

from __future__ import annotations

import argparse
import sys

from tests.soak.schedules import tried_all
from tests.soak.soak import environment_seed, soak


def main() -> None:
    """Soak, or try schedules."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="start rounds for so long")
    parser.add_argument("--seed", type=int, help="of the jobs and the faults; default: another each time")
    parser.add_argument("--schedules", metavar="FROM:TO", help="try the schedules of these seeds in place of rounds")
    parser.add_argument("--on", choices=["local", "bed"], default="local", help="where schedules are tried")
    parser.add_argument("--at-once", type=int, default=4, help="so many schedules")
    asked = parser.parse_args()
    if asked.schedules:
        first, _, last = asked.schedules.partition(":")
        sys.exit(0 if tried_all(range(int(first), int(last)), asked.on, at_once=asked.at_once) else 1)
    seed = environment_seed() if asked.seed is None else asked.seed
    sys.exit(0 if soak(minutes=asked.minutes, seed=seed) else 1)


if __name__ == "__main__":
    main()
