"""Runs on AWS need no more, and no less, than the policies that `starburst iam-policy` prints."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import pytest

from starburst_common import Cluster, RunState, RunStopped, attach
from starburst_common.errors import Denied
from starburst_common.ports import Backend
from starburst_common.runs.prune import prune
from starburst_common.sites.administrator import administrator
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site
from starburst_common.sites.wanted import WantedSite
from tests.places import aws_text, open_place
from tests.policies import actions_of
from tests.testbed.bed import Bed as Aws
from tests.testbed.conditions import ACCOUNT

rest = partial(pytest.param, marks=pytest.mark.rest)

#: What only mishaps and longer runs need. Who may not list a bucket is told of a key that is not there that it may not
#: be read (Amazon S3 API reference, GetObject).
ELSEWHERE = {
    ("driver", "ecs:DescribeContainerInstances"),
    ("driver", "s3:AbortMultipartUpload"),
    ("driver", "servicequotas:GetAWSDefaultServiceQuota"),
    ("driver", "sqs:DeleteMessage"),
    ("task", "s3:AbortMultipartUpload"),
    ("task", "sqs:GetQueueUrl"),  # where a queue's address is not as it is expected to be
}

#: What is called only once a run has lasted a few seconds.
IN_TIME = {("driver", "sqs:GetQueueAttributes"), ("task", "sqs:ChangeMessageVisibility")}


@pytest.fixture
def backend(aws: Aws) -> Iterator[Backend]:
    """The bed's site, whose policies hold."""
    opened = open_place(aws_text(aws.site))
    yield opened
    opened.close()


def large(item: int) -> bytes:
    """More than a message takes, and a line for the log."""
    print("item", item)
    return bytes(item)


def test_a_run_needs_what_is_printed(aws: Aws, backend: Backend) -> None:
    """Begun, answered, watched, cancelled, attached to and pruned: nothing is refused, and each right is used."""
    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        assert [*map(len, cluster.map(large, [400_000] * 20))] == [400_000] * 20
        run = cluster.start(time.sleep, [0.05] * 2000)
        aws.until(lambda: run.status().answered and {*aws.allowed()} >= IN_TIME)
        states = run._held.driver.fleet.states()  # type: ignore[union-attr]
        backend.compute.tail(run._held.driver.fleet.id, states[0].id)  # type: ignore[union-attr]
        run.cancel()
        assert run.wait(60).state is RunState.CANCELLED
        assert attach(run.id, backend=backend).status().state is RunState.CANCELLED
    prune(backend, now=time.time() + 30 * 86400)
    used, site = aws.allowed(), Site.of(aws.site, "the test bed")
    unused = {
        (kind, action)
        for kind in ("driver", "task", "execution")
        for action in actions_of(POLICIES[kind](site)) - {action for who, action in used if who == kind}
        if kind == "execution" or not action.startswith("ecr:")  # the site is given its image
    }
    assert unused <= ELSEWHERE


def test_iam_takes_each_policy_as_one_of_its_own() -> None:
    """6,144 characters at most, not counting blanks, for the longest name of a site, with a key of the user's.

    Source: IAM User Guide, "IAM and AWS STS quotas", of managed policies, read 2026-12-01.
    """
    key = f"arn:aws:kms:ap-southeast-2:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
    site = WantedSite(name="a" * 20, region="ap-southeast-2", kms_key=key).site(ACCOUNT, ("subnet-1",), ())
    documents = {kind: policy(site) for kind, policy in POLICIES.items()} | {"setup": administrator(key)}
    lengths = {kind: len(json.dumps(each, separators=(",", ":"))) for kind, each in documents.items()}
    assert {kind: length for kind, length in lengths.items() if length > 6144} == {}


def written(bucket: str, key: str) -> str:
    """What S3 says to a function that writes an object with what it finds: the task role's credentials."""
    import boto3
    from botocore.exceptions import ClientError

    try:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"mine")
    except ClientError as error:
        return str(error)
    return ""


def test_a_function_writes_only_where_workers_do(aws: Aws, backend: Backend) -> None:
    """Not what CodeBuild builds from, not what setup wrote down, nor what others launch, count, claim or share."""
    keys = (
        "runs/a",
        "builds/env-1/source/amd64.tar.gz",
        "sites/bed/parts/a",
        "accounts/a",
        "claims/a",
        "fleets/fleet-20260101-000000-0000000a/workers/granted-000000-0000-0",
        "fleets/fleet-20260101-000000-0000000a/held-by/cluster",
        "shared/a",
        "a",
    )
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        may, *others = cluster.starmap(written, [(aws.site["bucket"], key) for key in keys])
    assert may == ""
    for key, said in zip(keys[1:], others, strict=True):
        assert "AccessDenied" in said and said.endswith("s3:PutObject action"), (key, said)


@pytest.mark.parametrize(
    ("action", "on"),
    [
        ("s3:PutObject", "arn:aws:s3:::starburst-bed-123456789012/runs/run-"),
        ("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:starburst-bed-run-"),
        rest("s3:GetObject", "arn:aws:s3:::starburst-bed-123456789012/runs/run-"),
        rest("s3:ListBucket", ""),
        rest("sqs:ReceiveMessage", "arn:aws:sqs:us-east-1:123456789012:starburst-bed-fleet-"),
        rest("sqs:DeleteMessage", "arn:aws:sqs:us-east-1:123456789012:starburst-bed-fleet-"),
    ],
)
def test_what_workers_may_not_ends_the_run_after_a_few_in_a_sentence(
    aws: Aws, backend: Backend, action: str, on: str
) -> None:
    """With what their role lacks, and what prints it; their log has no traceback. Once it is allowed, the same maps."""
    iam, role = aws.boto("iam"), aws.site["task_role"].rpartition("/")[2]
    forbids = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": action, "Resource": "*"}]}
    iam.put_role_policy(RoleName=role, PolicyName="forbids", PolicyDocument=json.dumps(forbids))
    with Cluster(workers=2, backend=backend, progress=False) as cluster:
        run = cluster.start(abs, range(40), chunk_size=1)
        lacks = rf"may not do {action} on {on}[\w/-]+" if on else r"is not allowed to reach runs/.*s3:ListBucket if it"
        ends = r": allow it what `starburst iam-policy task` prints: start the run again then"
        with pytest.raises(RunStopped, match=rf"\d workers could not work, nor .*: the task role {lacks}.*{ends}"):
            run.results(timeout=60)
        run.wait()
        assert 3 <= len(aws.tasks()) <= 8
        logs, of = aws.boto("logs"), {"logGroupName": aws.site["log_group"]}
        printed = [event["message"] for event in logs.filter_log_events(**of)["events"]]
        assert printed and not [text for text in printed if "Traceback" in text], printed
        iam.delete_role_policy(RoleName=role, PolicyName="forbids")
        assert cluster.map(abs, [-1, -2]) == [1, 2]


def test_what_no_policy_allows_is_refused_by_its_name(aws: Aws, backend: Backend) -> None:
    """The bed's IAM is no ornament: another site's queue, or another bucket, is out of reach."""
    other = open_place(aws_text({**aws.site, "name": "other"}))
    with pytest.raises(Denied, match=r"perform: sqs:CreateQueue on resource: .*:starburst-other-work"):
        other.queue.ensure("work")
    other.close()
    other = open_place(aws_text({**aws.site, "bucket": "another"}))
    with pytest.raises(Denied, match="AccessDenied"):
        other.store.put("runs/a", b"")
    other.close()
