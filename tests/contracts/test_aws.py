"""What the adapters for AWS promise beyond the ports: how they meet AWS's limits, refusals, and its lost answers.

Sources are the services' own guides and API references, as named in each test; read 2026-11-22. Not shown here: entries
of a batch that SQS refuses for now, and a task that runs out of memory, since the test bed has neither.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from starburst_common.aws import access, aws_backend, aws_backend_at
from starburst_common.aws import store as s3
from starburst_common.aws.accounts import Account
from starburst_common.aws.clients import Clients
from starburst_common.aws.compute import EcsCompute
from starburst_common.aws.launches import Launches
from starburst_common.aws.queue import SqsQueue
from starburst_common.aws.requests import address_of, log_stream, placed, run_task
from starburst_common.errors import BadInput, CannotLaunch, Denied, Exists, NotFound, Unavailable
from starburst_common.ids import new_fleet_id
from starburst_common.model import FleetId, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.money.estimate import charge
from starburst_common.money.meter import Rates, metered
from starburst_common.names import FLEETS, work_queue, worker_records
from starburst_common.ports import Backend, Depth, ObjectStore, WorkerSpec
from starburst_common.resources import Resources
from starburst_common.runs.bills import bill_of
from starburst_common.sites.site import Site
from starburst_worker.leases import Leases
from tests.contracts.conftest import obeys
from tests.contracts.rivals import at_once, launch
from tests.contracts.slow import slow_link
from tests.places import aws_text, environment, open_place
from tests.secure import secure_store
from tests.testbed.bed import Bed as Aws
from tests.testbed.private import private_network

HOUR_S = 3600.0
MIB = 1 << 20
ROLE = "arn:aws:iam::123456789012:role/t"
NO_PASS = f"User: arn:aws:iam::123456789012:user/u is not authorized to perform: iam:PassRole on resource: {ROLE}"


class Clock:
    """Stands still until it is moved."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def backend(aws: Aws) -> Iterator[Backend]:
    """The test bed's site, opened."""
    opened = open_place(aws_text(aws.site))
    yield opened
    opened.close()


@pytest.fixture
def clients(aws: Aws) -> Iterator[Clients]:
    """For adapters that a test makes itself."""
    opened = Clients(aws.site["region"])
    yield opened
    opened.close()


@pytest.fixture
def unborn(aws: Aws) -> None:
    """Tasks stay in PROVISIONING, so that there can be many."""
    aws.set(provisioning_s=600.0)


def fleet_of(backend: Backend, *, spot: bool = False, queue: bool = False) -> WorkerSpec:
    """Workers of one vCPU; they stay if their queue is there."""
    fleet = new_fleet_id()
    if queue:
        backend.queue.ensure(work_queue(fleet))
    return WorkerSpec(
        fleet=fleet,
        resources=replace(Resources.of(1), spot=spot),
        pace=replace(backend.pace, idle_s=60.0, lifetime_s=60.0),
    )


def another(aws: Aws, clients: Clients, backend: Backend, **changes: Any) -> EcsCompute:
    """Another driver's compute on the same site, or on one that differs."""
    clocks = {name: changes.pop(name) for name in ("clock", "pace") if name in changes}
    site = Site.of({**aws.site, **changes}, "the test")
    aws.grant({**aws.site, **changes})
    return EcsCompute(site, clients, backend.store, backend.key, **clocks)


def until(backend: Backend, fleet: FleetId, there: Callable[[list[WorkerState]], bool]) -> list[WorkerState]:
    """Wait for the fleet's workers to be so."""
    deadline = time.monotonic() + 120.0
    while not there(states := backend.compute.tend(fleet)):
        assert time.monotonic() < deadline, states
        time.sleep(0.05)
    return states


def ordinals(states: list[WorkerState]) -> list[int]:
    """Of all."""
    return [state.ordinal for state in states]


# --- S3: writes whose answer is lost ----------------------------------------------------------------------------------

DONE_BUT_LOST = [{"code": "InternalError", "after": True}, {"reset": True, "after": True}]
REFUSED_FOR_NOW = [
    {"code": "SlowDown", "times": 3},
    {"code": "InternalError", "times": 3},
    {"reset": True, "times": 3},
]


@pytest.mark.parametrize("fault", DONE_BUT_LOST)
def test_a_create_that_went_through_unheard_is_ours(aws: Aws, backend: Backend, fault: dict[str, Any]) -> None:
    """Sent again it meets itself, which S3 tells by 412 (S3 User Guide, "Conditional writes"): ours all the same.

    Somebody else's is still `Exists`.
    """
    aws.fault(service="s3", operation="PutObject", **fault)
    backend.store.create("runs/a", b"first")
    assert aws.requests()["s3", "PutObject"] == 2
    assert bytes(backend.store.get("runs/a")) == b"first"
    aws.fault(service="s3", operation="PutObject", **fault)
    with pytest.raises(Exists, match="runs/a"):
        backend.store.create("runs/a", b"second")
    assert bytes(backend.store.get("runs/a")) == b"first"


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("PutObject", {"code": "ConditionalRequestConflict", "times": 3}),
        *product(["PutObject", "GetObject", "ListObjectsV2", "DeleteObjects"], REFUSED_FOR_NOW),
    ],
)
def test_what_s3_refuses_for_now_is_tried_again(
    aws: Aws, backend: Backend, operation: str, fault: dict[str, Any]
) -> None:
    """409 is no answer yet, 503 asks for patience (S3 API reference, "Error responses"); connections may break."""
    aws.fault(service="s3", operation=operation, **fault)
    backend.store.create("runs/a", b"body")
    assert bytes(backend.store.get("runs/a")) == b"body"
    assert list(backend.store.list("runs/")) == ["runs/a"]
    backend.store.delete(["runs/a"])
    assert list(backend.store.list("runs/")) == []
    assert aws.faults()[0]["hits"] == 3


def test_a_big_body_goes_in_parts_and_one_writer_wins(aws: Aws, backend: Backend) -> None:
    """Above 64 MiB, completed on the condition that the key is free (S3 User Guide, "Conditional writes").

    A writer that comes in between wins: the other is told `Exists`, and leaves behind no parts to be paid for.
    """
    complete = "s3", "CompleteMultipartUpload"
    aws.fault(service="s3", operation="CompleteMultipartUpload", delay_s=2.0)
    with ThreadPoolExecutor(1) as pool:
        big = pool.submit(backend.store.create, "runs/big", bytes(64 * MIB + 1))
        aws.until(lambda: aws.requests().get(complete))
        backend.store.create("runs/big", b"first")
        with pytest.raises(Exists, match="runs/big"):
            big.result()
    assert bytes(backend.store.get("runs/big")) == b"first"
    assert aws.requests()[complete] == 1
    assert aws.requests()["s3", "UploadPart"] == 5
    assert "Uploads" not in aws.boto("s3").list_multipart_uploads(Bucket=aws.site["bucket"])


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "CompleteMultipartUpload", "code": "InternalError", "after": True},
        {"operation": "CompleteMultipartUpload", "code": "ConditionalRequestConflict"},
        {"operation": "UploadPart", "reset": True},
    ],
)
def test_a_big_body_outlives_what_goes_wrong(aws: Aws, backend: Backend, fault: dict[str, Any]) -> None:
    """A completion that went through unheard, one in another's way (then the upload is begun anew), a lost part."""
    body = secrets.token_bytes(MIB) * 65
    aws.fault(service="s3", **fault)
    backend.store.create("runs/big", body)
    assert backend.store.get("runs/big") == body
    assert aws.faults()[0]["hits"] == 1
    assert "Uploads" not in aws.boto("s3").list_multipart_uploads(Bucket=aws.site["bucket"])


