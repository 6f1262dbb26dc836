"""What AWS does to a run and a laptop does not: throttling, errors, lost connections, quotas, Spot, images."""

from __future__ import annotations

import logging
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster, RunState, RunStopped, starburst_map
from tests.faults.conftest import AwsBed, held_at, holding, noting
from tests.places import aws_text, open_place
from tests.testbed.private import private_network

N = 10_000
rest = partial(pytest.param, marks=pytest.mark.rest)
DOUBLED = [2 * item for item in range(N)]


def mapped(bed: AwsBed, *, seconds: float = 0.0002, **options: Any) -> list[Any]:
    """All items on a few workers."""
    given = {"workers": 4, "backend": bed.backend, **options}
    return starburst_map(noting(bed.notes, seconds=seconds), range(N), progress=False, **given)


@pytest.mark.parametrize(
    "faults",
    [
        [{"service": "s3", "probability": 0.1, "code": "SlowDown"}],
        rest([{"service": "s3", "operation": "PutObject", "probability": 0.3, "code": "ConditionalRequestConflict"}]),
        rest([{"service": "s3", "operation": "PutObject", "probability": 0.3, "code": "InternalError", "after": True}]),
        rest([{"service": "sqs", "probability": 0.1, "code": "ThrottlingException", "status": 400}]),
        [{"service": "sqs", "probability": 0.1, "code": "InternalFailure", "status": 500, "after": True}],
        [{"service": "ecs", "probability": 0.3, "code": "ThrottlingException", "status": 400}],
        rest([{"service": "ecs", "probability": 0.3, "code": "ServerException", "status": 500, "after": True}]),
        rest([{"service": "logs", "times": 2, "code": "ThrottlingException", "status": 400}]),
        rest([{"probability": 0.05, "reset": True}]),
        [{"probability": 0.05, "reset": True, "after": True}],
    ],
    ids=lambda faults: "-".join(str(value) for value in faults[0].values()),
)
def test_answers_come_once_though_calls_fail(aws_bed: AwsBed, faults: list[dict[str, Any]]) -> None:
    """Refused, failed, done-but-reported-failed and cut-off calls: retried, and nobody sees any of it."""
    for fault in faults:
        aws_bed.aws.fault(**fault)
    assert mapped(aws_bed, chunk_size=100) == DOUBLED
    assert any(fault["hits"] for fault in aws_bed.aws.faults())
    assert set(aws_bed.calls()) == set(range(N))
    aws_bed.aws.clear_faults()


def test_a_blackout_of_every_service_is_waited_out(aws_bed: AwsBed) -> None:
    """For a while every connection is lost, those of the driver and of all workers: the run goes on where it was."""
    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(noting(aws_bed.notes, seconds=0.002), range(N))
        aws_bed.until(lambda: run.status().answered > 0)
        aws_bed.aws.blackout(3600)
        before = sum(aws_bed.aws.requests().values())
        aws_bed.until(lambda: sum(aws_bed.aws.requests().values()) > before + 50)
        assert run.status().answered < N
        aws_bed.aws.elapse(3600)
        assert run.results(timeout=300) == DOUBLED
        run.wait()


