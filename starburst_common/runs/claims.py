"""A name from outside in; the run that is done under it, and whose it is, out.

The tries of an orchestrator's task know nothing of each other, and an old one may still be at work when the next
begins. So they leave a row of claims, each written once, by who has read the one before. Who is not the last any more
has lost the run to a later try, and whatever it would end is that one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

from starburst_common.errors import Exists, NotFound, Refused
from starburst_common.model import Buffer, RunId
from starburst_common.names import claim as key_of
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.runs.retry import newest_of
from starburst_common.runs.spec import find_leg, mark_cancelled, read_spec
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import malformed


class Stage(StrEnum):
    """How far who claims a run has come with it."""

    INTENDED = "intended"  #: a run of this id is about to begin; it may have
    HELD = "held"  #: it has begun, or is gone on with
    CANCELLED = "cancelled"  #: who held it last has it end


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One try's claim to the run under a name."""

    number: int
    by: str  #: the try, by a word that no other has
    run: RunId
    stage: Stage
    about: dict[str, str] = field(default_factory=dict)  #: what who claims it wants to know of it later
    ends: str = ""  #: of one that is cancelled: the run that is, itself or its last retry
    leg: int = 0  #: and the leg of that

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        fields = asdict(self)
        del fields["number"]
        return seal_document(key, about, fields)

    @classmethod
    def read(cls, key: bytes, about: str, number: int, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        fields, _ = open_document(key, about, blob)
        if (stage := fields.text("stage")) not in [*Stage]:
            raise malformed(about, f"no stage {stage!r:.40}")
        return cls(
            number=number,
            by=fields.text("by"),
            run=RunId(fields.name("run")),
            stage=Stage(stage),
            about=fields.texts("about"),
            ends=fields.name("ends") if fields.text("ends") else "",
            leg=fields.whole("leg"),
        )


class Claims:
    """All the claims under one name, of letters, digits and hyphens, as the try sees them that is called `by`."""

    def __init__(self, backend: Backend, name: str, by: str) -> None:
        self._backend, self._name, self._by = backend, name, by

    def last(self) -> Claim | None:
        """The one that holds. Raises `Refused` for one that we did not sign."""
        numbers = [0]
        for key in self._backend.store.list(key_of(self._name)):
            with suppress(ValueError):
                numbers.append(int(key.rpartition("/")[2]))
        while number := max(numbers):
            key = key_of(self._name, number)
            with suppress(NotFound):  # pruned meanwhile
                return Claim.read(self._backend.key, key, number, self._backend.store.get(key, SMALL_BYTES))
            numbers.remove(number)
        return None

    def add(
        self, after: Claim | None, *, run: RunId, stage: Stage, about: Mapping[str, str], ends: str = "", leg: int = 0
    ) -> Claim | None:
        """The next claim, if the one before is the last still; None if somebody else was faster."""
        number = after.number + 1 if after else 1
        claim = Claim(number=number, by=self._by, run=run, stage=stage, about={**about}, ends=ends, leg=leg)
        key = key_of(self._name, number)
        try:
            self._backend.store.create(key, claim.sealed(self._backend.key, key))
        except Exists:
            return None
        return claim

    def cancel(self) -> bool:
        """Have the run end that this try holds; False, and nothing is done, if a later one has claimed it since."""
        while (last := self.last()) is not None and last.by == self._by:
            if last.stage is Stage.CANCELLED:
                self.finish(last)
                return True
            ends, leg = newest_of(self._backend, last.run), 0
            with suppress(NotFound, Refused):  # it has not begun, or is gone
                leg = find_leg(self._backend, read_spec(self._backend, ends)).number
            self.add(last, run=last.run, stage=Stage.CANCELLED, about=last.about, ends=ends, leg=leg)
        return False

    def finish(self, cancelled: Claim) -> None:
        """Do what who cancelled may not have lived to do; a leg that was begun since goes on."""
        mark_cancelled(self._backend, RunId(cancelled.ends), cancelled.leg)
