"""A leg of whose items some ran out of memory in; the next one, on larger workers, out. Each step may be done twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from starburst_common.fleets.fleet import Fleet
from starburst_common.ids import new_fleet_id
from starburst_common.model import RunId
from starburst_common.names import RunNames
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.books import Books
from starburst_common.runs.legs import Resumed
from starburst_common.runs.spec import write_leg
from starburst_common.runs.view import Policy

_PATIENCE_LEASES = 2


def paced_policy(policy: Policy, backend: Backend) -> Policy:
    """What is asked of a leg, as a backend goes."""
    return replace(
        policy,
        still_s=backend.tick_s,
        resend_after_s=backend.resend_after_s,
        feeder_lost_s=backend.feeder_lost_s,
        # what a worker that died had leased comes back within a lease, to be cut up or to fail
        patience_s=_PATIENCE_LEASES * backend.pace.lease_s,
    )


def onward(policy: Policy, has: Resources, larger: Callable[[Resources], Resources], books: Books) -> Resumed:
    """How it begins: with what is left of the money, and until the same time."""
    size, limits, budget, spent = larger(has), policy.limits, policy.budget_usd, books.spent_usd()
    if budget is not None and spent is not None:
        limits = replace(limits, budget_usd=max(budget - float(spent), 0.0))
    return Resumed(
        fleet=new_fleet_id(),
        forgiven=policy.forgiven,
        limits=limits,
        began_at=policy.began_at,
        cpu=size.cpu,
        memory_mib=size.memory_mib,
    )


def held_for_it(fleet: Fleet, run: RunId, leg: int, begun: Resumed) -> Fleet:
    """Its fleet, held for the run, where that was this one's; what workers know it by is there, too."""
    backend, size, names = fleet.backend, begun.sized(fleet.spec.resources), RunNames(run, leg)
    larger = Fleet.of(backend, size, fleet.workers, begun.fleet)
    write_leg(backend, names, begun)
    larger.hold(run)
    backend.queue.ensure(names.notices, tags=size.aws_tags)
    return larger


def policy_of(policy: Policy, begun: Resumed, books: Books) -> Policy:
    """What is asked of it."""
    spent = books.spent_usd()
    return replace(
        policy,
        escalate=False,
        limits=begun.limits,
        began_at=begun.began_at,
        spent_usd=None if spent is None else float(spent),
    )
