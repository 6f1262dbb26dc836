"""The nouns of a run as frozen values: chunks, failures, outcomes, workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, NewType

from starburst_common.spans import Span as Span
from starburst_common.spans import joined as joined
from starburst_common.spans import spans_of as spans_of
from starburst_common.spans import told_spans as told_spans
from starburst_common.spans import without as without

RunId = NewType("RunId", str)
FleetId = NewType("FleetId", str)
WorkerId = NewType("WorkerId", str)
Buffer = bytes | bytearray | memoryview


class PackRef(NamedTuple):
    """Where a chunk's item frames lie: bytes `offset .. offset+length` of object `key`."""

    key: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Items that are leased and settled together."""

    span: Span
    function: str  #: key of the stored function
    ref: PackRef  #: the frames that hold the items, perhaps with neighbours at either end
    deaths: int = 0  #: how many workers this range has already cost, before this message was sent

    def narrowed(self, span: Span, *, deaths: int) -> Chunk:
        """The same frames, fewer items."""
        return Chunk(span=span, function=self.function, ref=self.ref, deaths=deaths)


class FailureKind(StrEnum):
    """Why an item has no value."""

    USER = "user"  #: the function raised, or returned what cannot be sent back
    OOM = "oom"  #: killed for memory, or MemoryError
    TIMEOUT = "timeout"  #: ran longer than `timeout`
    LOST = "lost"  #: its process died: exit, signal, or the whole worker
    SPOT = "spot"  #: the worker was taken back too often
    IMPORT = "import"  #: the worker's environment cannot run it
    CANCELLED = "cancelled"  #: the run was cancelled or stopped first, which is never stored; or its call withdrawn
    BUDGET = "budget"  #: the run's money ran out first, which is never stored
    DEADLINE = "deadline"  #: the run's time was over first, which is never stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An item's failure, as data."""

    index: int
    kind: FailureKind
    error: str  #: name of the exception's type
    message: str
    traceback: str = ""  #: as printed on the worker
    worker: str = ""
    exception: bytes | None = field(default=None, repr=False)  #: the pickled exception, where it can be pickled

    @property
    def alike(self) -> tuple[str, str]:
        """What makes two failures the same to the circuit breaker."""
        return self.kind, self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The values of consecutive items, still pickled."""

    span: Span
    frame: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one chunk: values and failures for some of its items, new chunks for the rest.

    Exactly one outcome holds for a chunk, so every item has exactly one answer, whoever runs it twice.
    """

    span: Span
    worker: str
    seconds: float  #: slot time spent
    batches: tuple[Batch, ...] = ()
    failures: tuple[Failure, ...] = ()
    rest: tuple[Chunk, ...] = ()
    logs: dict[int, str] = field(default_factory=dict)  #: what each item printed or logged, bounded
    attempts: int = 1  #: at its chunk, this one included
    memory_mib: float = 0.0  #: the most that its slot had taken by then; 0 where nobody knows
    tolls: dict[str, int] = field(default_factory=dict)  #: requests its worker was charged for since its last outcome

    @property
    def answered(self) -> tuple[Span, ...]:
        """The items that it answers itself."""
        return without(self.span, [chunk.span for chunk in self.rest])

    @property
    def values(self) -> int:
        """How many items have a value."""
        return sum(batch.span.size for batch in self.batches)


