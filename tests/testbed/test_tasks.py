"""The bed's ECS against what AWS documents of tasks. Sources are named rule by rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.testbed.bed import Bed
from tests.testbed.definitions import asked, define, described, heeding, reached, run

SPOT = [{"capacityProvider": "FARGATE_SPOT"}]


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    """Code and message of an AWS error."""
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def test_a_task_passes_its_states_in_order(bed: Bed) -> None:
    """PROVISIONING, PENDING, RUNNING, DEPROVISIONING, STOPPED (ECS developer guide, "Task lifecycle")."""
    bed.set(provisioning_s=0.2, pull_s=0.2, starting_s=0.1, deprovisioning_s=0.2)
    [arn] = run(bed, define(bed, "import time; time.sleep(0.3)"))
    seen: list[str] = []
    while "STOPPED" not in seen:
        seen.append(described(bed, arn)["lastStatus"])
    order = ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert seen == sorted(seen, key=order.index)  # whichever of them were met
    (task,) = bed.tasks()
    assert task["statuses"] == order


def test_a_stopped_task_tells_when_how_and_why(bed: Bed) -> None:
    """Times rise; stopCode and exit code tell of the container's own end (ECS API reference, Task, Container)."""
    [arn] = run(bed, define(bed, "raise SystemExit(3)"))
    task = reached(bed, arn, "STOPPED")
    names = ["createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "executionStoppedAt", "stoppedAt"]
    times = [task[name] for name in names]
    assert times == sorted(times)
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert (task["desiredStatus"], task["containers"][0]["lastStatus"]) == ("STOPPED", "STOPPED")
    assert task["containers"][0]["exitCode"] == 3


def test_tasks_start_ten_at_most_to_a_call(bed: Bed) -> None:
    """count is 1 to 10 (ECS API reference, RunTask)."""
    definition = define(bed)
    assert len(run(bed, definition, count=10)) == 10
    for count in (0, 11):
        with pytest.raises(ClientError) as error:
            run(bed, definition, count=count)
        assert refused(error)[0] == "InvalidParameterException"


def test_a_client_token_starts_tasks_once(bed: Bed) -> None:
    """The same token and parameters give the same tasks; others a conflict (ECS API reference, "Idempotency")."""
    definition = define(bed)
    first = run(bed, definition, count=2, clientToken="t1")
    assert run(bed, definition, count=2, clientToken="t1") == first
    with pytest.raises(ClientError) as error:
        run(bed, definition, count=3, clientToken="t1")
    assert refused(error)[0] == "ConflictException"
    assert len(bed.tasks()) == 2


def test_a_client_token_is_known_for_a_day_or_an_hour_after_its_tasks(bed: Bed) -> None:
    """Whichever is sooner, and of one cluster's (ECS API reference, "Ensuring idempotency")."""
    bed.boto("ecs").create_cluster(clusterName="other", capacityProviders=["FARGATE"])
    definition = define(bed)
    first = run(bed, definition, clientToken="t1")
    assert run(bed, definition, clientToken="t1", cluster="other") != first
    bed.elapse(23 * 3600)
    assert run(bed, definition, clientToken="t1") == first
    bed.elapse(3600)
    second = run(bed, definition, clientToken="t1")
    assert second != first
    bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=second[0])
    reached(bed, second[0], "STOPPED")
    bed.elapse(3500)
    assert run(bed, definition, clientToken="t1") == second
    bed.elapse(200)
    assert run(bed, definition, clientToken="t1") != second


def test_a_refused_call_leaves_its_token_free(bed: Bed) -> None:
    """A call that started nothing may come again under its token: nothing was made that the token could stand for."""
    definition = define(bed)
    bed.quota(on_demand_vcpu=0)
    with pytest.raises(ClientError):
        run(bed, definition, clientToken="t1")
    bed.quota(on_demand_vcpu=1)
    assert len(run(bed, definition, clientToken="t1")) == 1


def test_what_fits_the_quota_starts_and_the_rest_fails(bed: Bed) -> None:
    """An answer may hold failures; none startable: an error (ECS API reference, RunTask; text: field reports)."""
    definition = define(bed)
    bed.quota(on_demand_vcpu=1)
    answer = bed.boto("ecs").run_task(**asked(bed, definition, count=6))
    assert (len(answer["tasks"]), len(answer["failures"])) == (4, 2)
    with pytest.raises(ClientError) as error:
        run(bed, definition)
    assert refused(error) == (
        "ClientException",
        "You've reached the limit on the number of vCPUs you can run concurrently",
    )
    assert len(run(bed, definition, capacityProviderStrategy=SPOT)) == 1, "Spot has a quota of its own"


