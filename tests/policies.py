"""A policy in; the actions that it allows out."""

from __future__ import annotations

import json
import uuid
from typing import Any

from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site
from tests.testbed.bed import Bed

#: With all there can be, but a key in KMS.
SITE = Site.of(
    {
        "name": "main",
        "region": "us-east-1",
        "bucket": "my-starburst",
        "cluster": "my-cluster",
        "subnets": ["subnet-1"],
        "execution_role": "arn:aws:iam::123456789012:role/execution",
        "task_role": "arn:aws:iam::123456789012:role/task",
        "build_role": "arn:aws:iam::123456789012:role/build",
        "ec2_provider": "main-ec2",
        "signing_secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:starburst-AbCdEf",
    },
    "tests",
)


#: How the actions begin that the doctor takes beyond a driver's; `gc` takes the others of an operator.
DOCTORS = ("Get", "Describe", "ListTags")


def policies() -> dict[str, set[str]]:
    """The actions that each of the printed policies allows, for a site with all there can be."""
    return {kind: actions_of(policy(SITE)) for kind, policy in POLICIES.items()}


def actions_of(policy: dict[str, Any]) -> set[str]:
    """What a policy's document allows."""
    listed = [statement["Action"] for statement in policy["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}


def allow(aws: Bed, actions: str | list[str], resources: str | list[str], *, user: str = "") -> None:
    """Let a user, or else the site's workers, do what functions of the user's own need."""
    policy = {"PolicyName": f"own-{uuid.uuid4().hex}", "PolicyDocument": _document(actions, resources)}
    if user:
        aws.boto("iam").put_user_policy(UserName=user, **policy)
    else:
        aws.boto("iam").put_role_policy(RoleName=aws.site["task_role"].rpartition("/")[2], **policy)


def allow_bucket(aws: Bed, name: str) -> None:
    """Let drivers and workers read and write a bucket of the user's."""
    actions = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    for user in ("driver", ""):
        allow(aws, actions, [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"], user=user)


def role_of_drivers(aws: Bed, arn: str) -> None:
    """A role that drivers may take, with the policy that is printed for them."""
    root = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}
    iam, name = aws.boto("iam"), arn.rpartition("/")[2]
    trust = json.dumps({"Version": "2012-10-17", "Statement": [root]})
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    document = json.dumps(POLICIES["driver"](Site.of(aws.site, "the test bed")))
    iam.put_role_policy(RoleName=name, PolicyName="starburst", PolicyDocument=document)
    allow(aws, "sts:AssumeRole", arn, user="driver")


def _document(actions: str | list[str], resources: str | list[str]) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
