"""What is said of a run in small texts that nobody signs: acted on, never unpickled, and forged by who can write there.

A text that is none of ours is read as what it would say if nobody had written it, but where that is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Self

from starburst_common.errors import Refused
from starburst_common.model import Buffer, Span, WorkerId
from starburst_common.wire.fields import LAST_MOMENT

_SPANS = 100_000  #: that are withdrawn together; what is beyond begins all the same
_LONGEST_S = 1e11  #: three thousand years: no date is much later


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A feeder's sign of life; whoever reads it looks whether it changes."""

    body: bytes
    at: float  #: wall clock; for people, since clocks differ and jump
    ended: str  #: why no more input comes; empty while it may

    @classmethod
    def of(cls, *, at: float = 0.0, ended: str = "") -> Self:
        """That it lives, unlike any before; or has ended, for this reason."""
        fields = {"ended": ended} if ended else {"word": token_hex(8), "at": at}
        return cls(body=json.dumps(fields).encode(), at=at, ended=ended)

    @classmethod
    def read(cls, body: bytes) -> Self:
        """As it was written, by whomever."""
        fields: object = None
        with suppress(ValueError, RecursionError):
            fields = json.loads(body)
        known = fields if isinstance(fields, dict) else {}
        at, ended = known.get("at"), known.get("ended")
        return cls(
            body=body,
            at=float(at) if isinstance(at, int | float) and abs(at) <= LAST_MOMENT else 0.0,
            ended=ended if isinstance(ended, str) else "",
        )


@dataclass(frozen=True, slots=True)
class Expires:
    """How many seconds longer than usual a run is kept."""

    longer_s: float

    @property
    def body(self) -> bytes:
        """As it is stored."""
        return repr(min(self.longer_s, _LONGEST_S)).encode()

    @classmethod
    def read(cls, body: Buffer, about: str) -> Self:
        """The inverse of `body`. Raises `Refused` for what is no such number."""
        longer_s = math.nan
        with suppress(ValueError):
            longer_s = float(bytes(body))
        if not 0 <= longer_s <= _LONGEST_S:
            raise Refused(f"{about}: not a number of seconds")
        return cls(longer_s)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Which of an executor's calls are not to begin any more."""

    spans: Sequence[Span]

    @property
    def body(self) -> bytes:
        """As it is stored."""
        return " ".join(map(str, self.spans[:_SPANS])).encode()

    @classmethod
    def read(cls, body: Buffer) -> Self:
        """The inverse of `body`; none where that is no list of spans."""
        try:
            return cls(tuple(map(Span.parse, bytes(body).decode().split())))
        except ValueError:
            return cls(())


@dataclass(frozen=True, slots=True)
class Suspect:
    """Which worker ran an item alone that may take its worker along."""

    worker: WorkerId

    @property
    def body(self) -> bytes:
        """As it is stored."""
        return self.worker.encode()

    @classmethod
    def read(cls, body: Buffer) -> Self:
        """The inverse of `body`."""
        return cls(WorkerId(bytes(body).decode(errors="replace")))