def test_a_page_opens_in_a_browser(aws: Aws, clients: Clients, backend: Backend) -> None:
    """S3 gives it as HTML, and the console's URL names its region, bucket and key."""
    url = backend.store.publish("runs/run-1/report.html", "<p>report</p>")
    bucket, region = aws.site["bucket"], aws.site["region"]
    found = clients.s3.get_object(Bucket=bucket, Key="runs/run-1/report.html")
    assert (found["ContentType"], found["Body"].read()) == ("text/html; charset=utf-8", b"<p>report</p>")
    assert url == (
        f"https://{region}.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix=runs/run-1/report.html"
    )


def test_deletes_go_by_the_thousand(aws: Aws, backend: Backend) -> None:
    """As many as a call takes (S3 API reference, DeleteObjects)."""
    keys = [f"old/{number:04d}" for number in range(2100)]
    for key in keys[::500]:
        backend.store.put(key, b"")
    backend.store.delete(keys)
    assert list(backend.store.list("old/")) == []
    assert aws.requests()["s3", "DeleteObjects"] == 3


# --- SQS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def queue(backend: Backend) -> Backend:
    """With a queue, `work`."""
    backend.queue.ensure("work")
    return backend


def test_renewals_end_with_the_twelfth_hour(aws: Aws, clients: Clients) -> None:
    """Of a message's lease, all renewals included (SQS Developer Guide, "Visibility timeout").

    A renewal that would go beyond is cut short; when the hours are over, the lease is no longer ours, and stays so.
    """
    aws.stop_clock()
    clock = Clock()
    queue = SqsQueue(clients, prefix="starburst-bed-", tags={}, clock=clock)
    queue.ensure("work")
    queue.send("work", ["a"], group="g")
    (message,) = queue.receive("work", limit=1, lease_s=60, wait_s=0)
    clock.at = 12 * HOUR_S - 1.5
    assert queue.extend("work", [message.receipt], 60) == []
    other = SqsQueue(clients, prefix="starburst-bed-", tags={})
    assert other.receive("work", limit=1, lease_s=60, wait_s=0) == []
    aws.elapse(2)
    (again,) = other.receive("work", limit=1, lease_s=60, wait_s=0)
    assert again.body == "a"
    clock.at = 12 * HOUR_S
    assert queue.extend("work", [message.receipt], 60) == [message.receipt]
    asked: list[dict[str, Any]] = []
    clients.sqs.meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibilityBatch", lambda params, **_: asked.append(params)
    )
    clock.at = 13 * HOUR_S
    assert queue.receive("work", limit=1, lease_s=60, wait_s=0) == []
    assert queue.extend("work", [message.receipt], 60) == [message.receipt]
    assert asked == [], "the hours do not begin anew, whatever was asked in between"


def test_what_sqs_cannot_do_is_refused_at_once(queue: Backend) -> None:
    """A lease over 12 hours, a delay over 15 minutes (SQS Developer Guide, "Message quotas")."""
    queue.queue.send("work", ["a"], group="g", delay_s=900)
    with pytest.raises(ValueError, match="900 s at most"):
        queue.queue.send("work", ["a"], group="g", delay_s=901)
    assert queue.queue.receive("work", limit=1, lease_s=12 * HOUR_S, wait_s=0) == []
    with pytest.raises(ValueError, match="43200 s at most"):
        queue.queue.receive("work", limit=1, lease_s=12 * HOUR_S + 1, wait_s=0)


def test_a_batch_holds_a_mebibyte(aws: Aws, queue: Backend) -> None:
    """Of all its messages together (SQS Developer Guide, "Message quotas"): eleven of 200 kB go in three calls."""
    bodies = [f"{number:02d}" + "x" * 199_998 for number in range(11)]
    queue.queue.send("work", bodies, group="g")
    assert aws.requests()["sqs", "SendMessageBatch"] == 3
    got = [message.body for _ in range(11) for message in queue.queue.receive("work", limit=1, lease_s=60, wait_s=0)]
    assert sorted(got) == bodies


