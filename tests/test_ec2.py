"""Workers on instances that they share: started, filled and ended by ECS, counted, paid for and lost as AWS does it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from starburst_common import Cluster, starburst_map
from starburst_common.aws.accounts import read_worker
from starburst_common.aws.clients import Clients
from starburst_common.aws.compute import EcsCompute
from starburst_common.aws.ecs_tasks import Instance, worker_state
from starburst_common.aws.orphan_hosts import OrphanHosts
from starburst_common.aws.owners import Owners
from starburst_common.aws.requests import placed, run_task, task_definition
from starburst_common.dollars import usd_text
from starburst_common.errors import BadInput, RunStopped
from starburst_common.model import FleetId, Granted, Tariff, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.money.choices import instance_charge
from starburst_common.money.estimate import charge, size_of
from starburst_common.money.instances import instance_prices
from starburst_common.money.meter import Rates, metered
from starburst_common.money.offers import instance_offers
from starburst_common.money.shared import FEE, fee_share
from starburst_common.money.sizing import larger
from starburst_common.names import RunNames
from starburst_common.options import Options
from starburst_common.ports import Backend, Pace, WorkerSpec
from starburst_common.resources import Resources
from starburst_common.runs.costs import costs
from starburst_common.runs.unused import unused_of
from starburst_common.sites.managed import IDLE_S
from starburst_common.sites.site import Site
from starburst_common.wire.fields import Fields
from tests.places import aws_text, environment, open_place
from tests.test_cli import Shell
from tests.test_costs import kept
from tests.testbed.bed import Bed as Aws


@pytest.fixture
def backend(aws: Aws) -> Iterator[Backend]:
    """The bed's site."""
    opened = open_place(aws_text(aws.site))
    yield opened
    opened.close()


def squared(item: int) -> int:
    """After a moment, so that all workers have some."""
    time.sleep(0.05)
    return item * item


def slow(item: int) -> int:
    """Long enough to be lost."""
    time.sleep(0.5)
    return item


def gpus(folder: Path) -> Callable[[int], tuple[str, int]]:
    """That an item's slot sees, and which slot that is; the first items end when four slots run some."""

    def seen(_: int) -> tuple[str, int]:
        (folder / f"slot-{os.getpid()}").touch()
        until = time.monotonic() + 300
        while len([*folder.glob("slot-*")]) < 4 and time.monotonic() < until:
            time.sleep(0.02)
        return os.environ.get("CUDA_VISIBLE_DEVICES", ""), os.getpid()

    return seen


def running(aws: Aws) -> list[dict[str, Any]]:
    """The instances that have not ended."""
    return [each for each in aws.instances() if each["status"] != "INACTIVE"]


def all_gone(aws: Aws) -> bool:
    """Once those that have no worker may not be idle any longer."""
    aws.until(lambda: all(each["idle"] for each in running(aws)), what="no worker on any instance")
    aws.elapse(IDLE_S + 1)
    return bool(aws.until(lambda: not running(aws), what="no instance"))


def test_workers_share_instances_that_end_when_nobody_needs_them(aws: Aws, backend: Backend) -> None:
    """ECS starts as many as it takes for their vCPU and memory, of types that the site allows, and ends the idle."""
    with Cluster(workers=4, backend=backend, progress=False, capacity="ec2") as cluster:
        run = cluster.start(squared, range(40))
        assert run.results() == [item * item for item in range(40)]
        states = [state for state in backend.compute.workers(backend.compute.fleets()[0]) if state.granted is not None]
        types = {each["id"]: each["type"] for each in aws.instances()}
    assert len({state.granted.instance for state in states if state.granted}) < len(states)
    for state in states:
        assert state.granted is not None
        assert state.granted.instance_type == types[state.granted.instance]
        assert (state.granted.capacity, state.granted.architecture) == (aws.site["ec2_provider"], "x86_64")
    assert all_gone(aws)


@pytest.mark.parametrize(
    ("vcpu", "most"), [(6, 6), pytest.param(4000, 40, marks=pytest.mark.rest)], ids=["a new account", "a large quota"]
)
def test_as_many_run_as_the_accounts_quota_allows(aws: Aws, backend: Backend, vcpu: int, most: int) -> None:
    """With 6 vCPU six of them, and the run goes on with those; with 4,000 all that are wanted."""
    aws.set(ec2_vcpu={"Standard": vcpu})
    with Cluster(workers=40, backend=backend, progress=False, capacity="ec2") as cluster:
        run = cluster.start(slow, range(4 * most))
        aws.until(lambda: len([task for task in aws.tasks() if task["running"]]) >= min(most, 5))
        assert run.results() == [*range(4 * most)]
        assert len(aws.tasks()) <= most
        assert sum(each["vcpu"] for each in aws.instances()) <= vcpu
    assert all_gone(aws)


