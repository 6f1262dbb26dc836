"""Runs of any size on a model of AWS, decided as on AWS: what is allowed is used, at once; no fault costs an answer."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence

import pytest

from starburst_common.aws.launch_rate import BURST, EACH_S
from starburst_common.fleets.headroom import Headroom
from starburst_common.fleets.waves import Wish, plan
from starburst_common.model import RunState
from starburst_common.ports import LaunchSpeed
from starburst_common.resources import Resources
from tests.cloud_model import ON_DEMAND, SPOT, Account, Cloud, Driver

START_S = 45.0  #: on average, of `Account.pull_s`


def done(cloud: Cloud) -> float:
    """How long the run took, which must have answered each item once and left nobody."""
    lasted_s = cloud.run(20_000 + 3 * sum(cloud.items) / min(cloud.policy.workers, 6))
    assert (cloud.state, cloud.reason) == (RunState.SUCCEEDED, "")
    assert set(cloud.answers) <= {1} and len(cloud.answers) == cloud.answered
    assert not cloud.alive and not +cloud.used
    return lasted_s


def skewed(count: int, seed: int = 0, mean_s: float = 20.0) -> list[float]:
    """Durations of which few are long, and none as long as Spot's workers live."""
    chance = random.Random(seed)
    return [min(mean_s * chance.lognormvariate(0, 1) / math.exp(0.5), 400.0) for _ in range(count)]


@pytest.mark.parametrize(
    ("items", "workers", "quota"),
    [(2_000, 50, 4000.0), (20_000, 400, 4000.0), (20_000, 1000, 130.0), (30_000, 3000, 4000.0)],
)
def test_a_run_takes_hardly_longer_than_it_must(items: int, workers: int, quota: float) -> None:
    """Within a tenth of what the launch rate, the quota and the work allow; the planner has said so before."""
    durations = [random.Random(1).uniform(20, 40) for _ in range(items)]
    cloud = Cloud(durations, workers=workers, account=Account(quota={ON_DEMAND: quota, SPOT: 0.0}))
    told = plan(
        Wish(workers=workers, resources=Resources.of(1), items=items, item_s=sum(durations) / items),
        Headroom(free=quota),
        LaunchSpeed(burst=BURST, each_s=EACH_S, start_s=START_S),
    )
    assert told.ends_s is not None
    assert 0.97 * told.ends_s <= done(cloud) <= 1.10 * told.ends_s
    assert len(cloud.workers) == told.workers and not cloud.refused


def test_the_launch_rate_is_used_while_work_waits() -> None:
    """Of eight thousand workers as many are launched as Fargate takes, though a look at them takes longer than a tick;

    it throttles nobody.
    """
    cloud = Cloud([600.0] * 10_000, workers=8000, account=Account(quota={ON_DEMAND: 8000.0, SPOT: 0.0}))
    done(cloud)
    ramp_s = (8000 - BURST) / EACH_S
    assert cloud.launched_at[-1] - cloud.began <= ramp_s / 0.95
    for at_s in range(20, int(ramp_s), 20):
        launched = sum(at - cloud.began <= at_s for at in cloud.launched_at)
        assert launched >= 0.95 * (BURST + EACH_S * at_s)
    assert not cloud.refused


def test_a_zone_without_capacity_costs_no_time() -> None:
    """The others have all workers, as soon as ever."""
    durations = [30.0] * 20_000
    zones = [0.0, math.inf, math.inf]
    cloud = Cloud(durations, workers=400, account=Account(zones=zones))
    assert done(cloud) <= 1.02 * done(Cloud(durations, workers=400))
    assert 0 not in {worker.zone for worker in cloud.workers.values()} and not cloud.refused


def test_two_drivers_start_no_more_than_one() -> None:
    """Nor faster, and nobody is throttled."""
    cloud = Cloud([60.0] * 5000, workers=500, drivers=2)
    done(cloud)
    assert len(cloud.workers) == 500 and not cloud.refused


def test_no_worker_waits_for_the_slowest_of_others() -> None:
    """Where items differ, a run is half as long again at most if each wave waits for its slowest: here it is not so."""
    durations, room = skewed(2000), 25
    rolling_s = done(Cloud(durations, workers=100, account=Account(quota={ON_DEMAND: room, SPOT: 0.0})))
    waves = [durations[at : at + room] for at in range(0, len(durations), room)]
    barrier_s = START_S + sum(max(wave) for wave in waves)  # with workers that stay warm between
    assert barrier_s >= 1.5 * rolling_s
    assert rolling_s <= 1.10 * (START_S + greedy_s(durations, room))


def greedy_s(durations: Sequence[float], workers: int) -> float:
    """How long as many workers take that are given one item after another, at no cost."""
    free = [0.0] * workers
    for each in durations:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def test_a_sweep_of_ten_thousand_points_is_over_soon() -> None:
    """From nothing, on fifty workers: 77 minutes where each point is submitted by itself."""
    cloud = Cloud([0.001] * 10_000, workers=50)
    assert done(cloud) <= 150


