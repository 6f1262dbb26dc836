"""`python -m starburst_worker`: a supervisor, or with `slot` one of its slots."""

from __future__ import annotations

import sys


def main() -> int:
    """Run what the arguments name; the exit code."""
    if sys.argv[1:2] == ["slot"]:
        from starburst_worker.slot import main as slot

        slot(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return 0
    from starburst_worker.supervisor import main as supervisor

    supervisor()


if __name__ == "__main__":
    sys.exit(main())
