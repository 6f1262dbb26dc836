"""Which object and queue is called what. One place knows every key.

What is not sealed (see `wire`) says so. It is never unpickled, but it is acted on: who can write to the store can make
a run wait, end or be pruned early, blame an item, hold up a build, or change what is built into an image.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from starburst_common.model import FleetId, RunId, Span

RUNS, FLEETS = "runs/", "fleets/"
BUILDS = "builds/"
SHARED = "shared/"
ACCOUNTS = "accounts/"  #: of runs that ended and fleets that are closed, a folder a month; they are kept
CLAIMS = "claims/"
WARM = "warm/"  #: fleets that stay open to be found, a folder for each kind of workers
LAUNCHING = "launching/"  #: how fast workers may start, shared by all who start some; not sealed
GENERATIONS = 10  #: of an outcome, the first included
PRUNED = "pruned-at"  #: when expired runs were last removed; not sealed
LOOKED = "looked-at"  #: when somebody last asked the store's clock by writing; empty, not sealed


def build_turns(tag: str) -> str:
    """The folder that says who builds an image; not sealed."""
    return f"{BUILDS}{tag}/turns/"


def new_build_source(tag: str, architecture: str) -> str:
    """A place for what a build service needs to build an image; not sealed."""
    return f"{BUILDS}{tag}/source/{architecture}-{secrets.token_hex(8)}.tar.gz"


@dataclass(frozen=True, slots=True)
class RunNames:
    """The keys and queues of one run."""

    run: RunId
    leg: int = 0  #: 0 from its start to its first end; one more each time it was resumed

    @property
    def folder(self) -> str:
        """Everything of the run lies under it."""
        return f"{RUNS}{self.run}/"

    @property
    def spec(self) -> str:
        """What was asked: a run is there from now on."""
        return f"{self.folder}spec"

    @property
    def functions(self) -> str:
        """The folder of the functions the run calls."""
        return f"{self.folder}functions/"

    def function(self, digest: str) -> str:
        """A function the run calls."""
        return f"{self.functions}{digest}"

    @property
    def shared(self) -> str:
        """Which period's shared values it refers to, if to any."""
        return f"{self.folder}shared"

    def files(self, digest: str) -> str:
        """The user's files that its items find where they stand."""
        return f"{self.folder}files/{digest}"

    def pack(self, first: int) -> str:
        """Item frames, from item `first` on."""
        return f"{self.packs}{first:012d}"

    @property
    def packs(self) -> str:
        """The folder of the packs."""
        return f"{self.folder}packs/"

    @property
    def plans(self) -> str:
        """The folder of the plan's parts."""
        return f"{self.folder}plan/"

    def plan(self, first: int) -> str:
        """The chunks made of the items from `first` on."""
        return f"{self.plans}{first:012d}"

    @property
    def input(self) -> str:
        """How many items there are, written when all are stored."""
        return f"{self.folder}input"

    @property
    def feeding(self) -> str:
        """The sign of life of who feeds the run, while its input is not whole; written first of all. Not sealed."""
        return f"{self.folder}feeding"

    @property
    def outcomes(self) -> str:
        """The folder of the outcomes."""
        return f"{self.folder}outcomes/"

    def outcome(self, span: Span, generation: int = 0) -> str:
        """The one outcome of the chunk with this span; a later generation where those before it are damaged."""
        return f"{self.outcomes}{span}.{generation}" if generation else f"{self.outcomes}{span}"

    @property
    def full(self) -> str:
        """Written anew while a worker has no space for answers; empty, not sealed. Among outcomes, which are listed."""
        return f"{self.outcomes}full"

    def settled(self, key: str) -> Span | None:
        """The span of an outcome of whichever generation, from its key; None for what is no key of ours."""
        with suppress(ValueError):
            text, _, generation = key.rsplit("/", 1)[-1].partition(".")
            span = Span.parse(text)
            if key == self.outcome(span, int(generation or 0)):
                return span
        return None

    def checkpoint(self, index: int) -> str:
        """What an item has saved of itself, written anew each time."""
        return f"{self.folder}checkpoints/{index:012d}"

    def suspect(self, index: int) -> str:
        """Which worker ran an item alone, because it may take its worker along; not sealed."""
        return f"{self.folder}suspects/{index:012d}"

    def aside(self, index: int | None = None) -> str:
        """The marker of an item that ran out of memory, and goes on with more; their folder. Empty, not sealed."""
        return f"{self.folder}aside/{'' if index is None else format(index, '012d')}"

    @property
    def cancel(self) -> str:
        """There when somebody cancelled the run, in this leg; empty, not sealed."""
        return self._of_leg(f"{self.folder}cancel")

    @property
    def numbers(self) -> str:
        """Which items of its parent it runs again, if it does."""
        return f"{self.folder}numbers"

    @property
    def retries(self) -> str:
        """The folder with a marker for each run that ran items of this one again; not sealed."""
        return f"{self.folder}retries/"

    def retry(self, run: RunId) -> str:
        """The marker of one."""
        return f"{self.retries}{run}"

    @property
    def resumed(self) -> str:
        """What a later leg began with."""
        return self._of_leg(f"{self.folder}resumed")

    def _of_leg(self, name: str) -> str:
        return f"{name}.{self.leg}" if self.leg else name

    def newest(self, keys: Container[str]) -> RunNames:
        """The names of its newest leg, from all the keys in its folder."""
        return later.newest(keys) if (later := RunNames(self.run, self.leg + 1)).resumed in keys else self

    @property
    def until(self) -> str:
        """When its workers stop, in this leg, where that is limited; its drivers write it anew."""
        return self._of_leg(f"{self.folder}until")

    @property
    def withdrawn(self) -> str:
        """Which items are not to begin any more, as far as they are sent; not sealed."""
        return f"{self.folder}withdrawn"

    @property
    def history(self) -> str:
        """What happened to the run in this leg, as its drivers saw it."""
        return self._of_leg(f"{self.folder}history")

    @property
    def end(self) -> str:
        """How the run ended, in this leg."""
        return self._of_leg(f"{self.folder}end")

    @property
    def report(self) -> str:
        """The page that tells a person of the run; not sealed."""
        return f"{self.folder}report.html"

    @property
    def driven(self) -> str:
        """Written now and then by whoever drives the run, to say so; empty, not sealed."""
        return f"{self.folder}driven"

    @property
    def followed(self) -> str:
        """Written anew by whoever follows what its items print; empty, not sealed."""
        return f"{self.folder}followed"

    @property
    def prints(self) -> str:
        """The folder of what running items print, written while somebody follows."""
        return f"{self.folder}prints/"

    def printed(self, worker: str) -> str:
        """What one worker's items printed lately; written anew."""
        return f"{self.prints}{worker}"

    def comes_late(self, key: str) -> bool:
        """Whether it may be written once more by who has not heard that the run was removed: alone it is no run."""
        late = (self.feeding, self.withdrawn, self.driven, self.expires, self.report, self.followed)
        folders = ("outcomes", "retries", "prints", "suspects", "checkpoints", "aside")
        others = (*(f"{name}/" for name in folders), "cancel", "history", "until")
        return key in late or key.startswith(tuple(f"{self.folder}{name}" for name in others))

    @property
    def expires(self) -> str:
        """How much longer than usual the run is kept, if `extend` was asked for it; not sealed."""
        return f"{self.folder}expires"

    @property
    def notices(self) -> str:
        """The queue on which workers tell of settled chunks, in this leg: dropped names are not to be had at once."""
        return self._of_leg(f"{self.run}-notices").replace(".", "-")


