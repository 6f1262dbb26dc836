"""Shared values: stored once, fetched once a worker, mapped by its slots, kept as long as a run that has them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

import numpy as np
import pytest

from starburst_common import BadInput, Cluster, ItemFailed, NotFound, Refused, Shared, attach, share, starburst_map
from starburst_common.local import local_backend
from starburst_common.model import RunId
from starburst_common.names import RUNS, SHARED, RunNames
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from starburst_common.runs.replay import stored_call
from starburst_common.runs.sharing import (
    fetch_shared,
    needed_too,
    period_now,
    prune_shared,
    store_shared,
    value_key,
)
from starburst_common.wire.seals import WIRE_VERSION
from tests.faults.conftest import Bed, on_both

DAY_S = 86400.0
ROWS = 300_000


class Kept:
    """A store that remembers which objects of a folder were written through it."""

    def __init__(self, store: Any, folder: str) -> None:
        self._store, self._folder = store, folder
        self.written: list[str] = []

    def create(self, key: str, body: Any) -> None:
        """As asked."""
        if key.startswith(self._folder):
            self.written.append(key)
        self._store.create(key, body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def looking(shared: Any) -> Callable[[Any], Any]:
    """A function that tells its process, which files it has mapped of shared values, and what it sees of one."""

    def look(item: Any) -> Any:
        import os
        import time
        from pathlib import Path

        table = shared.value["table"]
        time.sleep(0.2)  # the other slot takes some, too
        maps = Path("/proc/self/maps").read_text().splitlines()
        mapped = {tuple(line.split()[3:5]) for line in maps if shared.digest in line}
        aligned = table.ctypes.data % 64 == 0
        return os.getpid(), mapped, float(table[item["row"]]), table.flags.writeable, aligned, item["in"] == shared

    return look


@on_both
def test_a_value_is_stored_once_and_mapped_by_all_slots(bed: Bed) -> None:
    """Two slots map one file; arrays are read-only there; the same content is found again by a second run; a damaged
    and a forged one are refused.
    """
    store = Kept(bed.backend.store, SHARED)
    backend = replace(bed.backend, store=store)  # type: ignore[arg-type]
    table = np.arange(float(ROWS))
    shared = share({"table": table, "name": "rows"})
    with Cluster(workers=1, cpu=2, backend=backend, progress=False) as cluster:
        items = [{"row": row, "in": shared} for row in range(8)]
        found = cluster.map(looking(shared), items, chunk_size=1)
        assert [row for _, _, row, *_ in found] == [*range(8)]
        assert {answer[3:] for answer in found} == {(False, True, True)}  # not writable, aligned, the same handle
        assert len({pid for pid, *_ in found}) == 2
        assert len({file for _, mapped, *_ in found for file in mapped}) == 1
        again = share({"table": table.copy(), "name": "rows"})
        assert again == shared
        assert cluster.map(lambda _: again.value["name"], range(2)) == ["rows"] * 2
        away = Shared("0" * 64, 8)
        with pytest.raises(BadInput, match="share it here again"):
            cluster.map(len, [[away]])
        with pytest.raises(NotFound, match="is not here"):
            _ = away.value
    (key,) = store.written
    assert f"/values/{WIRE_VERSION}-" in key  # another release, which could not read it, stores its own
    assert shared.value["table"] is table and table.flags.writeable
    whole, other, period = bytes(bed.backend.store.get(key)), share([1]), key.split("/")[1]
    bed.backend.store.put(key, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ItemFailed, match="damaged or forged"):
        starburst_map(lambda _: shared.value["name"], [0], workers=1, backend=bed.backend, progress=False)
    bed.backend.store.put(key, whole[: len(whole) // 2])  # as a power cut leaves it
    store_shared(bed.backend, period, shared)
    assert fetch_shared(bed.backend, period, shared.digest)[0] == whole
    bed.backend.store.put(value_key(period, bed.backend.key, other.digest), whole)  # another one in its place
    with pytest.raises(Refused):
        fetch_shared(bed.backend, period, other.digest)


@pytest.mark.parametrize("more", [b"", random.Random(1).randbytes(4 << 20)], ids=["arrays", "and bytes"])
def test_what_is_large_in_a_function_is_stored_once(bed: Bed, more: bytes) -> None:
    """And sent once, as it was at each call: arrays, and the pickle; arrays are writable, each slot's own; what shrinks
    much goes compressed. A retry and a replay have them, too.
    """
    store = Kept(bed.backend.store, SHARED)
    backend = replace(bed.backend, store=store)  # type: ignore[arg-type]
    noise, zeros = np.random.default_rng(1).random(300_000), np.zeros(300_000)

    def pick(item: int) -> tuple[float, float]:
        if item == 5:
            raise ValueError(item)
        assert noise.flags.writeable and len(more) in (0, 4 << 20)
        noise[7] += 1.0
        return float(noise[item]), float(zeros[item])

    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        for stored, change in ((1, 0.0), (1, 1.0), (2, 0.0)):
            run = cluster.start(pick, range(3, 6), return_exceptions=True)
            assert run.results()[:2] == [(noise[3], 0.0), (noise[4], 0.0)]
            assert len(store.written) == stored + bool(more)
            noise[3] += change
    again = attach(run.id, backend=bed.backend).retry_failed()
    again.wait()
    assert again.status().failed == 1
    call = stored_call(bed.backend, run.id, 1, None)
    assert call() == (noise[4], 0.0)


def test_a_period_goes_with_the_last_run_that_needs_it(bed: Bed) -> None:
    """Runs, their retries and replays have their values after years, if they are kept; then the values go."""
    shared = share({"limit": 3})

    def above(item: int) -> int:
        if item > shared.value["limit"]:
            raise ValueError(item)
        return item

    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(above, range(5), return_exceptions=True)
        run.wait()
        kept = replace(bed.backend, keep_s=100 * DAY_S)
        assert prune(kept, now=time.time() + 90 * DAY_S) == []
        again = attach(run.id, backend=bed.backend).retry_failed()
        again.wait()
        assert again.status().failed == 1
    (period,) = bed.backend.store.folders(SHARED)
    assert len([*bed.backend.store.list(f"{SHARED}{period}/needed-by/")]) == 2
    assert len(prune(bed.backend, now=time.time() + 90 * DAY_S)) == 2
    assert [*bed.backend.store.list(SHARED)] == []


# --- at once ----------------------------------------------------------------------------------------------------------


class Turns:
    """A store whose every use waits for its turn."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.go, self.done = Semaphore(0), Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        used = getattr(self._store, name)

        def in_turn(*given: Any) -> Any:
            self.done.release()
            self.go.acquire()
            return used(*given)

        return in_turn


