"""What a worker was launched for: its environment in, a frozen `Duty` out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starburst_common.model import FleetId, WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One worker's orders; times in seconds."""

    fleet: FleetId
    worker: WorkerId
    backend: str
    home: str
    slots: int
    memory_mib: int | None  #: limit for all slots together; None where the platform enforces it
    idle_s: float
    lifetime_s: float
    lease_s: float
    chunk_s: float
    inline_bytes: int

    @classmethod
    def read(cls, text: str) -> Duty:
        """From the JSON in the environment."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)