def test_a_launch_beyond_the_quota_is_refused_in_either_form(bed: Bed) -> None:
    """In turn: an exception, an answer without tasks (ECS API reference, RunTask, read 2026-11-30; field reports)."""
    definition = define(bed)
    bed.quota(on_demand_vcpu=0)
    for _ in range(2):
        with pytest.raises(ClientError):
            run(bed, definition, clientToken="t1")
        answer = bed.boto("ecs").run_task(**asked(bed, definition, count=2, clientToken="t1"))
        assert answer["tasks"] == [] and len(answer["failures"]) == 2
        assert "limit on the number of vCPUs" in answer["failures"][0]["reason"]
    bed.set(quota_form="failures", on_demand_vcpu=0.25)
    assert len(run(bed, definition, clientToken="t1")) == 1


def test_a_cluster_with_tasks_or_services_stays(bed: Bed) -> None:
    """ClusterContainsTasksException and ClusterContainsServicesException (ECS API reference, DeleteCluster)."""
    ecs, definition = bed.boto("ecs"), define(bed)
    ecs.create_cluster(clusterName="busy", capacityProviders=["FARGATE"])
    (task,) = run(bed, definition, cluster="busy")
    for code in ("ClusterContainsServicesException", "ClusterContainsTasksException"):
        if "Services" in code:
            ecs.create_service(cluster="busy", serviceName="s", taskDefinition=definition, desiredCount=0)
        with pytest.raises(ClientError) as error:
            ecs.delete_cluster(cluster="busy")
        assert refused(error)[0] == code
        if "Services" in code:
            ecs.delete_service(cluster="busy", service="s", force=True)
    ecs.stop_task(cluster="busy", task=task)
    bed.until(lambda: not any(each["last_status"] != "STOPPED" for each in bed.tasks()))
    ecs.delete_cluster(cluster="busy")


def test_quotas_can_be_read(bed: Bed) -> None:
    """GetServiceQuota gives what RunTask goes by (Service Quotas; codes: ECS developer guide, "Service quotas")."""
    bed.quota(on_demand_vcpu=8, spot_vcpu=16)
    quotas = bed.boto("service-quotas")
    found = [
        quotas.get_service_quota(ServiceCode="fargate", QuotaCode=code)["Quota"]["Value"]
        for code in ("L-3032A538", "L-36FBB829")
    ]
    assert found == [8.0, 16.0]
    with pytest.raises(ClientError) as error:
        quotas.get_service_quota(ServiceCode="fargate", QuotaCode="L-00000000")
    assert refused(error)[0] == "NoSuchResourceException"


def test_capacity_is_a_zones_own(bed: Bed) -> None:
    """No room in the zone that a task is given is its failure, whatever others have (ECS developer guide, reasons)."""
    definition = define(bed)
    bed.capacity(zones={"us-east-1a": 0, "us-east-1b": 2, "us-east-1c": 0})
    answer = bed.boto("ecs").run_task(**asked(bed, definition, count=3))
    assert {task["availabilityZone"] for task in answer["tasks"]} == {"us-east-1b"}
    assert len(answer["tasks"]) == 1
    assert [failure["reason"] for failure in answer["failures"]] == 2 * [
        "Capacity is unavailable at this time. Please try again later or in a different availability zone"
    ]