@pytest.mark.parametrize(
    "fault",
    [
        {"code": "ThrottlingException", "status": 400, "times": 2},
        {"code": "ServiceUnavailable", "status": 503, "times": 2},
        {"code": "InternalFailure", "status": 500, "times": 1, "after": True},
        {"reset": True, "times": 2},
    ],
)
@pytest.mark.parametrize(
    "operation", ["SendMessageBatch", "ReceiveMessage", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"]
)
def test_what_sqs_refuses_for_now_is_tried_again(
    aws: Aws, queue: Backend, operation: str, fault: dict[str, Any]
) -> None:
    """Throttled, failed and cut-off calls; one that was done and not heard of may be done twice, never not at all."""
    aws.fault(service="sqs", operation=operation, **fault)
    queue.queue.send("work", ["a", "b"], group="g")
    queue.queue.receive("work", limit=10, lease_s=1, wait_s=0)  # its answer may be lost; both come again
    held: dict[str, str] = {}
    until = time.monotonic() + 10
    while len(held) < 2 and time.monotonic() < until:
        again = queue.queue.receive("work", limit=10, lease_s=30, wait_s=1.5)
        held |= {message.body: message.receipt for message in again}
    assert set(held) == {"a", "b"}
    receipts = list(held.values())
    assert queue.queue.extend("work", receipts, 30) == []
    queue.queue.delete("work", receipts)
    assert aws.faults()[0]["hits"] == fault["times"]


def test_a_queue_just_made_is_waited_for(aws: Aws, queue: Backend) -> None:
    """It can be used a second later (SQS API reference, CreateQueue): until then "not there" is not believed."""
    for operation in ("SendMessageBatch", "ReceiveMessage"):
        aws.fault(
            service="sqs", operation=operation, code="AWS.SimpleQueueService.NonExistentQueue", status=400, times=2
        )
    queue.queue.send("work", ["a"], group="g")
    assert [message.body for message in queue.queue.receive("work", limit=1, lease_s=60, wait_s=0)] == ["a"]


def test_a_queue_that_somebody_else_dropped_is_not_found(aws: Aws, queue: Backend) -> None:
    """Though its address is known: `NonExistentQueue` is `NotFound` to senders and receivers, and nothing to others."""
    other = open_place(aws_text(aws.site))
    other.queue.send("work", ["a"], group="g")
    (message,) = other.queue.receive("work", limit=1, lease_s=3600, wait_s=0)
    queue.queue.drop("work")
    aws.elapse(60)  # so long it may take requests yet
    with pytest.raises(NotFound, match="sqs:SendMessage work"):
        other.queue.send("work", ["b"], group="g")
    with pytest.raises(NotFound, match="sqs:ReceiveMessage work"):
        other.queue.receive("work", limit=1, lease_s=60, wait_s=0)
    assert other.queue.extend("work", [message.receipt], 60) == [message.receipt]
    other.queue.delete("work", [message.receipt])
    assert other.queue.depth("work") == Depth(0, 0)
    other.close()


def test_a_worker_asks_nobody_where_its_queue_is(aws: Aws, queue: Backend) -> None:
    """It knows the account; where there is no such queue, SQS is asked."""
    queue.queue.send("work", ["a"], group="g")
    worker = aws_backend_at(address_of(Site(**aws.site)), queue.key)
    aws.requests(reset=True)
    (message,) = worker.queue.receive("work", limit=1, lease_s=60, wait_s=0)
    worker.queue.delete("work", [message.receipt])
    assert aws.requests() == {("sqs", "ReceiveMessage"): 1, ("sqs", "DeleteMessageBatch"): 1}
    worker.close()
    with closing(aws_backend_at(address_of(Site(**aws.site)), queue.key)) as other, pytest.raises(NotFound):
        other.queue.receive("nowhere", limit=1, lease_s=60, wait_s=0)


def test_messages_that_are_done_with_are_deleted_together(aws: Aws, queue: Backend) -> None:
    """So many in a request; the others when leases are renewed, or let go."""
    queue.queue.send("work", [str(number) for number in range(6)], group="g")
    leases = Leases(queue.queue, "work", 60.0, together=3)
    receipts: list[str] = []
    while len(receipts) < 6:
        leased = queue.queue.receive("work", limit=10, lease_s=60, wait_s=1)
        leases.hold(leased)
        receipts += [message.receipt for message in leased]
    deleted = []
    for step in [*(partial(leases.done, receipt) for receipt in receipts[:4]), leases.renew,
                 partial(leases.done, receipts[4]), partial(leases.done, receipts[5]), leases.let_go]:  # fmt: skip
        step()
        deleted.append(aws.requests().get(("sqs", "DeleteMessageBatch"), 0))
    assert deleted == [0, 0, 1, 1, 2, 2, 2, 3]
    assert queue.queue.depth("work") == Depth(0, 0)


# --- credentials ------------------------------------------------------------------------------------------------------


def test_what_is_not_allowed_is_named(aws: Aws, queue: Backend) -> None:
    """By the action that a policy must allow, or by the object."""
    aws.fault(service="sqs", operation="SendMessageBatch", code="AccessDenied", status=403)
    with pytest.raises(Denied, match="sqs:SendMessage work"):
        queue.queue.send("work", ["a"], group="g")
    aws.fault(service="s3", operation="PutObject", code="AccessDenied")
    with pytest.raises(Denied, match="runs/a"):
        queue.store.create("runs/a", b"")
    aws.fault(service="ecs", operation="DescribeTaskDefinition", code="AccessDeniedException", status=400)
    with pytest.raises(CannotLaunch, match="not allowed to do ecs:DescribeTaskDefinition"):
        queue.compute.launch(fleet_of(queue), [0])


def test_expired_credentials_can_be_renewed(aws: Aws, queue: Backend) -> None:
    """The same call may succeed later, and the error says after what; a launch is no exception."""
    spec = fleet_of(queue)
    aws.expire([os.environ["AWS_ACCESS_KEY_ID"]])
    calls: list[Callable[[], Any]] = [
        partial(queue.queue.send, "work", ["a"], group="g"),
        partial(queue.queue.receive, "work", limit=1, lease_s=60, wait_s=0),
        partial(queue.store.get, "runs/a"),
        partial(queue.compute.launch, spec, [0]),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="expired: renew them"):
            call()
    aws.reset()
    aws.fault(service="ecs", operation="RunTask", code="ExpiredTokenException", status=400)
    with pytest.raises(Unavailable, match=r"ecs:RunTask.*expired: renew them"):
        queue.compute.launch(spec, [0])


# --- ECS: definitions -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unborn")
def test_a_task_definition_is_registered_once(aws: Aws, clients: Clients, backend: Backend) -> None:
    """Its family names its content, so every process finds it; only where it is gone is it registered again.

    Its log group is made with it, and its retention set then only. RegisterTaskDefinition takes one call a second.
    """
    backend.compute.launch(fleet_of(backend), [0])
    another(aws, clients, backend).launch(fleet_of(backend), [0])
    at_once(launch, (partial(open_place, aws_text(aws.site)), fleet_of(backend), [0]))
    (arn,) = aws.boto("ecs").list_task_definitions()["taskDefinitionArns"]
    requests = aws.requests()
    assert requests["ecs", "RegisterTaskDefinition"] == requests["logs", "PutRetentionPolicy"] == 1
    (group,) = aws.boto("logs").describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 14
    aws.boto("logs").put_retention_policy(logGroupName=group["logGroupName"], retentionInDays=30)
    aws.boto("ecs").deregister_task_definition(taskDefinition=arn)
    another(aws, clients, backend).launch(fleet_of(backend), [0])
    (again,) = aws.boto("ecs").list_task_definitions(status="ACTIVE")["taskDefinitionArns"]
    assert again != arn
    (group,) = aws.boto("logs").describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 30, "what its owner chose stays"


def test_a_log_group_that_somebody_removed_is_made_again(aws: Aws, clients: Clients, backend: Backend) -> None:
    """By the next process, and by the same once a worker found that it is gone."""
    spec, group = fleet_of(backend), f"/starburst/{aws.site['name']}"
    backend.compute.launch(fleet_of(backend), [0])
    aws.boto("logs").delete_log_group(logGroupName=group)
    backend.compute.launch(spec, [0])
    (state,) = until(backend, spec.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    assert "log group" in state.reason
    for compute in (backend.compute, another(aws, clients, backend)):
        compute.launch(fleet_of(backend), [0])
        assert [each["logGroupName"] for each in aws.boto("logs").describe_log_groups()["logGroups"]] == [group]
        aws.boto("logs").delete_log_group(logGroupName=group)


@pytest.mark.parametrize("arn", ["{}:key::", "{}:key:AWSCURRENT:", "{}"])
def test_a_secret_is_named_as_task_definitions_name_it(aws: Aws, arn: str) -> None:
    """With a key of its JSON, a stage and a version, or without."""
    text = "k" * 40 if arn == "{}" else json.dumps({"key": "k" * 40})
    made = aws.boto("secretsmanager").create_secret(Name=f"named-{len(arn)}", SecretString=text)["ARN"]
    site = {**aws.site, "signing_secret": arn.format(made)}
    aws.grant(site)
    opened = aws_backend(Site.of(site, "the test"))
    assert opened.key == b"k" * 40
    opened.close()


@pytest.mark.parametrize(
    ("region", "variables", "endpoint"),
    [
        ("us-east-1", {}, None),
        ("us-gov-west-1", {}, None),
        ("cn-north-1", {}, "https://s3.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", {}, "https://s3.eusc-de-east-1.amazonaws.eu"),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://s3-fips.us-east-1.amazonaws.com"),
        ("us-west-2", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://s3.dualstack.us-west-2.amazonaws.com"),
        ("us-east-1", {"AWS_PROFILE": "elsewhere"}, "https://s3.example.com"),
    ],
)
def test_the_store_is_where_boto3_has_it(
    tmp_path: Path, region: str, variables: dict[str, str], endpoint: str | None
) -> None:
    """In each partition, and wherever AWS's own variables and files say."""
    (tmp_path / "config").write_text("[profile elsewhere]\nendpoint_url = https://s3.example.com\n")
    alone = {"AWS_ENDPOINT_URL": "", "AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_ACCESS_KEY_ID": "a"}
    with environment({**alone, "AWS_SECRET_ACCESS_KEY": "b", **variables}):
        clients = Clients(region)
        assert clients.s3_endpoint == endpoint
        clients.close()


def test_the_store_trusts_whom_boto3_trusts(tmp_path: Path) -> None:
    """A certificate of one's own, as where a proxy reads along, by AWS_CA_BUNDLE."""
    with secure_store(tmp_path) as server:
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CA_BUNDLE": str(server.certificate)}
        with environment({**keys, "AWS_ENDPOINT_URL": server.endpoint}):
            clients = Clients("us-east-1")
            assert bytes(s3.S3Objects("bucket", clients).get("runs/a")) == b"abc"
            clients.close()
    assert server.asked == ["GET /bucket/runs/a"]


# --- ECS: launching ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unborn")
def test_workers_are_launched_in_tens(aws: Aws, backend: Backend) -> None:
    """As many as a call takes (ECS API reference, RunTask), with two records each, and looked at in one call."""
    spec = fleet_of(backend)
    assert backend.compute.launch(spec, range(30)) is None
    assert aws.requests()["ecs", "RunTask"] == 3
    assert len(list(backend.store.list(FLEETS))) == 6
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(30)]
    assert aws.requests()["ecs", "DescribeTasks"] == 1


@pytest.mark.usefixtures("unborn")
def test_workers_have_the_disk_that_was_asked_for(aws: Aws, backend: Backend) -> None:
    """And are charged for it; without a word they have the 20 GB that are free (ECS API reference, TaskOverride)."""
    for asked, given in ((50, 50), (0, 20)):
        spec = fleet_of(backend)
        spec = replace(spec, resources=replace(spec.resources, storage_gb=asked))
        assert backend.compute.launch(spec, [0]) is None
        (state,) = backend.compute.workers(spec.fleet)
        assert state.granted is not None
        assert state.granted.storage_gb == given
        assert ("storage" in charge(spec.resources, Decimal(1)).parts) == (given > 20)


@pytest.mark.usefixtures("unborn")
@pytest.mark.parametrize("fault", [{"code": "ServerException", "status": 500}, {"reset": True}])
def test_a_launch_whose_answer_was_lost_is_not_repeated(aws: Aws, backend: Backend, fault: dict[str, Any]) -> None:
    """Asked again with the same token, ECS gives the same tasks (ECS API reference, RunTask, clientToken)."""
    spec = fleet_of(backend)
    aws.fault(service="ecs", operation="RunTask", after=True, **fault)
    assert backend.compute.launch(spec, range(12)) is None
    assert aws.requests()["ecs", "RunTask"] == 3
    assert len(aws.tasks()) == 12
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(12)]


@pytest.mark.usefixtures("unborn")
def test_a_launch_that_its_driver_left_is_finished_by_another(aws: Aws, clients: Clients, backend: Backend) -> None:
    """It died between writing the launch down and asking ECS, or before writing down what ECS answered.

    Who merely looks sees them start; whoever drives asks again, once nothing was heard for a while, and two who do so
    at once launch each worker once.
    """
    spec = fleet_of(backend)
    driver = another(aws, clients, backend)
    request = run_task(Site.of(aws.site, "the test"), ensured(backend), spec, 3)
    Launches(backend.store, backend.key).claim(spec.fleet, 0, 3, request, spot=False)
    Launches(backend.store, backend.key, clock=lambda: time.time() - 100).claim(spec.fleet, 3, 3, request, spot=False)
    for _ in range(2):
        assert ordinals(another(aws, clients, backend).workers(spec.fleet)) == [*range(6)]
    assert aws.tasks() == []
    looks: list[Callable[[FleetId], list[WorkerState]]] = [driver.tend, backend.compute.tend]
    with ThreadPoolExecutor(2) as pool:
        for states in pool.map(lambda look: look(spec.fleet), looks):
            assert ordinals(states) == [*range(6)]
    states = driver.workers(spec.fleet)
    assert ordinals(states) == [*range(6)]
    assert {state.id for state in states[3:]} == {task["id"] for task in aws.tasks()}
    assert {state.phase for state in states} == {WorkerPhase.STARTING}
    assert driver.launch(spec, range(6)) is None, "nothing is free"
    assert len(aws.tasks()) == 3


@pytest.mark.usefixtures("unborn")
def test_nobody_launches_while_another_drivers_launch_is_unanswered(
    aws: Aws, clients: Clients, backend: Backend
) -> None:
    """Its answer may free some of its ordinals, so that two drivers would take different ones for free."""
    spec = fleet_of(backend)
    aws.quota(on_demand_vcpu=3)
    request = run_task(Site.of(aws.site, "the test"), ensured(backend), spec, 10)
    clock = Clock(time.time() - 100)
    Launches(backend.store, backend.key, clock=clock).claim(spec.fleet, 0, 10, request, spot=False)
    wait = backend.compute.launch(spec, range(12))
    assert wait is not None
    assert "another driver" in wait.reason
    assert aws.tasks() == []
    assert ordinals(backend.compute.tend(spec.fleet)) == [*range(10)]
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(3)]
    aws.quota(on_demand_vcpu=100)
    assert another(aws, clients, backend).launch(spec, range(12)) is None
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(12)]
    assert len(aws.tasks()) == 12