def test_half_the_fleet_is_lost_to_spot(aws_bed: AwsBed) -> None:
    """SIGTERM and two minutes: what is done is kept, the rest is handed back, others take over."""
    with Cluster(workers=4, spot=True, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(noting(aws_bed.notes, seconds=0.001), range(N))
        aws_bed.until(lambda: sum(aws_bed.calls().values()) > 500)
        assert len(aws_bed.aws.interrupt_spot(share=0.5)) == 2
        assert run.results(timeout=300) == DOUBLED
        run.wait()
    calls = aws_bed.calls()
    assert set(calls) == set(range(N))
    assert sum(calls.values()) <= N + 4, "only the items that were running may run again"


def test_a_small_quota_is_used_up_and_waited_for(aws_bed: AwsBed) -> None:
    """Six vCPU and fifty workers asked for: six run, the status says what the others wait for, the run succeeds.

    Nobody has to be refused for that.
    """
    aws_bed.aws.quota(on_demand_vcpu=6)
    with Cluster(workers=50, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(held_at(aws_bed, lambda item: item >= 1000), range(2000), chunk_size=20)
        with holding(aws_bed, slots=6):
            assert "waiting for Fargate vCPU quota (1 for each worker, 6 in all)" in run.status().reason
        assert run.results() == DOUBLED[:2000]
        run.wait()
    assert len(aws_bed.aws.tasks()) == 6 and aws_bed.aws.requests()["ecs", "RunTask"] == 1


def test_no_capacity_for_a_while_is_waited_for(aws_bed: AwsBed) -> None:
    """No zone has room: nothing runs, the status says so; when there is room the run goes on by itself."""
    aws_bed.aws.capacity(zones={"us-east-1a": 0, "us-east-1b": 0, "us-east-1c": 0})
    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(noting(aws_bed.notes), range(N))
        aws_bed.until(lambda: "waiting for Fargate capacity" in run.status().reason)
        assert aws_bed.workers() == []
        aws_bed.aws.set(zone_room={})
        assert run.results(timeout=300) == DOUBLED
        run.wait()
        assert run.status().reason == ""


def test_no_capacity_in_one_zone_is_made_up_for_in_the_others(
    aws_bed: AwsBed, caplog: pytest.LogCaptureFixture
) -> None:
    """All workers that were asked for run at once, in the other two, and it is told where they start."""
    aws_bed.aws.capacity(zones={"us-east-1b": 0})
    with (
        caplog.at_level(logging.INFO, "starburst.aws"),
        Cluster(workers=6, backend=aws_bed.backend, progress=False) as cluster,
    ):
        run = cluster.start(noting(aws_bed.notes, seconds=0.002), range(N))
        aws_bed.until(lambda: len(aws_bed.workers()) == 6)
        assert {task["zone"] for task in aws_bed.aws.tasks()} == {"us-east-1a", "us-east-1c"}
        assert run.results(timeout=300) == DOUBLED
        run.wait()
    told = [record.getMessage() for record in caplog.records if "no capacity" in record.getMessage()]
    assert told == ["Fargate has no capacity in one of the site's zones now: workers start in us-east-1a, us-east-1c"]


@pytest.mark.rest
def test_half_of_a_launch_is_enough_to_begin(aws_bed: AwsBed) -> None:
    """RunTask grants what one zone has room for; the others come from the other zones."""
    aws_bed.aws.capacity(zones={"us-east-1a": 1, "us-east-1b": 1, "us-east-1c": 2})
    assert mapped(aws_bed) == DOUBLED
    assert {task["zone"] for task in aws_bed.aws.tasks()} == {"us-east-1a", "us-east-1b", "us-east-1c"}


def test_spot_falls_back_to_on_demand(aws_bed: AwsBed) -> None:
    """Spot has room for one: the other three are on demand."""
    aws_bed.aws.capacity(spot_zones={"us-east-1a": 1, "us-east-1b": 0, "us-east-1c": 0})
    assert mapped(aws_bed, spot=True) == DOUBLED
    assert sorted(task["provider"] for task in aws_bed.aws.tasks()) == ["FARGATE"] * 3 + ["FARGATE_SPOT"]


def test_a_network_without_a_way_out_ends_the_run(aws_bed: AwsBed) -> None:
    """After three workers or little more, however many were asked for; the sentence says what to mend."""
    inside = open_place(aws_text({**aws_bed.aws.site, "assign_public_ip": False}))
    with Cluster(workers=30, backend=inside, progress=False) as cluster:
        run = cluster.start(abs, range(300), chunk_size=1)
        with pytest.raises(RunStopped, match=r"\d+ workers could not start.*i/o timeout: give the site's subnets"):
            run.results(timeout=120)
        run.wait()
        assert len(aws_bed.aws.tasks()) <= 30
    inside.close()


def test_subnets_that_are_full_are_waited_for(aws_bed: AwsBed) -> None:
    """Workers are tried one by one then, ever later, and the run says what it waits for.

    So it is where nobody may ask how many addresses are free, or others are faster.
    """
    aws, ec2 = aws_bed.aws, aws_bed.aws.boto("ec2")
    aws.set(denied=["ec2:DescribeSubnets"])
    with private_network(aws, blocks=["10.7.0.0/28"]) as network:
        (subnet,) = network.subnets
        others = [ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"] for _ in range(5)]
        private = {"subnets": [subnet], "security_groups": [], "assign_public_ip": False}
        inside = open_place(aws_text({**aws.site, **private}))
        with Cluster(workers=8, backend=inside, progress=False) as cluster:
            run = cluster.start(abs, range(-300, 0))
            said = "waiting for workers: the last .* could not start: .*InsufficientFree.*more or larger subnets"
            aws_bed.until(lambda: re.search(said, run.status().reason) is not None)
            assert len(aws.tasks()) <= 12
            for each in others:
                ec2.delete_network_interface(NetworkInterfaceId=each["NetworkInterfaceId"])
            assert run.results(timeout=120) == [*range(300, 0, -1)]
            run.wait()
        inside.close()
        aws_bed.until(lambda: not aws_bed.workers())


def test_an_image_that_cannot_be_pulled_is_one_clear_error(aws_bed: AwsBed) -> None:
    """No storm of retries, which come ever later: the run ends, and says which image and what to do."""
    aws_bed.aws.set(images=["nothing"])
    with pytest.raises(
        RunStopped, match=r"CannotPullContainerError.*starburst-bed:worker: not found.*correct the site"
    ):
        mapped(aws_bed, backend=aws_bed.backend.paced(lease_s=1.0))  # by which it has patience
    assert aws_bed.aws.requests()[("ecs", "RunTask")] <= 10


def test_a_crash_is_told_with_the_last_lines(aws_bed: AwsBed, caplog: pytest.LogCaptureFixture) -> None:
    """A worker killed from outside is reported as such, with what it printed last. The last item waits for that."""
    caplog.set_level(logging.WARNING, "starburst")
    go = Path(f"{aws_bed.notes}.go")
    double = noting(aws_bed.notes, seconds=0.01)

    def held(item: int) -> int:
        while item == 399 and not go.exists():
            time.sleep(0.01)
        return double(item)

    def badly() -> list[str]:
        return [record.getMessage() for record in caplog.records if "ended badly" in record.getMessage()]

    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(held, range(400))
        aws_bed.until(lambda: len(aws_bed.calls()) > 20)
        (killed,) = aws_bed.aws.kill_some(1)
        aws_bed.until(lambda: bool(badly()))
        go.touch()
        assert run.results(timeout=300) == DOUBLED[:400]
        run.wait()
        (fleet,) = aws_bed.backend.compute.fleets()
    (told,) = badly()
    assert f"worker {killed} ended badly (crashed): killed (exit code 137)" in told
    printed, last = aws_bed.backend.compute.tail(fleet, killed), told.partition("\n")[2]
    assert last and last in printed
    assert "1 slots, Python" in printed


@pytest.mark.rest
def test_credentials_that_expire_are_renewed(aws_bed: AwsBed) -> None:
    """Workers' credentials expire in the middle of the run: they fetch new ones and go on."""
    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(noting(aws_bed.notes, seconds=0.002), range(N))
        aws_bed.until(lambda: run.status().answered > 0)
        for task in aws_bed.aws.tasks():
            aws_bed.aws.expire(task=task["id"])
        assert run.results(timeout=300) == DOUBLED
        assert run.wait().state is RunState.SUCCEEDED


def test_a_driver_without_valid_credentials_pauses_and_says_so(aws_bed: AwsBed) -> None:
    """Everybody's credentials expire: nothing fails, the status says what to do; renewed, the run goes on."""
    with Cluster(workers=2, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(noting(aws_bed.notes, seconds=0.002), range(N))
        aws_bed.until(lambda: run.status().answered > 0)
        aws_bed.aws.fault(code="ExpiredToken", probability=1.0)
        aws_bed.until(lambda: "the AWS credentials have expired: renew them" in run.status().reason)
        aws_bed.aws.clear_faults()
        assert run.results(timeout=300) == DOUBLED
        assert run.wait().reason == ""


@pytest.mark.rest
def test_a_chunk_that_cannot_be_handed_over_does_not_cost_its_worker(aws_bed: AwsBed) -> None:
    """A fetched chunk has waited too long for its slot while SQS takes no messages: the worker goes on."""

    def slow_once(item: int) -> int:
        import time

        time.sleep(8.0 if item == 10 else 0.3)
        return 2 * item

    with Cluster(workers=1, backend=aws_bed.backend, progress=False) as cluster:
        run = cluster.start(slow_once, range(14), chunk_size=1)
        aws_bed.until(lambda: run.status().answered >= 9)
        aws_bed.aws.fault(service="sqs", operation="SendMessageBatch", code="ExpiredToken", probability=1.0)
        time.sleep(6.0)  # longer than a chunk may wait
        aws_bed.aws.clear_faults()
        assert run.results(timeout=300) == DOUBLED[:14]
    (task,) = aws_bed.aws.tasks()
    assert task["exit_code"] != 1
