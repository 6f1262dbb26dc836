"""`batch=`: a call is given several items, and each is answered as if it had been called alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, ItemTimeout, WorkerLost, starburst_map
from starburst_common.runs.replay import stored_call
from tests.faults.conftest import Bed, LocalBed


def test_a_call_is_given_several_items(bed: Bed) -> None:
    """At most so many, in their order; their values come in their places, also where nobody knows how many come."""
    with Cluster(workers=1, backend=bed.backend, progress=False, batch=8) as cluster:
        got = cluster.map(_with_size, range(100))
        assert [number for number, _ in got] == [*range(100)]
        assert {size for _, size in got} == {8, 4}
        assert cluster.map(_squares, (number for number in range(30)), batch=7) == [at * at for at in range(30)]
        assert cluster.map(_with_size, range(6), chunk_size=3) == [(at, 3) for at in range(6)]
        assert cluster.submit(pow, 2, 5).result() == 32
        run = cluster.start(_squares, range(5))
        run.wait()
        assert stored_call(bed.backend, run.id, 3, None)() == [9]


def test_an_exception_in_a_values_place_is_that_items(local_bed: LocalBed) -> None:
    """It alone fails, and is tried again alone; what a call raises all its items fail with."""
    backend, notes = local_bed.backend, str(local_bed.notes)
    with Cluster(workers=1, slots=1, backend=backend, progress=False, return_exceptions=True, batch=4) as cluster:
        got = cluster.map(_odd_fails, [(at, notes) for at in range(8)], retries=1, chunk_size=8)
        assert [type(each) for each in got[1::2]] == [ValueError] * 4
        assert got[::2] == [0, 2, 4, 6]
        assert local_bed.calls() == {at: 1 + at % 2 for at in range(8)}
        got = cluster.map(_raises, range(6))
        assert [str(each) for each in got] == ["all of it"] * 6
        for answer, said in (
            (_short, "2 were given, and 1 came back"),
            (str, "2 were given, and a str came back"),
            (set, "2 were given, and a set came back"),  # whose order is another
            (_Table, "2 were given, and a _Table came back"),
        ):
            (error, _) = cluster.map(answer, range(2), batch=2)
            assert (type(error), said in str(error)) == (BadInput, True)
        got = cluster.map(_squares, [_Odd(), 2, 3])
        assert (type(got[0]), got[1:]) == (RuntimeError, [4, 9])


def test_what_ends_a_slot_is_found_among_a_batch(local_bed: LocalBed) -> None:
    """Each of its items is run alone then: only the one that is guilty fails. A timeout is the whole call's."""
    backend = local_bed.backend
    with Cluster(workers=1, slots=1, backend=backend, progress=False, return_exceptions=True, batch=5) as cluster:
        got = cluster.map(_dies_at_7, range(20), chunk_size=20)
        assert [at for at, each in enumerate(got) if isinstance(each, WorkerLost)] == [7]
        assert [each for each in got if not isinstance(each, WorkerLost)] == [at for at in range(20) if at != 7]
        got = cluster.map(_hangs_at_7, range(10), chunk_size=10, timeout=1)
        assert [at for at, each in enumerate(got) if isinstance(each, ItemTimeout)] == [5, 6, 7, 8, 9]
        got = cluster.map(_hangs_at_7, range(10), chunk_size=10, timeout=1, retries=1)
        assert [at for at, each in enumerate(got) if isinstance(each, ItemTimeout)] == [7]


def test_a_retry_is_given_batches_too(local_bed: LocalBed) -> None:
    """With the function as it was, or with another one."""
    with Cluster(workers=1, backend=local_bed.backend, progress=False, batch=4) as cluster:
        run = cluster.start(_raises, range(6), return_exceptions=True)
        run.wait()
        run.retry_failed(_squares).wait()
        assert run.results() == [0, 1, 4, 9, 16, 25]


def test_what_does_not_go_with_batches_is_refused(local_bed: LocalBed) -> None:
    """Before anything is launched, with what to do."""
    backend = local_bed.backend
    for options, said in (({"batch": 0}, "batch=0: "), ({"batch": 2, "seed": 1}, "seed=1 with batch=2: a seed is")):
        given: Any = options
        with pytest.raises(BadInput, match=said):
            starburst_map(_squares, [1], backend=backend, **given)
    with pytest.raises(BadInput, match="batch=2 goes with one input"):
        starburst_map(pow, [1], [2], backend=backend, batch=2)


def test_long_batches_are_handed_back_whole(local_bed: LocalBed) -> None:
    """What others may run are no parts of a batch, however long one takes."""
    with Cluster(workers=1, slots=2, backend=local_bed.backend, progress=False, batch=4) as cluster:
        got = cluster.map(_slow_with_size, range(40))
        assert [number for number, _ in got] == [*range(40)]
        assert {size for _, size in got} == {4}


def _squares(numbers: list[Any]) -> list[Any]:
    return [number * number for number in numbers]


def _with_size(numbers: list[int]) -> list[tuple[int, int]]:
    return [(number, len(numbers)) for number in numbers]


def _slow_with_size(numbers: list[int]) -> list[tuple[int, int]]:
    time.sleep(0.8)
    return _with_size(numbers)


def _odd_fails(items: list[tuple[int, str]]) -> list[Any]:
    for number, notes in items:
        with Path(notes, str(os.getpid())).open("a") as note:
            note.write(f"{number}\n")
    return [ValueError(number) if number % 2 else number for number, _ in items]


def _raises(numbers: list[int]) -> list[int]:
    raise RuntimeError("all of it")


def _short(numbers: list[int]) -> list[int]:
    return numbers[1:]


def _dies_at_7(numbers: list[int]) -> list[int]:
    if 7 in numbers:
        os._exit(3)
    return numbers


def _hangs_at_7(numbers: list[int]) -> list[int]:
    if 7 in numbers:
        time.sleep(60)
    return numbers


class _Table:
    """As those of pandas and Polars: it gives its columns, or their names."""

    def __init__(self, rows: list[int]) -> None:
        self.columns = ["a", "b"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class _Odd:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not me")