@pytest.mark.usefixtures("unborn")
@pytest.mark.parametrize("alive", [True, False])
def test_a_launch_that_was_left_for_long_is_not_made_anew(
    aws: Aws, clients: Clients, backend: Backend, alive: bool
) -> None:
    """ECS forgets a token an hour after its tasks have stopped: asked again, it would start others.

    Those that live are found by it (Amazon ECS API reference, "Ensuring idempotency").
    """
    spec, site = fleet_of(backend), Site.of(aws.site, "the test")
    request = run_task(site, ensured(backend), spec, 3)
    clock = Clock(time.time() - 4000)
    left = Launches(backend.store, backend.key, clock=clock).claim(spec.fleet, 0, 3, request, spot=False)
    assert left is not None
    if alive:
        here = placed(request, site, spot=False, subnets=site.subnets)
        clients.ecs.run_task(**here, clientToken=f"{left.token}-0-3")
    backend.compute.tend(spec.fleet)
    assert len(aws.tasks()) == (3 if alive else 0)
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(3 if alive else 0)]
    assert backend.compute.launch(spec, range(3)) is None
    assert len(aws.tasks()) == 3


@pytest.mark.usefixtures("unborn")
def test_tending_is_no_place_to_be_told_that_a_launch_is_impossible(aws: Aws, backend: Backend) -> None:
    """A launch that was left, and that ECS refuses for good, is dropped; whoever launches next is told."""
    spec = fleet_of(backend)
    request = run_task(Site.of(aws.site, "the test"), ensured(backend), spec, 3)
    clock = Clock(time.time() - 100)
    Launches(backend.store, backend.key, clock=clock).claim(spec.fleet, 0, 3, request, spot=False)
    aws.fault(service="ecs", operation="RunTask", code="BlockedException", status=400, times=2)
    assert ordinals(backend.compute.tend(spec.fleet)) == [0, 1, 2]
    assert backend.compute.workers(spec.fleet) == []
    with pytest.raises(CannotLaunch, match="BlockedException"):
        backend.compute.launch(spec, range(3))


