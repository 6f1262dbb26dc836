"""The quotas of an account: what is told of them, whatever may be asked; and runs use all of them, and no more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from starburst_common import Cluster, EventKind, Run
from starburst_common.aws.abreast import abreast
from starburst_common.aws.clients import Clients
from starburst_common.aws.launch_rate import BURST, EACH_S, LaunchRate
from starburst_common.aws.quotas import AccountQuotas
from starburst_common.aws.turns import QuotaTurns
from starburst_common.fleets.fleet import Fleet
from starburst_common.model import FleetId
from starburst_common.ports import Backend, Basis, LaunchSpeed, Limit, QuotaAsk, Unit
from starburst_common.resources import Resources
from tests.places import aws_text, open_place
from tests.testbed.bed import Bed as Aws

if TYPE_CHECKING:
    from starburst_common.aws.store import S3Objects


@pytest.fixture
def clients(aws: Aws) -> Iterator[Clients]:
    """Of the bed's region."""
    made = Clients(aws.site["region"])
    yield made
    made.close()


@pytest.fixture
def backend(aws: Aws) -> Iterator[Backend]:
    """The bed's site."""
    opened = open_place(aws_text(aws.site))
    yield opened
    opened.close()


def limits_of(aws: Aws, clients: Clients, *, spot: bool = False) -> list[Limit]:
    """As they are told now."""
    return [
        *AccountQuotas(clients, aws.site["subnets"], clock=aws.clock.time, ticks=aws.clock.monotonic).limits(spot=spot)
    ]


def test_what_is_told_of_an_account(aws: Aws, clients: Clients) -> None:
    """Its quotas, Spot's first where that is wanted; what is in use by the metric that the quota names; addresses."""
    aws.set(on_demand_vcpu=40, spot_vcpu=12, others_vcpu=7.5)
    spot, on_demand, addresses = limits_of(aws, clients, spot=True)
    assert (spot.name, spot.total, spot.basis, spot.used) == ("Fargate Spot vCPU quota", 12, Basis.APPLIED, 0)
    assert (on_demand.total, on_demand.basis, on_demand.used) == (40, Basis.APPLIED, 7.5)
    assert aws.clock.time() - 300 < on_demand.seen[0] < on_demand.seen[1] <= aws.clock.time()
    assert (addresses.unit, addresses.total, addresses.used) == (Unit.ADDRESS, 3 * (4096 - 5), 0)
    assert not any(limit.unknown for limit in (spot, on_demand, addresses))


def test_an_account_without_a_quota_of_its_own_has_awss(aws: Aws, clients: Clients) -> None:
    """Service Quotas knows none then (its API reference, GetServiceQuota)."""
    aws.fault(service="servicequotas", operation="GetServiceQuota", code="NoSuchResourceException", status=400)
    assert [(limit.total, limit.basis) for limit in limits_of(aws, clients)][:1] == [(6, Basis.DEFAULT)]


@pytest.mark.parametrize(
    ("fault", "basis", "said"),
    [
        (
            {"service": "servicequotas", "code": "AccessDeniedException", "status": 400},
            Basis.ASSUMED,
            "assumed to be 6",
        ),
        ({"service": "servicequotas", "reset": True, "times": 9}, Basis.ASSUMED, "assumed to be 6"),
        ({"service": "cloudwatch", "code": "AccessDenied", "status": 403}, Basis.APPLIED, "taken to use nothing"),
        ({"service": "ec2", "code": "UnauthorizedOperation", "status": 403}, Basis.APPLIED, ""),
    ],
    ids=["quotas denied", "quotas unreachable", "metrics denied", "subnets denied"],
)
def test_who_cannot_ask_is_told_what_is_assumed(
    aws: Aws, clients: Clients, fault: dict[str, Any], basis: Basis, said: str
) -> None:
    """With the reason; nothing is raised, and nobody is asked again for a while."""
    aws.set(on_demand_vcpu=40, others_vcpu=8)
    aws.fault(**{"times": 100, **fault})
    quotas = AccountQuotas(clients, aws.site["subnets"], clock=aws.clock.time, ticks=aws.clock.monotonic)
    quota, addresses = quotas.limits(spot=False)
    assert quota.basis is basis and said in quota.unknown
    assert quota.total == (6 if basis is Basis.ASSUMED else 40)
    assert bool(addresses.unknown) == (fault["service"] == "ec2")
    aws.clear_faults()
    before = aws.requests()
    assert quotas.limits(spot=False) == [quota, addresses] and aws.requests() == before
    aws.elapse(301)
    assert [each.unknown for each in quotas.limits(spot=False)] == ["", ""]