def test_spot_takes_half_of_the_instances_back(aws: Aws, backend: Backend) -> None:
    """Workers hear of it from their instance and hand back what they have: it is no failure, and costs no retry."""
    aws.set(ec2_vcpu={"Standard Spot": 8}, spot_notice_s=3.0)
    with Cluster(workers=4, cpu=2, slots=1, backend=backend, progress=False, capacity="ec2", spot=True) as cluster:
        run = cluster.start(slow, range(24))
        aws.until(lambda: run.status().answered > 0)
        lost = aws.take_back(share=0.5) or aws.take_back(count=1)
        gone = {task for each in aws.instances() if each["id"] in lost for task in each["tasks"]}
        assert gone and run.results() == [*range(24)]
        (fleet,) = backend.compute.fleets()
        aws.until(lambda: {state.end for state in backend.compute.tend(fleet) if state.id in gone} == {WorkerEnd.SPOT})
        assert run.status().failed == 0
    assert all_gone(aws)


def test_what_spot_has_no_instance_for_is_on_demand(aws: Aws, backend: Backend) -> None:
    """As on Fargate: all that were asked for run, and meanwhile the run says what it waits for.

    ECS leaves their tasks waiting, so the two that have waited for three minutes are let go: no failure of theirs.
    """
    aws.set(ec2_room={"Standard Spot": 4})
    late = [0.0]
    clients = Clients(aws.site["region"])
    site = Site.of(aws.site, "the test")
    compute = EcsCompute(site, clients, backend.store, backend.key, clock=lambda: time.time() + late[0])
    asked: dict[str, Any] = {"capacity": "ec2", "spot": True, "cpu": 2, "slots": 1, "progress": False}
    with Cluster(workers=4, backend=replace(backend, compute=compute), **asked) as cluster:
        run = cluster.start(slow, range(200))
        aws.until(lambda: "EC2 to start an instance for 2 of 4 workers" in run.status().reason)
        aws.until(lambda: sum(task["running"] for task in aws.tasks()) == 2)
        late[0] = 181.0
        aws.until(lambda: sum(task["running"] for task in aws.tasks()) == 4)
        on = Counter(task["provider"] for task in aws.tasks() if task["running"])
        assert on == {aws.site["ec2_spot_provider"]: 2, aws.site["ec2_provider"]: 2}
        aws.until(lambda: run.status().reason == "")
        run.cancel()
    clients.close()
    assert len(aws.tasks()) == 6
    assert all_gone(aws)


def test_what_spots_quota_has_no_room_for_is_on_demand(aws: Aws, backend: Backend) -> None:
    """At once: what the quota says needs no waiting."""
    aws.set(ec2_vcpu={"Standard Spot": 2, "Standard": 64})
    asked: dict[str, Any] = {"capacity": "ec2", "spot": True, "cpu": 2, "slots": 1, "progress": False}
    with Cluster(workers=3, backend=backend, **asked) as cluster:
        run = cluster.start(slow, range(12))
        assert run.results() == [*range(12)]
        on = Counter(task["provider"] for task in aws.tasks())
        assert on == {aws.site["ec2_spot_provider"]: 1, aws.site["ec2_provider"]: 2}
    assert all_gone(aws)


_DRIVER = """
import sys, time
from pathlib import Path
from starburst_common import Cluster
from tests.places import open_place
from tests.test_quotas import slow_until
cluster = Cluster(workers=3, backend=open_place(sys.argv[1]).paced(idle_s=1.0), progress=False, capacity="ec2")
cluster.start(slow_until(Path(sys.argv[2])), range(300), chunk_size=10)
print("begun", flush=True)
time.sleep(600)
"""


def test_all_goes_though_every_driver_is_dead(aws: Aws, tmp_path: Path) -> None:
    """Workers end what there is and stop when idle; then ECS ends their instances, whoever of ours is dead."""
    command = [sys.executable, "-c", _DRIVER, aws_text(aws.site), str(tmp_path / "soon")]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    aws.until(lambda: sum(task["running"] for task in aws.tasks()) == 3)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    (tmp_path / "soon").touch()
    aws.until(lambda: not aws.leftovers()["tasks"], what="no worker")
    assert all_gone(aws)