def code_key(function: str, digest: str) -> str:
    """The bundle of the user's own modules that a function needs, from the function's key: each run has its own.

    >>> code_key(RunNames(RunId("run-1")).function("0a1b"), "2c3d")
    'runs/run-1/code/2c3d'
    """
    return f"{function.rsplit('/', 2)[0]}/code/{digest}"


def shared_folder(period: str) -> str:
    """What was shared by runs that began to in that period, which is called by its first day."""
    return f"{SHARED}{period}/"


def needed_by(period: str) -> str:
    """The folder with one marker for each run that refers to a value of that period; not sealed."""
    return f"{shared_folder(period)}needed-by/"


def claim(name: str, number: int | None = None) -> str:
    """A claim to what is done under a name from outside, each written once; the folder of all of them."""
    return f"{CLAIMS}{name}/{'' if number is None else format(number, '06d')}"


def fleet_folder(fleet: FleetId) -> str:
    """Everything of a fleet lies under it."""
    return f"{FLEETS}{fleet}/"


def account(name: RunId | FleetId) -> str:
    """What a run was and cost, or what a closed fleet's workers were given and when, in the month of its id."""
    day = name.partition("-")[2]
    return f"{ACCOUNTS}{day[:4]}-{day[4:6]}/{name}"


def worker_records(fleet: FleetId) -> str:
    """The folder that says which workers were asked for, and how they ended."""
    return f"{fleet_folder(fleet)}workers/"


def launch_record(fleet: FleetId, lo: int, attempt: int) -> str:
    """The launch of workers from this ordinal on, at the how-many-th attempt; one driver's."""
    return f"{worker_records(fleet)}launch-{lo:06d}-{attempt:04d}"


def granted_record(fleet: FleetId, lo: int, attempt: int, tasks: Sequence[str]) -> str:
    """Which tasks a launch was granted, perhaps none; whoever was granted others has another key."""
    return f"{worker_records(fleet)}granted-{lo:06d}-{attempt:04d}-{sha256(' '.join(tasks).encode()).hexdigest()[:16]}"


def new_stops_record(fleet: FleetId) -> str:
    """A place for how some workers ended."""
    return f"{worker_records(fleet)}stops-{secrets.token_hex(8)}"


def work_queue(fleet: FleetId) -> str:
    """The queue a fleet's workers lease chunks from."""
    return f"{fleet}-work"


def holders(fleet: FleetId) -> str:
    """The folder with one marker for each run or cluster that needs the fleet, which holds its image; not sealed."""
    return f"{fleet_folder(fleet)}held-by/"
