"""What nobody needs any more is removed from a site, and nothing that a run or a warm fleet has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster
from starburst_common.aws.sweeps import sweeps
from starburst_common.fleets.fleet import Fleet
from starburst_common.local import local_backend
from starburst_common.model import FleetId, WorkerId
from starburst_common.names import holders, launch_record, worker_records
from starburst_common.ports import Backend
from starburst_common.resources import Resources
from starburst_common.runs.prune import expired, prune, store_time
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site
from tests.places import aws_text, environment, open_place
from tests.policies import DOCTORS, actions_of
from tests.test_cli import Shell
from tests.testbed.bed import Bed as Aws
from tests.testbed.definitions import asked, define

FLEET = "fleet-20260101-000000-0a1b2c3d"
RUN = "run-20260101-000000-0a1b2c3d"
OURS, OTHERS = "starburst-bed-0123456789ab", "starburst-bed-b-0123456789ab"


@pytest.fixture
def aws(aws: Aws) -> Iterator[Aws]:
    """The test bed, for who looks after its site."""
    aws.env.update(aws.as_user("operator"))
    with environment(aws.as_user("operator")):
        yield aws
    aws.env.update(aws.as_user("driver"))


@pytest.fixture
def backend(aws: Aws) -> Iterator[Backend]:
    """The bed's site."""
    opened = open_place(aws_text(aws.site))
    yield opened
    opened.close()


def tagged(aws: Aws, family: str, site: str) -> str:
    """A task definition, of an image that no fleet uses, with a site's tag; its ARN."""
    arn = define(aws, family=family, image="python:3.11")
    aws.boto("ecs").tag_resource(resourceArn=arn, tags=[{"key": "starburst:site", "value": site}])
    return arn


def started(aws: Aws, definition: str, by: str, orders: str = "{}") -> str:
    """A task that takes over its definition's tags; its id."""
    environment = [{"name": "STARBURST_WORKER", "value": orders}]
    overrides = {"containerOverrides": [{"name": "worker", "environment": environment}]}
    ask = asked(aws, definition, startedBy=by, propagateTags="TASK_DEFINITION", overrides=overrides)
    return str(aws.boto("ecs").run_task(**ask)["tasks"][0]["taskArn"]).rpartition("/")[2]


def queue(aws: Aws, name: str, site: str) -> str:
    aws.boto("sqs").create_queue(QueueName=name, tags={"starburst:site": site})
    return name


def living(aws: Aws) -> set[str]:
    return {task["id"] for task in aws.tasks() if task["desired_status"] == "RUNNING"}


def left_by_crashes(aws: Aws) -> dict[str, set[str]]:
    """Of this site: what goes, by kind."""
    definition = tagged(aws, OURS, "bed")
    return {
        "task": {started(aws, definition, FLEET)},
        "queue": {queue(aws, f"starburst-bed-{name}", "bed") for name in (f"{FLEET}-work-dead", f"{RUN}-notices-1")},
        "task definition": {definition.rpartition("/")[2]},
    }


def not_ours(aws: Aws) -> tuple[set[str], set[str], set[str]]:
    """Things that look like this site's, and are not: tasks, queues, task definitions."""
    definition = tagged(aws, OTHERS, "b")
    untagged = define(aws, family="starburst-bed-ba9876543210")
    tasks = {started(aws, each, FLEET) for each in (definition, untagged)}
    queues = {queue(aws, f"starburst-bed-b-{FLEET}-work", "b"), queue(aws, f"starburst-bed-{FLEET}-work", "b")}
    return tasks, queues, {definition, untagged}