def test_two_runs_share_instances_and_neither_ends_the_others(aws: Aws, backend: Backend) -> None:
    """Instances are the account's capacity, not a run's: who comes takes what is free, who goes leaves the rest."""
    asked: dict[str, Any] = {"backend": backend, "progress": False, "capacity": "ec2"}
    with Cluster(workers=2, **asked) as one:
        first = one.start(slow, range(20))
        aws.until(lambda: first.status().answered > 0)
        before = {each["id"] for each in running(aws)}
        assert starburst_map(squared, range(4), workers=2, **asked) == [0, 1, 4, 9]
        aws.elapse(IDLE_S + 1)
        assert first.results() == [*range(20)]
        assert not [task for task in aws.tasks() if task["stop_code"] == "TerminationNotice"]
        assert before <= {each["id"] for each in running(aws)}
    assert all_gone(aws)


def test_each_slot_has_a_gpu_of_its_own(aws: Aws, backend: Backend, tmp_path: Path) -> None:
    """Workers that have GPUs are on instances that have them, by that alone; slots are as many as those."""
    with Cluster(workers=1, cpu=4, memory="12GB", gpus=4, backend=backend, progress=False) as cluster:
        run = cluster.start(gpus(tmp_path), range(12), chunk_size=1)
        seen = dict.fromkeys(run.results())
        assert sorted({device for device, _ in seen}) == ["0", "1", "2", "3"]
        (instance,) = [each for each in aws.instances() if each["tasks"]]
        assert instance["provider"] == aws.site["gpu_provider"]
    assert all_gone(aws)


def test_an_instance_that_stays_without_a_worker_is_found_and_ended(aws: Aws, backend: Backend, tmp_path: Path) -> None:
    """Where ECS has not ended it by itself, as it was told not to here, `starburst gc` does, and says what it cost."""
    template = aws.boto("ecs").describe_capacity_providers(cluster=aws.site["cluster"])["capacityProviders"][0]
    kept = template["managedInstancesProvider"] | {"infrastructureOptimization": {"scaleInAfter": -1}}
    kept["instanceLaunchTemplate"].pop("capacityOptionType")
    aws.boto("ecs").update_capacity_provider(
        name=aws.site["ec2_provider"], cluster=aws.site["cluster"], managedInstancesProvider=kept
    )
    assert starburst_map(squared, range(2), workers=1, backend=backend, progress=False, capacity="ec2") == [0, 1]
    aws.until(lambda: all(each["idle"] for each in running(aws)))
    (stays,) = running(aws)
    shell = Shell(tmp_path, env={**aws.env, **aws.as_user("operator")})
    done = shell("gc", "--older-than", "0s", "--json")
    (found,) = [each for each in json.loads(done.stdout)["things"] if each["kind"] == "instance"]
    assert (found["name"], found["usd_per_hour"] > 0) == (stays["id"], True), done.stdout
    assert not running(aws)


def test_an_idle_instance_of_the_users_own_is_left(aws: Aws) -> None:
    """Where the site names another capacity provider than setup makes: how many stay, and how long, its group says."""
    ecs, site = aws.boto("ecs"), {**aws.site, "ec2_provider": "mine"}
    like = ecs.describe_capacity_providers(cluster=aws.site["cluster"])["capacityProviders"][0]
    ecs.create_capacity_provider(
        name="mine", cluster=aws.site["cluster"], managedInstancesProvider=like["managedInstancesProvider"]
    )
    backend = open_place(aws_text(site))
    assert starburst_map(squared, range(2), workers=1, backend=backend, progress=False, capacity="ec2") == [0, 1]
    aws.until(lambda: all(each["idle"] for each in running(aws)))
    with environment(aws.as_user("operator")), closing(Clients(aws.site["region"])) as clients:
        owners = Owners(Site.of(site, "the test"), clients, now=time.time() + 1, least_s=0)
        assert [each["provider"] for each in running(aws)] == ["mine"] and [*OrphanHosts(owners).found()] == []
    backend.close()


