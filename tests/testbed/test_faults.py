"""Scripted faults look like AWS's; and S3's create-only writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ConnectionError

from tests.testbed.bed import Bed
from tests.testbed.conditions import ADMINISTRATOR
from tests.testbed.definitions import asked, define, reached, run

ONCE = Config(retries={"total_max_attempts": 1})


def failed(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    """Code and HTTP status of an AWS error."""
    response = error.value.response
    return str(response["Error"]["Code"]), int(response["ResponseMetadata"]["HTTPStatusCode"])


@pytest.mark.parametrize(
    ("service", "operation", "code", "status"),
    [
        ("s3", "PutObject", "SlowDown", 503),
        ("s3", "PutObject", "ConditionalRequestConflict", 409),
        ("s3", "PutObject", "InternalError", 500),
        ("ecs", "RunTask", "ServerException", 500),
        ("ecs", "RunTask", "ThrottlingException", 400),
        ("sqs", "SendMessage", "RequestThrottled", 400),
        ("sts", "GetCallerIdentity", "AccessDenied", 403),
        ("logs", "DescribeLogGroups", "ThrottlingException", 400),
        ("secretsmanager", "ListSecrets", "InternalServiceError", 400),
        ("ec2", "DescribeSubnets", "RequestLimitExceeded", 503),
    ],
)
def test_a_fault_is_an_error_of_its_service_once(
    bed: Bed, service: str, operation: str, code: str, status: int
) -> None:
    """botocore reads code and status from each protocol's error shape (S3 API reference, "Error responses")."""
    client = bed.boto(service, config=ONCE)
    bed.fault(operation=operation, code=code, **({"status": 503} if service == "ec2" else {}))
    with pytest.raises(ClientError) as error:
        act(bed, client, operation)
    assert failed(error) == (code, status)
    act(bed, client, operation)
    assert bed.faults()[0]["hits"] == 1


def act(bed: Bed, client: Any, operation: str) -> Any:
    """Make a call."""
    match operation:
        case "PutObject":
            return client.put_object(Bucket=bed.site["bucket"], Key="a", Body=b"x")
        case "RunTask":
            return client.run_task(**asked(bed, define(bed)))
        case "SendMessage":
            url = client.create_queue(QueueName="q")["QueueUrl"]
            return client.send_message(QueueUrl=url, MessageBody="x")
        case "GetCallerIdentity":
            return client.get_caller_identity()
        case "DescribeLogGroups":
            return client.describe_log_groups()
        case "ListSecrets":
            return client.list_secrets()
        case _:
            return client.describe_subnets()


def test_a_call_may_be_done_though_it_seemed_to_fail(bed: Bed) -> None:
    """after=True: the tasks run, the caller sees a 500; its retry with the token botocore adds starts no more."""
    bed.fault(operation="RunTask", code="ServerException", after=True)
    answer = bed.boto("ecs").run_task(**asked(bed, define(bed), count=2))
    assert len(answer["tasks"]) == len(bed.tasks()) == 2
    assert bed.requests()["ecs", "RunTask"] == 2


def test_a_connection_may_end_without_an_answer(bed: Bed) -> None:
    """reset=True: what botocore makes of a dropped connection; once retried, the call succeeds."""
    s3 = {"Bucket": bed.site["bucket"], "Key": "a", "Body": b"x"}
    bed.fault(service="s3", reset=True, times=2)
    with pytest.raises((ConnectionClosedError, ConnectionError)):
        bed.boto("s3", config=ONCE).put_object(**s3)
    bed.boto("s3").put_object(**s3)
    assert bed.faults()[0]["hits"] == 2


def test_faults_pick_their_calls(bed: Bed) -> None:
    """match, skip and delay_s: the second write below b/ is late, the others are not."""
    bed.fault(service="s3", match="/b/", skip=1, delay_s=0.5)
    struck = []
    for key in ("a/1", "b/1", "b/2", "b/3"):
        began, before = time.monotonic(), bed.faults()[0]["hits"]
        bed.boto("s3").put_object(Bucket=bed.site["bucket"], Key=key, Body=b"x")
        if bed.faults()[0]["hits"] > before:
            assert time.monotonic() - began > 0.45
            struck.append(key)
    assert struck == ["b/2"]