class Held:
    """A store whose holder stands still once, just before its calls of one kind from the how-many-th on."""

    def __init__(self, store: ObjectStore, kinds: Sequence[str], meanwhile: Callable[[], object], *, skip: int) -> None:
        self._store, self._kinds, self._meanwhile, self._skip = store, kinds, meanwhile, skip

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = [*real(*args, **kwargs)] if name == "list" else None  # what it was told may be old by now
            if name in self._kinds:
                self._skip -= 1
                if self._skip == -1:
                    self._meanwhile()
            return real(*args, **kwargs) if given is None else iter(given)

        return call if name in (*self._kinds, "list") else real


WRITES = ("create", "put", "delete")


@pytest.mark.usefixtures("unborn")
@pytest.mark.parametrize("first", [0, 5])
def test_a_launch_that_two_were_answered_differently_is_never_lost(
    aws: Aws, clients: Clients, backend: Backend, first: int
) -> None:
    """A driver stands still between ECS's answer and writing it down; another asks again, when there is more quota.

    Every task that anybody was granted is listed by each of them and by a third, and `stop` finds them all.
    """
    spec = fleet_of(backend)
    later = another(aws, clients, backend, clock=lambda: time.time() + 100)

    def meanwhile() -> None:
        aws.quota(on_demand_vcpu=100)
        later.tend(spec.fleet)

    aws.quota(on_demand_vcpu=first)
    said = "You've reached the limit on the number of vCPUs you can run concurrently"
    aws.fault(service="ecs", operation="RunTask", code="ClientException", status=400, message=said)
    store: Any = Held(backend.store, WRITES, meanwhile, skip=1)  # the first write is the claim
    driver = EcsCompute(Site.of(aws.site, "the test"), clients, store, backend.key)
    driver.launch(spec, range(10))
    live = {task["id"] for task in aws.tasks()}
    assert len(live) == first + 10
    for compute in (driver, later, another(aws, clients, backend)):
        assert {state.id for state in compute.workers(spec.fleet)} == live
    driver.stop(spec.fleet, [state.id for state in later.workers(spec.fleet)], grace_s=0.0)
    aws.until(lambda: {task["last_status"] for task in aws.tasks()} == {"STOPPED"})


@pytest.mark.usefixtures("unborn")
def test_a_launch_that_was_written_down_during_a_look_is_known_at_the_next(aws: Aws, backend: Backend) -> None:
    """One thread lists the records, another launches, the first goes on with its old list."""
    spec = fleet_of(backend)
    request = run_task(Site.of(aws.site, "the test"), ensured(backend), spec, 3)

    def meanwhile() -> None:
        claimed = launches.claim(spec.fleet, 0, 3, request, spot=False)
        assert claimed is not None
        launches.answer(spec.fleet, claimed, ["a", "b", "c"])

    store: Any = Held(backend.store, ("list",), meanwhile, skip=0)
    launches = Launches(store, backend.key)
    launches.read(spec.fleet)
    (launch,), _ = launches.read(spec.fleet)
    assert launch.tasks == ("a", "b", "c")


@pytest.mark.usefixtures("unborn")
def test_a_closed_fleet_leaves_no_task_that_no_record_knows(aws: Aws, clients: Clients, backend: Backend) -> None:
    """Its driver died between ECS's answer and writing it down; another closes the fleet before anybody asks again.

    ECS itself is asked which tasks it started for the fleet: `stop` finds them, and so does `forget`.
    """

    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    for closed_by in ("stop", "forget"):
        spec = fleet_of(backend)
        store: Any = Held(backend.store, WRITES, die, skip=1)
        driver = EcsCompute(Site.of(aws.site, "the test"), clients, store, backend.key)
        with pytest.raises(Died):
            driver.launch(spec, range(3))
        other = another(aws, clients, backend)
        if closed_by == "stop":
            other.stop(spec.fleet, [state.id for state in other.workers(spec.fleet)], grace_s=0.0)
        else:
            other.forget(spec.fleet)
        aws.until(lambda: [task["last_status"] for task in aws.tasks()].count("STOPPED") == len(aws.tasks()))
    assert len(aws.tasks()) == 6


@pytest.mark.usefixtures("unborn")
def test_a_worker_reads_how_others_ended_and_is_let_do_no_more(aws: Aws, clients: Clients, backend: Backend) -> None:
    """From its orders it knows store and queues alone; what a driver has written down of its fleet, it reads there."""
    spec = fleet_of(backend)
    assert backend.compute.launch(spec, range(2)) is None
    first, second = (state.id for state in backend.compute.workers(spec.fleet))
    backend.compute.stop(spec.fleet, [first], grace_s=0.0)
    until(backend, spec.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    worker = aws_backend_at(address_of(Site.of(aws.site, "the test")), backend.key)
    ended = worker.compute.ended(spec.fleet, first)
    assert ended is not None and ended == backend.compute.ended(spec.fleet, first)
    assert worker.compute.ended(spec.fleet, second) is None
    assert worker.compute.fleets() == [spec.fleet]
    denied: list[Callable[[], object]] = [
        lambda: worker.compute.launch(spec, range(2, 3)),
        lambda: worker.compute.workers(spec.fleet),
        lambda: worker.compute.tend(spec.fleet),
        lambda: worker.compute.stop(spec.fleet, [second], grace_s=0.0),
        lambda: worker.compute.tail(spec.fleet, second),
        lambda: worker.compute.forget(spec.fleet),
    ]
    for call in denied:
        with pytest.raises(Denied, match="a worker knows only the address of its site"):
            call()
    assert [task["running"] for task in aws.tasks()].count(True) == 0 and len(aws.tasks()) == 2
    worker.close()


def test_orders_say_of_a_site_only_where_it_is(aws: Aws, backend: Backend) -> None:
    """However much a site has, a launch is far below what ECS takes; no role, no secret and no network is told."""
    subnets = [f"subnet-{number:017x}" for number in range(16)]
    site = Site.of({**aws.site, "name": "n" * 20, "bucket": "b" * 63, "subnets": subnets}, "the test")
    overrides = json.dumps(run_task(site, "d", fleet_of(backend), 10)["overrides"])
    assert len(overrides) < 1000, "ECS takes 8,192 characters"
    assert site.bucket in overrides and site.region in overrides and site.name in overrides
    assert not any(told in overrides for told in (site.task_role, site.signing_secret, site.cluster + '"', subnets[0]))


@pytest.mark.usefixtures("unborn")
def test_refused_attempts_leave_few_records(aws: Aws, backend: Backend) -> None:
    """A quota may be full for days: what was refused before is removed, but for the last attempts."""
    spec = fleet_of(backend)
    aws.quota(on_demand_vcpu=0)
    for _ in range(6):
        assert backend.compute.launch(spec, range(3)) is not None
    assert len(list(backend.store.list(FLEETS))) <= 4
    aws.quota(on_demand_vcpu=3)
    assert backend.compute.launch(spec, range(3)) is None
    assert ordinals(backend.compute.workers(spec.fleet)) == [0, 1, 2]


@pytest.mark.usefixtures("unborn")
def test_what_the_quota_refuses_waits(aws: Aws, backend: Backend) -> None:
    """Six vCPU and fifty workers of one asked for: six run, and the others' ordinals are free to be asked for again."""
    spec = fleet_of(backend)
    aws.quota(on_demand_vcpu=6)
    wait = backend.compute.launch(spec, range(50))
    assert wait is not None
    assert "Fargate vCPU quota (1 for each worker" in wait.reason
    assert wait.seconds >= 5
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(6)]
    assert backend.compute.launch(spec, range(50)) is not None
    assert len(aws.tasks()) == 6
    aws.quota(on_demand_vcpu=4000)
    assert backend.compute.launch(spec, range(50)) is None
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(50)]
    assert len(aws.tasks()) == 50


