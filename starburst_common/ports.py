"""What a backend must offer, as small protocols with their promises. One frozen `Backend` bundles them.

Every adapter is held to these sentences by one contract suite.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from starburst_common.errors import NotFound
from starburst_common.model import Buffer, FleetId, WorkerId, WorkerState
from starburst_common.options import Resources
from starburst_common.wire import WIRE_VERSION

#: An object that has more than this machine's memory is not read.
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
#: Whatever has no items, functions, modules, plans or values in it has fewer: more of it is of somebody else's making.
SMALL_BYTES = 16 << 20
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


class Entry(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    size: int  #: bytes
    written_at: float  #: see `ObjectStore.written_at`


class ObjectStore(Protocol):
    """Named bytes. A reader sees an object whole or not at all, and at once after its write returned."""

    place: str  #: where it is, for people: a folder or a bucket

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        """Write a new object, whole or from parts. If the key is taken, raises `Exists` and leaves it as it was.

        Of many callers at once exactly one succeeds.
        """

    def put(self, key: str, body: Buffer) -> None:
        """Write an object, replacing what was there."""

    def publish(self, key: str, page: str) -> str:
        """`put` a page of HTML for people; the URL at which a person with access to the store finds it."""

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        """The whole object. Raises `NotFound`; `Refused` where it has more than `most` bytes: none is read then."""

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        """`length` bytes from `offset`. Raises `NotFound`, also where the object ends before them."""

    def file(self, key: str) -> Path | None:
        """Where the object lies as a file of this machine, to be mapped; None where it must be fetched.

        The file keeps its bytes, also once the object is deleted or replaced. Raises `NotFound` or gives None.
        """

    def folders(self, prefix: str) -> list[str]:
        """The names directly under the folder `prefix` that hold keys of their own, in the order of the text.

        What others have put there under a name that is none of ours (`is_key`) may be told of or not, here and
        in other listings, and costs only itself.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error."""

    def delete_folder(self, prefix: str) -> None:
        """Remove everything under the folder `prefix`, with what crashed writers, or others, left there."""

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        """Remove what writers that crashed so long ago left half-written under the folder `prefix`."""

    def list(self, prefix: str) -> Iterator[str]:
        """Every key under the folder `prefix` (which ends in "/"), in the order of the text, however many."""

    def entries(self, prefix: str) -> Sequence[Entry]:
        """The same, with what the listing tells of each."""

    def written_at(self, key: str) -> float:
        """When an object was last written, on the store's own clock, in seconds. Raises `NotFound`.

        That clock may be wrong, but what passes on it has really passed: no writer's clock, nor a jump of it, matters.
        It may tell whole seconds.
        """


def is_key(name: str) -> bool:
    """Whether a key may be called so. Nobody of ours writes others, and obstore reads none of them.

    >>> [name for name in ("a/b", "a/", "/a", "a//b", "a/../b", "a\\n", "\\udcff", "a\\x7f") if is_key(name)]
    ['a/b']
    """
    return not _CONTROLS.search(name) and not {"", ".", ".."} & {*name.split("/")}


def is_there(store: ObjectStore, key: str) -> bool:
    """Whether there is such an object; none of it is read."""
    with suppress(NotFound):
        store.written_at(key)
        return True
    return False


class Leased(NamedTuple):
    """A message that is ours until its lease ends."""

    body: str
    receipt: str  #: names this lease; a later lease of the same message has another
    receives: int  #: how many times it was leased, this one included


class Depth(NamedTuple):
    """How many messages a queue holds. Exact locally, about right on SQS: never proves an end."""

    waiting: int
    leased: int


class WorkQueue(Protocol):
    """Queues with leases. Delivery is at least once and in no promised order.

    A body is text that is not empty and has no control characters but tabs and line ends. Times may be rounded up to
    whole seconds. A lease lasts up to 12 hours, renewals included: after that it is no longer ours.
    """

    def ensure(self, queue: str, *, max_receives: int | None = None) -> None:
        """Make the queue if it is not there; one that is there is left as it is.

        A name that was dropped in the last minute may be refused with `Unavailable`: fresh queues have fresh names.
        With `max_receives`, a message leased that often and given back or left to expire again moves to `dead(queue)`.
        """

    def dead(self, queue: str) -> str:
        """The name of the queue's dead-letter queue."""

    def send(self, queue: str, bodies: Sequence[str], *, group: str, delay_s: float = 0.0) -> None:
        """Add messages, in batches of ten at most; durable when it returns. Raises `NotFound` without the queue.

        `delay_s` hides them so long. Receivers serve groups fairly: a group with few leases before one with many.
        """

    def receive(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Leased]:
        """Lease up to `limit` (1 to 10) messages for `lease_s`, waiting up to `wait_s` for the first.

        Nobody else gets them until the lease ends. Raises `NotFound` when the queue was dropped, also while it waits.
        Raises `ValueError` for another limit, or a lease longer than the queue can give.
        """

    def extend(self, queue: str, receipts: Sequence[str], lease_s: float) -> list[str]:
        """Let leases end `lease_s` from now; 0 gives back at once. Returns receipts that are no longer ours."""

    def delete(self, queue: str, receipts: Sequence[str]) -> None:
        """Remove leased messages for good. A receipt that is no longer ours changes nothing."""

    def depth(self, queue: str, *, group: str | None = None) -> Depth:
        """How much is there; all zero for a queue that is not there.

        With `group`, that group's messages where the queue can tell them apart; else the whole queue's, so never fewer.
        """

    def drop(self, queue: str) -> None:
        """Remove the queue, its dead letters and all messages; none there is no error."""

    def drop_group(self, queue: str, group: str) -> None:
        """Remove one group's messages, leased ones too, where the queue can find them.

        Else they stay, and workers discard them when they meet them. Other groups' messages stay in any case.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What to launch: a fleet's workers are all alike."""

    fleet: FleetId
    resources: Resources
    idle_s: float  #: a worker without work stops itself after so long
    lifetime_s: float  #: and after so long in any case
    lease_s: float  #: see `Backend`
    chunk_s: float
    inline_bytes: int

    def orders(self) -> dict[str, Any]:
        """What a worker is told, wherever it runs; its compute adds which worker it is and where its backend is."""
        return {
            "wire": WIRE_VERSION,
            "fleet": self.fleet,
            "cpu": self.resources.cpu,
            "slots": self.resources.slots,
            "idle_s": self.idle_s,
            "lifetime_s": self.lifetime_s,
            "lease_s": self.lease_s,
            "chunk_s": self.chunk_s,
            "inline_bytes": self.inline_bytes,
        }