def on(instance: str, type: str, *, at: float, until: float, vcpu: float = 1, spot: bool = False) -> WorkerState:
    """A worker that was there for so long."""
    given = Granted(
        capacity="p", architecture="arm64", zone="a", vcpu=vcpu, memory_mib=round(1792 * vcpu), instance=instance,
        instance_type=type, spot=spot,
    )  # fmt: skip
    return WorkerState(
        id=WorkerId(f"w{at:g}"), ordinal=0, phase=WorkerPhase.STOPPED, started_at=at, stopped_at=until, granted=given
    )


def test_workers_pay_for_their_share_and_what_nobody_takes_is_told_apart() -> None:
    """An hour of c7g.xlarge is 0.145 USD in us-east-1 (Amazon EC2 On-Demand Pricing, 2026-07); the fee is 12% of that.

    Two workers of one vCPU have half of it; the other half, and the two minutes after them, are idle.
    """
    two = [on("i-1", "c7g.xlarge", at=at, until=at + 3600) for at in (1000.0, 1000.0)]
    each = charge(size_of(two[0].granted), Decimal(1), Tariff(arch="arm"))  # type: ignore[arg-type]
    assert {name: float(usd) for name, usd in each.parts.items()} == pytest.approx(
        {"compute": 0.145 / 4, "management fee": 0.12 * 0.145 / 4, "public addresses": 0.005 / 4}
    )
    ((size, arch, hours),) = unused_of(two, 9000.0)
    assert (size.instance_type, arch, float(hours)) == ("c7g.xlarge", "arm", pytest.approx(0.5 + IDLE_S / 3600))
    meter = metered(two, Rates(tariff=Tariff(arch="arm"), asked=Resources.of(1, capacity="ec2")), 9000.0)
    assert meter.spent == pytest.approx(2 * each.usd)
    taken = on("i-2", "c7g.xlarge", at=1, until=2, spot=True)
    spot = charge(size_of(taken.granted), Decimal(1), Tariff(arch="arm"))  # type: ignore[arg-type]
    assert spot.parts["compute"] < each.parts["compute"]
    assert spot.parts["management fee"] == each.parts["management fee"]


def test_instances_of_a_group_of_the_users_own_cost_no_fee(aws: Aws) -> None:
    """Not in an estimate, where the site names another capacity provider than setup makes, nor in what a worker cost.

    What ECS says that a worker is on counts before what the site names, also once that is written down.
    """
    mine = Site.of({**aws.site, "ec2_provider": "mine", "ec2_spot_provider": ""}, "the test").tariff
    one, gpu = Resources.of(1, capacity="ec2"), Resources.of(4, gpus=1)
    fees = [FEE in charge(size, Decimal(1), tariff).parts for tariff in (Tariff(), mine) for size in (one, gpu)]
    assert fees == [True, True, False, True]
    charged = [instance_charge("c7i.xlarge", Resources.of(1), 4, 1, tariff) for tariff in (Tariff(), mine)]
    assert [FEE in each.parts for each in charged if each] == [True, False]
    (cheapest,) = [each for each in instance_offers(one, mine) if each.name == "c7i.xlarge"]
    assert float(cheapest.usd_an_hour) == pytest.approx((0.1785 + 0.005) / 4)
    for launched, taxed in (("EC2", False), ("MANAGED_INSTANCES", True)):
        task = {"taskArn": "a/1", "lastStatus": "RUNNING", "launchType": launched, "cpu": "1024", "memory": "1792"}
        worker = worker_state(task, 0, Instance("i-1", "c7i.xlarge"))
        kept = read_worker(Fields("a record", json.loads(json.dumps(asdict(worker)))))
        assert kept.granted is not None and kept == worker
        for tariff in (Tariff(), mine):
            assert (FEE in charge(size_of(kept.granted), Decimal(1), tariff).parts) is taxed