def test_a_quota_that_is_nearly_used_up_is_looked_at_sooner(aws: Aws, clients: Clients) -> None:
    """Somebody waits for what becomes free of it: every 20 s, and not every minute as of others."""
    quotas = AccountQuotas(clients, aws.site["subnets"], clock=aws.clock.time, ticks=aws.clock.monotonic)
    for others, again in ((8, False), (38, True)):
        aws.set(on_demand_vcpu=40, others_vcpu=others)
        aws.elapse(61)
        assert quotas.limits(spot=False)[0].used == others
        before = aws.requests()
        aws.elapse(21)
        quotas.limits(spot=False)
        assert (aws.requests() != before) is again


def test_a_run_takes_what_is_free_as_it_becomes_free(
    aws: Aws, clients: Clients, backend: Backend, tmp_path: Path
) -> None:
    """Others have four of six vCPU: two workers run, and the status says so; five when the quota is raised to nine

    in mid-run, and all eight once the others are gone. RunTask refuses nothing.
    """
    aws.set(on_demand_vcpu=6, others_vcpu=4, usage_lag_s=-60)
    backend = replace(backend, quotas=AccountQuotas(clients, aws.site["subnets"], kept_s=0.2))
    with Cluster(workers=8, backend=backend, progress=False) as cluster:
        run = cluster.start(slow_until(tmp_path / "soon"), range(400), chunk_size=2)
        aws.until(lambda: len(running(aws)) == 2 and "4 in use by others" in run.status().reason)
        aws.quota(on_demand_vcpu=9)
        aws.until(lambda: len(running(aws)) == 5)
        aws.set(others_vcpu=0)
        aws.until(lambda: len(running(aws)) == 8)
        (tmp_path / "soon").touch()
        assert run.results(timeout=120) == [*range(400)]
        run.wait()
    assert aws.requests()["ecs", "RunTask"] == 3


