"""A run that this process drives in; its status out whenever something has happened to it, for who shows that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event

from starburst_common.model import RunStatus
from starburst_common.runs.books import Books
from starburst_common.runs.run import Run


class Watching:
    """The run's status whenever something happens, for a thread that iterates over it: one reader's place.

    Two are `every_s` apart at least, and `idle_s` at most if that is given. The first comes once this process drives
    the run, the last when that is over; `close` ends it before. It waits for events and asks nobody.
    """

    def __init__(self, run: Run, *, every_s: float, idle_s: float | None = None) -> None:
        self._run, self._held, self._every_s, self._idle_s = run, run._held, every_s, idle_s
        self._closed = Event()

    def __iter__(self) -> Iterator[RunStatus]:
        seen: tuple[Books | None, int] = (None, 0)
        shown_at = time.monotonic()
        while not self._closed.wait(self._every_s):
            driver = self._held.driver
            if driver is None or driver.books.error is not None:
                continue  # whoever waits for the run is about to make one, or has failed
            books = driver.books
            seen = self._next(books, seen, shown_at)
            if self._closed.is_set():
                return
            if books.error is not None:
                continue
            yield self._run.status()
            shown_at = time.monotonic()
            if books.closed and books.error is None:
                return

    def _next(self, books: Books, seen: tuple[Books | None, int], shown_at: float) -> tuple[Books, int]:
        """Wait for what was not seen yet; how far that goes."""

        def news() -> bool:
            return self._closed.is_set() or books.closed or (books, books.events.number) != seen

        left = None if self._idle_s is None else max(shown_at + self._idle_s - time.monotonic(), 0.0)
        with books.changed:
            books.changed.wait_for(news, left)
            return books, books.events.number

    def close(self) -> None:
        """Nobody reads on."""
        self._closed.set()
        driver = self._held.driver
        if driver is not None:
            with driver.books.changed:
                driver.books.changed.notify_all()
