"""What we did not sign is refused, and nothing in it is unpickled: messages, packs and outcomes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import starburst_common
from starburst_common import Cluster, ItemFailed, RunState, RunStopped, attach, starburst_map
from starburst_common.aws.objects import whole
from starburst_common.errors import Refused, UnknownVersion
from starburst_common.model import Buffer, Chunk, PackRef, Span, WorkerEnd
from starburst_common.names import RunNames, work_queue
from starburst_common.ports import ObjectStore, WorkQueue
from starburst_common.runs.messages import chunk_message
from starburst_common.wire import seals
from starburst_common.wire.documents import seal_message
from tests.faults.conftest import Bed, LocalBed, noting, on_both


def double(item: int) -> int:
    """Twice the item."""
    return item * 2


@on_both
def test_messages_that_we_did_not_sign_run_nothing(bed: Bed) -> None:
    """Junk, another key's chunk, also as of another version, lie in the queue: refused, and the run is unharmed."""
    with Cluster(workers=2, backend=bed.backend, progress=False) as cluster:
        fleet = cluster._opened()
        chunk = Chunk(span=Span(0, 1), function="runs/x/functions/y", ref=PackRef("runs/x/packs/0", 0, 10))
        forged = chunk_message(b"not the key", fleet.id, "run-x", chunk)
        bed.backend.queue.send(work_queue(fleet.id), ["junk", forged, "2" + forged[1:]], group="run-x")
        assert cluster.map(double, range(10_000)) == [2 * item for item in range(10_000)]
        dead = bed.backend.queue.dead(work_queue(fleet.id))
        bed.until(lambda: sum(bed.backend.queue.depth(dead)) == 3)
        logs = "".join(bed.backend.compute.tail(fleet.id, worker.id) for worker in fleet.states())
        assert "not signed with this site's key" in logs


OTHER_RELEASE = """
import os, sys
from dataclasses import replace
del os.environ["PYTHONPATH"]  # its workers are of the installed release
from starburst_common import starburst_map
from tests.places import open_place
backend = open_place(sys.argv[1]).paced(lease_s=1.0)
starburst_map(abs, range(100), workers=2, backend=backend, progress=False)
"""


@on_both
def test_workers_of_another_release_end_the_run_and_say_so(bed: Bed, tmp_path: Path) -> None:
    """A driver's starburst speaks another wire version than its workers': the run stops, with both versions named."""
    release = tmp_path / "release"
    shutil.copytree(Path(starburst_common.__file__).parent, release / "starburst_common")
    source = release / "starburst_common" / "wire" / "seals.py"
    ours, other = seals.WIRE_VERSION, seals.WIRE_VERSION + 1
    source.write_text(source.read_text().replace(f"\nWIRE_VERSION = {ours}\n", f"\nWIRE_VERSION = {other}\n"))
    driver = subprocess.run(
        [sys.executable, "-P", "-c", OTHER_RELEASE, bed.text],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(release), str(Path.cwd())])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "RunStopped" in driver.stderr
    said = f"a worker speaks wire version {ours} and was given work of another, this starburst speaks {other}"
    assert "workers in a row settled nothing and ended" in driver.stderr.splitlines()[-1]
    assert said in driver.stderr.splitlines()[-1]
    (run,) = bed.backend.store.folders("runs/")
    with pytest.raises(UnknownVersion, match=rf"started by another starburst release.*wire version {other}"):
        attach(run, backend=bed.backend).results()