def test_a_strategy_spreads_by_base_and_weight(bed: Bed) -> None:
    """Base first, the rest by weight, per call (ECS API reference, CapacityProviderStrategyItem)."""
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 3},
    ]
    answer = bed.boto("ecs").run_task(**asked(bed, define(bed), count=9, capacityProviderStrategy=strategy))
    providers = [task["capacityProviderName"] for task in answer["tasks"]]
    assert (providers.count("FARGATE"), providers.count("FARGATE_SPOT")) == (3, 6)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"cluster": "other"}, "ClusterNotFoundException"),
        ({"taskDefinition": "unknown:1"}, "ClientException"),
        ({"networkConfiguration": {}}, "InvalidParameterException"),
        ({"startedBy": "x" * 129}, "InvalidParameterException"),
        ({"overrides": {"cpu": "256", "memory": "4096"}}, "ClientException"),
        ({"overrides": {"containerOverrides": [{"name": "other"}]}}, "InvalidParameterException"),
        (
            {"overrides": {"containerOverrides": [{"name": "worker", "command": ["x" * 8200]}]}},
            "InvalidParameterException",
        ),
        ({"capacityProviderStrategy": [{"capacityProvider": "unknown"}]}, "InvalidParameterException"),
    ],
)
def test_a_call_that_asks_amiss_starts_nothing(bed: Bed, change: dict[str, Any], code: str) -> None:
    """Errors of RunTask (ECS API reference, RunTask; overrides: 8192 characters; startedBy: 128)."""
    with pytest.raises(ClientError) as error:
        bed.boto("ecs").run_task(**(asked(bed, define(bed), **change)))
    assert refused(error)[0] == code
    assert bed.tasks() == []


def test_only_fargates_sizes_can_be_registered_and_run(bed: Bed) -> None:
    """CPU and memory come in pairs (ECS developer guide, "Task CPU and memory"); overrides resize a task."""
    with pytest.raises(ClientError, match="No Fargate configuration exists for given values"):
        bed.boto("ecs").register_task_definition(
            family="bad",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="8192",
            containerDefinitions=[{"name": "worker", "image": "x"}],
        )
    [arn] = run(bed, define(bed), overrides={"cpu": "1024", "memory": "4096"})
    task = described(bed, arn)
    assert (task["cpu"], task["memory"], task["overrides"]["cpu"]) == ("1024", "4096", "1024")


def test_an_unknown_task_is_missing(bed: Bed) -> None:
    """DescribeTasks lists it in failures, reason MISSING; 100 tasks at most (ECS API reference, DescribeTasks)."""
    answer = bed.boto("ecs").describe_tasks(cluster=bed.site["cluster"], tasks=["0" * 32])
    assert answer["tasks"] == [] and answer["failures"][0]["reason"] == "MISSING"
    with pytest.raises(ClientError, match="100"):
        bed.boto("ecs").describe_tasks(cluster=bed.site["cluster"], tasks=["0" * 32] * 101)


def test_a_new_task_may_not_be_seen_at_once(bed: Bed) -> None:
    """The API is eventually consistent (ECS API reference, RunTask)."""
    bed.set(describe_lag_s=60)
    [arn] = run(bed, define(bed))
    ecs, cluster = bed.boto("ecs"), bed.site["cluster"]
    assert ecs.describe_tasks(cluster=cluster, tasks=[arn])["failures"][0]["reason"] == "MISSING"
    bed.elapse(61)
    bed.until(lambda: ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"])


def test_lists_come_in_pages_of_what_should_run(bed: Bed) -> None:
    """maxResults and nextToken; filters; desiredStatus RUNNING unless said (ECS API reference, ListTasks)."""
    mine = run(bed, define(bed), count=5, startedBy="me")
    other = run(bed, define(bed, family="other"), startedBy="you")
    bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=mine[0])
    pages = bed.boto("ecs").get_paginator("list_tasks")
    found = [
        page["taskArns"]
        for page in pages.paginate(cluster=bed.site["cluster"], startedBy="me", PaginationConfig={"PageSize": 3})
    ]
    assert found == [mine[1:4], mine[4:]]
    ecs, cluster = bed.boto("ecs"), bed.site["cluster"]
    assert ecs.list_tasks(cluster=cluster, family="other")["taskArns"] == other
    assert ecs.list_tasks(cluster=cluster, desiredStatus="STOPPED")["taskArns"] == mine[:1]


def test_a_stopped_task_is_forgotten_in_time(bed: Bed) -> None:
    """Stopped tasks are described for about an hour (ECS API reference, StopTask): here, as long as is set."""
    [arn] = run(bed, define(bed, "pass"))
    reached(bed, arn, "STOPPED")
    bed.set(stopped_kept_s=0)
    answer = bed.boto("ecs").describe_tasks(cluster=bed.site["cluster"], tasks=[arn])
    assert answer["failures"][0]["reason"] == "MISSING"


