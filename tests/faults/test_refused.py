"""What we did not sign is refused, and nothing in it is unpickled: messages, packs and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from starburst_common import Cluster, ItemFailed, RunState, attach, starburst_map
from starburst_common.errors import Refused
from starburst_common.model import Buffer, Chunk, PackRef, Span
from starburst_common.names import RunNames, work_queue
from starburst_common.objects import whole
from starburst_common.ports import ObjectStore
from starburst_common.wire import chunk_message
from tests.faults.conftest import Bed, on_both


def double(item: int) -> int:
    """Twice the item."""
    return item * 2


@on_both
def test_messages_that_we_did_not_sign_run_nothing(bed: Bed) -> None:
    """Junk, another key's chunk and another version lie in the queue: refused, and the run is unharmed."""
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
        assert "wire version 2, this starburst speaks 1" in logs


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


@pytest.mark.parametrize("kind", ["/packs/", "/functions/", "code/"])
def test_a_changed_pack_function_or_bundle_fails_its_items(bed: Bed, kind: str) -> None:
    """The worker refuses to unpickle it; every item says so."""
    backend = replace(bed.backend, store=Tampering(bed.backend.store, kind), inline_bytes=0)  # type: ignore[arg-type]
    with pytest.raises(ItemFailed, match="not signed with this site's key"):
        starburst_map(double, range(4), workers=1, backend=backend, progress=False)


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