class Wait(NamedTuple):
    """Why fewer workers started than were asked for, and when to ask again."""

    reason: str
    seconds: float


class Compute(Protocol):
    """Where workers run."""

    def launch(self, spec: WorkerSpec, ordinals: Sequence[int]) -> Wait | None:
        """Start the fleet's workers with these ordinals, each at most once ever,

        so that two drivers asking for the same ordinals get each worker once. Where some must wait, says for what;
        their ordinals are free, to be asked for again. Raises `CannotLaunch` when asking again would not help.
        """

    def workers(self, fleet: FleetId) -> list[WorkerState]:
        """Every worker of the fleet that was ever launched and not yet forgotten, by ordinal.

        A worker whose launch is under way may have another id until it is known.
        """

    def ended(self, fleet: FleetId, worker: WorkerId) -> WorkerState | None:
        """How a worker ended, if it has and somebody saw it; cheap, for workers to ask as well."""

    def stop(self, fleet: FleetId, ids: Iterable[WorkerId], *, grace_s: float) -> None:
        """Tell workers to hand back their work and end; what is left after `grace_s` is killed.

        Returns when they are gone, or at once when the platform has taken it on itself to end them, in its own time if
        it has one. Workers that stopped before, or never were, are no error.
        """

    def tail(self, fleet: FleetId, worker: WorkerId) -> str:
        """The last lines the worker printed."""

    def forget(self, fleet: FleetId) -> None:
        """Remove all records of a fleet whose workers have stopped."""

    def fleets(self) -> list[FleetId]:
        """Every fleet with records, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where and as whom a registry is spoken to, over the OCI distribution API."""

    url: str  #: as "https://123456789012.dkr.ecr.us-east-1.amazonaws.com"
    repository: str  #: as "starburst-lab"
    user: str = ""  #: none for a registry that asks nobody
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of a repository."""

    tag: str
    digest: str
    size_bytes: int  #: as stored; of an image for several platforms, the largest's
    pushed_at: float  #: wall clock
    pulled_at: float | None  #: last time, as far as the registry tells


class Repository(Protocol):
    """Where images are kept and workers pull them from. A tag, once pushed, never names anything else."""

    @property
    def uri(self) -> str:
        """What task definitions call it: "URI:TAG" is an image. Raises `NotFound` before `ensure`."""

    def ensure(self) -> None:
        """Make the repository if it is not there, and see to it that images nobody pulls any more expire."""

    def access(self) -> Access:
        """How to push and pull, for some hours."""

    def images(self) -> list[StoredImage]:
        """Every tagged image, by tag; none where there is no repository."""

    def delete(self, tags: Sequence[str]) -> None:
        """Remove images, with what only they refer to; one that is not there is no error."""


class Images(Protocol):
    """What containers are made of."""

    def ensure(self, image: str) -> str:
        """The image that workers run in: the one given, once it is known to do, else one for the user's environment.

        That one is built where it is not there; steps are told on the logger `starburst.image`. Raises `BadInput` or
        `CannotBuild`, and nothing was launched.
        """


KEY_BYTES = 32  #: the least that a signing key has


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One place to run: its ports, the signing key, and the few numbers in which places differ."""

    name: str
    store: ObjectStore
    queue: WorkQueue
    compute: Compute
    key: bytes  #: signs every payload and message
    default_workers: int
    lease_s: float  #: a worker that is not heard of for so long has lost its chunk
    chunk_s: float  #: the work a chunk should hold, once durations are known
    tick_s: float  #: between two looks of the reconciler
    poll_s: float  #: how long a worker's request for work stays open
    look_s: float  #: without notices for so long, look which outcomes there are
    idle_s: float  #: how long a worker waits for work before it stops itself
    lifetime_s: float  #: how long a worker lives at most
    keep_s: float  #: how long an ended run is kept
    inline_bytes: int  #: items and outcomes up to so many bytes ride inside messages
    feeder_lost_s: float = 30.0  #: who feeds a run, and has given no sign of life for so long, is dead
    patience_s: float = 900.0  #: so long an outage is waited for where somebody waits for a run to begin
    machine: str = ""  #: of workers, as `bundle.machine_of` has it; empty where it is not known
    shares_files: bool = False  #: workers see the files of the process that starts a run
    images: Images | None = None  #: None where workers run in this very environment

    def close(self) -> None:
        """Let go of connections."""
        close = getattr(self.queue, "close", None)
        if close is not None:
            close()
