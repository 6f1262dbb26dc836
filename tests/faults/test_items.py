"""Items that fail in every way there is: each is told apart, and its neighbours are answered."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starburst_common import (
    BadInput,
    Cluster,
    FailureKind,
    ItemTimeout,
    OutOfMemory,
    RunState,
    RunStopped,
    WorkerLost,
    starburst_map,
)
from starburst_common.errors import EnvironmentMismatch, ItemCancelled, UnpicklableResult
from tests.faults.conftest import Bed, LocalBed, on_both


def one_bad(bed: Bed, fn: Any, items: Any = range(20), **options: Any) -> tuple[list[Any], Exception]:
    """Map, expect exactly one failure; the values without it, and it."""
    got = starburst_map(fn, items, workers=2, backend=bed.backend, progress=False, return_exceptions=True, **options)
    (bad,) = [value for value in got if isinstance(value, Exception)]
    return [value for value in got if not isinstance(value, Exception)], bad


def misbehaves(item: int) -> int:
    """Items 1 to 9 each do something terrible when asked for alone, by the item's sign."""
    if item == -1:
        os._exit(3)
    if item == -2:
        ctypes.string_at(0)
    if item == -3:
        time.sleep(300)
    if item == -4:
        hoard = [bytearray(os.urandom(1 << 20) * 8) for _ in range(200)]
        time.sleep(len(hoard))
    if item == -5:
        sys.exit(7)
    if item == -6:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == -7:
        raise MemoryError("no room")
    return item


NEIGHBOURS = list(range(1, 20))


def test_a_process_that_exits_is_lost_and_says_how(bed: Bed) -> None:
    """os._exit in a function ends its slot, not its worker; the item fails as LOST with the exit code."""
    values, bad = one_bad(bed, misbehaves, [-1, *NEIGHBOURS])
    assert values == NEIGHBOURS
    assert isinstance(bad, WorkerLost) and "exited with code 3" in str(bad)


def test_a_crash_is_lost_and_names_the_signal(bed: Bed) -> None:
    """A segmentation fault."""
    values, bad = one_bad(bed, misbehaves, [*NEIGHBOURS, -2])
    assert values == NEIGHBOURS
    assert isinstance(bad, WorkerLost) and f"signal {signal.SIGSEGV.value}" in str(bad)


@on_both
def test_a_killed_slot_is_lost(bed: Bed) -> None:
    """SIGKILL of the process that runs the item, without the kernel running out of memory."""
    values, bad = one_bad(bed, misbehaves, [*NEIGHBOURS, -6])
    assert values == NEIGHBOURS
    assert isinstance(bad, WorkerLost) and "signal 9" in str(bad)


def framed(text: bytes, blob_bytes: int = 0) -> bytes:
    """As a slot frames what it says."""
    return struct.pack(">4sIQ", b"SBS1", len(text), blob_bytes) + text


@pytest.mark.parametrize(
    "said",
    [
        b"junk",
        b"\x00\x00\x10\x00[]",  # the rest of which never comes
        b"\x7f\xff\xff\xff" * 1000,
        framed(b"[]"),
        framed(b"\xff"),
        framed(b"[" * 100_000),
        framed(b"{}", 2**60),
        framed(b'{"first": 19, "values": 5, "logs": {}}'),
        framed(b'{"failure": {"index": "x"}, "pickled": 0}'),
    ],
    ids=lambda said: repr(said[:20]),
)
def test_an_item_that_writes_into_its_slots_socket_is_lost(local_bed: LocalBed, said: bytes) -> None:
    """What nobody understands ends the slot, not the worker; the item in whose turn it came fails, and says why.

    Nor does anybody wait for what it promises.
    """

    def garble(item: int) -> int:
        if item == -1:
            ends = {int(fd.name): str(fd.readlink()) for fd in [*Path("/proc/self/fd").iterdir()] if fd.is_symlink()}
            (socket,) = [fd for fd, end in ends.items() if end.startswith("socket:")]  # it has no other
            os.write(socket, said)
            time.sleep(600)
        return item

    values, bad = one_bad(local_bed, garble, [*NEIGHBOURS, -1])
    assert values == NEIGHBOURS
    assert isinstance(bad, WorkerLost) and "its slot said what is no answer" in str(bad)


