"""A run that goes on in; what its items print out, as they print it: each line once, from whichever process."""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from starburst_common.errors import NotFound, Refused, Unavailable
from starburst_common.model import Span, joined
from starburst_common.names import RunNames
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, Backend, Entry, is_there
from starburst_common.runs.outcomes import Printed, read_prints
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import find_leg
from starburst_common.runs.stored import FOLLOWED_S, find_outcome

_log = our_log()

_POLL_S = 1.0
_LISTING_SHARE = 0.05  #: of the time, at most, is taken by listings
_LINE_CHARS = 64 << 10  #: a line that is longer is told of in pieces
_LEFT_OUT = re.compile(r"… (\d{1,15}) characters left out …\n")  # as a worker's capture writes it


def live_prints(backend: Backend, spec: Spec) -> Iterator[tuple[int, str]]:
    """What items print, with their index, in whole lines: first of those answered so far, then as it comes.

    Ends when the run does. While it is read, the run's workers tell at once what running items print; they are asked by
    a mark that lasts a minute, so whoever stops, or dies, costs nothing from then on.
    """
    names, follower, marked_at = RunNames(spec.run), _Follower(backend, spec), -math.inf
    try:
        while True:
            over, taken_s = False, 0.0
            try:
                over = find_leg(backend, spec).end is not None or not is_there(backend.store, names.spec)
                if not over and time.monotonic() - marked_at > FOLLOWED_S / 3:
                    backend.store.put(names.followed, b"")
                    marked_at = time.monotonic()
                yield from follower.running()
                began = time.monotonic()
                follower.look()
                taken_s = time.monotonic() - began
                yield from follower.answered()
            except Unavailable as error:
                over = False
                _log.warning("run %s: looked for what its items print in vain, trying again: %s", spec.run, error)
            if over:
                yield from follower.rest()
                return
            time.sleep(max(min(_POLL_S, 2 * backend.tick_s), taken_s / _LISTING_SHARE))
    finally:
        if marked_at > -math.inf:
            with suppress(Unavailable):
                backend.store.delete([names.followed])


@dataclass(slots=True)
class _Told:
    """What is told of an item's text, as one worker printed it."""

    turn: int = -1
    at: int = 0  #: so many characters of it
    settled: int = 0  #: so many were in outcomes that leave the item to others
    line: str = ""  #: the start of a line whose end has not come

    def hear(self, at: int, text: str) -> str:
        """A piece of the text; what of it is new, in whole lines."""
        end = at + len(text)
        if at > self.at:
            text = f"{self.end()}… {at - self.at} characters left out …\n{text}"
        else:
            text = text[self.at - at :]
        self.at = max(self.at, end)
        whole = self.line + text
        cut = whole.rfind("\n") + 1
        if len(whole) - cut > _LINE_CHARS:
            cut = len(whole)
        self.line = whole[cut:]
        return whole[:cut]

    def end(self) -> str:
        """The line that has no end, with one."""
        line, self.line = self.line, ""
        return f"{line}\n" if line else ""


class _Follower:
    """What is told of a run, and what is not yet."""

    def __init__(self, backend: Backend, spec: Spec) -> None:
        self._backend, self._names = backend, RunNames(spec.run)
        self._told: dict[tuple[int, str], _Told] = {}  # by item and worker, until it is answered
        self._written: dict[str, Entry] = {}  # as workers' prints were when they were read
        self._seen: set[str] = set()  # outcomes
        self._due: list[Span] = []
        self._answered: list[Span] = []

    def running(self) -> Iterator[tuple[int, str]]:
        """What running items have printed since."""
        for entry in self._backend.store.entries(self._names.prints):
            if self._written.get(entry.key) == entry:
                continue
            try:
                blob = self._backend.store.get(entry.key, SMALL_BYTES)
                prints = read_prints(self._backend.key, entry.key, blob)
            except (NotFound, Refused) as error:
                _log.warning("what items printed is left out: %s", error)
                prints = []
            self._written[entry.key] = entry
            for printed in prints:
                if not self._is_answered(printed.item) and (text := self._hear(printed, entry.key)):
                    yield printed.item, text

    def _hear(self, printed: Printed, key: str) -> str:
        place = printed.item, key.rpartition("/")[2]
        told = self._told.setdefault(place, _Told())
        if printed.turn < told.turn:
            return ""
        before = ""
        if printed.turn > told.turn:
            before, told = told.end(), _Told(turn=printed.turn)
            self._told[place] = told
        text = before + told.hear(printed.at, printed.text)
        return text + told.end() if printed.ended else text

    def look(self) -> None:
        """See which outcomes there are."""
        for key in self._backend.store.list(self._names.outcomes):
            if key not in self._seen and (span := self._names.settled(key)) is not None:
                self._seen.add(key)
                self._due.append(span)

    def answered(self) -> Iterator[tuple[int, str]]:
        """What was printed of items that are answered since, as far as it is not told."""
        new: list[Span] = []
        while self._due:
            try:
                outcome, _ = find_outcome(self._backend, self._names.run, self._due[0])
            except (NotFound, Refused) as error:
                _log.warning("what items %s printed is left out: %s", self._due[0], error)
            else:
                for index, text in sorted(outcome.logs.items()):
                    if not self._is_answered(index) and (left := self._settle(outcome.worker, index, text)):
                        yield index, left
                new += outcome.answered
            del self._due[0]
        self._answered = joined([*self._answered, *new])
        for index, worker in [place for place in self._told if self._is_answered(place[0])]:
            if line := self._told.pop((index, worker)).end():
                yield index, line

    def _settle(self, worker: str, index: int, text: str) -> str:
        told, left, last = self._told.setdefault((index, worker), _Told()), "", 0
        for cut in _LEFT_OUT.finditer(text):
            piece = text[last : cut.start()]
            left += told.hear(told.settled, piece)
            told.settled += len(piece) + int(cut[1])
            last = cut.end()
        left += told.hear(told.settled, text[last:])
        told.settled += len(text) - last
        return left

    def rest(self) -> Iterator[tuple[int, str]]:
        """Lines without an end, of items that nobody answers."""
        for (index, _), told in self._told.items():
            if line := told.end():
                yield index, line

    def _is_answered(self, index: int) -> bool:
        at = bisect_right(self._answered, index, key=lambda span: span.lo)
        return at > 0 and index < self._answered[at - 1].hi
