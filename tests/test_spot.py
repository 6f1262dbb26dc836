"""Instances on Spot that come, do not come and are taken back: workers are there all the same."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from starburst_common.aws.spot import AGAIN_S, NONE_CAME, WAIT_S, in_vain, lacking, parts_on_spot
from starburst_common.model import Granted, WorkerEnd, WorkerId, WorkerPhase, WorkerState

TICK_S, START_S, WANTED = 5.0, 60.0, 20


@dataclass
class Market:
    """A fleet, and when EC2 has Spot; on demand it always has what is asked for."""

    chance: random.Random
    has_spot: bool = True
    now: float = 0.0
    workers: dict[WorkerId, WorkerState] = field(default_factory=dict)
    asked_at: dict[WorkerId, float] = field(default_factory=dict)

    def tick(self) -> None:
        """AWS does its part, then a driver, any, which knows what is written down and no more."""
        self.now += TICK_S
        for worker in self.alive(WorkerPhase.STARTING):
            assert worker.granted is not None
            comes = self.has_spot or not worker.granted.spot
            if comes and self.now - self.asked_at[worker.id] > START_S:
                self.put(worker, phase=WorkerPhase.RUNNING, granted=replace(worker.granted, instance="i-1"))
        for late in in_vain(self.workers.values(), self.asked_at, self.now):
            self.stop(self.workers[late], WorkerEnd.DONE, NONE_CAME)
        first, missing = len(self.workers), WANTED - len(self.alive())
        left = 0 if lacking(self.workers.values(), self.now) else missing
        for lo, count, spot in parts_on_spot([(first, missing)] if missing else [], left):
            for ordinal in range(lo, lo + count):
                given = Granted(capacity="p", architecture="", zone="", vcpu=1, memory_mib=1792, spot=spot)
                name = WorkerId(f"w-{ordinal}")
                self.asked_at[name] = self.now
                self.workers[name] = WorkerState(id=name, ordinal=ordinal, phase=WorkerPhase.STARTING, granted=given)

    def alive(self, *phases: WorkerPhase) -> list[WorkerState]:
        """Those there are."""
        wanted = phases or (WorkerPhase.STARTING, WorkerPhase.RUNNING)
        return [worker for worker in self.workers.values() if worker.phase in wanted]

    def on_spot(self) -> int:
        """How many of those that are at work."""
        return sum(bool(worker.granted and worker.granted.spot) for worker in self.alive(WorkerPhase.RUNNING))

    def stop(self, worker: WorkerState, end: WorkerEnd, reason: str) -> None:
        """It ends."""
        self.put(worker, phase=WorkerPhase.STOPPED, end=end, reason=reason, stopped_at=self.now)

    def put(self, worker: WorkerState, **changes: object) -> None:
        """As it is from now on."""
        self.workers[worker.id] = replace(worker, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(30))
def test_whoever_is_missing_is_there_soon_whatever_spot_does(seed: int) -> None:
    """Spot comes and goes for two hours, and takes back what it gave: nobody is missed for longer than that takes.

    And while there has been Spot for long, whoever comes is on Spot.
    """
    market, full_at, back_at = Market(random.Random(seed)), 0.0, 0.0
    while market.now < 7200:
        if market.chance.random() < TICK_S / 600:
            market.has_spot = not market.has_spot
            back_at = market.now
        for worker in market.alive(WorkerPhase.RUNNING):
            if worker.granted and worker.granted.spot and market.chance.random() < TICK_S / 3600:
                market.stop(worker, WorkerEnd.SPOT, "Host EC2 (instance i-1) terminated.")
                full_at = market.now
        market.tick()
        if len(market.alive(WorkerPhase.RUNNING)) < WANTED:
            assert market.now - full_at <= WAIT_S + START_S + 3 * TICK_S
        else:
            full_at = market.now
        if market.has_spot and market.now - back_at > AGAIN_S + WAIT_S + START_S:
            assert not lacking(market.workers.values(), market.now)
    assert {bool(worker.granted and worker.granted.spot) for worker in market.workers.values()} == {True, False}


def test_a_market_that_has_spot_gives_no_other() -> None:
    """All are on Spot, and stay so."""
    market = Market(random.Random(1))
    while market.now < 3600:
        market.tick()
    assert market.on_spot() == WANTED == len(market.workers)
