"""A budget is a limit: whoever dies, and however slowly workers stop, a run costs no more than that."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from starburst_common.errors import BadInput
from starburst_common.limits import Limits
from starburst_common.model import FailureKind, Granted, RunState, Tariff, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.money.budget import Purse, least_budget
from starburst_common.money.estimate import charge
from starburst_common.money.meter import Meter, Rates, metered
from starburst_common.money.tolls import tolls_usd
from starburst_common.resources import Resources
from starburst_common.runs.bounds import Bounds
from starburst_common.runs.limiting import refuse_unkept
from starburst_common.runs.records import Spec
from starburst_common.runs.spec import read_end
from starburst_common.runs.stored import read_until
from starburst_common.wire.fields import LAST_MOMENT
from tests.simulator import TICK_S, Clock, Simulation, Worker
from tests.test_prices import BY_HAND

_TARIFF = Tariff(site="simulated", nat="all")


@dataclass
class Slow(Clock):
    """A clock of a machine that is set wrong."""

    base: Clock
    wrong_s: float

    def monotonic(self) -> float:
        return self.base.monotonic()

    def time(self) -> float:
        return self.base.time() + self.wrong_s

    def sleep(self, seconds: float, /) -> None:
        self.base.sleep(seconds)


def rate(worker: Worker) -> Decimal:
    """A second of it, by the price book."""
    granted = worker.granted
    assert granted is not None
    spot = granted.capacity == "FARGATE_SPOT"
    size = Resources(cpu=granted.vcpu, memory_mib=granted.memory_mib, slots=1, spot=spot)
    usd = charge(size, Decimal(1), _TARIFF).usd
    assert usd is not None
    return usd / 3600


def billed(workers: list[Worker], now: float) -> Decimal:
    """As AWS does: by the second from the pull on, a minute at least."""
    return sum(
        (
            rate(each) * max(math.ceil((each.stopped_at or now) - each.started_at), 60)
            for each in workers
            if each.granted is not None
        ),
        Decimal(0),
    )


class Schedule:
    """A run with a budget, and what befalls it: all drawn from one number."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        spot = rng.random() < 0.4
        self.workers, self.cpu = rng.choice([1, 3, 10, 40]), rng.choice([0.25, 1, 4])
        self.size = Resources.of(self.cpu, spot=spot)
        item_s = rng.choice([1.0, 20.0, 150.0, 900.0])
        self.sim = Simulation(folder, item_s=item_s, start_s=rng.uniform(5, 90))
        place = self.sim.place
        place.room = rng.choice([math.inf, math.inf, 2, 15])
        place.pull_s, place.granted = rng.uniform(0, 20), self.granted
        place.stop_s = lambda: rng.uniform(1, 20)
        self.sim.backend = place.backend = replace(self.sim.backend, charged=True, tariff=_TARIFF)
        each = charge(replace(self.size, spot=False), Decimal(1), _TARIFF).usd
        assert each is not None
        least = least_budget(each / 3600, self.sim.backend.stop_s)
        self.budget = round(float(least) * rng.choice([1.0, 1.5, 4.0, 20.0, 100.0]) + 5e-5, 4)
        items, self.chunk = rng.choice([5, 30, 90]), rng.choice([1, 3])
        self.spec: Spec = self.sim.begin(
            items, chunk=self.chunk, workers=self.workers, cpu=self.cpu, spot=spot, slots=1, budget=self.budget
        )
        self.faults = rng.choice([0.0, 0.001, 0.01])
        place.log_bytes = int(item_s * random.Random(f"{seed} prints").choice([0, 3_000, 30_000]))

    def granted(self) -> Granted:
        """Spot now and then has none to give, and what is given then is dearer."""
        on_spot = self.size.spot and self.rng.random() < 0.8
        name = "FARGATE_SPOT" if on_spot else "FARGATE"
        return Granted(capacity=name, architecture="", zone="", vcpu=self.cpu, memory_mib=self.size.memory_mib)

    def all(self) -> list[Worker]:
        """All that ever were."""
        return [*self.sim.place.gone, *(each for of in self.sim.place.workers_of.values() for each in of.values())]

    def run(self) -> None:
        """Drivers come and go, each with a clock of its own, until the run has ended and nobody is left."""
        rng, clock = self.rng, self.sim.clock
        over, until = False, clock.now + 7 * 86400
        while not over and clock.now < until:
            driver = self.sim.driver(self.spec, Slow(clock, rng.choice([0.0, 0.0, 300.0, -300.0])))
            dies_at = clock.now + (rng.expovariate(1 / 600) if self.faults else math.inf)
            while not (over := driver.step()) and clock.now < dies_at:
                clock.sleep(TICK_S)
                self.befall()
            if not over:
                clock.sleep(rng.expovariate(1 / 400))
        assert over
        clock.sleep(600.0)
        assert not [each for each in self.all() if each.phase is not WorkerPhase.STOPPED]

    def befall(self) -> None:
        """Workers are lost."""
        for worker in self.all():
            if worker.phase is WorkerPhase.RUNNING and self.rng.random() < self.faults:
                worker.stop(self.rng.choice([WorkerEnd.SPOT, WorkerEnd.CRASHED]), 137)