def in_turns(backend: Backend, order: str, **parts: Callable[[Backend], None]) -> None:
    """Run parts at once, one use of the store at a time, in this order; then whatever is left of them."""
    stores = {name: Turns(backend.store) for name in parts}
    alive = {*parts}

    def body(name: str) -> None:
        try:
            parts[name](replace(backend, store=stores[name]))  # type: ignore[arg-type]
        finally:
            alive.discard(name)
            stores[name].done.release()

    threads = [Thread(target=body, args=(name,)) for name in parts]
    for thread in threads:
        thread.start()
    for store in stores.values():
        store.done.acquire()
    for name in (*order, *(name for name in parts for _ in range(20))):
        if name in alive:
            stores[name].go.release()
            stores[name].done.acquire()
    for thread in threads:
        thread.join()
    assert not alive


@pytest.mark.rest
@pytest.mark.parametrize("spec_last", [False, True])
def test_a_retry_has_its_values_or_is_told(tmp_path: Path, spec_last: bool) -> None:
    """However its steps and those of who prunes its parent fall: what it was told to have stays there."""
    backend = local_backend(tmp_path)
    store, parent, child = backend.store, RunId("run-1"), RunId("run-2")
    names, shared = RunNames(parent), share([1, 2])
    seen = {"told": 0, "kept": 0}
    for at in combinations(range(10), 5):
        store.delete_folder(RUNS)
        store.delete_folder(SHARED)
        for key in (names.spec, names.feeding):
            store.put(key, b"")
        period = period_now(backend, parent)
        store_shared(backend, period, shared)
        store.delete([names.feeding])
        had: list[str] = []

        def prunes(backend: Backend) -> None:
            backend.store.delete([names.shared if spec_last else names.spec])
            backend.store.delete([names.spec if spec_last else names.shared])
            prune_shared(backend, time.time() + 30 * DAY_S)

        def retries(backend: Backend, had: list[str] = had) -> None:
            backend.store.put(RunNames(child).feeding, b"")
            try:
                had.append(needed_too(backend, parent, child))
            except NotFound:
                had.append("")

        in_turns(backend, "".join("r" if turn in at else "p" for turn in range(10)), p=prunes, r=retries)
        if had[0]:
            fetch_shared(backend, had[0], shared.digest)
        seen["kept" if had[0] else "told"] += 1
    assert all(seen.values())
    backend.close()


def test_a_run_that_begins_has_its_values(tmp_path: Path) -> None:
    """However its steps and those of who prunes fall, up to a day after the day that it began in."""
    backend = local_backend(tmp_path)
    store, run, shared = backend.store, RunId("run-2"), share([1, 2])
    for at in combinations(range(10), 4):
        store.delete_folder(RUNS)
        store.put(RunNames(RunId("run-1")).feeding, b"")
        store_shared(backend, period_now(backend, RunId("run-1")), shared)
        had: list[str] = []

        def prunes(backend: Backend) -> None:
            backend.store.delete_folder(RunNames(RunId("run-1")).folder)
            prune_shared(backend, time.time() + DAY_S)

        def begins(backend: Backend, had: list[str] = had) -> None:
            backend.store.put(RunNames(run).feeding, b"")
            had.append(period_now(backend, run))
            store_shared(backend, had[0], shared)

        in_turns(backend, "".join("b" if turn in at else "p" for turn in range(10)), p=prunes, b=begins)
        fetch_shared(backend, had[0], shared.digest)
    backend.close()