def test_an_item_that_spoils_what_its_slot_shares_with_the_worker_is_lost_alone(local_bed: LocalBed) -> None:
    """Cut, it ends the slot, not the worker; nonsense in it harms nobody; nor does it that the file is gone."""

    def spoil(item: int) -> int:
        if item < 0:
            shared = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
            file = Path(next(name for name in shared if name.endswith(".board")))
            with file.open("r+b") as board:
                if item == -1:
                    board.truncate(0)
                    time.sleep(600)
                board.write(b"\x7f" * 16 if item == -2 else b"\x81" * 32)
            if item == -3:
                file.unlink()
            time.sleep(0.3)
        return item

    options: dict[str, Any] = {"backend": local_bed.backend, "chunk_size": 1, "return_exceptions": True}
    got = starburst_map(spoil, [0, -1, 2, -2, 4, -3], workers=1, **options)
    assert [*got[:1], *got[2:]] == [0, 2, -2, 4, -3]
    assert isinstance(got[1], WorkerLost) and "was cut, 2 times" in str(got[1])


@on_both
def test_an_item_that_hangs_is_stopped_at_its_timeout(bed: Bed) -> None:
    """The slot is killed, the item fails as TIMEOUT, and the rest goes on in a new slot."""
    began = time.monotonic()
    values, bad = one_bad(bed, misbehaves, [-3, *NEIGHBOURS], timeout=1.5)
    assert values == NEIGHBOURS
    assert isinstance(bad, ItemTimeout) and isinstance(bad, TimeoutError) and "longer than 1.5 s" in str(bad)
    assert time.monotonic() - began < 300


def test_an_item_beyond_the_memory_limit_is_out_of_memory(bed: Bed) -> None:
    """Over the worker's named memory its largest slot is killed; the item fails as OOM, its neighbours do not."""
    values, bad = one_bad(bed, misbehaves, [*NEIGHBOURS, -4], cpu=0.25, memory="512MB")
    assert values == NEIGHBOURS
    assert isinstance(bad, OutOfMemory) and "of its 512 MiB" in str(bad)


def test_memory_error_is_out_of_memory_too(bed: Bed) -> None:
    """MemoryError raised in the function is of kind OOM and raised as itself."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(misbehaves, [1, -7])
        run.wait()
        assert [(f.index, f.kind) for f in run.failures()] == [(1, FailureKind.OOM)]
        with pytest.raises(MemoryError, match="no room"):
            run.results()


def test_sys_exit_fails_the_item_and_ends_nothing_at_home(bed: Bed) -> None:
    """SystemExit comes back as a failure that does not exit the caller."""
    values, bad = one_bad(bed, misbehaves, [-5, *NEIGHBOURS])
    assert values == NEIGHBOURS
    assert "SystemExit: 7" in str(bad)


class Awkward(Exception):
    """Holds what cannot be sent."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two, threading.Lock())

    def __str__(self) -> str:
        return "{} and {}".format(*self.args)


def returns_odd_things(item: int) -> Any:
    """None, an exception as a value, what cannot be pickled, an exception that cannot be sent."""
    if item == 0:
        return None
    if item == 1:
        return ValueError("as a value")
    if item == 2:
        return threading.Lock()
    if item == 3:
        raise Awkward("this", "that")
    return item


def test_odd_results_keep_their_places(bed: Bed) -> None:
    """None is a value, a returned exception is a value, and what cannot come back says so in its own place."""
    got = starburst_map(
        returns_odd_things, range(6), workers=2, backend=bed.backend, progress=False, return_exceptions=True
    )
    assert got[0] is None
    assert isinstance(got[1], ValueError) and got[1].args == ("as a value",)
    assert isinstance(got[2], UnpicklableResult) and "_thread.lock, cannot be pickled" in str(got[2])
    assert type(got[3]) is Awkward and str(got[3]) == "this and that"
    assert got[4:] == [4, 5]


def reuses(item: int, buffer: list[int] = [0]) -> list[int]:  # noqa: B006
    """Returns the same list every time, changed."""
    buffer[0] = item
    return buffer


def test_a_reused_result_is_sent_as_it_was(bed: Bed) -> None:
    """Each value is pickled as soon as it is returned, so later changes do not reach it."""
    assert starburst_map(reuses, range(500), workers=1, backend=bed.backend, progress=False) == [
        [i] for i in range(500)
    ]


def fails_at_seven(item: int) -> int:
    """A plain bug."""
    if item == 7:
        raise KeyError("seven")
    return item


def test_the_first_failure_is_raised_as_itself_with_the_remote_traceback(bed: Bed) -> None:
    """The user's own exception type; its cause shows where it was raised; the rest of the run is given up."""
    with pytest.raises(KeyError, match="seven") as caught:
        starburst_map(fails_at_seven, range(100), workers=2, backend=bed.backend, progress=False)
    assert "in fails_at_seven" in str(caught.value.__cause__)


def fails_often(item: int) -> int:
    """One in ten."""
    if item % 10 == 0:
        raise ValueError(item)
    return item


