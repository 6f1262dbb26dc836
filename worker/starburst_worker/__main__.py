"""`python -m starburst_worker`: a supervisor, or with `slot` one of its slots, and that one's guard."""

from __future__ import annotations

import sys


def main() -> None:
    """Run what the arguments name."""
    if sys.argv[1:2] == ["slot"]:
        from starburst_worker.guard import guarded

        guarded(int(sys.argv[2]))
        from starburst_common.pickling.preferred import stand_in
        from starburst_worker.slot import main as slot

        stand_in()
        slot(int(sys.argv[2]), sys.argv[3])
    else:
        from starburst_worker.start import main as start

        start()


if __name__ == "__main__":
    main()
