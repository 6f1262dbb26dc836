"""What ties whoever keeps a slot busy to its worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starburst_common.model import RunId
from starburst_common.ports.pace import Pace
from starburst_common.runs.outcomes import Printed
from starburst_worker.guard import Guards
from starburst_worker.saved import Saved
from starburst_worker.seat import Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """The same for all slots of a worker."""

    worker: str
    scratch: Path
    guards: Guards
    pace: Pace
    part_bytes: int  #: more answers than that are settled before the others are there
    too_big: Callable[[Seat], str]  #: why this slot must be killed for memory, if so
    draining: Callable[[], bool]  #: the worker must go
    held_up: Callable[[], bool]  #: so much waits to be stored that no slot is to be heard
    saved: Saved
    tell: Callable[[RunId, list[Printed]], None]  #: takes what items print, for who follows
