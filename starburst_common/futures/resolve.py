"""A run's answers in; futures done out, each of them, whatever becomes of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starburst_common.futures.owed import Call, Owed
from starburst_common.model import Failure, FailureKind
from starburst_common.phrases import our_log
from starburst_common.pickling.raised import named
from starburst_common.runs.answers import exception_of
from starburst_common.runs.drive import Driver
from starburst_common.runs.patience import CLOSE_S
from starburst_common.runs.run import Run

_log = our_log()


class Resolver:
    """One executor's, for a thread of its own. `sent` returns once nothing more is being sent."""

    def __init__(self, owed: Owed, run: Run, driver: Driver, sent: Callable[[], None]) -> None:
        self._owed, self._run, self._driver, self._sent = owed, run, driver, sent

    def resolve(self) -> None:
        """To the last answer, or until none comes any more."""
        run = self._run
        why = self._answered()
        self._owed.end(f"{why} (run {run.id})")
        if self._owed.broken:
            self._give_up()
        try:
            run.wait(CLOSE_S)
        except Exception as error:
            _log.warning("run %s was left as it is: %s", run.id, error)

    def _answered(self) -> str:
        """Take every answer; why no more come."""
        try:
            for index, value in self._run.answers():
                future = self._owed.sent.pop(index, None)
                if future is None:  # no reason why the others should have no answer
                    _log.error("run %s: call %d was answered twice", self._run.id, index)
                    continue
                try:
                    self._set(future, value)
                except BaseException as error:  # it was set before, or a callback raised SystemExit: the others go on
                    _log.error("run %s: the future of call %d: %s", self._run.id, index, named(error))
                del future, value  # these may be the caller's alone, and this waits for the next ones
        except BaseException as error:
            return self._driver.books.reason or str(error)
        return "its run ended"

    def _set(self, future: Call, value: Any) -> None:
        if not isinstance(value, Failure):
            future.set_result(value)
        elif value.kind is FailureKind.CANCELLED:
            future.withdrawn()
        else:
            future.set_exception(exception_of(value, self._run.id))

    def _give_up(self) -> None:
        """What is owed cannot be answered any more."""
        run, books = self._run, self._driver.books
        try:
            if not books.state.over:
                run.cancel()  # no more input comes, so it would not end; nobody waits for its answers any more
        except Exception as error:
            _log.warning("run %s is not cancelled: %s", run.id, error)
        with books.changed:
            books.changed.notify_all()
        self._sent()  # no call is on its way from those that wait to those that are sent
        self._owed.fail()