def test_tolerated_failures_are_returned_and_more_stop_the_run(bed: Bed) -> None:
    """tolerate="10%" of 1000 goes through with 100 failures in place; tolerate=20 stops the run and says so."""
    got = starburst_map(fails_often, range(1000), workers=2, backend=bed.backend, progress=False, tolerate="10%")
    assert sum(isinstance(value, ValueError) for value in got) == 100
    with pytest.raises(RunStopped, match="items failed, more than the 20 tolerated"):
        starburst_map(fails_often, range(1000), workers=2, backend=bed.backend, progress=False, tolerate=20)


def test_the_circuit_breaker_stops_a_run_that_fails_alike_from_the_start(bed: Bed) -> None:
    """Nothing but the same failure, more than a few times, and nobody asked for it: stopped, and it says so."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(lambda item: item / 0, range(100_000))
        assert {type(value) for value in run.results(return_exceptions=True)} == {ZeroDivisionError, ItemCancelled}
        with pytest.raises(RunStopped, match=r"the first \d+ items all failed alike \(user: ZeroDivisionError\)"):
            for _ in run.iter_completed():
                pass


def test_failures_that_were_asked_for_are_all_answered(bed: Bed) -> None:
    """However many are alike: with return_exceptions, with a tolerance of all, in a detached run and as futures."""

    def boom(item: int) -> float:
        return item / 0

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        for asked in ({"return_exceptions": True}, {"tolerate": "100%"}, {"tolerate": 300}):
            got = cluster.map(boom, range(300), **asked)
            assert [type(value) for value in got] == [ZeroDivisionError] * 300
        run = cluster.start(boom, range(300), return_exceptions=True)
        assert run.wait().failed == 300
        assert run.status().state is RunState.FAILED
    with Cluster(workers=2, backend=bed.backend, progress=False, tolerate=0) as strict:
        futures = [strict.submit(boom, item) for item in range(60)]
        assert {type(future.exception()) for future in futures} == {ZeroDivisionError}


def flaky(item: int) -> int:
    """Fails twice for each item, in this process."""
    tries: dict[int, int] = flaky.__dict__.setdefault("tries", {})
    tries[item] = tries.get(item, 0) + 1
    if tries[item] < 3:
        raise ConnectionError("come back later")
    return item * tries[item]


def test_retries_wait_and_are_counted(bed: Bed) -> None:
    """retries=2 gives each item three tries, `retry_delay` apart; retry_on leaves other errors alone."""
    began = time.monotonic()
    options: dict[str, Any] = {"workers": 1, "backend": bed.backend, "progress": False, "retries": 2}
    assert starburst_map(flaky, range(5), retry_delay=0.3, **options) == [3 * item for item in range(5)]
    assert time.monotonic() - began >= 0.6
    with pytest.raises(ConnectionError):
        starburst_map(flaky, range(5), retry_on=ValueError, **options)


def test_a_timeout_is_retried_like_any_error(bed: Bed) -> None:
    """An item that hangs once and not again succeeds with retries=1."""

    def hangs_once(item: int, seen: str = str(bed.notes)) -> int:
        from pathlib import Path

        mark = Path(seen) / str(item)
        if item == 3 and not mark.exists():
            mark.write_text("1")
            time.sleep(300)
        return item

    got = starburst_map(hangs_once, range(6), workers=1, backend=bed.backend, progress=False, retries=1, timeout=1.5)
    assert got == list(range(6))


def chatty(item: int) -> int:
    """Says something on every channel."""
    print("printed", item)
    print("to stderr", item, file=sys.stderr)
    logging.getLogger("mine").warning("logged %d", item)
    return item


@on_both
def test_what_an_item_says_is_kept_for_that_item(bed: Bed) -> None:
    """stdout, stderr and log records, by item, bounded."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(chatty, range(50))
        run.wait()
        ((index, text),) = run.logs(17)
        assert index == 17
        assert text.splitlines() == ["printed 17", "to stderr 17", "WARNING mine: logged 17"]
        assert len(list(run.logs())) == 50


def test_large_arrays_come_and_go(bed: Bed) -> None:
    """Hundreds of megabytes of arrays both ways, equal at the end and writable on the worker."""

    def bump(array: Any) -> Any:
        array += 1
        return array

    arrays = (np.full((1 << 20,), index, dtype=np.float64) for index in range(30))
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(bump, arrays)
        for index, array in run.iter_completed(ordered=True):
            assert array.shape == (1 << 20,) and array[0] == array[-1] == index + 1
        run.wait()