def test_stopping_is_sigterm_then_sigkill(bed: Bed) -> None:
    """SIGTERM, after stopTimeout SIGKILL and exit code 137; stopCode UserInitiated (ECS API reference, StopTask)."""
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    arns = [*run(bed, define(bed)), *run(bed, define(bed, stubborn, stopTimeout=2))]
    for arn in arns:
        reached(bed, arn, "RUNNING")
    heeding(bed, arns[1], "SigIgn")
    for arn in arns:
        bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=arn, reason="enough")
    yielding, stubborn_one = (reached(bed, arn, "STOPPED") for arn in arns)
    assert [task["containers"][0]["exitCode"] for task in (yielding, stubborn_one)] == [143, 137]
    assert (yielding["stopCode"], yielding["stoppedReason"]) == ("UserInitiated", "enough")
    assert (stubborn_one["stoppedAt"] - stubborn_one["stoppingAt"]).total_seconds() >= 2


def test_an_unknown_task_cannot_be_stopped(bed: Bed) -> None:
    """InvalidParameterException, "The referenced task was not found." (ECS API; field reports)."""
    with pytest.raises(ClientError) as error:
        bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task="0" * 32)
    assert refused(error) == ("InvalidParameterException", "The referenced task was not found.")


def test_a_task_stopped_early_never_starts(bed: Bed) -> None:
    """It ends without an exit code, for no container ran (ECS API reference, Container.exitCode)."""
    bed.set(provisioning_s=5)
    [arn] = run(bed, define(bed))
    bed.boto("ecs").stop_task(cluster=bed.site["cluster"], task=arn)
    task = reached(bed, arn, "STOPPED")
    assert task["stopCode"] == "UserInitiated"
    assert "startedAt" not in task and "exitCode" not in task["containers"][0]