def test_work_of_another_release_ends_the_workers_that_meet_it_and_not_the_run(
    local_bed: LocalBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that our key signed, but for another wire version: it cannot be done here, and each worker says so.

    Other workers go on with what is ours, and that work ends as a dead letter.
    """
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        fleet = cluster._opened()
        chunk = Chunk(span=Span(0, 1), function="runs/x/functions/y", ref=PackRef("runs/x/packs/0", 0, 10))
        monkeypatch.setattr(seals, "WIRE_VERSION", seals.WIRE_VERSION + 1)
        newer = chunk_message(local_bed.backend.key, fleet.id, "run-x", chunk)
        monkeypatch.undo()
        local_bed.backend.queue.send(work_queue(fleet.id), [newer], group="run-x")
        assert cluster.map(noting(local_bed.notes), range(1000)) == [2 * item for item in range(1000)]
        first = fleet.states()[0]
        assert first.end is WorkerEnd.UNSTARTABLE
        assert f"a worker speaks wire version {seals.WIRE_VERSION} and was given work of another" in first.reason


@on_both
def test_a_run_whose_messages_nobody_can_read_ends_with_the_cause(bed: Bed) -> None:
    """Signed, but malformed: they end as dead letters, which `status` names; after a few more the run ends."""

    class Garbling:
        """A queue whose sender writes chunks that are none."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bed.backend.queue, name)

        def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
            if queue.endswith("-work"):
                about = f"chunk {queue.removesuffix('-work')}"
                bodies = [seal_message(bed.backend.key, about, {"run": group, "chunk": [9, 3]}) for _ in bodies]
            bed.backend.queue.send(queue, bodies, group=group, delay_s=delay_s)

    backend = replace(bed.backend, queue=cast("WorkQueue", Garbling()))
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        run = cluster.start(double, range(10), chunk_size=5)
        run._held.driver.policy = replace(run._held.driver.policy, resend_after_s=1.0)
        elsewhere = attach(run.id, backend=bed.backend)
        bed.until(lambda: "messages that no worker could read or finish, in" in elsewhere.status().reason)
        with pytest.raises(RunStopped, match=r"2 chunks are owed, and their messages end as dead letters \(\d+\)"):
            run.results(timeout=300)


class Tampering:
    """A store in which somebody changes the last byte of every object of one kind."""

    def __init__(self, store: ObjectStore, kind: str) -> None:
        self._store, self._kind = store, kind

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        """As asked, but for the last byte."""
        given = bytes(whole(body))
        self._store.create(key, given[:-1] + bytes([given[-1] ^ 1]) if self._kind in key else given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("kind", ["/packs/", "/functions/", "/code/"])
def test_a_changed_pack_function_or_bundle_fails_its_items(bed: Bed, kind: str) -> None:
    """The worker refuses to unpickle it; every item says so."""
    backend = bed.backend.paced(store=Tampering(bed.backend.store, kind), inline_bytes=0)  # type: ignore[arg-type]
    with pytest.raises(ItemFailed, match="not signed with this site's key"):
        starburst_map(double, range(4), workers=1, backend=backend, progress=False)


class Squatted:
    """A store in which something lies where the first chunk's outcome belongs."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        """As asked; with a plan comes what lies in the way."""
        if "/plan/" in key:
            self._store.put(f"{key.partition('/plan/')[0]}/outcomes/{Span(0, 5)}", b"in the way")
        self._store.create(key, body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_worker_outlives_an_outcome_that_cannot_be_read(bed: Bed) -> None:
    """It meets one where it would store its own: its own is written beside it, and the worker lives."""
    squatted = cast("ObjectStore", Squatted(bed.backend.store))
    with Cluster(workers=1, backend=replace(bed.backend, store=squatted), progress=False) as cluster:
        run = cluster.start(double, range(10), chunk_size=5)
        assert run.results(timeout=300) == [2 * item for item in range(10)]
        assert [worker.end for worker in run._held.driver.fleet.states()] == [None]


def test_a_changed_outcome_is_refused_at_home(bed: Bed) -> None:
    """The driver unpickles nothing of it, and says which object it is."""
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        run = cluster.start(double, range(40), chunk_size=10)
        assert run.wait().state is RunState.SUCCEEDED
    outcome = RunNames(run.id).outcome(Span(10, 20))
    body = bytes(bed.backend.store.get(outcome))
    bed.backend.store.put(outcome, body[:-1] + bytes([body[-1] ^ 1]))
    again = attach(run.id, backend=bed.backend)
    with pytest.raises(Refused, match=f"outcomes/{Span(10, 20)}: not signed with this site's key"):
        again.results()
