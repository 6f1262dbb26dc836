"""A call in; all that it must be allowed out: actions on resources, and what IAM knows besides.

Actions, the resources they are on and what else they need are those of the AWS Service Authorization Reference, read
2026-11-30: a tag given while something is made needs the right to tag it as well, a role that is handed on the right to
pass it to that service, and what is encrypted with a key of the account's own the right to use that key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.testbed import cloud
from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT

Json = dict[str, Any]
ECS_TASKS, CODEBUILD = "ecs-tasks.amazonaws.com", "codebuild.amazonaws.com"
ECS, EC2 = "ecs.amazonaws.com", "ec2.amazonaws.com"
_FREE = {"sts:GetCallerIdentity", "sts:GetSessionToken"}
#: Actions that are not called as the operation is. Source: AWS Service Authorization Reference.
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:UploadPartCopy": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CopyObject": "s3:PutObject",
    "s3:HeadObject": "s3:GetObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:PutBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetBucketLifecycle": "s3:GetLifecycleConfiguration",
    "registry:HeadBlob": "ecr:BatchCheckLayerAvailability",
    "registry:GetBlob": "ecr:GetDownloadUrlForLayer",
    "registry:StartUpload": "ecr:InitiateLayerUpload",
    "registry:MountBlob": "ecr:InitiateLayerUpload",
    "registry:PatchBlob": "ecr:UploadLayerPart",
    "registry:GetUpload": "ecr:UploadLayerPart",
    "registry:CancelUpload": "ecr:UploadLayerPart",
    "registry:PutBlob": "ecr:CompleteLayerUpload",
    "registry:HeadManifest": "ecr:BatchGetImage",
    "registry:GetManifest": "ecr:BatchGetImage",
    "registry:PutManifest": "ecr:PutImage",
    "registry:DeleteManifest": "ecr:BatchDeleteImage",
    "registry:ListTags": "ecr:ListImages",
}


_IN_JSON = {"ecs", "logs", "secretsmanager", "ssm", "ecr", "codebuild"}
_QUEUE = re.compile(rb'(?<!\\)"(?:QueueName|QueueUrl)": ?"(?:[^"]*/)?([^"/]+)"')


class Need(NamedTuple):
    """What a call must be allowed."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = {}


def action_of(operation: str) -> str:
    """The action that allows an operation, both as `service:Name`."""
    return _ACTIONS.get(operation, operation)


def needs(call: Call) -> Iterator[Need]:
    """All that a call must be allowed."""
    action = action_of(f"{call.service}:{call.operation}")
    if action not in _FREE:
        asked = json.loads(call.body or b"{}") if call.service in _IN_JSON else {}
        yield from _OF.get(call.service, _plain)(action, asked, call)


def _plain(action: str, asked: Json, call: Call) -> Iterator[Need]:
    yield Need(action)


def _s3(action: str, asked: Json, call: Call) -> Iterator[Need]:
    path, _, query = call.path.partition("?")
    bucket, _, key = path.lstrip("/").partition("/")
    whole = f"arn:{call.partition}:s3:::{bucket}"
    if call.operation == "DeleteObjects":
        for each in re.findall(rb"<Object>(.*?)</Object>", call.body, re.DOTALL):
            name = re.search(rb"<Key>(.*?)</Key>", each, re.DOTALL)
            version = rb"<VersionId>" in each
            yield Need("s3:DeleteObjectVersion" if version else action, f"{whole}/{name[1].decode() if name else ''}")
        return
    if action == "s3:GetObject" and "versionId=" in query:
        action = "s3:GetObjectVersion"
    if action == "s3:DeleteObject" and "versionId=" in query:
        action = "s3:DeleteObjectVersion"
    yield Need(action, (f"{whole}/{key}" if key else whole) if bucket else "*")
    if call.operation == "CreateBucket" and call.sets_ownership:
        yield Need("s3:PutBucketOwnershipControls", whole)
    if call.copies:
        yield Need("s3:GetObject", f"arn:{call.partition}:s3:::{unquote(call.copies.lstrip('/')).partition('?')[0]}")
    if used := _KEYED.get(call.operation):
        yield from (Need(f"kms:{use}", arn) for arn in cloud.key_of_bucket(bucket) for use in used)


#: What encryption with a key takes (Amazon S3 User Guide, "Using server-side encryption with AWS KMS keys").
_KEYED = {
    "GetObject": ("Decrypt",),
    "PutObject": ("GenerateDataKey",),
    "CopyObject": ("GenerateDataKey", "Decrypt"),
    "CreateMultipartUpload": ("GenerateDataKey", "Decrypt"),
    "UploadPart": ("GenerateDataKey", "Decrypt"),
    "CompleteMultipartUpload": ("Decrypt",),
}


