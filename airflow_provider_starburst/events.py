"""What a trigger's event says of a run: how its watch ended."""

from __future__ import annotations

OVER = "over"  #: the run is over
DEADLINE = "deadline"  #: it was cancelled, as its deadline has passed
TIMEOUT = "timeout"  #: it was cancelled, as this try has had its time
ERROR = "error"  #: it could not be watched any more
