"""A run's input that another process feeds, or fed, in; booked as it comes, and whether it still does, out."""

from __future__ import annotations

from contextlib import suppress

from starburst_common.errors import NotFound, Refused, UnknownVersion
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.runs.books import Books
from starburst_common.runs.reasons import never_came
from starburst_common.runs.sign import Watch
from starburst_common.runs.stored import items_stored, planned_chunks


class Incoming:
    """The input that another process feeds, or fed; nothing where this one does."""

    def __init__(self, backend: Backend, names: RunNames, books: Books) -> None:
        self._backend, self._names, self._books, self._clock = backend, names, books, books.clock
        self.watch: Watch | None = None
        self._read_at = 0.0  # when it was last looked for
        self._torn = False  # a part of its plan is lost

    @property
    def unheard_s(self) -> float:
        """So long whoever feeds the run had given no sign of life; 0 where we do."""
        return 0.0 if self.watch is None else self.watch.unheard_s

    def read_on(self) -> None:
        """What was added, and whether who adds it lives.

        Its sign comes first: whoever is found lost has stored nothing that is not looked at here.
        """
        books = self._books
        if self.watch is None or books.tally.items is not None:
            return
        if self._read_at and self._clock.monotonic() - self._read_at < self._backend.tick_s:
            return
        self.watch.look()
        self.read()
        self._read_at = self._clock.monotonic()
        if books.tally.items is None and self.watch.ended:
            books.silent = True  # perhaps the whole run was taken back
            books.input_lost = books.input_lost or never_came(self.watch.ended, books.tally.planned_items)

    def read(self) -> None:
        """What is stored of the input and was not known: parts of the plan follow each other, item by item."""
        items, books = None, self._books
        try:
            items = items_stored(self._backend, self._names.run)  # first: where it is there, the plan is whole
        except UnknownVersion:
            raise
        except Refused as error:
            books.input_lost = f"how many items there are is lost: {error}"
        self._read_plan()
        if items is not None:
            if books.tally.planned_items < items and not books.input_lost:
                books.input_lost = f"items are lost: {books.tally.planned_items} of {items} are in the plan"
            books.input_ended(items)

    def _read_plan(self) -> None:
        known, books, run = -1, self._books, self._names.run
        try:
            while books.tally.planned_items > known and not self._torn:
                known = books.tally.planned_items
                books.plan(planned_chunks(self._backend, run, self._names.plan(known)))
        except NotFound:
            pass
        except UnknownVersion:
            raise
        except Refused as error:
            self._torn = True
            books.input_lost = f"items are lost: {error}"
        if self._torn:
            for key in self._backend.store.list(self._names.plans):
                with suppress(Refused):
                    books.plan(planned_chunks(self._backend, run, key))
