"""docs/aws.md in; the actions that its policies allow, and what an operation of AWS needs, out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parent.parent / "docs/aws.md"
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
}


def needed_for(operation: str) -> str:
    """The action that allows an operation, both as `service:Name`."""
    return _ACTIONS.get(operation, operation)


def policies() -> dict[str, set[str]]:
    """The actions that each policy of the page allows, by the name it is saved under."""
    section = _PAGE.read_text().partition("## Policies")[2]
    found = re.findall(r"`(\w+\.json)`(?:(?!```).)*```json\n(.+?)```", section, re.DOTALL)
    return {name: actions_of(json.loads(body)) for name, body in found}


def actions_of(policy: dict[str, Any]) -> set[str]:
    """What a policy's document allows."""
    listed = [statement["Action"] for statement in policy["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}
