"""A run's events in; what of them is kept with the run, and told to any process, out: one small sealed object a leg.

Whoever drives the run puts together what is stored and what he saw. So of two who write at once one is undone, until
he writes the next time, and who dies takes along what he saw since he last wrote. Nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from starburst_common.errors import NotFound, Refused
from starburst_common.model import Buffer, RunId
from starburst_common.names import RunNames
from starburst_common.phrases import shortened
from starburst_common.ports import SMALL_BYTES, Backend
from starburst_common.runs.events import EventKind, RunEvent, merged, thinned
from starburst_common.runs.legs import End
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import find_leg, read_end
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import LAST_MOMENT, malformed, whole

HISTORY_BYTES = 60_000  #: it has no more
_EVENTS, _WORDS = 400, 1000  #: nor so many events, or characters of what one says
_KINDS = [*EventKind]
_SUMS = ("count", "answered", "failed", "workers")


@dataclass(frozen=True, slots=True)
class History:
    """What happened in one leg of a run, but for its end, which has an object of its own."""

    events: Sequence[RunEvent]

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored: fewer of them, and less of their words, where that were too much."""
        most, words = _EVENTS, _WORDS
        while len(body := seal_document(key, about, {"events": self._fields(most, words)})) > HISTORY_BYTES:
            most, words = most - most // 4, words - words // 4
        return body

    def _fields(self, most: int, words: int) -> list[list[Any]]:
        return [
            [each.kind, each.at, shortened(each.words, words), *(getattr(each, name) for name in _SUMS)]
            for each in thinned(self.events, most)
        ]

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`; kinds that this release does not know are passed over. Raises `Refused`."""
        header, _ = open_document(key, about, blob)
        found = [_event(about, each) for each in header.many("events")]
        return cls([event for event in found if event is not None])


def _event(about: str, value: Any) -> RunEvent | None:
    if not isinstance(value, list) or [*map(type, value[:3])] not in ([str, float, str], [str, int, str]):
        raise malformed(about, f"{value!r:.80} is nothing that happened")
    kind, at, words, *sums = value
    if len(sums) != len(_SUMS) or not 0 <= at <= LAST_MOMENT:
        raise malformed(about, f"{value!r:.80} is nothing that happened")
    count, answered, failed, workers = (whole(about, name, each) for name, each in zip(_SUMS, sums, strict=True))
    if kind not in _KINDS:
        return None
    return RunEvent(
        kind=EventKind(kind),
        at=float(at),
        words=words,
        count=count,
        answered=answered,
        failed=failed,
        workers=workers,
    )


def keep_history(backend: Backend, names: RunNames, events: Iterable[RunEvent]) -> None:
    """Put these to what is stored of a leg."""
    told = (event for event in events if event.kind not in (EventKind.ESCALATED, EventKind.ENDED))
    whole_of_it = merged(stored_history(backend, names), told)
    backend.store.put(names.history, History(whole_of_it).sealed(backend.key, names.history))


def stored_history(backend: Backend, names: RunNames) -> Sequence[RunEvent]:
    """What is stored of a leg; nothing where that is nothing, or cannot be read."""
    with suppress(NotFound, Refused):
        return History.read(backend.key, names.history, backend.store.get(names.history, SMALL_BYTES)).events
    return []


def stored_waits(backend: Backend, run: RunId, leg: int) -> str:
    """What a run waits for as far as its drivers have stored that, in words."""
    events = stored_history(backend, RunNames(run, leg))
    return next((event.words for event in reversed(events) if event.kind is EventKind.WAITS), "")


def history(backend: Backend, spec: Spec, seen_in: int = 0, seen: Iterable[RunEvent] = ()) -> list[RunEvent]:
    """What happened to a run in all its legs, one after another; with what a driver here saw of one of them."""
    try:
        found, last = list[RunEvent](), find_leg(backend, spec)
    except Refused:
        return [*stored_history(backend, RunNames(spec.run))]
    for leg in range(last.number + 1):
        end = last.end if leg == last.number else read_end(backend, spec.run, leg)
        ended = [] if end is None or end.ended_at is None else [_ended(end, end.ended_at)]
        found += merged(stored_history(backend, RunNames(spec.run, leg)), seen if leg == seen_in else (), ended)
    return found


def _ended(end: End, at: float) -> RunEvent:
    kind, words = (EventKind.ENDED, end.words) if end.onward is None else (EventKind.ESCALATED, end.reason)
    return RunEvent(kind=kind, at=at, words=words, answered=end.answered, failed=end.failed)