def _sqs(action: str, asked: Json, call: Call) -> Iterator[Need]:
    """Messages may be large: only what is needed of a call is read."""
    found = _QUEUE.search(call.body)
    yield Need(action, call.arn("sqs", found[1].decode() if found else "any"))
    if found and call.operation == "CreateQueue" and json.loads(call.body).get("tags"):
        yield Need("sqs:TagQueue", call.arn("sqs", found[1].decode()))


def _ecs(action: str, asked: Json, call: Call) -> Iterator[Need]:
    cluster = str(asked.get("cluster") or "default").rpartition("/")[2]
    on = {"ecs:cluster": call.arn("ecs", f"cluster/{cluster}")}
    operation, made = call.operation, ""
    if operation == "RunTask":
        definition = cloud.definition(asked.get("taskDefinition") or "", call.region)
        yield Need(action, definition.arn, on)
        if asked.get("tags") or asked.get("propagateTags") or asked.get("enableECSManagedTags"):
            made = f"task/{cluster}/new"
        yield from passed(cloud.roles_of(definition, asked.get("overrides") or {}), ECS_TASKS)
    elif operation == "RegisterTaskDefinition":
        yield Need(action)
        made = f"task-definition/{asked['family']}:1" if asked.get("tags") else ""
        yield from passed(_roles(asked.get("executionRoleArn"), asked.get("taskRoleArn")), ECS_TASKS)
    elif operation in ("DescribeTasks", "StopTask"):
        for task in asked.get("tasks") or [asked.get("task", "")]:
            yield Need(action, task if task.startswith("arn:") else call.arn("ecs", f"task/{cluster}/{task}"), on)
    elif operation in ("CreateCluster", "DeleteCluster", "PutClusterCapacityProviders", "DescribeClusters"):
        names = asked.get("clusters") or [asked.get("clusterName") or cluster]
        yield from (Need(action, call.arn("ecs", f"cluster/{name.rpartition('/')[2]}")) for name in names)
        made = f"cluster/{names[0]}" if operation == "CreateCluster" and asked.get("tags") else ""
    elif operation in ("CreateCapacityProvider", "UpdateCapacityProvider", "DeleteCapacityProvider"):
        name = str(asked.get("name") or asked.get("capacityProvider")).rpartition("/")[2]
        yield Need(action, call.arn("ecs", f"capacity-provider/{name}"))
        managed = asked.get("managedInstancesProvider") or {}
        yield from passed(_roles(managed.get("infrastructureRoleArn")), ECS)
        made = f"capacity-provider/{name}" if operation == "CreateCapacityProvider" and asked.get("tags") else ""
    elif operation == "DescribeCapacityProviders":
        for name in asked.get("capacityProviders") or ["*"]:
            yield Need(action, call.arn("ecs", f"capacity-provider/{name}"))
    elif operation == "DescribeContainerInstances":
        for name in asked["containerInstances"]:
            yield Need(action, name, on)
    elif operation in ("DeregisterContainerInstance", "ListContainerInstances"):
        yield Need(action, call.arn("ecs", f"cluster/{cluster}"))
    elif "resourceArn" in asked:
        yield Need(action, asked["resourceArn"])
    elif operation == "DeleteTaskDefinitions":
        yield from (Need(action, each) for each in asked["taskDefinitions"])
    else:
        yield Need(action, "*", on if operation == "ListTasks" else {})
    if made:
        yield Need("ecs:TagResource", call.arn("ecs", made), {"ecs:CreateAction": operation})


def _roles(*arns: str | None) -> list[str]:
    return [arn for arn in arns if arn]


def passed(roles: Iterable[str], service: str) -> Iterator[Need]:
    """What it takes to hand roles on to a service."""
    yield from (Need("iam:PassRole", role, {"iam:PassedToService": service}) for role in roles)


def _logs(action: str, asked: Json, call: Call) -> Iterator[Need]:
    if arn := asked.get("resourceArn"):
        yield Need(action, arn)
        return
    group, stream = asked.get("logGroupName", ""), asked.get("logStreamName", "")
    yield Need(action, log_arn(call, group, stream))
    if asked.get("tags"):
        yield Need("logs:TagResource", log_arn(call, group))


def log_arn(call: Call, group: str, stream: str = "") -> str:
    """Of a log group, or of a stream in it."""
    return call.arn("logs", f"log-group:{group}" + (f":log-stream:{stream}" if stream else ""))