def logs_usd(nbytes: int) -> Decimal:
    """What so much that is printed costs, through a gateway."""
    return sum(tolls_usd({"log-bytes": nbytes}, _TARIFF).values(), Decimal(0))


def keeps(folder: Path, seed: int) -> Decimal:
    """What such a run costs of its budget, as a share; it is within it, and the end says so.

    What functions print counts once a driver hears of it: each worker may print as much as in one chunk beyond it.
    """
    folder.mkdir()
    schedule = Schedule(folder, seed)
    schedule.run()
    end = read_end(schedule.sim.backend, schedule.spec.run)
    assert end is not None and end.state in (RunState.SUCCEEDED, RunState.STOPPED), end
    of_workers, budget = billed(schedule.all(), schedule.sim.clock.time()), Decimal(str(schedule.budget))
    assert of_workers <= budget, f"seed {seed}: {of_workers} of {budget}"
    cost = of_workers + logs_usd(end.tolls.get("log-bytes", 0))
    last = logs_usd(schedule.sim.place.log_bytes * schedule.chunk * schedule.workers)
    if not schedule.faults:  # a driver sees what they tell
        assert cost <= budget + last, f"seed {seed}: {cost} of {budget}, and {last}"
    if end.state is RunState.STOPPED:
        assert end.limit is FailureKind.BUDGET, end
    return cost / budget


def test_no_run_costs_more_than_its_budget(tmp_path: Path) -> None:
    """Whatever befalls drivers and workers, and whatever their clocks say."""
    shares = [keeps(tmp_path / str(seed), seed) for seed in range(100)]
    assert sum(share > Decimal("0.9") for share in shares) > 5  # they are used up


def test_a_budget_that_lasts_beyond_all_dates_is_as_none(tmp_path: Path) -> None:
    """Workers are told an end that they can read, however far it is."""
    sim = Simulation(tmp_path, item_s=10.0, start_s=5.0)
    sim.backend = sim.place.backend = replace(sim.backend, charged=True, tariff=_TARIFF)
    spec = sim.begin(4, chunk=1, workers=2, slots=1, budget=1e12)
    driver, told = sim.driver(spec), list[float]()
    while not driver.step():
        if (until := read_until(sim.backend, spec.run, 0)) is not None:
            told.append(until.at)
        sim.clock.sleep(TICK_S)
    assert {*told} == {LAST_MOMENT}
    end = read_end(sim.backend, spec.run)
    assert end is not None and end.state is RunState.SUCCEEDED


def test_why_a_run_stops_is_told_as_it_is() -> None:
    """What a budget comes to once workers have stopped, or that no other is paid for; what a deadline leaves."""
    meter = Meter(at=0, spent=Decimal("0.0014"), least=Decimal("0.0020"), burn=Decimal("0.001"))
    purse = Purse(budget=Decimal("0.0020"), meter=meter, each=Decimal("0.001"), stop_s=30, worth_s=300)
    assert "($0.0020 once its worker has stopped)" in Bounds(purse=purse).why(0, 4, 1)
    assert "($0.0020 once its 2 workers have stopped)" in Bounds(purse=purse).why(0, 4, 2)
    assert "($0.0020 once its workers have stopped)" in Bounds(purse=purse).why(0, 4, 0)
    none = replace(purse, meter=replace(meter, burn=Decimal(0)))
    assert "($0.0014, and what is left pays for no worker)" in Bounds(purse=none).why(0, 4, 0)
    bounds = Bounds(limits=Limits(deadline_s=30.0), deadline=130.0)
    assert bounds.why(0, 4, 0, 130.0).startswith("its deadline has passed, 30 s after it began: 0 of 4")
    early = "its deadline, 30 s after it began, leaves no time for another item: 0 of 4"
    assert bounds.why(0, 4, 0, 126.0).startswith(early)


@pytest.mark.rest
def test_no_run_of_a_thousand_costs_more_than_its_budget(tmp_path: Path) -> None:
    """The same, ten times as often."""
    for seed in range(100, 1100):
        keeps(tmp_path / str(seed), seed)


