"""`python -m tests.fuzz`: a line a target; exit code 0 only when nothing was wrong."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from tests.fuzz.hunt import hunt
from tests.fuzz.targets import all_targets


def main() -> None:
    """Hunt."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of unsigned targets together, and of signed ones")
    parser.add_argument("--seed", type=int, help="the same one gives the same inputs; default: another each time")
    parser.add_argument("--target", nargs="*", default=[""], help="only those with one of these in their names")
    parser.add_argument("--keep", type=Path, help="write the least input of each fault into this folder")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    faults = 0
    sums = {True: 0, False: 0}
    with all_targets() as targets:
        chosen = [target for target in targets if any(part in target.name for part in asked.target)]
        for target in chosen:
            share = sum(each.signed is target.signed for each in chosen)
            found = hunt(target, -(-asked.inputs // share), seed)
            sums[target.signed] += found.inputs
            faults += len(found.faults)
            print(found, flush=True)
            for number, (fault, sample) in enumerate(found.faults.items()):
                print(
                    f"    {found.said[fault]!a}\n        {sample[:200]!r}{'…' if len(sample) > 200 else ''}", flush=True
                )
                if asked.keep is not None:
                    asked.keep.mkdir(parents=True, exist_ok=True)
                    how = "signed" if target.signed else "unsigned"
                    (asked.keep / f"{target.name}-{how}-{number}".replace(" ", "-")).write_bytes(sample)
    print(f"{sums[False]:,} unsigned and {sums[True]:,} signed inputs, {faults} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
