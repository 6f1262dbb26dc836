"""`python -m tests.soak`: ends by itself, with exit code 0 only when everything held."""

from __future__ import annotations

import argparse
import sys

from tests.soak.soak import environment_seed, soak


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="start rounds for so long")
    parser.add_argument("--seed", type=int, help="of the jobs and the faults; default: another each time")
    asked = parser.parse_args()
    seed = environment_seed() if asked.seed is None else asked.seed
    sys.exit(0 if soak(minutes=asked.minutes, seed=seed) else 1)


if __name__ == "__main__":
    main()
