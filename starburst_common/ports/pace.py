"""How long workers lease, work and wait: the few numbers by which places differ for them, handed on whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from starburst_common.wire.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A fleet's, from its backend to each of its workers; times in seconds."""

    lease_s: float  #: a worker that is not heard of for so long has lost its chunk
    chunk_s: float  #: the work a chunk should hold, once durations are known: one that has run for longer is shared
    share_s: float  #: the same of one as it was planned, where as much again is left: nobody knew how long it is
    idle_s: float  #: how long a worker waits for work before it stops itself
    lifetime_s: float  #: how long a worker lives at most
    inline_bytes: int  #: items and outcomes up to so many bytes ride inside messages

    def orders(self) -> dict[str, Any]:
        """As workers are told it."""
        return asdict(self)

    @classmethod
    def read(cls, orders: Fields) -> Self:
        """As a worker was told it. Raises `Refused`."""
        return cls(
            lease_s=orders.number("lease_s"),
            chunk_s=orders.number("chunk_s"),
            share_s=orders.number("share_s"),
            idle_s=orders.number("idle_s"),
            lifetime_s=orders.number("lifetime_s"),
            inline_bytes=orders.whole("inline_bytes"),
        )
