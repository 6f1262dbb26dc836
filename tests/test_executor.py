"""`StarburstExecutor` is a `concurrent.futures.Executor`: what holds for the standard library's holds for it.

Most tests run on a `ProcessPoolExecutor` as well, which shows that they ask for nothing of their own.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, RunState, StarburstError, StarburstExecutor, WorkerLost, attach
from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests import calls
from tests.leftovers import nothing_left

Make = Callable[..., Executor]
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def module_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One backend for all tests here."""
    backend = local_backend(tmp_path_factory.mktemp("executor") / "home")
    yield backend
    backend.close()


def maker(kind: str, backend: Backend) -> Make:
    """How to make an executor of a kind."""
    if kind == "starburst":
        return partial(StarburstExecutor, backend=backend)
    return partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("forkserver"))


@pytest.fixture(scope="module", params=["starburst", "processes"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which executor."""
    return str(request.param)


@pytest.fixture(scope="module")
def make(kind: str, module_backend: Backend) -> Make:
    """Makes executors, for tests that shut theirs down."""
    return maker(kind, module_backend)


@pytest.fixture(scope="module")
def shared(make: Make) -> Iterator[Executor]:
    """One executor of two workers for the tests that only use it."""
    with make(2) as executor:
        yield executor


def until(there: Callable[[], bool]) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Gate:
    """A call that runs until it is let go."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gate"

    def hold(self, executor: Executor, value: Any = None) -> Future[Any]:
        """Submit the call and wait until it runs."""
        future = executor.submit(calls.wait_for, str(self._file), value)
        until(Path(f"{self._file}.started").exists)
        return future

    def open(self) -> None:
        """Let it go."""
        self._file.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Opened at the end whatever happens, so that no executor waits for it."""
    made = Gate(tmp_path)
    yield made
    made.open()


# --- submit -----------------------------------------------------------------------------------------------------------


def test_submit_gives_a_future_of_the_value(shared: Executor) -> None:
    """With positional and keyword arguments, whatever their names."""
    assert shared.submit(calls.add, 1, b=2).result(PATIENCE_S) == 3
    got = shared.submit(calls.everything, 1, [2], self=3, fn=4, timeout=5).result(PATIENCE_S)
    assert got == ((1, [2]), {"self": 3, "fn": 4, "timeout": 5})
    assert isinstance(shared.submit(calls.where), Future)


def test_calls_run_elsewhere(shared: Executor) -> None:
    """In another process than this one."""
    import os

    assert shared.submit(calls.where).result(PATIENCE_S) != os.getpid()


def test_a_result_may_be_none_or_an_exception(shared: Executor) -> None:
    """An exception that is returned is a value; only one that is raised is raised."""
    assert shared.submit(calls.after, 0, None).result(PATIENCE_S) is None
    got = shared.submit(calls.after, 0, KeyError("a")).result(PATIENCE_S)
    assert isinstance(got, KeyError)


def test_many_calls_are_each_answered(shared: Executor) -> None:
    """Every future has its own call's value."""
    futures = [shared.submit(calls.add, number, 1) for number in range(500)]
    assert [future.result(PATIENCE_S) for future in futures] == [number + 1 for number in range(500)]


def test_threads_may_share_an_executor(shared: Executor) -> None:
    """Each gets its own answers."""
    got: dict[int, list[int]] = {}

    def use(who: int) -> None:
        got[who] = [shared.submit(calls.add, who, number).result(PATIENCE_S) for number in range(10)]

    threads = [threading.Thread(target=use, args=(who * 100,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {who * 100: [who * 100 + number for number in range(10)] for who in range(4)}


def test_an_argument_is_as_it_was_when_submitted_or_later_never_torn(shared: Executor) -> None:
    """Calls do not share what they were given: what one does to its argument no other sees."""
    argument = [1, 2, 3]
    futures = [shared.submit(list.append, argument, number) for number in range(4)]
    wait(futures, PATIENCE_S)
    assert argument == [1, 2, 3]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_an_exception_comes_home_as_itself(shared: Executor) -> None:
    """Type, arguments and attributes; its cause shows the remote traceback with the line that raised."""
    future = shared.submit(calls.fail, 7)
    error = future.exception(PATIENCE_S)
    assert isinstance(error, calls.Odd)
    assert (error.code, error.why) == (7, "as asked")
    assert 'raise Odd(code, "as asked")' in str(error.__cause__)
    assert "calls.py" in str(error.__cause__)
    with pytest.raises(calls.Odd):
        future.result()


def test_an_unpicklable_argument_fails_its_own_future_alone(shared: Executor) -> None:
    """Those submitted before and after it are answered."""
    before = shared.submit(calls.add, 1)
    bad = shared.submit(calls.everything, calls.Unpicklable())
    after = shared.submit(calls.add, 2)
    assert "I stay here" in str(bad.exception(PATIENCE_S))
    assert (before.result(PATIENCE_S), after.result(PATIENCE_S)) == (1, 2)


def test_an_unpicklable_function_fails_its_own_future_alone(shared: Executor) -> None:
    """For instance the method of an object that holds a lock."""
    bad = shared.submit(threading.Lock().acquire)
    after = shared.submit(calls.add, 2)
    assert isinstance(bad.exception(PATIENCE_S), (TypeError, StarburstError))
    assert after.result(PATIENCE_S) == 2


def test_an_unpicklable_result_fails_its_own_future_alone(shared: Executor) -> None:
    """It is said why, and the executor goes on."""
    bad = shared.submit(calls.unpicklable)
    after = shared.submit(calls.add, 2)
    assert "I stay here" in str(bad.exception(PATIENCE_S))
    assert after.result(PATIENCE_S) == 2


def test_a_failing_call_leaves_the_others(shared: Executor) -> None:
    """Every other future has its value."""
    futures = [shared.submit(calls.fail_on, 5, number) for number in range(10)]
    got = [future.exception(PATIENCE_S) or future.result() for future in futures]
    assert [str(value) for value in got] == [*"01234", "5 is bad", *"6789"]


# --- map --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_gives_values_in_order(shared: Executor, chunksize: int) -> None:
    """Of one iterable or several, as long as the shortest, whatever order the calls end in."""
    assert list(shared.map(calls.add, range(10), chunksize=chunksize)) == list(range(10))
    assert list(shared.map(calls.add, range(10), [5, 6, 7], chunksize=chunksize)) == [5, 7, 9]
    assert list(shared.map(calls.after, [0.2, 0, 0.1], "abc", chunksize=chunksize)) == ["a", "b", "c"]
    assert list(shared.map(calls.add, [], chunksize=chunksize)) == []
    assert list(shared.map(calls.add, (number for number in range(4)), chunksize=chunksize)) == [0, 1, 2, 3]


def test_map_submits_at_once(shared: Executor, tmp_path: Path) -> None:
    """Before anybody asks for a value the calls are on their way, and its input has been read."""
    read: list[int] = []

    def inputs() -> Iterator[str]:
        for number in range(3):
            read.append(number)
            yield str(tmp_path / str(number))

    values = shared.map(calls.note, inputs())
    assert read == [0, 1, 2]
    until = time.monotonic() + PATIENCE_S
    while len(list(tmp_path.iterdir())) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert list(values) == [None] * 3


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_where_the_call_failed(shared: Executor, chunksize: int) -> None:
    """The values before it come first; after it the iterator is at its end."""
    values = shared.map(partial(calls.fail_on, 4), range(8), chunksize=chunksize)
    assert [next(values) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 is bad"):
        next(values)
    assert list(values) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_times_out(shared: Executor, gate: Gate, chunksize: int) -> None:
    """`timeout` counts from the call of map; values that are there in time are given."""
    gate.hold(shared)
    began = time.monotonic()
    values = shared.map(calls.after, [0, 0, 2, 2], timeout=0.25, chunksize=chunksize)
    with pytest.raises(TimeoutError):
        list(values)
    assert time.monotonic() - began < PATIENCE_S
    assert list(shared.map(calls.add, [1], timeout=PATIENCE_S, chunksize=chunksize)) == [1]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_a_chunksize_below_one(shared: Executor, chunksize: int) -> None:
    """At the call, before anything is submitted."""
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        shared.map(calls.add, range(3), chunksize=chunksize)


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_future_is_pending_then_running_then_done(make: Make, gate: Gate) -> None:
    """A running one cannot be cancelled, a pending one can, and a done one stays done."""
    with make(1) as executor:
        running = gate.hold(executor, "value")
        waiting = [executor.submit(calls.add, number) for number in range(400)]
        assert running.running()
        assert not running.done()
        assert not running.cancel()
        pending = waiting[-1]
        assert not pending.running()
        assert not pending.done()
        assert pending.cancel()
        assert pending.cancelled()
        assert pending.done()
        assert pending.cancel()
        with pytest.raises(CancelledError):
            pending.result(0)
        with pytest.raises(CancelledError):
            pending.exception(0)
        with pytest.raises(TimeoutError):
            running.result(0.01)
        gate.open()
        assert running.result(PATIENCE_S) == "value"
        assert running.done()
        assert not running.cancel()
        assert not running.cancelled()
        with pytest.raises(InvalidStateError):
            running.set_result("another")
        assert [future.result(PATIENCE_S) for future in waiting[:-1]] == list(range(399))


def test_a_cancelled_call_never_runs(make: Make, gate: Gate, tmp_path: Path) -> None:
    """Nor does it hold up the others, or those who wait for it."""
    file = tmp_path / "ran"
    with make(1) as executor:
        gate.hold(executor)
        others = [executor.submit(calls.add, number) for number in range(300)]
        cancelled = [executor.submit(calls.note, str(file)) for _ in range(50)][-10:]
        last = executor.submit(calls.add, 1)
        assert all(future.cancel() for future in cancelled)
        gate.open()
        assert wait([*cancelled, *others, last], PATIENCE_S).not_done == set()
        assert last.result() == 1
    assert len(file.read_text()) == 40


# --- callbacks and waiting --------------------------------------------------------------------------------------------


def test_done_callbacks_are_called_with_the_future(shared: Executor, gate: Gate) -> None:
    """Once each, in the order in which they were added, on success, failure and cancellation; at once if it is done."""
    called: list[tuple[str, Future[Any]]] = []
    held = gate.hold(shared, "value")
    for name in "abc":
        held.add_done_callback(lambda future, name=name: called.append((name, future)))
    assert called == []
    gate.open()
    held.result(PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while len(called) < 3 and time.monotonic() < until:
        time.sleep(0.005)
    assert called == [("a", held), ("b", held), ("c", held)]
    held.add_done_callback(lambda future: called.append(("late", future)))
    assert called[-1] == ("late", held)
    failed = shared.submit(calls.fail, 1)
    failed.exception(PATIENCE_S)
    failed.add_done_callback(lambda future: called.append(("failed", future)))
    assert called[-1] == ("failed", failed)


def test_a_callback_that_raises_disturbs_nobody(shared: Executor, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, as the standard library does, and the executor goes on."""
    future = shared.submit(calls.after, 0.2, 1)
    future.add_done_callback(lambda _: 1 / 0)
    assert future.result(PATIENCE_S) == 1
    assert shared.submit(calls.add, 2).result(PATIENCE_S) == 2
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_submit(shared: Executor) -> None:
    """One call's end begins another."""
    second: Future[Future[int]] = Future()
    first = shared.submit(calls.add, 1)
    first.add_done_callback(lambda future: second.set_result(shared.submit(calls.add, future.result(), 10)))
    assert second.result(PATIENCE_S).result(PATIENCE_S) == 11


def test_wait_tells_the_done_from_the_others(shared: Executor, gate: Gate) -> None:
    """`concurrent.futures.wait`, in each of its three ways."""
    held = gate.hold(shared)
    quick = shared.submit(calls.add, 1)
    assert wait([held, quick], PATIENCE_S, FIRST_COMPLETED) == ({quick}, {held})
    bad = shared.submit(calls.fail, 1)
    assert wait([held, bad], PATIENCE_S, FIRST_EXCEPTION) == ({bad}, {held})
    assert wait([held], 0.01).not_done == {held}
    gate.open()
    assert wait([held, quick, bad], PATIENCE_S).not_done == set()


def test_as_completed_gives_them_as_they_come(shared: Executor, gate: Gate) -> None:
    """The held one last; it times out while one is missing."""
    held = gate.hold(shared)
    quick = [shared.submit(calls.add, number) for number in range(5)]
    completed = as_completed([held, *quick], timeout=PATIENCE_S)
    assert {next(completed) for _ in quick} == set(quick)
    with pytest.raises(TimeoutError):
        next(as_completed([held], timeout=0.05))
    gate.open()
    assert list(completed) == [held]


# --- shutdown ---------------------------------------------------------------------------------------------------------


def test_shutdown_waits_for_every_call(make: Make) -> None:
    """Those running and those pending: when it returns all are done; so does the `with` statement."""
    executor = make(1)
    futures = [executor.submit(calls.after, 0.02, number) for number in range(10)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == list(range(10))
    with make(1) as executor:
        future = executor.submit(calls.after, 0.1, 1)
    assert future.done()


def test_shutdown_without_waiting_returns_at_once(make: Make, gate: Gate) -> None:
    """The calls are answered all the same."""
    executor = make(1)
    held = gate.hold(executor, "value")
    later = executor.submit(calls.add, 1)
    executor.shutdown(wait=False)
    assert not held.done()
    gate.open()
    assert held.result(PATIENCE_S) == "value"
    assert later.result(PATIENCE_S) == 1
    executor.shutdown()


def test_shutdown_may_cancel_what_is_pending(make: Make, gate: Gate) -> None:
    """Running calls are waited for; pending ones, the last ones, are cancelled."""
    executor = make(1)
    held = gate.hold(executor, "value")
    futures = [executor.submit(calls.add, number) for number in range(400)]
    opener = threading.Thread(target=lambda: (until(futures[-1].cancelled), gate.open()))
    opener.start()
    executor.shutdown(cancel_futures=True)
    opener.join()
    assert held.result(0) == "value"
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()
    cancelled = [future.cancelled() for future in futures]
    assert cancelled == sorted(cancelled)
    assert [future.result(0) for future in futures if not future.cancelled()] == list(range(cancelled.count(False)))


def test_shutdown_withdraws_what_was_sent_and_has_not_begun(
    make: Make, module_backend: Backend, gate: Gate, tmp_path: Path
) -> None:
    """What runs is answered; the others are cancelled, before a slot is free, and none is run or has failed."""
    executor, noted = make(1), tmp_path / "noted"
    assert executor.submit(calls.note, str(noted), 0).result(PATIENCE_S) == 0
    held = gate.hold(executor, "held")
    futures = [executor.submit(calls.note_slowly, str(noted), 1) for _ in range(300)]
    until(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    if isinstance(executor, StarburstExecutor):
        until(lambda: all(future.cancelled() for future in futures))
    gate.open()
    assert held.result(PATIENCE_S) == "held"
    until(lambda: all(future.done() for future in futures))
    ran = [future for future in futures if not future.cancelled()]
    assert len(ran) < 150
    assert len(noted.read_text()) == 1 + len(ran)
    if isinstance(executor, StarburstExecutor):
        executor.shutdown()
        run = attach(str(executor.run_id), backend=module_backend)
        status = run.status()
        assert (status.state, status.failed, run.failures()) == (RunState.SUCCEEDED, 0, [])
        assert status.items == 2 + len(ran) + status.withdrawn


def test_what_has_begun_is_not_withdrawn_before_its_worker_was_seen(module_backend: Backend, gate: Gate) -> None:
    """A driver that has not looked at workers since it launched one answers nothing in its place."""
    executor = StarburstExecutor(1, backend=replace(module_backend, tick_s=2.0))
    held = gate.hold(executor, "value")
    later = executor.submit(calls.add, 1)
    until(later.running)
    executor.shutdown(wait=False, cancel_futures=True)
    until(later.cancelled)
    assert not held.done()
    gate.open()
    assert held.result(PATIENCE_S) == "value"
    executor.shutdown()


@pytest.mark.parametrize("way", ["error", "close", "timeout"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_who_leaves_a_map_early_withdraws_its_calls(shared: Executor, tmp_path: Path, way: str, chunksize: int) -> None:
    """By an error, by closing it or for want of time: few of its calls are run, and other calls go on."""
    noted, other = tmp_path / "noted", shared.submit(calls.after, 0.2, "other")
    files, timeout = [str(noted)] * 1000, 0.5 if way == "timeout" else None

    def leave() -> None:
        for _ in shared.map(calls.note_slowly, files, range(1000), timeout=timeout, chunksize=chunksize):
            if way == "error":
                raise KeyError

    if way == "close":
        got = shared.map(calls.note_slowly, files, range(1000), chunksize=chunksize)
        assert next(got) == 0
        got.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises((KeyError, TimeoutError)):
            leave()
    assert other.result(PATIENCE_S) == "other"
    assert [shared.submit(calls.add, number).result(PATIENCE_S) for number in range(5)] == [*range(5)]
    assert len(noted.read_text() if noted.exists() else "") < 500


def test_map_reads_no_more_than_its_buffer(shared: Executor) -> None:
    """With `buffersize`, inputs are read as their values are asked for; without, all at once."""
    if not isinstance(shared, StarburstExecutor) and sys.version_info < (3, 14):
        buffersize: dict[str, int] = {}
    else:
        buffersize = {"buffersize": 3}
    read: list[int] = []
    numbers = (read.append(number) or number for number in range(20))  # type: ignore[func-returns-value]
    got = shared.map(calls.add, numbers, **buffersize)
    assert len(read) == (3 if buffersize else 20)
    assert next(got) == 0
    assert len(read) == (4 if buffersize else 20)
    assert list(got) == [*range(1, 20)]


def test_what_the_caller_lets_go_of_is_let_go_of(shared: Executor) -> None:
    """Values, of futures and of maps, futures and arguments: the executor keeps none of them, though it lives on."""

    def gone(of: weakref.ref[Any]) -> bool:
        gc.collect()
        return of() is None

    argument = calls.Odd(1, "argument")
    future = shared.submit(calls.after, 0, argument)
    held = [weakref.ref(future.result(PATIENCE_S)), weakref.ref(future), weakref.ref(argument)]
    del future, argument
    values = shared.map(calls.Odd, [1, 2], "ab")
    held.append(weakref.ref(next(values)))
    for each in held:
        until(partial(gone, each))
    assert next(values).code == 2


def test_functions_go_with_their_caller_and_an_executor_nobody_holds_ends(backend: Backend) -> None:
    """Closures and what they close over, objects whose methods were called; the last call is answered all the same."""

    def gone(of: weakref.ref[Any]) -> bool:
        gc.collect()
        return of() is None

    def closing(over: calls.Odd) -> Callable[[], int]:
        return lambda: over.code

    executor = StarburstExecutor(1, backend=backend)
    replaced = [calls.Odd(3, "replaced")]
    functions = [closing(calls.Odd(1, "closed over")), calls.Odd(2, "bound").__repr__, lambda: replaced[0].code]
    held: list[weakref.ref[Any]] = [weakref.ref(functions[0]), weakref.ref(functions[1].__self__)]  # type: ignore[attr-defined]
    held += [weakref.ref(replaced[0])]
    assert [executor.submit(each).result(PATIENCE_S) for each in functions][::2] == [1, 3]
    kept = functions.pop()
    functions.clear()
    replaced[0] = calls.Odd(4, "new")
    for each in held:
        until(partial(gone, each))
    assert executor.submit(kept).result(PATIENCE_S) == 4
    future, last = executor.submit(calls.after, 0.5, "answered"), weakref.ref(executor)
    del executor
    until(partial(gone, last))
    assert future.result(PATIENCE_S) == "answered"
    until(lambda: not [*backend.store.list("fleets/")])


def test_nothing_can_be_submitted_after_shutdown(make: Make) -> None:
    """Whether it was ever used or not, and however often it is shut down."""
    for calls_before in (0, 1):
        executor = make(1)
        for _ in range(calls_before):
            executor.submit(calls.add, 1).result(PATIENCE_S)
        executor.shutdown()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(calls.add, 1)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.map(calls.add, [1])


def test_an_error_in_the_with_block_still_waits(make: Make) -> None:
    """And is not swallowed."""
    submitted = []

    def block() -> None:
        with make(1) as executor:
            submitted.append(executor.submit(calls.after, 0.1, 1))
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert submitted[0].result(0) == 1


def test_the_interpreter_waits_for_what_was_submitted(kind: str, tmp_path: Path) -> None:
    """A script that ends without a shutdown has its calls done, and ends."""
    made = {
        "starburst": "from starburst_common import StarburstExecutor as Executor",
        "processes": "from concurrent.futures import ProcessPoolExecutor as Executor",
    }[kind]
    script = tmp_path / "script.py"
    script.write_text(
        f"{made}\nimport sys, time\n"
        "def work(name):\n    time.sleep(0.1)\n    open(name, 'w').close()\n"
        "if __name__ == '__main__':\n    executor = Executor(1)\n"
        "    for number in range(3): executor.submit(work, f'{sys.argv[1]}/{number}')\n"
    )
    done = tmp_path / "done"
    done.mkdir()
    subprocess.run(
        [sys.executable, script, done],
        env={"STARBURST_HOME": str(tmp_path / "home"), "STARBURST_BACKEND": "local", "HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert len(list(done.iterdir())) == 3


# --- breaking ---------------------------------------------------------------------------------------------------------


def broken_maker(kind: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes executors whose workers cannot start."""
    if kind == "starburst":
        monkeypatch.setattr(sys, "executable", "/bin/false")
        return maker(kind, backend)
    return partial(maker(kind, backend), initializer=calls.die)


def test_workers_that_cannot_start_break_it(kind: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every future says so, and so does the next `submit`."""
    executor = broken_maker(kind, backend, monkeypatch)(1)
    futures = [executor.submit(calls.add, 0)]
    with suppress(BrokenExecutor):  # it may be known before all are sent
        futures += [executor.submit(calls.add, number) for number in range(1, 300)]
    assert wait(futures, PATIENCE_S).not_done == set()
    assert all(isinstance(future.exception(0), BrokenExecutor) for future in futures)
    with pytest.raises(BrokenExecutor):
        executor.submit(calls.add, 1)
    with pytest.raises(BrokenExecutor):
        executor.map(calls.add, [1])
    executor.shutdown()
    if kind == "starburst":
        nothing_left(backend)


def test_a_cancelled_call_of_a_broken_executor_stays_cancelled(backend: Backend, gate: Gate) -> None:
    """And nobody waits for it in vain, nor for the others where their holders set one, or exit in a callback."""
    executor = StarburstExecutor(1, backend=backend)
    futures = [gate.hold(executor), *(executor.submit(calls.add, number) for number in range(400))]
    assert futures[-1].cancel()
    futures.pop(-2).set_result("mine")
    futures[0].add_done_callback(lambda _: sys.exit(1))
    assert executor.run_id is not None
    attach(executor.run_id, backend=backend).cancel()
    assert wait(futures, PATIENCE_S).not_done == set()
    assert futures[-1].cancelled()
    assert all(isinstance(future.exception(0), BrokenExecutor) for future in futures[:-1])
    executor.shutdown()


def test_a_call_whose_process_dies_fails_alone(module_backend: Backend) -> None:
    """Where the standard pool would break, this executor answers every other call, and goes on."""
    with StarburstExecutor(2, backend=module_backend) as executor:
        before = [executor.submit(calls.after, 0.01, number) for number in range(10)]
        dies = executor.submit(calls.die, 5)
        after = [executor.submit(calls.add, number) for number in range(10)]
        error = dies.exception(PATIENCE_S)
        assert isinstance(error, WorkerLost)
        assert "exited with code 5" in str(error)
        assert [future.result(PATIENCE_S) for future in before] == list(range(10))
        assert [future.result(PATIENCE_S) for future in after] == list(range(10))
        assert executor.submit(calls.add, 1).result(PATIENCE_S) == 1


def test_an_executor_whose_run_is_cancelled_is_broken(backend: Backend, gate: Gate) -> None:
    """Somebody cancels it from elsewhere: the futures say so, and so does the next `submit`."""
    executor = StarburstExecutor(1, backend=backend)
    futures = [gate.hold(executor), *(executor.submit(calls.add, number) for number in range(300))]
    assert executor.run_id is not None
    attach(executor.run_id, backend=backend).cancel()
    assert wait(futures, PATIENCE_S).not_done == set()
    assert all(isinstance(future.exception(0), BrokenExecutor) for future in futures)
    with pytest.raises(BrokenExecutor, match="cancelled"):
        executor.submit(calls.add, 1)
    executor.shutdown()
    nothing_left(backend)


def test_an_idle_executor_whose_run_is_cancelled_is_broken(backend: Backend) -> None:
    """Nothing was under way, and still the next `submit` says so rather than wait for ever."""
    executor = StarburstExecutor(1, backend=backend)
    assert executor.submit(calls.add, 1).result(PATIENCE_S) == 1
    assert executor.run_id is not None
    attach(executor.run_id, backend=backend).cancel()

    def refusal() -> BaseException | None:
        try:
            return executor.submit(calls.add, 1).exception(PATIENCE_S)
        except BrokenExecutor as error:
            return error

    for _ in range(2):
        told = refusal()
        assert isinstance(told, BrokenExecutor)
        assert "cancelled" in str(told)
    executor.shutdown()
    nothing_left(backend)


# --- its own ----------------------------------------------------------------------------------------------------------


def test_a_callback_that_waits_for_the_executors_end_is_told_so(
    make: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """It would wait for itself."""
    executor = make(1)
    done = gate.hold(executor, 1)
    done.add_done_callback(lambda _: executor.shutdown())
    gate.open()
    assert done.result(PATIENCE_S) == 1
    executor.shutdown()
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(make: Make, workers: int) -> None:
    """With a ValueError, at once."""
    with pytest.raises(ValueError, match=f"{workers}|greater than 0"):
        make(workers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "^max_workers=0: give a whole number"),
        ({"mp_context": multiprocessing.get_context("spawn")}, "^mp_context=.*no slot is a fork"),
        ({"max_tasks_per_child": 3}, "^max_tasks_per_child=3: a slot stays"),
        (
            {"initializer": partial(print, multiprocessing.Lock())},
            "^initializer=.*which inherit nothing: have the init",
        ),
        ({"thread_name_prefix": "mine"}, "^thread_name_prefix='mine': calls run in processes"),
    ],
)
def test_what_only_other_executors_take_is_refused_by_its_name(options: dict[str, Any], words: str) -> None:
    """With the reason; None, which asks for nothing, is taken."""
    with pytest.raises(BadInput, match=words):
        StarburstExecutor(**options)
    with StarburstExecutor(**dict.fromkeys(options)):
        pass


def test_libraries_can_ask_how_many_calls_run_at_once(module_backend: Backend) -> None:
    """Slots of all workers, before the first call and after; so many processes are really there."""
    assert StarburstExecutor(3, slots=2, backend=module_backend)._max_workers == 6
    assert StarburstExecutor(backend=module_backend)._max_workers == module_backend.default_workers
    with Cluster(workers=1, slots=2, backend=module_backend, progress=False) as cluster:
        assert cluster.submit(calls.add, 1).result(PATIENCE_S) == 1
        assert cluster._executor is not None and cluster._executor._max_workers == 2


def test_asyncio_awaits_calls(module_backend: Backend) -> None:
    """By `run_in_executor`, `wrap_future` and `gather`; who stops waiting cancels a call that has not begun."""

    async def ask(executor: Executor) -> list[Any]:
        loop = asyncio.get_running_loop()
        got = await asyncio.gather(*(loop.run_in_executor(executor, calls.add, number, 1) for number in range(5)))
        return [*got, await asyncio.wrap_future(executor.submit(calls.add, 5, 1))]

    with StarburstExecutor(2, backend=module_backend) as executor:
        assert asyncio.run(ask(executor)) == [1, 2, 3, 4, 5, 6]


def test_max_workers_is_workers(module_backend: Backend) -> None:
    """By position, by the standard library's name or by ours; not by two at once."""
    for given in ({"max_workers": 3}, {"workers": 3}):
        assert StarburstExecutor(backend=module_backend, **given)._options.workers == 3
    assert StarburstExecutor(3, backend=module_backend)._options.workers == 3
    assert StarburstExecutor(backend=module_backend)._options.workers is None
    with pytest.raises(BadInput, match="max_workers and workers are the same"):
        StarburstExecutor(3, workers=3, backend=module_backend)


def test_what_pools_cannot_send_can_be_submitted(module_backend: Backend) -> None:
    """Lambdas, closures and local classes; each function is stored once, however often it is called."""
    offset = 10
    with StarburstExecutor(1, backend=module_backend) as executor:
        futures = [executor.submit(lambda x: x + offset, number) for number in range(20)]
        assert [future.result(PATIENCE_S) for future in futures] == [number + 10 for number in range(20)]
        same = lambda x: [x] * 2  # noqa: E731
        assert [executor.submit(same, number).result(PATIENCE_S) for number in range(3)] == [[0] * 2, [1] * 2, [2] * 2]
        stored = list(module_backend.store.list(f"runs/{executor.run_id}/functions/"))
    assert len(stored) == 2


def test_neither_first_call_nor_shutdown_waits_for_the_drivers_next_look(backend: Backend) -> None:
    """A driver to which nothing is owed waits for calls and for their end, not for the clock."""
    rarely = replace(backend, tick_s=2 * PATIENCE_S)
    with StarburstExecutor(workers=1, backend=rarely) as executor:
        executor.start()
        time.sleep(0.5)  # its first look is over, and found nothing to do
        assert executor.submit(calls.add, 40, 2).result(PATIENCE_S) == 42
        answered = time.monotonic()
    assert time.monotonic() - answered < PATIENCE_S


def test_nothing_is_left_of_an_executor(backend: Backend) -> None:
    """Used, failed in, or never used at all."""
    with StarburstExecutor(2, backend=backend) as executor:
        futures = [executor.submit(calls.fail_on, 3, number) for number in range(10)]
    assert sum(future.exception(0) is not None for future in futures) == 1
    nothing_left(backend)
    with StarburstExecutor(2, backend=backend) as executor:
        assert executor.run_id is None
    nothing_left(backend)