def test_a_plan_and_a_runs_first_line_reckon_with_what_an_hour_may_cost(
    aws: Aws, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own limit, and the site's, which the workers of others take of: no more than a run would launch."""
    said = "its max_hourly_cost of $0.11: $0.00 now"
    with Cluster(workers=8, backend=backend, max_hourly_cost=0.11, spot=False) as cluster:
        found = cluster.plan(abs, range(100))
        assert (found.workers, str(found)) == (2, f"2 of 8 workers now: {said}")
        assert cluster.map(abs, range(4)) == [*range(4)]
        assert f"2 of 4 workers now: {said}\n" in capsys.readouterr().err
        held = replace(backend, max_hourly_usd=0.17)
        aws.until(lambda: len(running(aws)) == 2)
        site = Cluster(workers=8, backend=held, spot=False).plan(abs, range(100))
        assert str(site).startswith("1 of 8 workers now: the site's max_hourly_cost of $0.17: $0.1")


@pytest.mark.parametrize(
    "service", ["servicequotas", *(pytest.param(name, marks=pytest.mark.rest) for name in ("cloudwatch", "ec2"))]
)
def test_a_run_needs_none_of_it(aws: Aws, backend: Backend, tmp_path: Path, service: str) -> None:
    """Who may not ask has a run all the same, which learns from RunTask what there is room for."""
    aws.fault(service=service, code="AccessDeniedException", status=403, times=1000)
    aws.set(on_demand_vcpu=3)
    with Cluster(workers=4, backend=backend, progress=False) as cluster:
        run = cluster.start(slow_until(tmp_path / "soon"), range(400), chunk_size=10)
        aws.until(lambda: len(running(aws)) == 3 and "Fargate vCPU quota (1 for each" in run.status().reason)
        (tmp_path / "soon").touch()
        assert run.results(timeout=120) == [*range(400)]
        run.wait()


def running(aws: Aws) -> list[dict[str, Any]]:
    """The workers that there are."""
    return [task for task in aws.tasks() if task["last_status"] != "STOPPED"]


def waits_a_little(item: int) -> int:
    """Some time a piece."""
    time.sleep(0.02)
    return item


def slow_until(soon: Path) -> Callable[[int], int]:
    """Half a second a piece, until a file is there."""

    def waits(item: int) -> int:
        time.sleep(0.0 if soon.exists() else 0.5)
        return item

    return waits


# --- the launch rate --------------------------------------------------------------------------------------------------


class Seconds:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_drivers_of_a_site_share_the_launch_rate(aws: Aws, backend: Backend) -> None:
    """Three that wait, one of priority 2, start as many in ten seconds as one would, by their shares; each launch is a

    request while nobody else launches.
    """
    clock = Seconds()
    store = cast("S3Objects", backend.store)
    rates = [LaunchRate("FARGATE", store, clock=clock, pace=clock) for _ in range(3)]
    started = [rate.take(FleetId(f"fleet-{n}"), 500, 1 + (n == 2)) for n, rate in enumerate(rates)]
    assert started == [BURST, 0, 0]
    for _ in range(10):
        clock.now += 1
        for n, rate in enumerate(rates):
            started[n] += rate.take(FleetId(f"fleet-{n}"), 500, 1 + (n == 2))
    assert sum(started) == pytest.approx(BURST + 10 * EACH_S, abs=3)
    assert started[1] == pytest.approx(started[0] - BURST, abs=2)
    assert started[2] == pytest.approx(2 * started[1], abs=4)
    assert "shared with 2 fleets" in rates[0].wait.reason
    clock.now += 60
    rates[0].take(FleetId("fleet-0"), 1)
    before = sum(aws.requests().values())
    assert [rates[0].take(FleetId("fleet-0"), 10) for _ in range(5)] == [10] * 5
    assert sum(aws.requests().values()) - before == 5


def test_many_who_write_at_once_take_no_more_than_there_is(backend: Backend) -> None:
    """Whoever was overtaken looks again; what is given back is there for others."""
    clock = Seconds()
    rates = [LaunchRate("FARGATE_SPOT", cast("S3Objects", backend.store), clock=clock, pace=clock) for _ in range(8)]
    taken = abreast(lambda n: rates[n % 8].take(FleetId(f"fleet-{n}"), 7), range(40), at_once=8)
    assert sum(taken) <= BURST
    clock.now += 60
    rates[0].take(FleetId("fleet"), 100)
    rates[1].give_back(30)
    assert rates[2].take(FleetId("other"), 100) == 30


def test_who_cannot_share_goes_by_its_own_rate(aws: Aws, backend: Backend) -> None:
    """Whoever may not write there starts workers all the same."""
    aws.fault(service="s3", operation="PutObject", match="launching", code="AccessDenied", times=100)
    clock = Seconds()
    rate = LaunchRate("FARGATE", cast("S3Objects", backend.store), clock=clock, pace=clock)
    assert [rate.take(FleetId("fleet"), 70) for _ in range(2)] == [70, 30]


def test_what_is_written_there_by_others_stops_nobody(backend: Backend) -> None:
    """It is replaced, and the rate begins anew."""
    backend.store.put("launching/FARGATE", b'{"free": 1e300}')
    clock = Seconds()
    rate = LaunchRate("FARGATE", cast("S3Objects", backend.store), clock=clock, pace=clock)
    assert rate.take(FleetId("fleet"), 70) == 0
    clock.now += 2
    assert rate.take(FleetId("fleet"), 70) == 2 * EACH_S


def test_runs_share_a_full_quota_by_priority(aws: Aws, clients: Clients, tmp_path: Path) -> None:
    """Of four vCPU the first run has all; one of thrice its priority has three when it comes.

    Workers hand back what they have and end for that, which costs no item its answer, nor a retry; as the other ends,
    its share is the first's again.
    """
    aws.set(on_demand_vcpu=4, usage_lag_s=60)
    places = [open_place(aws_text(aws.site)).paced(idle_s=2.0) for _ in range(2)]
    others = [
        replace(
            each,
            quotas=AccountQuotas(clients, aws.site["subnets"], kept_s=2.0),
            turns=QuotaTurns(cast("S3Objects", each.store), 1.0),
        )
        for each in places
    ]

    def of(run: Run) -> int:
        return sum(task["started_by"] == run._spec.fleet for task in running(aws))

    with ExitStack() as stack:
        runs = list[Run]()
        for place, priority in zip(others, (1, 3), strict=True):
            cluster = stack.enter_context(Cluster(workers=4, backend=place, progress=False))
            runs.append(cluster.start(slow_until(tmp_path / "soon"), range(400), chunk_size=2, priority=priority))
            if len(runs) == 1:
                aws.until(lambda: of(runs[0]) == 4, what="all of the quota")
        aws.until(lambda: [of(run) for run in runs] == [1, 3], what="shares by priority")
        assert "its share of that by priority is" in runs[0].status().reason
        runs[1].cancel()
        aws.until(lambda: of(runs[0]) == 4, what="all of it again")
        (tmp_path / "soon").touch()
        assert runs[0].results(timeout=300) == [*range(400)]
        assert EventKind.WITHDRAWN in [event.kind for event in runs[0].events()]
        assert EventKind.LOST not in [event.kind for event in runs[0].events()]
        runs[0].wait()
    for each in places:
        each.close()


class Told:
    """Quotas of which so much was in use a minute ago."""

    speed = LaunchSpeed(burst=100, each_s=0.05, start_s=1)

    def __init__(self, used: float, total: float) -> None:
        self._limit = Limit(name="quota", unit=Unit.VCPU, total=total, used=used, code="fargate/L-1")

    def limits(self, *, spot: bool, ec2: bool = False, gpus: bool = False) -> list[Limit]:
        """Always the same."""
        return [replace(self._limit, seen=(time.time() - 60, time.time()))]


def test_what_a_fleet_has_left_is_the_next_ones_at_once(backend: Backend) -> None:
    """AWS tells what is in use minutes late: what it counts of the site's fleets that have ended is nobody's."""

    def room(used: float) -> float:
        turns = QuotaTurns(cast("S3Objects", backend.store), 0.0)  # another process
        place = replace(backend, quotas=Told(used, 6), turns=turns)
        planned = Cluster(workers=6, backend=place).plan(abs, [1] * 6, seconds=60.0)
        fleet = Fleet.of(place, Resources.of(1), 6, FleetId("next"))
        free = fleet.headroom([], fleet.turn([], 6, time.time())).free
        assert planned.workers == free, "who plans knows it, too"
        return free

    turns = QuotaTurns(cast("S3Objects", backend.store), 0.0)
    assert room(4) == 2
    turns.say("fargate/L-1", "first", QuotaAsk(has=4, wants=4, had=4))
    turns.leave("first")
    assert (room(4), room(5)) == (6, 5)
    turns.say("fargate/L-1", "warm", QuotaAsk(has=2, wants=2, had=3))
    turns.leave("warm", stays=True)
    assert room(6) == 5  # of seven that were there, two still are


@pytest.mark.parametrize("spot", [2, 0])
def test_runs_that_share_spot_are_on_demand_beside_that(aws: Aws, clients: Clients, tmp_path: Path, spot: int) -> None:
    """What Spot has no room for is on demand, as of a run alone: none waits for its share of Spot to be free."""
    aws.set(spot_vcpu=spot, on_demand_vcpu=20, usage_lag_s=60)
    with ExitStack() as stack:
        runs = list[Run]()
        for _ in range(2):
            place = open_place(aws_text(aws.site))
            stack.callback(place.close)
            quotas = AccountQuotas(clients, aws.site["subnets"], kept_s=0.2)
            place = replace(place, quotas=quotas, turns=QuotaTurns(cast("S3Objects", place.store), 0.2))
            cluster = stack.enter_context(Cluster(workers=4, spot=True, backend=place, progress=False))
            runs.append(cluster.start(slow_until(tmp_path / "soon"), range(100), chunk_size=2))
        there = Counter({"FARGATE_SPOT": spot, "FARGATE": 8 - spot})
        aws.until(lambda: Counter(task["provider"] for task in running(aws)) == there, within_s=60)
        (tmp_path / "soon").touch()
        assert [run.results(timeout=120) for run in runs] == [[*range(100)]] * 2
        told = [event for run in runs for event in run.events()]
        assert not {EventKind.WITHDRAWN, EventKind.LOST} & {event.kind for event in told}
        assert not [event.text for event in told if "its share of that" in event.text]


_FORTY = """
import time
from starburst_common import Cluster
from tests.places import open_place
from tests.test_quotas import waits_a_little
cluster = Cluster(workers=40, backend=open_place({text!r}).paced(idle_s=2.0), progress=False)
cluster.start(waits_a_little, range(8000))
print("begun", flush=True)
time.sleep(600)
"""


@pytest.mark.rest
def test_forty_workers_are_gone_though_their_driver_is_killed(aws: Aws) -> None:
    """They answer what there is, and end by themselves when they have been idle: nobody need look."""
    driver = subprocess.Popen([sys.executable, "-c", _FORTY.format(text=aws_text(aws.site))], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    aws.until(lambda: len(running(aws)) == 40, what="forty workers")
    driver.kill()
    driver.wait()
    driver.stdout.close()
    aws.until(lambda: not running(aws), what="none")
