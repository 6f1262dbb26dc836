"""What an item raises, or returns and nobody can read: it comes home as it was, or as a failure of that item alone."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from pickle import PicklingError
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, RunState, StarburstExecutor, list_runs, starburst_map
from starburst_common.cli.lines import json_text
from starburst_common.errors import EnvironmentMismatch, ItemFailed, UnpicklableResult
from starburst_common.ports import Backend
from starburst_common.runs.answers import RemoteTraceback
from tests import raised_types
from tests.raised_types import EXCEPTIONS, OF_LIBRARIES


class TwoArguments(Exception):
    """Its pickle calls it with one."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class ReducesTo:
    """An object whose pickle calls this when it is read, or whose pickling does."""

    def __init__(self, then: Callable[[], Any], *, at_once: bool = False) -> None:
        self.then, self.at_once = then, at_once

    def __reduce__(self) -> Any:
        return self.then() if self.at_once else (self.then, ())


class Contrary:
    """Nothing can be asked of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    def __repr__(self) -> str:
        raise RuntimeError("no word")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class Stateful:
    """Takes no state back."""

    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        raise KeyboardInterrupt("no state")


def leaves() -> None:
    """Ends who calls it."""
    raise SystemExit("bye")


def interrupts() -> None:
    """As Ctrl-C would."""
    raise KeyboardInterrupt


def recurses() -> None:
    """Never comes back."""
    recurses()


#: Results that cannot be sent, or read again, and a word of why.
UNREADABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "two arguments": (lambda: TwoArguments(1, 2), "does not unpickle: TypeError"),
    "nested": (lambda: {"deep": [TwoArguments(1, 2)]}, "does not unpickle: TypeError"),
    "read: SystemExit": (lambda: ReducesTo(leaves), "does not unpickle: SystemExit: bye"),
    "read: KeyboardInterrupt": (lambda: ReducesTo(interrupts), "does not unpickle: KeyboardInterrupt"),
    "read: RecursionError": (lambda: ReducesTo(recurses), "does not unpickle: RecursionError"),
    "written: SystemExit": (lambda: ReducesTo(leaves, at_once=True), "cannot be pickled: SystemExit: bye"),
    "written: KeyboardInterrupt": (lambda: ReducesTo(interrupts, at_once=True), "cannot be pickled: KeyboardInterrupt"),
    "written: RecursionError": (lambda: ReducesTo(recurses, at_once=True), "recursion required"),
    "state": (Stateful, "does not unpickle: KeyboardInterrupt: no state"),
}


def returns(what: str) -> Any:
    """What a test asks for."""
    return Contrary() if what == "contrary" else UNREADABLE[what][0]() if what in UNREADABLE else what


def test_a_value_that_nobody_can_read_is_the_failure_of_its_item_alone(backend: Backend) -> None:
    """In a map's values, as they come, in the counts of each who looks, and as futures; the others are answered."""
    items = ["before", *UNREADABLE, "contrary", "after"]
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(returns, items, return_exceptions=True)
        values = dict(run.iter_completed())
        assert run.wait().state is RunState.FAILED
        assert run.status().failed == len(UNREADABLE)
        assert [failure.index for failure in run.failures()] == list(range(1, len(UNREADABLE) + 1))
        assert (values[0], values[len(items) - 1]) == ("before", "after")
        assert type(values[len(items) - 2]) is Contrary
        for index, (what, (_, why)) in enumerate(UNREADABLE.items(), 1):
            assert isinstance(values[index], UnpicklableResult), what
            assert why in str(values[index]), what
        with pytest.raises(UnpicklableResult, match="item 0"):
            cluster.map(returns, ["two arguments"])
    with StarburstExecutor(workers=1, backend=backend) as executor:
        futures = [executor.submit(returns, what) for what in items]
        assert [isinstance(future.exception(), UnpicklableResult) for future in futures] == [
            what in UNREADABLE for what in items
        ]


def fails() -> None:
    """As an object may whose state does not fit."""
    raise ValueError("no such state")


def lacks() -> None:
    """A library that the worker lacks."""
    import no_such_library  # type: ignore[import-not-found] # noqa: F401


def is_short() -> None:
    """Of memory."""
    raise MemoryError("too large")


def test_what_an_argument_raises_when_it_is_unpickled_is_its_items_failure(backend: Backend) -> None:
    """As itself, whatever it is; only where the worker lacks a library is its environment to blame."""
    then = (fails, {}.popitem, leaves, interrupts, recurses, is_short, partial(getattr, 1, "nothing"), lacks)
    with StarburstExecutor(workers=1, backend=backend) as executor:
        futures = [executor.submit(type, ReducesTo(each)) for each in then]
        kinds = [type(future.exception()) for future in futures]
        assert kinds[:6] == [ValueError, KeyError, ItemFailed, ItemFailed, RecursionError, MemoryError]
        assert kinds[6:] == [EnvironmentMismatch, EnvironmentMismatch]
        assert str(futures[2].exception()) == "item 2: SystemExit: bye"
        assert "requirements" in str(futures[7].exception())
        bound = executor.submit(partial(type, ReducesTo(fails)))
        assert re.search(r": ValueError: .*no such state$", str(bound.exception()))
        assert executor.submit(type, 1).result() is int


class OnlyThere:
    """Its pickle can be read by every process but one."""

    home = 0

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self) -> Any:
        return only_there, (self.home,)


