"""Whoever calls may do what his policies say, and no more, as on AWS: each test names where AWS says so.

All was read 2026-11-30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.policies import allow
from tests.testbed.bed import Bed
from tests.testbed.definitions import asked, define, reached, run

ONCE = Config(retries={"total_max_attempts": 1})
KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b"


def driver(bed: Bed, service: str, **keys: str) -> Any:
    """A client of who starts runs."""
    keys = keys or bed.as_user("driver")
    session = boto3.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
    return session.client(service, endpoint_url=bed.endpoint, config=ONCE)  # type: ignore[call-overload]


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Code and text of how a call is refused."""
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def trusting(bed: Bed, name: str, service: str) -> str:
    """A role that a service may take; its ARN."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return str(bed.boto("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"])


@pytest.mark.parametrize("role", ["none", "of-ec2"])
def test_ecs_takes_no_role_that_does_not_trust_it(bed: Bed, role: str) -> None:
    """Nor one that is not there (Amazon ECS Developer Guide, "Amazon ECS task execution IAM role")."""
    trusting(bed, "of-ec2", "ec2.amazonaws.com")
    arn = f"arn:aws:iam::123456789012:role/{role}"
    definition = bed.boto("ecs").register_task_definition(
        family="tried",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        taskRoleArn=arn,
        containerDefinitions=[{"name": "worker", "image": bed.site["image"]}],
    )["taskDefinition"]["taskDefinitionArn"]
    code, text = refused(partial(bed.boto("ecs").run_task, **asked(bed, definition)))
    assert (code, text[:43]) == ("ClientException", f"ECS was unable to assume the role '{arn}'"[:43])


def test_a_role_is_handed_on_by_who_may_pass_it_to_that_service(bed: Bed) -> None:
    """As a definition names it, and as tasks are run (IAM User Guide, "Grant a user permissions to pass a role")."""
    role = trusting(bed, "mighty", "ecs-tasks.amazonaws.com")
    allow(bed, ["ecs:RegisterTaskDefinition", "ecs:RunTask"], "*", user="driver")
    named: Any = {"family": "starburst-bed-a", "containerDefinitions": [{"name": "a", "image": "a", "memory": 4}]}
    code, text = refused(partial(driver(bed, "ecs").register_task_definition, taskRoleArn=role, **named))
    assert code == "AccessDeniedException"
    assert text.startswith(
        "User: arn:aws:iam::123456789012:user/driver is not authorized to perform: iam:PassRole on resource: "
        "arn:aws:iam::123456789012:role/mighty because no identity-based policy allows the iam:PassRole action"
    )


def test_what_is_tagged_as_it_is_made_needs_the_right_to_tag(bed: Bed) -> None:
    """(Amazon SQS and Amazon ECS Developer Guides, "Grant permission to tag resources on creation".)"""
    allow(bed, ["sqs:CreateQueue", "ecs:CreateCluster"], "*", user="driver")
    driver(bed, "sqs").create_queue(QueueName="plain")
    code, text = refused(partial(driver(bed, "sqs").create_queue, QueueName="tagged", tags={"a": "b"}))
    assert code == "AccessDenied" and "sqs:TagQueue on resource: arn:aws:sqs:us-east-1:123456789012:tagged" in text
    driver(bed, "ecs").create_cluster(clusterName="plain")
    tags = [{"key": "a", "value": "b"}]
    assert "ecs:TagResource" in refused(partial(driver(bed, "ecs").create_cluster, clusterName="tagged", tags=tags))[1]


@pytest.mark.parametrize(
    ("denied", "said"),
    [
        ("ecr:GetAuthorizationToken", "ResourceInitializationError: .*unable to retrieve ecr registry auth.*"),
        ("ecr:BatchGetImage", "CannotPullContainerError: .*403 Forbidden"),
        ("secretsmanager:GetSecretValue", "ResourceInitializationError: .*unable to retrieve secret from asm.*"),
        ("logs:CreateLogStream", "ResourceInitializationError: failed to validate logger args: .*"),
    ],
)
def test_ecs_starts_tasks_with_what_the_execution_role_may(bed: Bed, denied: str, said: str) -> None:
    """(Amazon ECS Developer Guide, "Amazon ECS task execution IAM role", "ResourceInitializationError errors".)"""
    bed.set(denied=[denied])
    bed.boto("logs").create_log_group(logGroupName=bed.site["log_group"])
    options = {"awslogs-group": bed.site["log_group"], "awslogs-region": "us-east-1", "awslogs-stream-prefix": "w"}
    definition = define(
        bed,
        secrets=[{"name": "KEY", "valueFrom": bed.site["signing_secret"]}],
        logConfiguration={"logDriver": "awslogs", "options": options},
    )
    task = reached(bed, run(bed, definition)[0], "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    role = (
        r"User: arn:aws:sts::123456789012:assumed-role/starburst-bed-execution/[0-9a-f]+ is not authorized to perform: "
    )
    assert re.match(said if "403" in said else said + role + denied, task["stoppedReason"]), task["stoppedReason"]


def test_what_a_key_of_the_users_encrypts_needs_that_key(bed: Bed) -> None:
    """To write and to read (Amazon S3 User Guide, "Using server-side encryption with AWS KMS keys")."""
    by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": by}]}
    bed.boto("s3").put_bucket_encryption(Bucket=bed.site["bucket"], ServerSideEncryptionConfiguration=rules)
    where = {"Bucket": bed.site["bucket"], "Key": "runs/a"}
    code, text = refused(partial(driver(bed, "s3").put_object, **where, Body=b"a"))
    assert code == "AccessDenied" and f"kms:GenerateDataKey on resource: {KEY} because no identity-based" in text
    bed.grant({**bed.site, "kms_key": KEY})
    driver(bed, "s3").put_object(**where, Body=b"a")
    bed.grant(bed.site)
    assert "kms:Decrypt" in refused(partial(driver(bed, "s3").get_object, **where))[1]


def test_other_services_know_late_of_what_iam_was_told(bed: Bed) -> None:
    """Of a role, its trust, and its policies (IAM User Guide, "Changes that I make are not always … visible")."""
    bed.stop_clock()
    actions = ["iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:GetRole"]
    allow(bed, [*actions, "sts:AssumeRole", "s3:ListBucket"], "*", user="setup")
    iam, statement = driver(bed, "iam", **bed.as_user("setup")), {"Effect": "Allow", "Action": "sts:AssumeRole"}
    trust = [{**statement, "Principal": {"Service": "ecs-tasks.amazonaws.com"}}]
    trust += [{**statement, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}]
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    role = iam.create_role(RoleName="new", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    may = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName="new", PolicyName="p", PolicyDocument=policy)
    assert iam.get_role(RoleName="new")["Role"]["Arn"] == role
    overrides = {"taskRoleArn": role}
    started = partial(bed.boto("ecs").run_task, **asked(bed, define(bed), overrides=overrides))
    assumed = partial(driver(bed, "sts", **bed.as_user("setup")).assume_role, RoleArn=role, RoleSessionName="me")
    assert refused(started)[0] == "ClientException" and refused(assumed)[0] == "AccessDenied"
    bed.elapse(2)
    assert started()["failures"] == []
    keys = assumed()["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=bed.endpoint, config=ONCE)
    listed = partial(s3.list_objects_v2, Bucket=bed.site["bucket"])
    assert refused(listed)[0] == "AccessDenied"
    bed.elapse(2)
    listed()
    iam.delete_role_policy(RoleName="new", PolicyName="p")
    listed()
    bed.elapse(4)
    assert refused(listed)[0] == "AccessDenied"
    bed.boto("iam").delete_role(RoleName="new")  # as tests prepare: at once
    assert refused(assumed)[0] == "AccessDenied"


def test_who_may_not_list_a_bucket_is_not_told_what_is_missing(bed: Bed) -> None:
    """(Amazon S3 API reference, GetObject, "Permissions".)"""
    bed.boto("s3").create_bucket(Bucket="mine")
    allow(bed, "s3:GetObject", "arn:aws:s3:::mine/*", user="driver")
    get = partial(driver(bed, "s3").get_object, Bucket="mine", Key="none")
    assert refused(get)[0] == "AccessDenied"
    allow(bed, "s3:ListBucket", "arn:aws:s3:::mine", user="driver")
    assert refused(get)[0] == "NoSuchKey"


def test_a_key_that_nobody_has_is_refused(bed: Bed) -> None:
    """By each service's code (their API references, "Common errors"); who one is may be asked by all who have a key."""
    stranger = {"AWS_ACCESS_KEY_ID": "AKIASTRANGER", "AWS_SECRET_ACCESS_KEY": "x"}
    codes = {
        "s3": refused(partial(driver(bed, "s3", **stranger).list_objects_v2, Bucket=bed.site["bucket"]))[0],
        "ecs": refused(driver(bed, "ecs", **stranger).list_clusters)[0],
        "sts": refused(driver(bed, "sts", **stranger).get_caller_identity)[0],
    }
    assert codes == {
        "s3": "InvalidAccessKeyId",
        "ecs": "UnrecognizedClientException",
        "sts": "InvalidClientTokenId",
    }
    assert driver(bed, "sts").get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:user/driver"
