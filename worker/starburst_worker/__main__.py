"""`python -m starburst_worker`: a supervisor; with `slot` one of its slots, and that one's guard; with `forks` a place

from which supervisors are forked.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run what the arguments name."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "slot":
        from starburst_worker.guard import guarded

        guarded(int(sys.argv[2]))
        from starburst_worker.slot import main as slot

        slot(int(sys.argv[2]), sys.argv[3])
    elif what == "forks":
        gc.disable()  # as below
        from starburst_worker.forks import Forks

        gc.enable()
        Forks().serve()
        os._exit(0)  # there is nothing to be closed
    else:
        gc.disable()  # until it has work: to look for garbage among what is imported takes a tenth of its start
        from starburst_worker.start import main as start

        start()


if __name__ == "__main__":
    main()