@pytest.mark.parametrize(("region", "arch", "spot", "cpu", "gb", "seconds", "workers", "compute", "addresses"), BY_HAND)
def test_a_meter_comes_to_what_work_costs_by_hand(
    region: str, arch: str, spot: bool, cpu: float, gb: float, seconds: int, workers: int, compute: str, addresses: str
) -> None:
    """Of workers that have stopped, by what each was given; of those that are there, by the clock."""
    granted = Granted(
        capacity="FARGATE_SPOT" if spot else "FARGATE",
        architecture="arm64" if arch == "arm" else "x86_64",
        zone="a",
        vcpu=cpu,
        memory_mib=round(1024 * gb),
    )
    began, by_hand = 1_800_000_000.0, Decimal(compute) + Decimal(addresses)
    ended = [
        WorkerState(
            id=WorkerId(f"w{n}"),
            ordinal=n,
            phase=WorkerPhase.STOPPED,
            started_at=began,
            stopped_at=began + seconds,
            granted=granted,
        )
        for n in range(workers)
    ]
    rates = Rates(tariff=Tariff(region=region), asked=Resources.of(1))
    assert abs(metered(ended, rates, began + 7 * 86400).spent - by_hand) < Decimal("2e-8") * workers
    there = [replace(each, phase=WorkerPhase.RUNNING, stopped_at=0.0) for each in ended]
    now = metered(there, rates, began + seconds, stop_s=30)
    assert abs(now.spent - by_hand) < Decimal("2e-8") * workers and now.least >= now.spent


def test_a_site_s_workers_cost_no_more_an_hour_than_it_allows(tmp_path: Path) -> None:
    """All runs of the site together, whose drivers are several; what ends makes room, and each run comes to its end."""
    sim = Simulation(tmp_path, item_s=40.0, start_s=20.0)
    each = charge(Resources.of(1), Decimal(1), _TARIFF).usd
    assert each is not None
    most = float(5 * each) + 0.001
    sim.backend = sim.place.backend = replace(sim.backend, charged=True, tariff=_TARIFF, max_hourly_usd=most)
    specs = [sim.begin(40, chunk=1, workers=4, slots=1) for _ in range(2)]
    going, said, at_once = [sim.driver(spec) for spec in specs], set[str](), 0
    while going:
        going = [driver for driver in going if not driver.step()]
        said |= {driver.books.reason for driver in going}
        alive = [each for of in sim.place.workers_of.values() for each in of.values() if not each.stopped_at]
        at_once = max(at_once, len(alive))
        sim.clock.sleep(TICK_S)
    assert at_once == 5
    assert "waiting for the site's max_hourly_cost of $0.27: $0.27 now" in said
    ends = [read_end(sim.backend, spec.run) for spec in specs]
    assert [end and end.state for end in ends] == [RunState.SUCCEEDED, RunState.SUCCEEDED]


def test_a_run_s_workers_cost_no_more_an_hour_than_it_allows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beside what the site allows; one that would pay for no worker is refused. And much of a budget is said."""
    sim = Simulation(tmp_path, item_s=40.0, start_s=20.0)
    hour = charge(Resources.of(1), Decimal(1), _TARIFF).usd
    assert hour is not None
    sim.backend = sim.place.backend = replace(sim.backend, charged=True, tariff=_TARIFF)
    most, budget = float(2 * hour) + 0.001, float(hour) / 2.5  # which this run uses more than half of
    spec = sim.begin(20, chunk=1, workers=4, slots=1, max_hourly_cost=most, budget=budget, alert_at="40")
    driver, said, at_once = sim.driver(spec), set[str](), 0
    while not driver.step():
        said.add(driver.books.reason)
        alive = [each for of in sim.place.workers_of.values() for each in of.values() if not each.stopped_at]
        at_once = max(at_once, len(alive))
        sim.clock.sleep(TICK_S)
    assert at_once == 2 and "waiting for its max_hourly_cost of $0.11: $0.11 now" in said
    told = [message for message in caplog.messages if "of its budget of $0.022 are spent" in message]
    assert [message.rpartition(": ")[2] for message in told] == ["more than 40%"]
    with pytest.raises(
        BadInput,
        match=r"max_hourly_cost=0.01: a worker of 1 vCPU, 2 GB, 1 slot costs \$0.054 an hour \(us-east-1, .*\): give",
    ):
        refuse_unkept(sim.backend, Resources.of(1), Limits(hourly_usd=0.01), sim.clock.time())
