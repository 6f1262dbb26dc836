"""A fleet: workers that are all alike, held by the runs and clusters that need them, closed by the last to let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from starburst_common.fleets.headroom import Headroom, each_of, headroom, held_on, instance_of, on_capacity
from starburst_common.fleets.turns import FREE, QuotaTurn, gone, turn
from starburst_common.ids import held_for, new_fleet_id
from starburst_common.model import FleetId, WorkerId, WorkerPhase, WorkerState
from starburst_common.names import fleet_folder, holders, work_queue
from starburst_common.options import Options
from starburst_common.ports import Backend, Basis, Limit, QuotaAsk, Wait, WorkerSpec, is_there
from starburst_common.resources import Resources
from starburst_common.wire.keys import key_id

KEPT_WARM = "warm"  #: holds a fleet that stays open when nobody else does
_MAX_RECEIVES = 12
_GRACE_S = 5.0
_COUNTED_LATE_S = 300.0  #: what is in use of a quota is told so late at most


def left(fleet: FleetId) -> str:
    """Written when all but that have let go of a fleet; empty, not sealed."""
    return f"{fleet_folder(fleet)}left"


@dataclass(frozen=True, slots=True)
class Fleet:
    """One fleet on a backend."""

    backend: Backend
    spec: WorkerSpec
    workers: int  #: alive at most

    @classmethod
    def new(cls, backend: Backend, options: Options, image: str = "") -> Fleet:
        """A fleet as it was asked for; what its containers are made of is there when this returns.

        That is `image`, where it was made or found before. Raises `BadInput`, before that, for workers that there can
        be none of.
        """
        resources = options.resources
        if backend.refuse is not None:
            backend.refuse(resources)
        if backend.images is not None:
            resources = replace(resources, image=image or backend.images.ensure(resources.image))
        return cls.of(backend, resources, options.workers or backend.default_workers, keep_warm_s=options.keep_warm_s)

    @classmethod
    def of(
        cls,
        backend: Backend,
        resources: Resources,
        workers: int,
        fleet: FleetId | None = None,
        *,
        keep_warm_s: float = 0.0,
    ) -> Fleet:
        """A fleet, new or known; nothing is launched."""
        spec = WorkerSpec(
            fleet=fleet or new_fleet_id(),
            resources=resources,
            pace=replace(backend.pace, idle_s=max(backend.pace.idle_s, keep_warm_s)),
            key=key_id(backend.key),
        )
        return cls(backend, spec, workers)

    @property
    def id(self) -> FleetId:
        """Its name."""
        return self.spec.fleet

    @property
    def slots(self) -> int:
        """Slots of all workers together."""
        return self.workers * self.spec.resources.slots

    def hold(self, holder: str) -> None:
        """Keep the fleet open, and its image, until `release` by the same name."""
        image = self.spec.resources.image.encode()
        self.backend.store.put(holders(self.id) + holder, image)  # first: what has no holder is never cleaned up
        try:
            tags = self.spec.resources.aws_tags
            self.backend.queue.ensure(work_queue(self.id), max_receives=_MAX_RECEIVES, tags=tags)
        except BaseException:
            self.backend.store.delete([holders(self.id) + holder])
            raise

    def sign(self, holder: str, gone: Callable[[], bool]) -> None:
        """Say that it is held by that name still, if it is; undone where that one has let go meanwhile."""
        if self.held_by(holder):
            try:
                self.backend.store.put(holders(self.id) + holder, self.spec.resources.image.encode())
            finally:  # what met an outage may be there
                if gone():
                    self.backend.store.delete([holders(self.id) + holder])

    def held_by(self, holder: str) -> bool:
        """Whether it is held by that name."""
        return is_there(self.backend.store, holders(self.id) + holder)

    def release(self, holder: str) -> bool:
        """Let go; the last to do so closes the fleet, unless it is kept warm. Returns whether it is closed."""
        store = self.backend.store
        store.delete([holders(self.id) + holder])
        by = held_for(store.list(holders(self.id)))
        if by == [KEPT_WARM]:
            store.put(left(self.id), b"")
        elif not by:
            self.close()
        return not by

    def states(self) -> list[WorkerState]:
        """Every worker launched, by ordinal."""
        return self.backend.compute.workers(self.id)

    def tended(self) -> list[WorkerState]:
        """The same for its driver, who also does what another has left."""
        return self.backend.compute.tend(self.id)

    def headroom(self, workers: Sequence[WorkerState], turn: QuotaTurn = FREE) -> Headroom:
        """For how many more than these there is room now, as far as anything limits them, other fleets included."""
        return headroom(self._limits(), workers, self.spec.resources, turn, self.backend.tariff)

    def look(self) -> QuotaTurn:
        """What others of the site had of its quota lately, and have no more, for who merely plans."""
        turns, limits = self.backend.turns, self._limits()
        if turns is None or not limits or limits[0].basis is Basis.ASSUMED:
            return FREE
        rivals = [ask for name, ask in turns.look(limits[0].code).items() if name != self.id]
        return QuotaTurn(gone=gone(rivals, limits[0].seen[0]))

    def turn(self, workers: Sequence[WorkerState], wanted: int, now: float) -> QuotaTurn:
        """What of these, and of others that are wanted, it may have where fleets of the site share a full quota.

        That is the quota on the capacity that is asked for first. Who has others has that much less to want of it, and
        gives up none of it where there is room on others.
        """
        turns, resources, limits = self.backend.turns, self.spec.resources, self._limits()
        if turns is None or not limits or limits[0].basis is Basis.ASSUMED:
            return FREE
        limit, tariff = limits[0], self.backend.tariff
        on, each = instance_of(limit, resources, tariff), each_of(limit, resources)
        each = max(each, on.vcpu / held_on(on, resources)) if on else each
        mine = [each for each in workers if on_capacity(each, limit)]
        alive, beside = (
            sum(worker.phase is not WorkerPhase.STOPPED for worker in those)
            for those in (mine, [worker for worker in workers if not on_capacity(worker, limit)])
        )
        lately = sum(not 0 < worker.stopped_at < now - _COUNTED_LATE_S for worker in mine)
        own = QuotaAsk(
            has=alive * each,
            wants=max(wanted - beside, 0) * each,
            had=lately * each,
            each=each,
            weight=self.spec.priority,
        )
        asks = turns.say(limit.code, self.id, own)
        rivals = [ask for name, ask in asks.items() if name != self.id]
        others = headroom([limit], workers, resources, tariff=tariff).others - sum(ask.had for ask in rivals)
        found = turn(self.id, asks, limit.total - max(others, 0), quota=limit.name)
        found = replace(found, gone=gone(rivals, limit.seen[0]))
        rest = [each for each in limits if each.capacity and each.capacity != limit.capacity]
        if rest and found.surplus and headroom(rest, workers, resources, tariff=tariff).free >= 1:
            return replace(found, surplus=0)
        return found

    def _limits(self) -> Sequence[Limit]:
        quotas, resources = self.backend.quotas, self.spec.resources
        if quotas is None:
            return []
        found = quotas.limits(spot=resources.spot, ec2=resources.on_ec2, gpus=resources.gpus > 0)
        return [each for each in found if instance_of(each, resources, self.backend.tariff)] or found

    def launch(self, ordinals: Sequence[int]) -> Wait | None:
        """Start workers; what some of them must wait for, if so. Raises `CannotLaunch`."""
        return self.backend.compute.launch(self.spec, ordinals)

    def withdraw(self, count: int) -> list[WorkerId]:
        """Stop so many workers of the capacity that fleets share, which hand back what they have.

        Those first that have not begun, then the last.
        """
        first = next(iter(self._limits()), None)
        there = (worker for worker in self.states() if first is None or on_capacity(worker, first))
        alive = [worker for worker in there if worker.phase is not WorkerPhase.STOPPED]
        alive.sort(key=lambda worker: (worker.phase is not WorkerPhase.STARTING, -worker.ordinal))
        chosen = [worker.id for worker in alive[:count]]
        self.backend.compute.stop(self.id, chosen, grace_s=_GRACE_S)
        return chosen

    def close(self) -> None:
        """Stop every worker and leave nothing behind."""
        self.backend.queue.drop(work_queue(self.id))
        alive = [worker.id for worker in self.states() if worker.phase is not WorkerPhase.STOPPED]
        self.backend.compute.stop(self.id, alive, grace_s=_GRACE_S)
        self.backend.compute.forget(self.id)
        self.backend.store.delete_folder(fleet_folder(self.id))
