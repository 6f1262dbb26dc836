"""`python -m starburst_worker`: a supervisor, or with `slot` one of its slots."""

from __future__ import annotations

import sys


def main() -> None:
    """Run what the arguments name."""
    if sys.argv[1:2] == ["slot"]:
        from starburst_worker.slot import main as slot

        slot(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        from starburst_worker.supervisor import main as supervisor

        supervisor()


if __name__ == "__main__":
    main()