def _secrets(action: str, asked: Json, call: Call) -> Iterator[Need]:
    named = asked.get("SecretId") or asked.get("Name", "")
    yield Need(action, named if named.startswith("arn:") else call.arn("secretsmanager", f"secret:{named}"))
    if call.operation == "GetSecretValue" and (key := cloud.key_of_secret(named)):
        yield Need("kms:Decrypt", key)


def _ssm(action: str, asked: Json, call: Call) -> Iterator[Need]:
    names = asked.get("Names") or [asked.get("Name") or asked.get("ResourceId") or ""]
    for name in names:
        arn = name if name.startswith("arn:") else call.arn("ssm", f"parameter/{name.lstrip('/')}")
        yield Need(action, arn if name else "*")
        if asked.get("WithDecryption") and (key := cloud.key_of_secret(arn)):
            yield Need("kms:Decrypt", key)
    if asked.get("Tags"):
        yield Need("ssm:AddTagsToResource", call.arn("ssm", f"parameter/{names[0].lstrip('/')}"))
    if call.operation == "PutParameter" and asked.get("KeyId", "").startswith("arn:"):
        yield Need("kms:Encrypt", asked["KeyId"])


def _ecr(action: str, asked: Json, call: Call) -> Iterator[Need]:
    if call.operation in ("GetAuthorizationToken", "PutAccountSetting", "GetAccountSetting"):
        yield Need(action)
        return
    if "resourceArn" in asked:
        yield Need(action, asked["resourceArn"])
        return
    names = asked.get("repositoryNames") or [asked.get("repositoryName", "*")]
    yield from (Need(action, call.arn("ecr", f"repository/{name}")) for name in names)
    if asked.get("tags"):
        yield Need("ecr:TagResource", call.arn("ecr", f"repository/{names[0]}"))


def _registry(action: str, asked: Json, call: Call) -> Iterator[Need]:
    """A registry's requests need what ECR's calls in their place would (Amazon ECR user guide, "Pushing an image")."""
    found = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags)/", urlsplit(call.path).path)
    if found and action.startswith("ecr:"):
        yield Need(action, call.arn("ecr", f"repository/{found[1]}"))


def _codebuild(action: str, asked: Json, call: Call) -> Iterator[Need]:
    names = asked.get("names") or asked.get("ids") or [asked.get("name") or asked.get("projectName") or asked.get("id")]
    for name in names:
        project = str(name or "").removeprefix("build/").partition(":")[0]
        yield Need(action, call.arn("codebuild", f"project/{project}") if project else "*")
    role = asked.get("serviceRole") or asked.get("serviceRoleOverride")
    yield from passed(_roles(role), CODEBUILD)


def _iam(action: str, asked: Json, call: Call) -> Iterator[Need]:
    form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    iam = f"arn:{call.partition}:iam::{ACCOUNT}:"
    if call.operation == "CreateServiceLinkedRole":
        service = form.get("AWSServiceName", "")
        yield Need(
            action, f"{iam}role/aws-service-role/{service}/AWSServiceRoleForECS", {"iam:AWSServiceName": service}
        )
        return
    if call.operation == "SimulatePrincipalPolicy":
        yield Need(action, form["PolicySourceArn"])
        return
    if call.operation == "GetPolicy":
        yield Need(action, form["PolicyArn"])
        return
    role, profile = form.get("RoleName", ""), form.get("InstanceProfileName", "")
    if profile:
        yield Need(action, f"{iam}instance-profile/{profile}")
        if call.operation == "AddRoleToInstanceProfile":
            yield from passed([f"{iam}role/{role}"], EC2)
        if call.operation == "CreateInstanceProfile" and any(name.startswith("Tags.") for name in form):
            yield Need("iam:TagInstanceProfile", f"{iam}instance-profile/{profile}")
        return
    yield Need(action, f"{iam}role/{role}" if role else "*")
    if call.operation == "CreateRole" and any(name.startswith("Tags.") for name in form):
        yield Need("iam:TagRole", f"{iam}role/{role}")


def _ec2(action: str, asked: Json, call: Call) -> Iterator[Need]:
    yield Need(action)
    if action.startswith("ec2:Create") and b"TagSpecification." in call.body:
        yield Need("ec2:CreateTags", "*", {"ec2:CreateAction": call.operation})


def _sts(action: str, asked: Json, call: Call) -> Iterator[Need]:
    yield Need(action, parse_qs(call.body.decode()).get("RoleArn", ["*"])[0])


_OF = {
    "s3": _s3,
    "sqs": _sqs,
    "ecs": _ecs,
    "logs": _logs,
    "secretsmanager": _secrets,
    "ssm": _ssm,
    "ecr": _ecr,
    "registry": _registry,
    "codebuild": _codebuild,
    "iam": _iam,
    "ec2": _ec2,
    "sts": _sts,
}
