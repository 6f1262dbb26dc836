"""How a `Cluster`, and `starburst_map`, take their inputs."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, repeat
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import pytest

from starburst_common import BadInput, Cluster, ItemFailed, Rows, starburst_map
from starburst_common.local import local_backend
from starburst_common.progress import preparing
from starburst_common.runs import feed
from starburst_common.runs.find import run_ids


def test_several_iterables_are_mapped_as_by_the_standard_library(tmp_path: Path) -> None:
    """An argument each, to the end of the shortest, lists and endless ones alike; one alone is as ever."""
    backend = local_backend(tmp_path / "home")
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        rows: list[Callable[[], tuple[Iterable[Any], ...]]] = [
            lambda: ([1, 2, 3], [4, 5]),
            lambda: (range(3), count(5)),
            lambda: (iter([7, 8]), repeat(2)),
            lambda: ("ab", [2, 3], (4, 5)),
            lambda: ([(1, 2), (3, 4)],),
            lambda: ([], count()),
        ]
        for inputs in rows:
            assert cluster.map(_together, *inputs()) == list(map(_together, *inputs()))
        run = cluster.start(_together, [1, 2], [3, 4, 5], label="sized")
        assert run.status().items == 2
        assert run.results() == [(1, 3), (2, 4)]
        with pytest.raises(BadInput, match="7 cannot be iterated over"):
            cluster.map(_together, [1], 7)
    assert starburst_map(pow, [2, 3], [3, 2], workers=1, backend=backend, progress=False) == [8, 9]
    backend.close()


def test_an_array_that_a_function_closes_over_goes_as_it_is_at_each_call(tmp_path: Path) -> None:
    """However large it is, and though it lies where it did: as was found to be otherwise with joblib."""
    backend, array = local_backend(tmp_path / "home"), np.random.default_rng(0).random(1 << 18)
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        for number in (7.0, 8.0):
            array[3] = number
            assert cluster.map(lambda at: float(array[at]), [3]) == [number]
    backend.close()


def test_items_of_many_packs_are_stored_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However full one becomes: lists, inputs whose length nobody knows, and rows that lie elsewhere."""
    monkeypatch.setattr(feed, "PACK_BYTES", 200)
    backend, rows = local_backend(tmp_path / "home"), tmp_path / "rows.jsonl"
    rows.write_text("".join(f"{at}\n" for at in range(60)))
    with Cluster(workers=1, backend=backend, progress=False, chunk_size=7) as cluster:
        for items in (range(60), iter(range(60)), Rows(str(rows))):
            assert cluster.map(abs, items) == [*range(60)]
        assert len(list(backend.store.list("runs"))) > 40
    backend.close()


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.rest)])
def test_what_is_stored_is_told_before_there_is_a_run_to_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    """What is done and how far it is, every few seconds, on stderr; not where nobody wants to know."""
    asked = Semaphore(0)

    def doing() -> str:
        asked.release()
        return "storing items: 2 stored"

    class Slow(list[int]):
        def __iter__(self) -> Iterator[int]:
            yield from (1, 2)
            time.sleep(6)

    if whole:
        backend = local_backend(tmp_path / "home")
        assert starburst_map(abs, Slow((1, 2)), workers=1, backend=backend) == [1, 2]
        backend.close()
    else:
        for wanted in (None, False):
            with preparing(wanted, every_s=0.01) as tell:
                tell(doing)
                assert asked.acquire(timeout=10 if wanted is None else 0.1) is (wanted is None)
                assert wanted is False or asked.acquire(timeout=10)  # so what it gave first is told
    assert re.search(r"storing items: 2 stored \(\d+ s so far\)", capsys.readouterr().err)


def _together(*arguments: object) -> tuple[object, ...]:
    return arguments


_MAPS_ON_IMPORT = """
from pathlib import Path
from starburst_common import starburst_map

def double(x):
    return 2 * x

began = Path(__file__).parent / "began"
with began.open("a") as file:
    file.write(".")
if len(began.read_text()) < 5:  # without the rule it would go on for ever
    starburst_map(double, [1, 2], workers=1, progress=False, backend="local")
"""


def test_no_worker_starts_a_run_by_importing_what_it_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that maps as it is imported would start a run on each worker, whose workers start others: it is told."""
    (tmp_path / "maps.py").write_text(_MAPS_ON_IMPORT)
    monkeypatch.setenv("STARBURST_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ItemFailed, match="module maps starts a run as it is imported"):
        importlib.import_module("maps")
    backend = local_backend(tmp_path / "home")
    assert len(run_ids(backend)) == 1
    backend.close()
