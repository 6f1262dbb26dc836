"""One place to run, as the rest of the house is handed it: its ports in one frozen value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from starburst_common.alerts import DEFAULT
from starburst_common.buckets import Buckets
from starburst_common.model import Tariff
from starburst_common.ports.compute import Compute
from starburst_common.ports.images import Images
from starburst_common.ports.pace import Pace
from starburst_common.ports.queue import WorkQueue
from starburst_common.ports.quotas import Quotas, Turns
from starburst_common.ports.store import ObjectStore
from starburst_common.resources import Resources
from starburst_common.wire.keys import KEY_BYTES as KEY_BYTES
from starburst_common.wire.keys import KeyRing

_HERE = Tariff()
#: Kinds of requests that are charged for, as the price book calls them; then bytes, which what they go through charges.
TOLLS = ("s3-put", "s3-get", "sqs-request", "log-bytes", "sqs-bytes", "s3-bytes", "image-bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One place to run: its ports, the signing key, and the few numbers in which places differ."""

    name: str
    store: ObjectStore
    queue: WorkQueue
    compute: Compute
    key: bytes  #: signs every payload and message
    default_workers: int
    pace: Pace  #: of its workers
    tick_s: float  #: between two looks of the reconciler
    poll_s: float  #: how long a worker's request for work stays open
    look_s: float  #: without notices for so long, look which outcomes there are
    keep_s: float  #: how long an ended run is kept
    resend_after_s: float = 5.0  #: the queue's counts are right where nothing has moved for so long
    feeder_lost_s: float = 30.0  #: who feeds a run, and has given no sign of life for so long, is dead
    patience_s: float = 900.0  #: so long an outage is waited for where somebody waits for a run to begin
    outage_s: float = math.inf  #: a driver gives up an outage that lasts for longer; the run stays as it is
    machine: str = ""  #: of workers, as `bundle.machine_of` has it; empty where it is not known
    shares_files: bool = False  #: workers see the files of the process that starts a run
    buckets: Buckets | None = None  #: how we see the user's; None: as this process does by default
    refuse: Callable[[Resources], None] | None = None  #: raises `BadInput` for workers that there can be none of
    images: Images | None = None  #: None where workers run in this very environment
    turns: Turns | None = None  #: None where no fleet waits for another's quota
    quotas: Quotas | None = None  #: None where only the machine limits how many workers run
    tariff: Tariff = _HERE  #: by which its workers are charged for, or would be
    compute_by: Callable[[bytes], Compute] | None = None  #: `compute` with another key; None where it signs nothing
    charged: bool = False  #: for its workers, by that tariff
    max_hourly_usd: float = 0.0  #: that all its workers may cost; 0 for no limit
    monthly_budget: tuple[str, ...] = ()  #: of runs by tag, as the site has them; see `money.monthly`
    alert_at: str = DEFAULT  #: per cent of a budget; see `alerts`
    stop_s: float = 5.0  #: a worker that is told to stop is charged for so long, or is stopped within it
    worth_s: float = 30.0  #: a further worker is not begun where a budget pays for less than so long of it
    tolls: Callable[[], Mapping[str, int]] | None = None  #: of store and queue, since they were last asked for
    discount: float = 0.0  #: a share that the user's contract takes off list prices

    def paced(self, **changes: Any) -> Backend:
        """The same place at another pace; `changes` are of the fields of `Pace`, or of this one's."""
        workers = {field.name: changes.pop(field.name) for field in fields(Pace) if field.name in changes}
        return replace(self, pace=replace(self.pace, **workers), **changes)

    def keyed(self, key: bytes) -> Backend:
        """The same place, with another of its keys to sign by: that of a run which began before it was changed."""
        if key == self.key:
            return self
        own = self.key.signing(key) if isinstance(self.key, KeyRing) else key
        compute = self.compute if self.compute_by is None else self.compute_by(own)
        return replace(self, key=own, compute=compute)

    def close(self) -> None:
        """Let go of connections, and of what workers are started from."""
        for port in (self.queue, self.compute):
            close = getattr(port, "close", None)
            if close is not None:
                close()