def test_a_quota_that_is_raised_in_mid_run_is_used() -> None:
    """Within a minute and a half, without a refusal; as is what others give back."""
    cloud = Cloud([30.0] * 20_000, workers=400, account=Account(quota={ON_DEMAND: 100.0, SPOT: 0.0}, others=60.0))
    seen: list[int] = []
    for at_s, change in ((600, {"quota": {ON_DEMAND: 200.0, SPOT: 0.0}}), (1200, {"others": 0.0})):
        cloud.after(at_s - 1, lambda: seen.append(len(cloud.alive)))
        cloud.after(at_s, lambda change=change: [setattr(cloud.account, *each) for each in change.items()])
        cloud.after(at_s + 400, lambda: seen.append(len(cloud.alive)))
    done(cloud)
    assert seen == [40, 140, 140, 200]
    assert not cloud.refused


# --- faults by schedule -----------------------------------------------------------------------------------------------


def crash_some(cloud: Cloud, chance: random.Random) -> None:
    """Workers die."""
    for worker in chance.sample([*cloud.alive.values()], min(chance.randint(1, 5), len(cloud.alive))):
        cloud.crash(worker)


def take_half_back(cloud: Cloud, chance: random.Random) -> None:
    """Spot takes half of them."""
    for worker in [worker for worker in cloud.alive.values() if worker.capacity == SPOT][::2]:
        cloud.take_back(worker)


def lose_messages(cloud: Cloud, chance: random.Random) -> None:
    """Some that wait are gone."""
    for _ in range(min(chance.randint(1, 20), len(cloud.queue))):
        cloud.queue.remove(chance.choice(cloud.queue))


def repeat_messages(cloud: Cloud, chance: random.Random) -> None:
    """Some come twice."""
    if cloud.queue:
        cloud.send([chance.choice(cloud.queue) for _ in range(chance.randint(1, 20))])


def throttle(cloud: Cloud, chance: random.Random) -> None:
    """RunTask takes no calls for a while."""
    cloud.account.throttled_until = cloud.now + chance.uniform(5, 120)


def change_quota(cloud: Cloud, chance: random.Random) -> None:
    """It is raised, or others take of it; what runs goes on."""
    cloud.account.quota[ON_DEMAND] += chance.choice([0, 50])
    free = cloud.account.quota[ON_DEMAND] - cloud.used[ON_DEMAND]
    cloud.account.others = chance.uniform(0, max(free, 0))


def close_zones(cloud: Cloud, chance: random.Random) -> None:
    """Two have no room for more, for a while."""
    before = cloud.account.zones
    cloud.account.zones = [before[0], *(float(cloud.by_zone[zone]) for zone in (1, 2))]
    cloud.after(chance.uniform(30, 300), lambda: setattr(cloud.account, "zones", before))


def kill_driver(cloud: Cloud, chance: random.Random) -> None:
    """Nobody drives it for some minutes; then somebody attaches."""
    for driver in cloud.drivers:
        driver.dead = True
    successor = Driver(cloud, name=f"d{cloud.now}")
    cloud.drivers = [successor]
    cloud.after(chance.uniform(0, 300), successor.tick)


FAULTS: tuple[Callable[[Cloud, random.Random], None], ...] = (
    crash_some,
    take_half_back,
    lose_messages,
    repeat_messages,
    throttle,
    change_quota,
    close_zones,
    kill_driver,
)


def scheduled(seed: int) -> Cloud:
    """A run with the troubles that this seed foretells."""
    chance = random.Random(seed)
    cloud = Cloud(
        skewed(chance.randint(1, 3000), seed, mean_s=chance.choice([0.01, 5.0, 60.0])),
        workers=chance.choice([1, 7, 60, 200]),
        spot=chance.random() < 0.5,
        account=Account(
            quota={ON_DEMAND: float(chance.choice([6, 50, 4000])), SPOT: float(chance.choice([0, 20, 4000]))},
            spot_mean_s=chance.choice([math.inf, 600.0]),
        ),
        seed=seed,
        drivers=chance.choice([1, 1, 2]),
    )
    for _ in range(chance.randint(0, 8)):
        cloud.after(chance.uniform(1, 1500), chance.choice(FAULTS), cloud, chance)
    return cloud


@pytest.mark.parametrize(
    "seeds", [range(25), pytest.param(range(25, 1025), marks=pytest.mark.rest)], ids=["some", "a thousand"]
)
def test_whatever_happens_each_item_is_answered_once(seeds: range) -> None:
    """Workers, messages, capacity, quota and drivers are lost: no answer is, or comes twice, and nobody is left."""
    for seed in seeds:
        try:
            done(scheduled(seed))
        except AssertionError as failed:
            raise AssertionError(f"schedule {seed}: {failed}") from failed


@pytest.mark.rest
def test_ten_thousand_workers_answer_a_million_items() -> None:
    """The most that may be asked for, within a tenth of what must be."""
    cloud = Cloud([30.0] * 1_000_000, workers=10_000, account=Account(quota={ON_DEMAND: 10_000.0, SPOT: 0.0}))
    told = plan(
        Wish(workers=10_000, resources=Resources.of(1), items=1_000_000, item_s=30.0),
        Headroom(),
        LaunchSpeed(burst=BURST, each_s=EACH_S, start_s=START_S),
    )
    assert told.ends_s is not None and done(cloud) <= 1.10 * told.ends_s