class WorkerPhase(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"  #: asked for, nothing seen of it yet
    RUNNING = "running"  #: its process is there
    STOPPED = "stopped"  #: gone


class WorkerEnd(StrEnum):
    """Why a worker stopped."""

    DONE = "done"  #: idle, past its lifetime, or told to
    SPOT = "spot"  #: its capacity was taken back, or was unhealthy
    OOM = "oom"  #: the whole worker was killed for memory
    CRASHED = "crashed"  #: it ended by itself, or was killed, and nobody knows why
    UNSTARTED = "unstarted"  #: it never began; another may
    CUT_OFF = "cut off"  #: it never began, as it could reach nobody; nor can another, until its network is mended
    DENIED = "denied"  #: it may not do its work; nor may another, until its role is allowed to
    UNSTARTABLE = "unstartable"  #: it could not do its work, nor could another of its kind; of another kind may


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a worker was given to run on, and is charged by."""

    capacity: str  #: FARGATE or FARGATE_SPOT, or ECS's name of the capacity provider
    architecture: str  #: as its platform calls it
    zone: str
    vcpu: float
    memory_mib: int
    storage_gb: int = 0  #: of disk, the 20 that are free included; 0 where that is not told
    gpus: int = 0
    instance: str = ""  #: in EC2, which it shares with others; empty on Fargate, as its type
    instance_type: str = ""
    spot: bool = False  #: of an instance
    managed: bool = True  #: of an instance: it is ECS's to manage, for a fee


#: What goes through a site's NAT gateway: nothing, as there is none; all that does not go to S3; all.
NO_NAT, NAT_BUT_S3, NAT_ALL = NATS = ("none", "but-s3", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What a worker's price goes by, beside its size and capacity; the default is for runs of this machine."""

    site: str = "local"  #: its name
    region: str = "us-east-1"
    arch: str = "x86"  #: or "arm"
    public_ipv4: bool = True  #: each worker has an address that is charged for
    nat: str = NO_NAT  #: what of its bytes goes through a NAT gateway, one of `NATS`
    types: tuple[str, ...] = ()  #: of its instances, as patterns of names; empty for those that sites have by default
    gpu_types: tuple[str, ...] = ()  #: the same of those with GPUs
    managed: bool = True  #: its instances are ECS's to manage, for a fee; not where they are a group of the user's
    gpus_managed: bool = True  #: the same of those with GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker as its compute sees it."""

    id: WorkerId
    ordinal: int  #: the how-many-th worker of its fleet
    phase: WorkerPhase
    end: WorkerEnd | None = None  #: once it has stopped
    exit_code: int | None = None
    reason: str = ""  #: in words
    started_at: float = 0.0  #: wall clock, seconds; on AWS when its image began to be pulled, from when it is charged
    stopped_at: float = 0.0
    ran_s: float = 0.0  #: for how long its program ran, once it has stopped
    granted: Granted | None = None  #: where that is charged for


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the workers of a site find their queues and their store: the least that tells."""

    site: str  #: its name, which its queues' names begin with
    region: str
    bucket: str
    account: str  #: whose the bucket is to be: twelve digits


class RunState(StrEnum):
    """Where a run is in its life."""

    RUNNING = "running"  #: items are unanswered
    SUCCEEDED = "succeeded"  #: every item has a value
    FAILED = "failed"  #: every item is answered, some with failures
    STOPPED = "stopped"  #: ended by starburst: too many failures, all alike, budget or deadline, or no way to go on
    CANCELLED = "cancelled"  #: ended because somebody said so
    DAMAGED = "damaged"  #: what says what it is, how it ended or what it answered cannot be read; the reason says why

    @property
    def over(self) -> bool:
        """Nothing more will happen."""
        return self is not RunState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run at one moment."""

    id: RunId
    state: RunState
    label: str
    items: int | None  #: how many there are; None while the input is still being read
    answered: int
    failed: int
    workers: int  #: alive now
    created_at: float
    ended_at: float | None
    slot_seconds: float  #: slot time: what slots spent on settled chunks
    rate: float = 0.0  #: items a second, since a worker was first at work in its leg; 0 where nobody knows
    attempts: int = 0  #: at chunks that are settled
    memory_mib: float = 0.0  #: the most that a slot has taken; 0 where nobody knows
    reason: str = ""  #: why it ended early, or what it waits for
    withdrawn: int = 0  #: of those that are answered: an executor's calls that nobody wanted any more, and none ran
    limit: FailureKind | None = None  #: BUDGET or DEADLINE, where that has ended it
    spent_usd: Decimal | None = None  #: what its workers cost so far, while it goes on; None where nothing is charged
    priced: str = ""  #: by which prices that is: region, capacity, architecture and date, in words
    budget_usd: float | None = None  #: what it may cost
    tolls: Mapping[str, int] = field(default_factory=dict)  #: of one that has ended: requests that were charged for