def test_a_share_of_calls_fails_by_seeded_chance(bed: Bed) -> None:
    """probability: the same calls in the same order fail alike after a reset."""
    runs = []
    sts = bed.boto("sts", config=ONCE)
    for _ in range(2):
        bed.reset()
        bed.fault(service="sts", code="ServiceUnavailable", probability=0.5)
        outcomes = []
        for _ in range(20):
            try:
                sts.get_caller_identity()
                outcomes.append(True)
            except ClientError:
                outcomes.append(False)
        runs.append(outcomes)
    assert runs[0] == runs[1]
    assert 3 < sum(runs[0]) < 17


def test_in_a_blackout_nothing_of_aws_answers(bed: Bed) -> None:
    """Every service drops its connections for a while; the controls answer, and after it all is as before."""
    sts = bed.boto("sts", config=ONCE)
    bed.blackout(30)
    with pytest.raises((ConnectionClosedError, ConnectionError)):
        sts.get_caller_identity()
    assert bed.tasks() == []
    bed.elapse(31)
    assert sts.get_caller_identity()["Account"] == "123456789012"


def test_a_blackout_loses_answers_on_their_way(bed: Bed) -> None:
    """A message received in a blackout is in flight though nobody got it."""
    sqs = bed.boto("sqs", config=ONCE)
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    with ThreadPoolExecutor(1) as other:
        sqs.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=10)
        receiving = other.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        bed.until(bed.polls)
        bed.blackout(30)
        bed.elapse(10)
        with pytest.raises((ConnectionClosedError, ConnectionError)):
            receiving.result()
    bed.elapse(20)
    bed.set(counters_lag_s=0)
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_expired_credentials_are_refused_and_fresh_ones_are_not(bed: Bed) -> None:
    """ExpiredTokenException in JSON, ExpiredToken for S3, both 400 (AWS common errors; S3 error codes)."""
    bed.expire([ADMINISTRATOR])
    with pytest.raises(ClientError) as error:
        bed.boto("ecs", config=ONCE).list_clusters()
    assert failed(error) == ("ExpiredTokenException", 400)
    with pytest.raises(ClientError) as error:
        bed.boto("s3", config=ONCE).list_objects_v2(Bucket=bed.site["bucket"])
    assert failed(error) == ("ExpiredToken", 400)