def test_an_image_that_is_not_there_fails_the_start(bed: Bed) -> None:
    """TaskFailedToStart, no exit code (ECS developer guide, "CannotPullContainer task errors")."""
    bed.set(images=["*:worker"])
    [arn] = run(bed, define(bed, image="repo:unknown"))
    task = reached(bed, arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError: pull image manifest has been retried 1 time(s)")
    assert "exitCode" not in task["containers"][0]


def test_spot_takes_a_task_with_warning(bed: Bed) -> None:
    """SIGTERM, stopCode SpotInterruption; only Spot tasks (ECS developer guide, "Fargate capacity providers")."""
    script = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); print(1); time.sleep(600)"
    )
    definition = define(bed, script)
    [spot] = run(bed, definition, capacityProviderStrategy=SPOT)
    [firm] = run(bed, definition)
    for arn in (spot, firm):
        reached(bed, arn, "RUNNING")
        heeding(bed, arn, "SigCgt")
    assert bed.interrupt_spot(share=1.0) == [spot.rpartition("/")[2]]
    task = reached(bed, spot, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    assert task["containers"][0]["exitCode"] == 9
    assert described(bed, firm)["lastStatus"] == "RUNNING"


def test_a_crash_takes_all_a_container_started(bed: Bed) -> None:
    """A killed container ends with 137, and nothing of it runs on: its processes share its end."""
    script = (
        "import subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
        "time.sleep(600)"
    )
    [arn] = run(bed, define(bed, script))
    reached(bed, arn, "RUNNING")
    heeding(bed, arn, "", processes=2)
    assert bed.kill_some(1) == [arn.rpartition("/")[2]]
    task = reached(bed, arn, "STOPPED")
    assert (task["containers"][0]["exitCode"], task["stopCode"]) == (137, "EssentialContainerExited")
    assert bed.leftovers()["processes"] == []


def test_secrets_and_overrides_reach_the_container_and_its_lines_the_log(bed: Bed) -> None:
    """Streams are prefix/container/task (ECS developer guide, "Send Amazon ECS logs to CloudWatch", "Secrets")."""
    bed.boto("logs").create_log_group(logGroupName="/tried")
    parameter = "arn:aws:ssm:us-east-1:123456789012:parameter/tried"
    bed.boto("ssm").put_parameter(Name="/tried", Value="from ssm", Type="String")
    bed.grant({**bed.site, "name": "tried", "signing_secret": parameter, "log_group": "/tried"})
    options = {"awslogs-group": "/tried", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "w"}
    definition = define(
        bed,
        "import os, sys; print(len(os.environ['KEY']), *(os.environ[n] for n in ('PARAMETER', 'BY_NAME', 'A', 'B'))); "
        "print('to stderr', file=sys.stderr)",
        secrets=[
            {"name": "KEY", "valueFrom": bed.site["signing_secret"]},
            {"name": "PARAMETER", "valueFrom": parameter},
            {"name": "BY_NAME", "valueFrom": "/tried"},
        ],
        environment=[{"name": "A", "value": "definition"}, {"name": "B", "value": "definition"}],
        logConfiguration={"logDriver": "awslogs", "options": options},
    )
    change = {"name": "worker", "environment": [{"name": "B", "value": "override"}]}
    [arn] = run(bed, definition, overrides={"containerOverrides": [change]})
    reached(bed, arn, "STOPPED")
    stream = f"w/worker/{arn.rpartition('/')[2]}"
    events = bed.boto("logs").get_log_events(logGroupName="/tried", logStreamName=stream)["events"]
    assert {event["message"] for event in events} == {"64 from ssm from ssm definition override", "to stderr"}


def test_a_parameter_has_a_name_and_an_arn(bed: Bed) -> None:
    """Asked for by either, written by name (Systems Manager API reference, GetParameter and PutParameter).

    The ARN of a name that begins with a slash has it once. A name with further slashes begins with one.
    """
    ssm, arn = bed.boto("ssm"), "arn:aws:ssm:us-east-1:123456789012:parameter"
    for name, value in (("plain", "a"), ("/deep/er", "b")):
        ssm.put_parameter(Name=name, Value=value, Type="String")
    for asked_for, name in (("plain", "plain"), (f"{arn}/plain", "plain"), ("/deep/er", "/deep/er")):
        assert ssm.get_parameter(Name=asked_for)["Parameter"]["Name"] == name
    found = ssm.get_parameter(Name=f"{arn}/deep/er")["Parameter"]
    assert (found["Name"], found["ARN"]) == ("/deep/er", f"{arn}/deep/er")
    assert {each["Value"] for each in ssm.get_parameters(Names=[f"{arn}/plain", "/deep/er"])["Parameters"]} == {
        "a",
        "b",
    }
    for wrong in (f"{arn}/deep", "deep/er"):
        with pytest.raises(ssm.exceptions.ClientError):
            ssm.get_parameter(Name=wrong)
    for wrong in (f"{arn}/plain", "deep/er"):
        with pytest.raises(ClientError) as error:
            ssm.put_parameter(Name=wrong, Value="c", Type="String", Overwrite=True)
        assert refused(error)[0] == "ValidationException"
    with pytest.raises(ClientError, match="another region"):
        ssm.get_parameter(Name=f"{arn.replace('us-east-1', 'eu-west-1')}/plain")


@pytest.mark.parametrize("missing", ["secret", "log group"])
def test_what_a_start_needs_must_be_there(bed: Bed, missing: str) -> None:
    """ResourceInitializationError, TaskFailedToStart (ECS developer guide, "ResourceInitializationError errors")."""
    options = {"awslogs-group": "/none", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "w"}
    bed.grant(
        {**bed.site, "name": "none", "log_group": "/none", "signing_secret": bed.site["signing_secret"][:-6] + "absent"}
    )
    extra: dict[str, Any] = (
        {"secrets": [{"name": "KEY", "valueFrom": bed.site["signing_secret"][:-6] + "absent"}]}
        if missing == "secret"
        else {"logConfiguration": {"logDriver": "awslogs", "options": options}}
    )
    [arn] = run(bed, define(bed, **extra))
    task = reached(bed, arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("ResourceInitializationError: ")


def test_a_container_finds_credentials_and_itself(bed: Bed) -> None:
    """boto3's container provider gets keys; metadata names task and limits (ECS developer guide, "Metadata v4")."""
    bucket = bed.site["bucket"]
    script = (
        "import boto3, json, os, urllib.request as u; "
        "t = json.load(u.urlopen(os.environ['ECS_CONTAINER_METADATA_URI_V4'] + '/task')); "
        "s = boto3.Session(); "
        "t['Method'] = s.get_credentials().method; "
        f"s.client('s3').put_object(Bucket='{bucket}', Key='runs/said', Body=json.dumps(t))"
    )
    [arn] = run(bed, define(bed, script))
    task = reached(bed, arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 0
    said = json.loads(bed.boto("s3").get_object(Bucket=bucket, Key="runs/said")["Body"].read())
    assert said["Method"] == "container-role"
    assert (said["TaskARN"], said["Family"], said["Limits"]) == (arn, "tried", {"CPU": 0.25, "Memory": 512})
    assert said["AvailabilityZone"] == task["availabilityZone"]
