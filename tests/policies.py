"""A policy in; the actions that it allows out; and what an operation of AWS needs."""

from __future__ import annotations

from typing import Any

from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site

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
        "signing_secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:starburst-AbCdEf",
    },
    "tests",
)
#: Actions that are not called as the operation is. Source: AWS Service Authorization Reference.
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


def needed_for(operation: str) -> str:
    """The action that allows an operation, both as `service:Name`."""
    return _ACTIONS.get(operation, operation)


def policies() -> dict[str, set[str]]:
    """The actions that each of the printed policies allows, for a site with all there can be."""
    return {kind: actions_of(policy(SITE)) for kind, policy in POLICIES.items()}


def actions_of(policy: dict[str, Any]) -> set[str]:
    """What a policy's document allows."""
    listed = [statement["Action"] for statement in policy["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}