def test_a_tasks_credentials_expire_by_its_id(bed: Bed) -> None:
    """A container that asks anew gets a key that works (ECS developer guide, "Task IAM role")."""
    script = (
        "import boto3, time\n"
        "def alive():\n"
        "    try:\n"
        "        return bool(boto3.Session().client('sts').get_caller_identity())\n"
        "    except Exception as error:\n"
        "        return error.response['Error']['Code']\n"
        "old = boto3.Session().client('sts'); old.get_caller_identity()\n"
        f"s3 = boto3.Session().client('s3'); s3.put_object(Bucket='{bed.site['bucket']}', Key='runs/ready', Body=b'')\n"
        "for _ in range(400):\n"
        "    try: old.get_caller_identity(); time.sleep(0.02)\n"
        "    except Exception as error: code = error.response['Error']['Code']; break\n"
        "raise SystemExit(0 if code == 'ExpiredToken' and alive() is True else 1)\n"
    )
    [arn] = run(bed, define(bed, script))
    bed.until(lambda: bed.leftovers()["objects"])
    assert len(bed.expire(task=arn.rpartition("/")[2])) >= 1
    task = reached(bed, arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 0


def test_calls_come_at_awss_rates(bed: Bed) -> None:
    """20 changes of definitions, then 1 a second; 100 Fargate launches, then 20 a second (ECS request throttling)."""
    definition, other = define(bed), define(bed, family="other")
    ecs = bed.boto("ecs", config=ONCE)
    bed.set(provisioning_s=30)
    bed.stop_clock()
    bed.elapse(60)
    started = partial(ecs.run_task, **asked(bed, definition, count=10))
    deregistered = partial(ecs.deregister_task_definition, taskDefinition=other)
    assert granted(started, 11) == 10
    assert granted(deregistered, 25) == 20
    bed.elapse(2)
    assert granted(started, 11) == 4
    assert granted(deregistered, 5) == 2


def test_what_shares_a_rate_shares_its_tokens(bed: Bed) -> None:
    """50 reads of definitions or clusters each; 40 of parameters a second (ECS request throttling; SSM quotas)."""
    ecs, ssm = bed.boto("ecs", config=ONCE), bed.boto("ssm", config=ONCE)
    bed.boto("ssm").put_parameter(Name="p", Value="x", Type="String")
    bed.stop_clock()
    bed.elapse(60)
    assert granted(ecs.list_task_definitions, 30, refused=False) == 30
    assert granted(ecs.list_task_definition_families, 30) == 20
    assert granted(ecs.list_clusters, 60) == 50
    assert granted(partial(ssm.get_parameter, Name="p"), 30, refused=False) == 30
    assert granted(partial(ssm.get_parameters, Names=["p"]), 30) == 10


def granted(call: Callable[[], object], times: int, *, refused: bool = True) -> int:
    """How many of so many calls are not throttled; all others are, and there are some."""
    answers = []
    for _ in range(times):
        try:
            call()
        except ClientError as why:
            answers.append(why.response)
    told = {(each["Error"]["Code"], each["ResponseMetadata"]["HTTPStatusCode"]) for each in answers}
    assert told == ({("ThrottlingException", 400)} if refused else set())
    assert all("Rate exceeded" in each["Error"]["Message"] for each in answers)
    return times - len(answers)


def test_a_key_is_created_once(bed: Bed) -> None:
    """If-None-Match: 412 if the key is there; of 16 racers one wins (S3 guide, "Conditional writes")."""
    s3, bucket = bed.boto("s3", config=Config(max_pool_connections=16)), bed.site["bucket"]
    gate = threading.Barrier(16)

    def race(number: int) -> str:
        gate.wait()
        try:
            s3.put_object(Bucket=bucket, Key="one", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return f"won {number}"

    with ThreadPoolExecutor(16) as racers:
        outcomes = sorted(racers.map(race, range(16)))
    assert outcomes[:15] == ["PreconditionFailed"] * 15
    assert outcomes[15] == f"won {s3.get_object(Bucket=bucket, Key='one')['Body'].read().decode()}"


def test_requests_are_counted_by_what_they_are(bed: Bed) -> None:
    """Counts say service and operation, S3's too."""
    s3, bucket = bed.boto("s3"), bed.site["bucket"]
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.head_object(Bucket=bucket, Key="a")
    s3.list_objects_v2(Bucket=bucket)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="b", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="b", UploadId=upload, MultipartUpload=parts)
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    names = "PutObject HeadObject ListObjectsV2 CreateMultipartUpload UploadPart CompleteMultipartUpload DeleteObjects"
    assert bed.requests(reset=True) == {("s3", name): 1 for name in names.split()}
    assert bed.requests() == {}


def test_a_reset_leaves_only_the_site(bed: Bed) -> None:
    """Tasks, processes, queues and objects are gone; the site's names still hold."""
    run(bed, define(bed), count=3)
    bed.boto("sqs").create_queue(QueueName="q")
    bed.boto("s3").put_object(Bucket=bed.site["bucket"], Key="a", Body=b"x")
    bed.until(lambda: len(bed.leftovers()["processes"]) == 3)
    bed.reset()
    assert bed.leftovers() == {"tasks": [], "processes": [], "queues": [], "objects": []}
    assert bed.boto("ecs").list_task_definitions()["taskDefinitionArns"] == []
    secret = bed.boto("secretsmanager").get_secret_value(SecretId=bed.site["signing_secret"])
    assert len(bytes.fromhex(secret["SecretString"])) == 32
    assert len(run(bed, define(bed))) == 1