def test_what_is_done_to_an_array_is_done_to_nobody_elses(bed: Bed) -> None:
    """Not to what the next try, another run, or another reader of the answers has: each finds it as it was sent."""

    def spoil(array: Any) -> float:
        total = float(array.sum())
        array[:] = -1
        if total < 1 << 18:
            raise ValueError(total)
        return total

    arrays = [np.full(1 << 18, index, dtype=np.float64) for index in range(3)]
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        tried = cluster.start(spoil, arrays, retries=1, return_exceptions=True)
        tried.wait()
        assert [failure.message for failure in tried.failures()] == ["0.0"]
        run = cluster.start(spoil, arrays, return_exceptions=True)
        assert str(run.results()[0]) == "0.0"
        again = run.retry_failed()
        assert str(again.results(return_exceptions=True)[0]) == "0.0"
        doubled = cluster.start(lambda array: array * 2, arrays)
        for array in doubled.results():
            array -= 7
        assert [array[-1] for array in doubled.results()] == [0, 2, 4]


def test_an_endless_input_is_read_only_a_little_ahead(bed: Bed) -> None:
    """Back-pressure: a generator without end is read in step with the workers and with whoever consumes."""
    read = [0]

    def endless() -> Iterator[int]:
        while True:
            read[0] += 1
            yield read[0]

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(lambda item: item, endless(), chunk_size=10)
        got = [value for _, (_, value) in zip(range(1000), run.iter_completed(ordered=True), strict=False)]
        time.sleep(1.0)
        assert got == list(range(1, 1001))
        assert read[0] < 1000 + 10 * 2 * 30
        run.cancel()


def test_an_input_that_raises_says_so_and_keeps_what_was_answered(bed: Bed) -> None:
    """The generator's own exception is raised from results(); the items before it were answered."""

    def broken() -> Iterator[int]:
        yield from range(50)
        raise OSError("the disk is gone")

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(lambda item: item, broken())
        with pytest.raises(OSError, match="the disk is gone"):
            run.results()
        assert run.wait().answered == 50


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"workers": 0}, "workers=0: give a whole number from 1 to 10000"),
        ({"cpu": 3}, "cpu=3 is not a Fargate size"),
        ({"memory": "8XB"}, "memory='8XB' is not a size"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"tolerate": "lots"}, "tolerate='lots'"),
        ({"retries": -1}, "retries=-1"),
        ({"budget": 0}, "budget=0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_launched(bed: Bed, wrong: dict[str, Any], says: str) -> None:
    """One clear error; no worker, no run."""
    with pytest.raises(BadInput) as caught:
        starburst_map(abs, [1], backend=bed.backend, **wrong)
    assert says in str(caught.value)
    assert bed.objects() == []


def test_an_item_that_cannot_be_pickled_is_named_before_anything_is_launched(bed: Bed) -> None:
    """Its index and type; nothing is left of the run."""
    with pytest.raises(BadInput, match=r"item 3 \(lock\) cannot be pickled"):
        starburst_map(abs, [0, 1, 2, threading.Lock()], backend=bed.backend, progress=False)
    assert bed.objects() == []


def test_another_python_is_refused_with_the_reason(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from another Python minor: its items fail as IMPORT, and the message names both versions."""
    from starburst_common.runs import records

    class Other:
        version_info = (3, 99, 0)

        def __getattr__(self, name: str) -> Any:
            return getattr(sys, name)

    monkeypatch.setattr(records, "sys", Other())
    with pytest.raises(EnvironmentMismatch, match=r"started with Python 3\.99, this worker has 3\."):
        starburst_map(abs, range(5), workers=1, backend=bed.backend, progress=False)


@on_both
def test_a_module_that_the_worker_lacks_is_named_with_the_way_out(bed: Bed) -> None:
    """Whether it is missed as the function arrives or while it runs: which module, and where to name its package."""

    def needs(item: int) -> int:
        import a_module_that_nobody_has  # type: ignore[import-not-found]

        return int(a_module_that_nobody_has.value)

    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has") as error:
        starburst_map(needs, range(5), workers=1, backend=bed.backend, progress=False)
    assert "name the package in your project's requirements" in error.value.__notes__[0]


@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.rest) for turn in range(1, 5))])
def test_failures_beyond_what_is_tolerated_raise_even_if_they_come_last(bed: Bed, turn: int) -> None:
    """All items are answered before anybody decides: the run is stopped all the same, every time."""

    def half(item: int) -> float:
        return 1 / item

    with pytest.raises(RunStopped, match="more than the 1 tolerated"):
        starburst_map(half, [0, 0, 1], tolerate=1, workers=1, backend=bed.backend, progress=False)