def test_a_quota_that_refuses_whole_calls_is_used_all_the_same(aws: Aws, backend: Backend) -> None:
    """Where ECS gives an exception in place of some of the tasks, half as many are asked for, and again half beside

    those that were granted; the rest waits, and is told.
    """
    aws.set(provisioning_s=600.0)
    spec = fleet_of(backend)
    aws.fault(
        service="ecs",
        operation="RunTask",
        code="ClientException",
        status=400,
        message="You've reached the limit on the number of vCPUs you can run concurrently",
    )
    wait = backend.compute.launch(spec, range(30))
    assert wait is not None
    assert "quota" in wait.reason and wait.seconds <= 10
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(5 + 2 + 1)]
    assert len(aws.tasks()) == 8


@pytest.mark.usefixtures("unborn")
@pytest.mark.parametrize(("room", "started"), [(100, 12), (4, 4), (0, 0)])
def test_capacity_is_looked_for_in_every_zone(aws: Aws, backend: Backend, room: int, started: int) -> None:
    """Where one zone has room and others have none: what it takes runs, for the rest there is a wait that says so."""
    zones = zones_of(aws)
    aws.capacity(zones=dict.fromkeys(zones[1:], 0) | {zones[0]: room})
    spec = fleet_of(backend)
    wait = backend.compute.launch(spec, range(12))
    assert ordinals(backend.compute.workers(spec.fleet)) == [*range(started)]
    assert Counter(task["zone"] for task in aws.tasks()) == Counter({zones[0]: started} if started else {})
    if started == 12:
        assert wait is None
    else:
        assert wait is not None
        assert "Fargate capacity in the site's zones" in wait.reason


@pytest.mark.usefixtures("unborn")
def test_spot_falls_back_to_on_demand(aws: Aws, backend: Backend) -> None:
    """Spot as far as there is some, by room or by quota; the rest on-demand, and nobody waits."""
    aws.capacity(spot_zones=dict.fromkeys(zones_of(aws), 1))
    roomy, tight = fleet_of(backend, spot=True), fleet_of(backend, spot=True)
    assert backend.compute.launch(roomy, range(10)) is None
    providers = Counter(task["provider"] for task in aws.tasks())
    assert providers["FARGATE_SPOT"] == len(zones_of(aws))
    assert providers.total() == 10
    aws.set(spot_zone_room={}, spot_vcpu=providers["FARGATE_SPOT"] + 3)
    assert backend.compute.launch(tight, range(10)) is None
    assert Counter(task["provider"] for task in aws.tasks())["FARGATE_SPOT"] == providers["FARGATE_SPOT"] + 3
    assert len(aws.tasks()) == 20


@pytest.mark.usefixtures("unborn")
def test_launches_keep_to_fargates_rate(aws: Aws, clients: Clients, backend: Backend) -> None:
    """A hundred at once, then 20 a second, so AWS refuses none (ECS guide, "AWS Fargate throttling quotas")."""
    aws.stop_clock()
    compute, spec = another(aws, clients, backend, pace=aws.clock.monotonic), fleet_of(backend)
    launched = []
    while (wait := compute.launch(spec, range(150))) is not None:
        assert "20 workers a second" in wait.reason
        assert wait.seconds == pytest.approx(1.0)
        launched.append(len(aws.tasks()))
        aws.elapse(wait.seconds)
    assert launched == [100, 120, 140]
    assert ordinals(compute.workers(spec.fleet)) == [*range(150)]


@pytest.mark.usefixtures("unborn")
def test_all_tasks_of_a_fleet_that_no_record_names_are_stopped(aws: Aws, clients: Clients, backend: Backend) -> None:
    """Also beyond the hundred that ECS lists at once; those of another fleet go on."""
    compute, other, spec = another(aws, clients, backend), fleet_of(backend), fleet_of(backend)
    assert compute.launch(other, [0]) is None
    while (wait := compute.launch(spec, range(110))) is not None:
        time.sleep(wait.seconds)
    backend.store.delete_folder(worker_records(spec.fleet))
    another(aws, clients, backend).forget(spec.fleet)
    told = Counter(task["started_by"] for task in aws.tasks() if task["stop_code"] == "UserInitiated")
    assert told == {spec.fleet: 110}


@pytest.mark.usefixtures("unborn")
@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("The requested CPU configuration is above your limit", "Fargate vCPU quota"),
        ("Provisioning capacity limit exceeded.", "the cluster to have started others"),
        (
            f"ECS was unable to assume the role '{ROLE}' that was provided for this task.",
            f"a role.*{ROLE}.*trust",
        ),
    ],
)
def test_what_passes_is_waited_for(aws: Aws, backend: Backend, said: str, waits: str) -> None:
    """And named, with ECS's words where they say which."""
    spec = fleet_of(backend)
    aws.fault(service="ecs", operation="RunTask", code="ClientException", message=said, status=400)
    wait = backend.compute.launch(spec, [0])
    assert wait is not None and re.search(waits, wait.reason)
    assert backend.compute.launch(spec, [0]) is None


@pytest.mark.usefixtures("unborn")
def test_a_role_that_does_not_come_is_waited_for_no_longer(aws: Aws, clients: Clients, backend: Backend) -> None:
    """After two minutes: with what to correct."""
    said = f"ECS was unable to assume the role '{ROLE}' that was provided for this task."
    aws.fault(service="ecs", operation="RunTask", code="ClientException", message=said, status=400, times=2)
    clock = Clock(time.time())
    compute, spec = another(aws, clients, backend, clock=clock), fleet_of(backend)
    assert compute.launch(spec, [0]) is not None
    clock.at += 121
    with pytest.raises(CannotLaunch, match=f"{ROLE}.*must be there, trust ecs-tasks.amazonaws.com"):
        compute.launch(spec, [0])