def test_what_has_no_owner_goes_and_all_else_stays(aws: Aws, backend: Backend, tmp_path: Path) -> None:
    """Seen first, then removed, then none: beside a run that goes on, a warm fleet, and another site's things."""
    shell = Shell(tmp_path, env=aws.env)
    lost = left_by_crashes(aws)
    tasks, queues, definitions = not_ours(aws)
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        assert cluster.map(abs, [-1]) == [1]
        run = cluster.start(time.sleep, [600])
        aws.until(lambda: run.status().workers)
        before = living(aws)
        seen = json.loads(shell("gc", "--dry-run", "--older-than", "0s", "--json").stdout)
        assert not seen["removed"] and living(aws) == before
        found: dict[str, set[str]] = {}
        for each in seen["things"]:
            found.setdefault(each["kind"], set()).add(each["name"])
        assert seen["failed"] == []
        assert found == lost
        (task,) = [each for each in seen["things"] if each["kind"] == "task"]
        assert task["usd_per_hour"] == pytest.approx(0.25 * 0.04048 + 0.5 * 0.004445 + 0.005, abs=1e-6)
        done = shell("gc", "--older-than", "0s")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 4), done.stderr
        assert "removed 4 things, which cost $0.017 an hour" in done.stderr
        assert "nothing to remove" in shell("gc", "--older-than", "0s").stderr
        assert living(aws) == before - lost["task"] and tasks <= living(aws)
        assert "not known" not in shell("status").stdout
        run.cancel()
        run.wait()
        assert cluster.map(abs, [-2]) == [2]
    left = {url.rpartition("/")[2] for url in aws.boto("sqs").list_queues()["QueueUrls"]}
    assert left == queues
    assert definitions <= {*aws.boto("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"]}
    driver, operator = (actions_of(POLICIES[kind](Site.of(aws.site, ""))) for kind in ("driver", "operator"))
    unused = operator - driver - {action for kind, action in aws.allowed() if kind == "operator"}
    unused -= {"ecs:DeregisterContainerInstance"}  # shown in tests/test_ec2.py
    unused -= {action for action in unused if action.partition(":")[2].startswith(DOCTORS)}  # in tests/test_setup.py
    assert {action for action in unused if not action.startswith(("iam:", "servicequotas:"))} == set()


def test_what_was_just_made_or_just_let_go_is_left(aws: Aws, tmp_path: Path) -> None:
    """For an hour, where nothing else is said: its owner may be about to be written down. Then it goes."""
    lost = left_by_crashes(aws)
    shell = Shell(tmp_path, env=aws.env)
    assert json.loads(shell("gc", "--dry-run", "--json").stdout)["things"] == []
    assert shell("gc").returncode == 0 and lost["task"] <= living(aws)
    found = [each.name for sweep in swept(aws, days=0.05, least_s=3600.0) for each in sweep.found()]
    assert {*found} == {name for names in lost.values() for name in names}


def test_what_gets_an_owner_meanwhile_stays(aws: Aws, backend: Backend) -> None:
    """Between the two looks a fleet is held, by its own name: its task, queue and image are in use."""
    left_by_crashes(aws)
    found = [(sweep, each) for sweep in swept(aws) for each in sweep.found()]
    assert [each.kind for _, each in found] == ["task", "queue", "queue", "task definition"]
    backend.store.put(holders(FleetId(FLEET)) + "cluster", b"python:3.11")
    assert [each.name for sweep, each in found if not sweep.owned(each)] == [f"starburst-bed-{RUN}-notices-1"]


def swept(aws: Aws, *, days: float = 0.0, least_s: float = 0.0) -> Any:
    return sweeps(Site.of(aws.site, "here"), now=time.time() + days * 86400, least_s=least_s, image_days=30)


def test_what_builds_and_broken_uploads_left_goes_after_a_day(aws: Aws, backend: Backend) -> None:
    """By the store's clock; a bucket of the user's has no rule that would do it."""
    backend.store.put("builds/env-1/source/x86_64-1.zip", b"12345")
    upload = aws.boto("s3").create_multipart_upload(Bucket=aws.site["bucket"], Key="runs/x")["UploadId"]
    assert [each.kind for sweep in swept(aws, days=0.9) for each in sweep.found()] == []
    found = [(sweep, each) for sweep in swept(aws, days=1.1) for each in sweep.found()]
    assert [(each.kind, each.name, each.stored) for _, each in found] == [
        ("build", "builds/env-1/", ("s3-storage", 5)),
        ("upload", "runs/x", None),
    ]
    assert found[1][1].at == upload
    for sweep, each in found * 2:  # twice is no error
        sweep.remove(each)
    assert [each for sweep in swept(aws, days=1.1) for each in sweep.found()] == []