def test_what_spot_saved_is_told_of_a_run_on_instances(aws: Aws, backend: Backend) -> None:
    """By status, report and accounts alike: the difference of the two prices of the types that its workers were on.

    Each component is as its workers had it, and what nobody took of the instances is told apart.
    """
    asked: dict[str, Any] = {"capacity": "ec2", "spot": True, "cpu": 2, "slots": 1, "progress": False}
    with Cluster(workers=2, backend=backend, **asked) as cluster:
        run = cluster.start(slow, range(8))
        assert run.results() == [*range(8)]
        early = run.estimate(run.status())
        assert early.provisional and "(metered so far, " in str(early)
        assert str(early).endswith(", without idle instances)")
    (instance,) = aws.instances()
    prices = {each.capacity: each.usd_per_hour for each in instance_prices(instance["type"], "us-east-1")}
    hours = Decimal(2) / 60 * 2 / instance["vcpu"]  # of the instance, as two workers are charged for a minute each
    saved, told = (prices["on-demand"] - prices["spot"]) * hours, run.estimate(run.status())
    (row,) = costs(since=0.0, backend=backend)
    assert float(told.spot_saved) == pytest.approx(float(saved)) == pytest.approx(float(row.spot_saved))
    assert row.parts["idle instances"] > 0 and row.priced.startswith(f"us-east-1, EC2 {instance['type']} Spot ")
    assert str(told) == f"{usd_text(row.usd)} (metered; {row.priced}); Spot saved {usd_text(saved)}"
    parts = {name: round(usd, 9) for name, usd in row.parts.items()}
    assert parts["compute"] == round(prices["spot"] * hours, 9)
    assert parts[FEE] == round(prices["on-demand"] * hours * fee_share(Tariff()), 9)
    assert {name: round(usd, 9) for name, usd in told.parts.items()} == parts
    began = run.status().created_at
    kept(backend, function=run.function, created_at=began - 9, ended_at=began - 8)  # a run before
    run.report()
    page = bytes(backend.store.get(RunNames(run.id).report)).decode()
    before, of_workers = run.expected(run.status()), told.usd - told.parts["idle instances"]
    assert before is not None
    for text in ("EC2", "Spot", f"Spot saved {usd_text(saved)}", FEE, before.told(of_workers)):
        assert text in page


def test_a_run_names_the_quota_that_it_waits_for(aws: Aws, backend: Backend) -> None:
    """That of the family that its instances are of, and the command that asks for more of it."""
    aws.set(ec2_vcpu={"Standard": 0})
    with Cluster(workers=2, backend=backend, progress=False, capacity="ec2") as cluster:
        run = cluster.start(squared, range(4))
        says = (
            r"EC2 Standard \(.*\) vCPU quota \(1 for each worker, 0 in all\): `starburst quota request --ec2 Standard`"
        )
        aws.until(lambda: re.search(says, run.status().reason), what="the quota's name")
        run.cancel()


def test_room_is_of_whole_instances(aws: Aws, backend: Backend) -> None:
    """What holds 8 GPUs has 192 vCPU, however few a worker asks for: a plan and a run know before anything is asked."""
    large: dict[str, Any] = {"backend": backend, "progress": False, "cpu": 4, "spot": False}
    four = Cluster(workers=3, gpus=4, **large).plan(abs, range(30))
    assert (four.workers, four.needed) == (1, 144)
    with Cluster(workers=1, gpus=8, **large) as cluster:
        says = "EC2 G and VT vCPU quota (192 for an instance of 1 worker, as "
        assert str(cluster.plan(abs, range(8))).startswith(f"none of 1 worker now: {says}")
        run = cluster.start(squared, range(4))
        aws.until(lambda: says in run.status().reason, what="the quota's name")
        assert not aws.tasks()
        run.cancel()


@pytest.mark.rest
def test_a_run_says_why_no_instance_comes(aws: Aws, backend: Backend) -> None:
    """In AWS's words, where the role by which ECS starts them may not do so; and what would help."""
    aws.set(placement_s=0.5)
    role = f"starburst-bed-{aws.site['region']}-infrastructure"
    aws.boto("iam").delete_role_policy(RoleName=role, PolicyName="starburst-bed")
    with pytest.raises(RunStopped, match=r"ec2:CreateFleet.*`starburst iam-policy infrastructure` says"):
        starburst_map(squared, range(4), workers=1, backend=backend, progress=False, capacity="ec2")