@pytest.mark.usefixtures("unborn")
def test_a_cluster_without_spot_gives_on_demand(aws: Aws, clients: Clients, backend: Backend) -> None:
    """As where Spot has no room."""
    aws.boto("ecs").create_cluster(clusterName="plain", capacityProviders=["FARGATE"])
    compute, spec = another(aws, clients, backend, cluster="plain"), fleet_of(backend, spot=True)
    assert compute.launch(spec, range(3)) is None
    assert [task["provider"] for task in aws.tasks()] == ["FARGATE"] * 3


def test_workers_of_a_cluster_that_is_gone_are_gone(aws: Aws, clients: Clients, backend: Backend) -> None:
    """As where ECS has forgotten them; whoever starts others is told what to do."""
    ecs = aws.boto("ecs")
    ecs.create_cluster(clusterName="brief", capacityProviders=["FARGATE"])
    compute, spec = another(aws, clients, backend, cluster="brief"), fleet_of(backend)
    assert compute.launch(spec, [0]) is None
    for task in aws.tasks():
        ecs.stop_task(cluster="brief", task=task["arn"])
    aws.until(lambda: all(task["last_status"] == "STOPPED" for task in aws.tasks()))
    ecs.delete_cluster(cluster="brief")
    assert len(compute.workers(spec.fleet)) == 1
    with pytest.raises(CannotLaunch, match="make it, or correct the settings"):
        compute.launch(spec, [1])


@pytest.mark.parametrize(
    ("site", "fault", "said"),
    [
        ({"cluster": "gone"}, {}, "ClusterNotFoundException.*: make it, or correct the settings"),
        ({"cluster": "bare"}, {}, "'FARGATE' was not found.*put-cluster-capacity-providers"),
        ({"subnets": ("subnet-gone",)}, {}, "InvalidParameterException.*subnet-gone.*correct the site's subnets"),
        (
            {},
            {"code": "AccessDeniedException", "message": NO_PASS},
            "credentials do iam:PassRole on arn:.*/t .a driver.s printed policy has the site.s roles only.*, or use",
        ),
        ({}, {"code": "AccessDeniedException", "message": "no"}, "let these credentials do ecs:RunTask, or use"),
        ({}, {"code": "BlockedException"}, "BlockedException.*ask AWS support"),
        ({}, {"code": "ClientException", "message": "Something new."}, "ClientException: Something new.$"),
    ],
)
def test_a_launch_that_can_never_succeed_says_what_to_do(
    aws: Aws, clients: Clients, backend: Backend, site: dict[str, Any], fault: dict[str, Any], said: str
) -> None:
    """By the codes of the ECS API reference, RunTask; no record stays."""
    compute, spec = another(aws, clients, backend, **site), fleet_of(backend)
    aws.boto("ecs").create_cluster(clusterName="bare")
    if fault:
        aws.fault(service="ecs", operation="RunTask", status=400, **fault)
    with pytest.raises(CannotLaunch, match=said):
        compute.launch(spec, range(3))
    assert compute.workers(spec.fleet) == []
    assert aws.tasks() == []


def ensured(backend: Backend) -> str:
    """The site's task definition."""
    assert isinstance(backend.compute, EcsCompute)
    return backend.compute.definitions.ensure("an-image:tag")


def zones_of(aws: Aws) -> list[str]:
    """Of the site's subnets."""
    found = aws.boto("ec2").describe_subnets(SubnetIds=[*aws.site["subnets"]])["Subnets"]
    return sorted({subnet["AvailabilityZone"] for subnet in found})


# --- ECS: looking -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unborn")
def test_a_task_that_ecs_does_not_show_yet_is_starting(aws: Aws, backend: Backend) -> None:
    """What was just started may be MISSING for a moment (ECS API reference, RunTask: eventual consistency)."""
    aws.set(describe_lag_s=60.0)
    spec = fleet_of(backend)
    backend.compute.launch(spec, range(2))
    assert {state.phase for state in backend.compute.workers(spec.fleet)} == {WorkerPhase.STARTING}