def test_a_definition_that_is_gone_is_registered_anew(aws: Aws, backend: Backend) -> None:
    """A driver that has used it before goes on, whoever took it for unused; but not where the site is taken away."""
    fleet = Fleet.of(backend, Resources.of(image=aws.site["image"]), 3)
    fleet.hold("cluster")
    assert fleet.launch([0]) is None
    ecs = aws.boto("ecs")
    for arn in ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"]:
        ecs.deregister_task_definition(taskDefinition=arn)
    wait = fleet.launch([1])
    assert wait is not None and wait.reason == "its task definition to be registered anew"
    assert fleet.launch([1]) is None
    assert len(fleet.states()) == 2
    fleet.close()


def test_what_is_forged_of_a_fleet_stops_nobody_s_task(aws: Aws, backend: Backend) -> None:
    """Who may write to the bucket names a fleet as others' tasks say they were started by; the site's own go."""
    theirs, mine = started(aws, define(aws), FLEET), started(aws, tagged(aws, OURS, "bed"), FLEET)
    backend.store.put(f"{worker_records(FleetId(FLEET))}granted-000000-0000-00", b"forged")
    assert [worker.id for worker in backend.compute.workers(FleetId(FLEET))] == [mine]
    backend.compute.stop(FleetId(FLEET), [WorkerId(theirs)], grace_s=0)
    assert {theirs, mine} <= living(aws)
    backend.compute.forget(FleetId(FLEET))
    assert theirs in living(aws) and mine not in living(aws)


def test_a_record_that_none_of_ours_wrote_is_no_record(aws: Aws, backend: Backend) -> None:
    """It stands where the next launch would be written down, and beside that: workers are launched, and seen."""
    fleet = Fleet.of(backend, Resources.of(image=aws.site["image"]), 3)
    fleet.hold("cluster")
    for key in (launch_record(fleet.id, 0, 0), f"{worker_records(fleet.id)}stops-00"):
        backend.store.put(key, b"forged")
    until = time.monotonic() + 20
    while (wait := fleet.launch([0])) is not None and time.monotonic() < until:
        time.sleep(0.1)
    assert wait is None
    assert len(fleet.states()) == len(fleet.tended()) == len(living(aws)) == 1
    fleet.close()
    assert not living(aws)


def test_one_kind_that_may_not_be_looked_at_does_not_keep_the_others(aws: Aws, tmp_path: Path) -> None:
    """What is wrong is told, with exit code 5; what could be removed is."""
    lost = left_by_crashes(aws)
    aws.fault(service="sqs", operation="ListQueues", code="AccessDenied", status=403)
    done = Shell(tmp_path, env=aws.env)("gc", "--older-than", "0s")
    assert done.returncode == 5
    assert "error: queues are not looked at: not allowed to do sqs:ListQueues" in done.stderr
    assert "or use others; `starburst iam-policy operator` prints what gc takes, beyond a driver's" in done.stderr
    assert not lost["task"] & living(aws)


def test_on_this_machine_expired_runs_go(tmp_path: Path) -> None:
    """Which can be seen before; one that is kept is none of them."""
    shell = Shell(tmp_path)
    assert shell("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n").returncode == 0
    done = shell("gc")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing to remove\n")
    opened = local_backend(shell.home)
    later = store_time(opened) + 8 * 86400
    (run,) = expired(opened, later)
    assert expired(opened, later - 2 * 86400) == []
    assert prune(opened, later) == [run]
    opened.close()