def test_a_group_of_the_users_own_is_asked_as_managed_instances_are(aws: Aws) -> None:
    """Who names a capacity provider with an Auto Scaling group has the same task definition, and request but for it.

    Both are what ECS's model takes; `tests/contracts/test_compute.py` holds workers on instances to what all promise.
    """
    ecs = aws.boto("ecs").meta.service_model
    asked = {}
    for name in ("starburst-bed-ec2", "mine"):
        site = Site.of({**aws.site, "ec2_provider": name}, "the test")
        pace = Pace(lease_s=90, chunk_s=30, share_s=5, idle_s=60, lifetime_s=600, inline_bytes=1000)
        spec = WorkerSpec(fleet=FleetId("fleet-1"), resources=Resources.of(2, capacity="ec2"), pace=pace)
        definition = task_definition(site, "i:1", ec2=True)
        request = placed(run_task(site, "d:1", spec, 3), site, spot=False, subnets=())
        for operation, sent in (("RegisterTaskDefinition", definition), ("RunTask", request)):
            shape = ecs.operation_model(operation).input_shape
            assert not ParamValidator().validate(sent, shape).has_errors()
        assert site.assign_public_ip and "networkConfiguration" not in request  # ECS takes none for instances' network
        assert (request["cluster"], "launchType" in request) == (site.cluster, False)
        assert request.pop("capacityProviderStrategy") == [{"capacityProvider": name, "weight": 1}]
        asked[name] = definition, request
    assert asked["mine"] == asked["starburst-bed-ec2"]
    assert {*asked["mine"][0]["requiresCompatibilities"]} == {"EC2", "MANAGED_INSTANCES"}


def test_a_site_without_instances_refuses_workers_on_them(aws: Aws) -> None:
    """With how it gets them, and before anything is stored or made: a run, a plan, and a fleet that is kept warm."""
    backend = open_place(aws_text({**aws.site, "ec2_provider": "", "gpu_provider": "", "gpu_spot_provider": ""}))
    aws.requests(reset=True)
    said = "no capacity provider of workers on EC2{}: `starburst setup --ec2` makes them"
    asked: dict[str, Any] = {"workers": 1, "backend": backend, "progress": False}
    with pytest.raises(BadInput, match=rf'capacity="ec2": site bed has {said.format("")}'):
        starburst_map(squared, [1], **asked, capacity="ec2")
    with pytest.raises(BadInput, match=rf"gpus=2: site bed has {said.format(' with GPUs')}"):
        starburst_map(squared, [1], **asked, gpus=2, keep_warm=60)
    with pytest.raises(BadInput, match="gpus=1: "):
        Cluster(**asked, gpus=1).plan(squared, [1])
    assert aws.requests() == {}
    backend.close()


def test_a_worker_that_no_type_of_the_sites_holds_is_refused(aws: Aws) -> None:
    """By what ECS registers of an instance, before anything is stored; as is a second turn where there is no more.

    Of a group of the user's own nobody knows its types: what the largest of all holds is taken.
    """
    small = {**aws.site, "instance_types": ["c7i.xlarge"]}
    site, mine = open_place(aws_text(small)), open_place(aws_text({**small, "ec2_provider": "mine"}))
    aws.requests(reset=True)
    asked: dict[str, Any] = {"workers": 1, "progress": False, "capacity": "ec2"}
    for size in ({"memory": "8GB"}, {"cpu": 5}):
        with pytest.raises(
            BadInput, match=r"types c7i.xlarge \(X86_64\) holds a worker of .*: c7i.xlarge has 4 vCPU and 7.4 GB"
        ):
            starburst_map(squared, [1], backend=site, **asked, **size)
    with pytest.raises(BadInput, match=r"types \* "):
        starburst_map(squared, [1], backend=mine, **asked, memory="900000GB")
    assert aws.requests() == {}
    with pytest.raises(BadInput, match=r"no worker with more memory than 7\.4 GB on the site's types"):
        starburst_map(squared, [1], backend=site, **asked, memory="7577MB", escalate=True)
    assert larger(Resources.of(4, "7GB", capacity="ec2"), tariff=site.tariff).memory_mib == 7577
    assert larger(Resources.of(4, "7GB", capacity="ec2"), tariff=mine.tariff).memory_mib == 14336
    site.close()
    mine.close()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpu": 3}, "not a Fargate size: use one of"),
        ({"cpu": 200, "capacity": "ec2"}, "on EC2 0.125 to 192, and for more than that, .*, more workers"),
        ({"gpus": 1, "capacity": "fargate"}, "Fargate has no GPU"),
        ({"capacity": "ec2", "storage": "50GB"}, "share the disk of their instance"),
        ({"capacity": "spot"}, 'give "fargate", "ec2" or None'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_at_once(asked: dict[str, Any], said: str) -> None:
    """Before anything is launched, on every backend."""
    with pytest.raises(BadInput, match=said):
        Options.of(**asked)
    assert Resources.of(gpus=2).slots == 2