def test_an_image_that_cannot_be_pulled_starts_no_worker(aws: Aws, backend: Backend) -> None:
    """The registry's own words, and what to do (ECS Developer Guide, "Stopped tasks error messages")."""
    aws.set(images=["another:*"])
    spec = fleet_of(backend)
    backend.compute.launch(spec, [0])
    (state,) = until(backend, spec.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    assert state.end is WorkerEnd.UNSTARTABLE
    assert state.exit_code is None
    assert (
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
        in state.reason
    )
    assert f"{aws.site['image']}: not found: correct the site's image, or push it" in state.reason


@pytest.mark.parametrize(
    ("room", "end", "said"),
    [
        (1, WorkerEnd.CUT_OFF, "i/o timeout: give the site's subnets a way out to ECR's API: in public ones"),
        (0, WorkerEnd.UNSTARTED, "InsufficientFreeAddressesInSubnet: give the site more or larger subnets"),
    ],
)
def test_a_network_that_lets_nobody_start_is_named(aws: Aws, room: int, end: WorkerEnd, said: str) -> None:
    """With ECS's words, and what to do."""
    with private_network(aws, [], blocks=["10.7.0.0/28"]) as network:
        for _ in range(11 - room):
            aws.boto("ec2").create_network_interface(SubnetId=network.subnets[0])
        private = {"subnets": network.subnets, "security_groups": [], "assign_public_ip": False}
        with closing(open_place(aws_text({**aws.site, **private}))) as inside:
            spec = fleet_of(inside)
            inside.compute.launch(spec, [0])
            (state,) = until(inside, spec.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    assert state.end is end and said in state.reason


def test_ends_are_told_apart(aws: Aws, backend: Backend) -> None:
    """By stop code and exit code: 143 is both Spot's and ours (ECS Developer Guide, "Stopped tasks error messages")."""
    spec = fleet_of(backend, spot=True, queue=True)
    backend.compute.launch(spec, range(4))
    states = until(backend, spec.fleet, lambda states: all(obeys(aws, state.id) for state in states))
    interrupted, killed, told, idle = (state.id for state in states)
    aws.interrupt_spot(tasks=[interrupted])
    aws.kill([killed])
    backend.compute.stop(spec.fleet, [told], grace_s=10.0)
    until(backend, spec.fleet, lambda states: sum(state.phase is WorkerPhase.STOPPED for state in states) == 3)
    backend.queue.drop(work_queue(spec.fleet))
    states = until(backend, spec.fleet, lambda states: all(state.phase is WorkerPhase.STOPPED for state in states))
    assert [(state.end, state.exit_code) for state in states] == [
        (WorkerEnd.SPOT, 143),
        (WorkerEnd.CRASHED, 137),
        (WorkerEnd.DONE, 143),
        (WorkerEnd.DONE, 0),
    ]
    assert [state.id for state in states] == [interrupted, killed, told, idle]


@pytest.mark.parametrize(
    ("refusal", "ended", "said"),
    [
        ({"code": "InvalidAddress", "status": 400}, (WorkerEnd.CRASHED, 1, "exit code 1"), "ReceiveMessage fleet-"),
        (
            {"code": "AccessDenied", "status": 403},
            (WorkerEnd.DENIED, 195, "the task role may not do a worker's work, as its log says: allow it what "),
            "stopped: the task role is not allowed to do sqs:ReceiveMessage fleet-",
        ),
    ],
)
def test_a_worker_that_breaks_says_why(
    aws: Aws, backend: Backend, refusal: dict[str, Any], ended: tuple[WorkerEnd, int, str], said: str
) -> None:
    """Its exit code tells that it was neither stopped nor killed, and its last lines tell the rest."""
    aws.fault(service="sqs", operation="ReceiveMessage", **refusal)
    spec = fleet_of(backend, queue=True)
    backend.compute.launch(spec, [0])
    (state,) = until(backend, spec.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    end, code, reason = ended
    assert (state.end, state.exit_code) == (end, code) and state.reason.startswith(reason)
    assert said in backend.compute.tail(spec.fleet, state.id)


@pytest.mark.parametrize("capacity", ["fargate", "ec2"])
def test_what_stopped_is_remembered_when_ecs_has_forgotten_it(
    aws: Aws, clients: Clients, backend: Backend, capacity: str
) -> None:
    """After an hour (ECS API reference, DescribeTasks). What nobody saw stop has stopped, too, for no known reason.

    Its log tells when; so a run's meter and the accounts count it.
    """
    seen, unseen = fleet_of(backend), fleet_of(backend)  # whose queues are not there: their workers end at once
    unseen = replace(unseen, resources=replace(unseen.resources, capacity=capacity))
    backend.compute.launch(seen, [0])
    backend.compute.launch(unseen, [0])
    began = time.time()
    before = until(backend, seen.fleet, lambda states: states[0].phase is WorkerPhase.STOPPED)
    aws.until(lambda: all(task["last_status"] == "STOPPED" for task in aws.tasks()))
    aws.elapse(HOUR_S + 1)
    later = another(aws, clients, backend, clock=lambda: time.time() + 2 * HOUR_S)
    assert later.workers(seen.fleet) == before
    assert (before[0].end, before[0].exit_code) == (WorkerEnd.DONE, 0)
    (state,) = later.workers(unseen.fleet)
    assert (state.phase, state.exit_code) == (WorkerPhase.STOPPED, None)
    assert "forgotten" in state.reason
    assert state.granted is not None and state.granted.vcpu == unseen.resources.cpu
    assert state.stopped_at - state.started_at > HOUR_S / 2  # at most
    (state,) = later.tend(unseen.fleet)
    assert began - 1 <= state.started_at <= state.stopped_at <= began + 60
    assert later.workers(unseen.fleet) == [state]
    spent = metered([state], Rates(tariff=backend.tariff, asked=unseen.resources), state.stopped_at).spent
    later.forget(unseen.fleet)
    ((given, hours),) = bill_of(backend, unseen.fleet).hours.items()
    minute = charge(unseen.resources, Decimal(1) / 60, backend.tariff).usd
    assert hours == Decimal(1) / 60 and spent == pytest.approx(minute)
    assert charge(given[0], hours, replace(backend.tariff, arch=given[1])).usd == pytest.approx(minute)
    assert aws.tasks() == []


def test_the_tail_is_the_end_of_the_log(aws: Aws, backend: Backend) -> None:
    """Fifty lines, oldest first; before a worker has printed, and of one that never was, nothing."""
    spec = fleet_of(backend)
    assert backend.compute.tail(spec.fleet, WorkerId("never")) == ""
    logs, group = aws.boto("logs"), f"/starburst/{aws.site['name']}"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=log_stream("task"))
    assert backend.compute.tail(spec.fleet, WorkerId("task")) == ""
    now = int(time.time() * 1000)
    events = [{"timestamp": now + number, "message": f"line {number}"} for number in range(80)]
    logs.put_log_events(logGroupName=group, logStreamName=log_stream("task"), logEvents=events)
    lines = backend.compute.tail(spec.fleet, WorkerId("task")).splitlines()
    assert lines == [f"line {number}" for number in range(30, 80)]


def test_a_closed_fleet_leaves_an_account(aws: Aws, clients: Clients, backend: Backend) -> None:
    """What each task was given and from when to when is kept where its records are gone, and is written once."""
    spec = fleet_of(backend, queue=True)
    driver = another(aws, clients, backend)
    driver.launch(spec, range(2))
    aws.until(lambda: [worker.phase for worker in driver.workers(spec.fleet)] == [WorkerPhase.RUNNING] * 2)
    driver.stop(spec.fleet, [worker.id for worker in driver.workers(spec.fleet)][:1], grace_s=0.0)
    aws.until(lambda: driver.workers(spec.fleet)[0].phase is WorkerPhase.STOPPED)
    for _ in range(2):
        driver.forget(spec.fleet)
    backend.queue.drop(work_queue(spec.fleet))
    assert driver.fleets() == []
    first, second = Account.read(backend.store, backend.key, spec.fleet).workers
    assert (first.ordinal, first.phase, second.ordinal, second.phase) == (
        0,
        WorkerPhase.STOPPED,
        1,
        WorkerPhase.RUNNING,
    )
    assert 0 < first.started_at < first.stopped_at
    assert second.granted is not None
    assert (second.granted.capacity, second.granted.architecture) == ("FARGATE", "x86_64")
    assert (second.granted.vcpu, second.granted.memory_mib) == (1.0, 2048)
    assert second.granted.zone.startswith("us-east-1")


def test_a_slow_link_takes_long_and_is_no_outage(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither way is bounded by how long it takes, only by how long nothing comes; an object is sent once."""
    monkeypatch.setattr(access, "_SILENT_FOR", timedelta(seconds=2))
    body = secrets.token_bytes(5 * MIB // 4)
    with slow_link(aws.endpoint, MIB // 2) as endpoint, environment({"AWS_ENDPOINT_URL": endpoint}):
        store = s3.S3Objects(aws.site["bucket"], Clients(aws.site["region"]))
        before = time.monotonic()
        store.create("slow/one", body)
        assert time.monotonic() - before > 2
        assert bytes(store.get("slow/one")) == body


@pytest.mark.parametrize(("code", "status"), [("PermanentRedirect", 301), ("AuthorizationHeaderMalformed", 400)])
def test_a_bucket_in_another_region_is_wrong_settings(aws: Aws, backend: Backend, code: str, status: int) -> None:
    """It is told at once, with what to correct, and nobody waits for it to pass.

    Source: Amazon S3 API reference, "Error responses".
    """
    before = time.monotonic()
    for ask in (
        lambda: backend.store.create("elsewhere/one", b"x"),
        lambda: backend.store.get("elsewhere/one"),
        lambda: backend.store.list("elsewhere/").__next__(),
    ):
        aws.fault(service="s3", match="elsewhere", code=code, status=status)
        with pytest.raises(BadInput, match=r"^elsewhere/.*not in the site's region.*: correct `region`, or `bucket`"):
            ask()
    assert time.monotonic() - before < 20
