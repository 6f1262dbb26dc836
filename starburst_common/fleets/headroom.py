"""An account's limits and a fleet's workers in; for how many more there is room, and what bounds them, out. Pure.

What AWS counts is minutes old. So others are taken to use what they did then: all that was counted less what this
fleet's own workers took at that time. What those take now is known to the second; so as they end, there is room. On
instances that is what those have: where a worker ends, there is room on its instance, whatever is counted of that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from starburst_common.fleets.turns import FREE, QuotaTurn
from starburst_common.instances import Shape, shapes, smallest
from starburst_common.model import Tariff, WorkerPhase, WorkerState
from starburst_common.ports import Basis, Limit, Unit
from starburst_common.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Room for more workers of one size."""

    free: float = math.inf  #: so many; without limit where none is known
    bound: Limit | None = None  #: what allows no more
    others: float = 0.0  #: of that limit, what is in use by none of the fleet's
    on: Shape | None = None  #: the smallest instance that holds a worker, of which that limit is
    words: str = ""  #: what bounds them, where it is no limit of the account's, or not that alone

    def said(self, resources: Resources) -> str:
        """What bounds them, for a person.

        >>> few = Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=16, code="fargate/L-3032A538")
        >>> Headroom(free=0, bound=few, others=4.5).said(Resources.of(2))
        'Fargate vCPU quota (2 for each worker, 16 in all, 4.5 in use by others)'
        >>> gpus = Limit(name="EC2 G and VT vCPU quota", unit=Unit.VCPU, total=64)
        >>> Headroom(free=0, bound=gpus, on=shapes()["g6.48xlarge"]).said(Resources.of(4, gpus=8))
        'EC2 G and VT vCPU quota (192 for an instance of 1 worker, as g6.48xlarge, 64 in all)'
        """
        if self.bound is None:
            return self.words
        each, others = each_of(self.bound, resources), f", {self.others:g} in use by others" if self.others else ""
        takes = f"{each:g} for each worker"
        if self.on is not None and self.takes(held := held_on(self.on, resources), resources) != held * each:
            takes = f"{self.on.vcpu} for an instance of {held} worker{'s' * (held != 1)}, as {self.on.type}"
        return f"{self.bound.name} ({takes}, {self.bound.total:g} in all{others})"

    def takes(self, workers: int, resources: Resources) -> float:
        """What so many take of what bounds them: of EC2's, whole instances."""
        if self.bound is None:
            return 0.0
        if self.on is None:
            return workers * each_of(self.bound, resources)
        return -(-workers // held_on(self.on, resources)) * self.on.vcpu

    def why(self, resources: Resources) -> str:
        """The same, and what helps."""
        if self.bound is None or self.words:
            return self.words
        cure = f"`{asked_by(self.bound)}` raises it" if self.bound.code else "give the site more or larger subnets"
        return f"{self.said(resources)}: {cure}"


def headroom(
    limits: Sequence[Limit],
    workers: Iterable[WorkerState],
    resources: Resources,
    turn: QuotaTurn = FREE,
    tariff: Tariff | None = None,
) -> Headroom:
    """For how many more workers there is room; of several capacities, on all of them together.

    Of the first limit a fleet may have no more than its `turn` tells, where others of the site want some, and what
    that tells to be gone is free, whatever is counted. By its `tariff` it is
    known which instances a site has; without, they are as large as a worker.

    >>> quota = Limit(name="quota", unit=Unit.VCPU, total=10, capacity="FARGATE", used=6, seen=(60, 120))
    >>> headroom([quota], [], Resources.of(2)).free
    2
    >>> mine = WorkerState(id="w", ordinal=0, phase=WorkerPhase.RUNNING, started_at=100)  # is in what was counted
    >>> headroom([quota], [mine], Resources.of(2)).free, headroom([quota], [mine], Resources.of(2)).others
    (2, 4)
    >>> gone = WorkerState(id="w", ordinal=0, phase=WorkerPhase.STOPPED, started_at=100, stopped_at=130)
    >>> headroom([quota], [gone], Resources.of(2)).free
    3
    >>> headroom([quota], [], Resources.of(2), QuotaTurn(gone=4)).free
    4
    >>> new = WorkerState(id="w", ordinal=0, phase=WorkerPhase.STARTING, started_at=130)
    >>> headroom([quota], [new], Resources.of(2)).free
    1
    >>> demand = Limit(name="quota", unit=Unit.VCPU, total=6, capacity="FARGATE_ON_DEMAND")
    >>> headroom([quota, demand], [], Resources.of(2), QuotaTurn(more=0, words="its share")).free  # all on demand
    3
    >>> gpus = Limit(name="EC2 G and VT vCPU quota", unit=Unit.VCPU, total=64, capacity="gpus")
    >>> [headroom([gpus], [], Resources.of(4, gpus=each), tariff=Tariff()).free for each in (1, 4, 8)]
    [16, 1, 0]
    """
    known = list(workers)
    if turn.gone:
        limits = [replace(limits[0], used=max(limits[0].used - turn.gone, 0)), *limits[1:]]
    first = next((limit.capacity for limit in limits if limit.capacity), "")
    on = {limit.name: instance_of(limit, resources, tariff) for limit in limits}
    rooms = [(*_room(limit, known, first, resources, on[limit.name]), limit) for limit in limits]
    if turn.words and rooms:
        rooms[0] = turn.more, rooms[0][1], rooms[0][2]
    free, others, bound = math.inf, 0.0, None
    if of_capacity := [room for room in rooms if room[2].capacity]:
        free = sum(room for room, _, _ in of_capacity)
        _, others, bound = of_capacity[0]
    for room, used, limit in rooms:
        if not limit.capacity and room < free:
            free, others, bound = room, used, limit
    words = turn.words if rooms and bound is rooms[0][2] else ""
    if bound is None or free == math.inf:
        return Headroom(free=free, others=others, words=words)
    return Headroom(free=free, bound=bound, others=others, on=on[bound.name], words=words)


def each_of(limit: Limit, resources: Resources) -> float:
    """What one worker takes of a limit."""
    return resources.cpu if limit.unit is Unit.VCPU else 1


def instance_of(limit: Limit, resources: Resources, tariff: Tariff | None) -> Shape | None:
    """The smallest instance that holds a worker, where a limit is on such and it is known."""
    found = _EC2.fullmatch(limit.name)
    if tariff is None or found is None:
        return None
    return smallest(tariff, found["family"], resources.cpu, resources.memory_mib, resources.gpus)


def asked_by(limit: Limit) -> str:
    """The command that asks for more of it, but for how much.

    >>> few = Limit(name="EC2 G and VT Spot vCPU quota", unit=Unit.VCPU, total=0, code="ec2/L-3819A6DF")
    >>> asked_by(few), asked_by(Limit(name="Fargate vCPU quota", unit=Unit.VCPU, total=6, code="fargate/L-3032A538"))
    ("starburst quota request --spot --ec2 'G and VT'", 'starburst quota request')
    >>> asked_by(Limit(name="Fargate Spot vCPU quota", unit=Unit.VCPU, total=6, code="fargate/L-36FBB829"))
    'starburst quota request --spot'
    """
    asks = f"starburst quota request{' --spot' * (' Spot ' in limit.name)}"
    found = _EC2.fullmatch(limit.name)
    if found is None:
        return asks
    family = f"'{found['family']}'" if " " in found["family"] else found["family"]
    return f"{asks} --ec2 {family}"


_EC2 = re.compile(r"EC2 (?P<family>.+?)(?: \(.*\))?(?: Spot)? vCPU quota")
_LADDER = (16, 32, 64, 100, 200, 500, 1000, 2000, 5000, 10_000)
_SPARE = 1.25


def worth_asking(vcpu: float) -> int:
    """What quota to ask for, to have so many vCPU: round, and with a quarter to spare, as others take of it too.

    >>> [worth_asking(vcpu) for vcpu in (6, 80, 400, 4000, 9000)]
    [16, 100, 500, 5000, 12000]
    """
    wanted = math.ceil(vcpu * _SPARE)
    return next((step for step in _LADDER if step >= wanted), -(-wanted // 1000) * 1000)


def held_on(shape: Shape, resources: Resources) -> int:
    """How many workers an instance has, which holds one."""
    return max(shape.holds(resources.cpu, resources.memory_mib, resources.gpus), 1)


def _room(
    limit: Limit, workers: Sequence[WorkerState], first: str, resources: Resources, on: Shape | None
) -> tuple[float, float]:
    """For how many more workers, and what others use."""
    if limit.basis is Basis.ASSUMED:
        return math.inf, 0.0
    each, mine = each_of(limit, resources), [worker for worker in workers if _takes(worker, limit, first)]
    now = [worker for worker in mine if worker.phase is not WorkerPhase.STOPPED]
    begin, end = limit.seen
    then = [worker for worker in mine if 0 < worker.started_at < end and not 0 < worker.stopped_at <= begin]
    others = max(limit.used - sum(dict(_counted(worker, each) for worker in then).values()), 0)
    if on is not None:
        return _room_on(on, now, limit.total - others, resources), others
    return max(math.floor((limit.total - others - len(now) * each) / each), 0), others


def _room_on(on: Shape, alive: Sequence[WorkerState], vcpu: float, resources: Resources) -> int:
    """For how many more there is room on the instances that those have, and on such as there are vCPU for."""
    given = [worker.granted for worker in alive if worker.granted is not None]
    known = [(each.instance, shapes()[each.instance_type]) for each in given if each.instance_type in shapes()]
    there = dict(known)
    held = sum(held_on(shape, resources) for shape in there.values())
    more = max(math.floor((vcpu - sum(shape.vcpu for shape in there.values())) / on.vcpu), 0)
    return max(held + more * held_on(on, resources) - len(alive), 0)


def _counted(worker: WorkerState, each: float) -> tuple[str, float]:
    """What of a limit is taken for a worker, and by what: by its instance, with others' room on it."""
    given = worker.granted
    shape = shapes().get(given.instance_type) if given is not None else None
    return (given.instance, shape.vcpu) if given is not None and shape is not None else (worker.id, each)


def on_capacity(worker: WorkerState, limit: Limit) -> bool:
    """Whether a worker is of the capacity that a limit is on, or may be."""
    return worker.granted is None or not limit.capacity or worker.granted.capacity == limit.capacity


def _takes(worker: WorkerState, limit: Limit, first: str) -> bool:
    """Whether a worker takes of a limit; where it is not known yet what it runs on, it is what was asked for first."""
    return not limit.capacity or limit.capacity == (worker.granted.capacity if worker.granted else first)
