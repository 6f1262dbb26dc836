"""A fleet in; its account out, also of one that is open, where its workers have stopped and no run has it any more.

A driver that was killed leaves its fleet so, until that is pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starburst_common.errors import NotFound
from starburst_common.ids import held_for
from starburst_common.model import FleetId, WorkerPhase
from starburst_common.names import holders
from starburst_common.ports import Backend

if TYPE_CHECKING:
    from starburst_common.aws.accounts import Account


def settled_account(backend: Backend, fleet: FleetId) -> Account:
    """What its workers had, from when to when. Raises `NotFound` while more may come to it, and `Refused`."""
    from starburst_common.aws.accounts import Account

    try:
        return Account.read(backend.store, backend.key, fleet)
    except NotFound:
        if not backend.charged or any(name.startswith("run-") for name in held_for(backend.store.list(holders(fleet)))):
            raise
        workers = backend.compute.workers(fleet)
        if not workers or not all(
            each.phase is WorkerPhase.STOPPED and (each.stopped_at or not each.started_at) for each in workers
        ):
            raise
        return Account(closed_at=max(each.stopped_at for each in workers), workers=tuple(workers))
