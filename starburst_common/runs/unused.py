"""A fleet's workers in; what of the instances that they were on none of them took, out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from starburst_common.instances import shapes
from starburst_common.model import WorkerState
from starburst_common.money.estimate import size_of
from starburst_common.resources import Resources
from starburst_common.sites.managed import IDLE_S


def unused_of(workers: Sequence[WorkerState], now: float) -> Iterator[tuple[Resources, str, Decimal]]:
    """Of the instances of workers, by their types: hours of whole ones that none of these workers took.

    One is there from its first worker on until it has been without one for some time; what others of a site's workers
    took of it meanwhile is not known here, and counted as well.
    """
    there: dict[str, list[WorkerState]] = defaultdict(list)
    for worker in workers:
        if worker.granted is not None and worker.granted.instance and worker.started_at:
            there[worker.granted.instance].append(worker)
    for them in there.values():
        given = them[0].granted
        shape = shapes().get(given.instance_type) if given is not None else None
        if given is None or shape is None:
            continue
        ended = max(worker.stopped_at or now for worker in them) + IDLE_S
        taken_s = sum(
            shape.share(each.granted.vcpu, each.granted.memory_mib, each.granted.gpus)
            * max((each.stopped_at or now) - each.started_at, 0)
            for each in them
            if each.granted is not None
        )
        whole_s = ended - min(worker.started_at for worker in them)
        whole = replace(given, vcpu=shape.vcpu, memory_mib=shape.registered_mib, gpus=shape.gpus)
        yield size_of(whole), shape.arch, Decimal(str(round(max(whole_s - taken_s, 0), 3))) / 3600