def only_there(home: int) -> OnlyThere:
    """An object, wherever it may be."""
    if os.getpid() == home:
        raise ModuleNotFoundError("No module named 'only_there'")
    return OnlyThere(home)


def test_what_nothing_can_be_asked_of_is_printed_as_that() -> None:
    """The command's lines go on."""
    assert json_text(Contrary()) == '"<Contrary that cannot be shown: RuntimeError>"'


def test_an_argument_that_cannot_be_pickled_is_also_what_pickle_says(backend: Backend) -> None:
    """So is a function; code that knows pickle alone catches it."""
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        for fn, item in ((returns, threading.Lock()), (threading.Lock().acquire, 1)):
            with pytest.raises(BadInput) as caught:
                cluster.map(fn, [item])
            assert isinstance(caught.value, PicklingError)
            assert isinstance(cluster.submit(fn, item).exception(), PicklingError)


def test_a_value_that_this_process_lacks_the_class_of_is_a_failure_here(backend: Backend) -> None:
    """The others are given, this handle counts it, and an executor goes on; another process may well read it.

    An executor goes on whatever the end of a future does, and whoever else sets futures.
    """

    def make(item: int, home: int = os.getpid()) -> Any:
        return OnlyThere(home) if item == 3 else item

    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(make, range(8))
        values = run.results(return_exceptions=True)
        assert [*values[:3], *values[4:]] == [0, 1, 2, 4, 5, 6, 7]
        assert isinstance(values[3], UnpicklableResult)
        assert "item 3" in str(values[3]) and "ModuleNotFoundError: No module named" in str(values[3])
        assert (run.status().state, run.status().failed) == (RunState.FAILED, 1)
        assert [failure.index for failure in run.failures()] == [3]
    with StarburstExecutor(workers=1, backend=backend) as executor:
        futures = [executor.submit(make, item) for item in range(8)]
        futures[5].add_done_callback(lambda _: leaves())
        for _ in range(20):
            executor.submit(make, 1).set_result(0)
        assert isinstance(futures[3].exception(), UnpicklableResult)
        assert futures[7].result() == 7
        assert executor.submit(make, 9).result() == 9


@pytest.mark.parametrize("those", [EXCEPTIONS, pytest.param(OF_LIBRARIES, marks=pytest.mark.rest)])
def test_an_exception_comes_home_as_it_was(backend: Backend, those: dict[str, Any]) -> None:
    """Class, text, arguments, state, notes, cause and context: of users and of libraries, whatever constructors want.

    Nothing is lost on the way, as it would not be in a loop; the worker's traceback ends the chain.
    """
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        got = cluster.map(raised_types.raises, those, return_exceptions=True)
    for (what, (make, same)), error in zip(those.items(), got, strict=True):
        made = make()
        assert type(error) is type(made), (what, error)
        assert str(error) == str(made), what
        assert what == "pydantic" or [*map(repr, error.args)] == [*map(repr, made.args)], what
        for name in same:
            assert attrgetter(name)(error) == attrgetter(name)(made), (what, name)
        if what not in raised_types.NOTELESS:
            assert error.__notes__[0] == f"of {what}"
        assert isinstance(error.__cause__, raised_types.Reshapes) and str(error.__cause__) == "no peace here", what
        assert isinstance(error.__context__, KeyError), what
        assert isinstance(error.__cause__.__cause__, RemoteTraceback), what
        assert "raise error from Reshapes" in str(error.__cause__.__cause__), what


def test_what_is_raised_tells_its_item_and_its_run(backend: Backend) -> None:
    """In a note, once, with the command that makes the call again; also of a future, and in a list; not in its text."""

    def fails(item: int) -> None:
        raise (ValueError("as asked"), raised_types.Frozen(3, "cold"), StopIteration)[item]

    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(fails, range(3))
        errors = run.results(return_exceptions=True)
        assert [*map(repr, errors)] == ["ValueError('as asked')", "Frozen(code=3, why='cold')", "StopIteration()"]
        for index, error in enumerate(errors):
            command = f"`starburst replay {run.id} {index}`"
            assert error.__notes__ == [f"item {index} of {run.id}: {command} makes the call again"]
        for item in (1, 2):
            error = raised_types.caught(cluster.map, fails, [item])  # pytest would set the frozen one's traceback
            assert (repr(error), len(error.__notes__)) == (repr(errors[item]), 1)
        future = cluster.submit(fails, 0)
        assert (raised := future.exception()) is not None and raised.__notes__[0].startswith("item 0 of run-")


def test_an_interrupt_tells_where_the_answers_are(backend: Backend, tmp_path: Path) -> None:
    """Ctrl-C cancels a map, and its note names the run and how to have what was answered."""
    begun = tmp_path / "begun"
    home = threading.main_thread().ident
    assert home is not None

    def interrupt() -> None:
        while not begun.exists():
            time.sleep(0.01)
        signal.pthread_kill(home, signal.SIGINT)

    def waits(item: int) -> None:
        begun.touch()
        time.sleep(600)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        starburst_map(waits, range(3), workers=1, backend=backend, progress=False)
    (run,) = list_runs(backend=backend)
    assert run.status().state is RunState.CANCELLED
    (note,) = caught.value.__notes__
    assert f"`starburst results {run.id}`" in note and f"attach({run.id!r})" in note
