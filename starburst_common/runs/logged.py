"""A run's events in, lines of our log out."""

from __future__ import annotations

import logging

from starburst_common.phrases import our_log
from starburst_common.runs.books import Books
from starburst_common.runs.events import EventKind

_log = our_log()
_LEVELS = {
    EventKind.LAUNCHED: logging.INFO,
    EventKind.LOST: logging.WARNING,
    EventKind.TAKEN: logging.INFO,
    EventKind.RESENT: logging.WARNING,
    EventKind.WITHDRAWN: logging.INFO,
    EventKind.ESCALATED: logging.WARNING,
    EventKind.DAMAGED: logging.WARNING,
    EventKind.WAITS: logging.WARNING,
    EventKind.ENDED: logging.INFO,
}
_LOST = 3  #: so many lost workers are told of where nobody asked for more than warnings


class Log:
    """Of one run, in this process."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._number = 0  # of the last event that was written
        self._lost = 0

    def write(self) -> None:
        """What is new; next to nothing where that is nothing. Called by any thread, and never with `changed` held."""
        books = self._books
        if books.events.number == self._number:
            return
        with books.changed:
            events, self._number = books.events.since(self._number), books.events.number
        for event in events:
            level = _LEVELS.get(event.kind)
            if event.kind is EventKind.LOST:
                self._lost += 1
                level = logging.WARNING if self._lost <= _LOST else logging.INFO
            if level is not None:
                _log.log(level, "run %s: %s%s", books.run, event.text, f"\n{event.said}" if event.said else "")
