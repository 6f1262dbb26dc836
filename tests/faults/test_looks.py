"""Looking at a run reads what it shows, not the values that its items gave."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from starburst_common import Cluster, attach
from starburst_common.errors import Refused
from starburst_common.model import RunState, Span
from starburst_common.names import RunNames
from starburst_common.ports import ObjectStore
from starburst_common.runs.begin import recovered
from starburst_common.runs.spec import read_spec
from tests.calls import wait_for
from tests.faults.conftest import Bed, LocalBed, on_both


def double(item: int) -> int:
    """Twice as much."""
    return 2 * item


class Counting:
    """A store that counts what is asked of it, and the bytes of what it answers."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.asked: Counter[str] = Counter()
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        def counted(*args: Any, **options: Any) -> Any:
            answer = call(*args, **options)
            self.asked[name] += 1
            self.read += len(answer) if isinstance(answer, bytes | memoryview) else 0
            return answer

        return counted


@pytest.mark.parametrize(("at", "seen"), [(60, True), (-9, False)])
def test_what_is_changed_in_an_outcome_is_refused_where_it_is_read(bed: Bed, at: int, seen: bool) -> None:
    """In its summary by who looks at the run, among its values by who wants these."""
    store = bed.backend.store
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(double, range(20), chunk_size=10)
        assert run.wait().state is RunState.SUCCEEDED
    key = max(store.list(RunNames(run.id).outcomes))
    body = bytearray(store.get(key))
    body[at] ^= 1
    store.put(key, bytes(body))
    damaged = recovered(bed.backend, read_spec(bed.backend, run.id)).books.damaged
    assert [*damaged] == ([Span(10, 20)] if seen else [])
    with pytest.raises(Refused, match="items 10-19"):
        attach(run.id, backend=bed.backend).results()


@on_both
def test_a_look_at_a_run_reads_no_values(bed: Bed, tmp_path: Path) -> None:
    """Fifty megabytes of answers: status, and another driver that catches up, read less than one, in a call each."""
    go = tmp_path / "go"

    def large(item: int) -> bytes:
        return bytes(wait_for(str(go), b"") if item == 10 else b"x" * 5_000_000)

    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(large, range(11), chunk_size=1)
        bed.until(lambda: run.status().answered == 10)
        counting = Counting(bed.backend.store)
        looked = replace(bed.backend, store=cast("ObjectStore", counting))
        status = attach(run.id, backend=looked).status()
        assert (status.state, status.items, status.answered) == (RunState.RUNNING, 11, 10)
        tally = recovered(looked, read_spec(looked, run.id)).books.tally
        assert (tally.answered, len(tally.owed)) == (10, 1)
        assert counting.read < 1_000_000
        assert counting.asked["get_range"] == 2 * len([*bed.backend.store.list(RunNames(run.id).outcomes)])
        go.touch()
        assert run.wait().state is RunState.SUCCEEDED


def test_a_worker_without_space_is_what_a_run_waits_for(local_bed: LocalBed) -> None:
    """Its driver and who else looks say so, with the folder and the setting that moves it, as long as it does."""
    backend, go = local_bed.backend, local_bed.notes / "go"
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(partial(wait_for, str(go)), range(1))
        full = RunNames(run.id).full

        def waits() -> bool:
            backend.store.put(full, b"")
            return bool(run.status().reason)

        local_bed.until(lambda: bool(run.status().workers))
        local_bed.until(waits)
        for reason in (run.status().reason, attach(run.id, backend=backend).status().reason):
            assert reason.startswith(
                f"waiting for space in {backend.store.place}: make room there, or set STARBURST_HOME"
            )
        backend.store.delete([full])
        local_bed.until(lambda: not run.status().reason)
        go.touch()
        assert run.results() == [0]
