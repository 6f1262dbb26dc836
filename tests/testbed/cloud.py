"""moto's backends of this process, for what the bed reads from them and writes to them."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from typing import Any

from moto.backends import get_backend
from moto.ecs.exceptions import TaskDefinitionNotFoundException

from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT, AT, PARTITION
from tests.testbed.refusals import Refused

#: reset between tests; networks and roles stay, so that a settings file written once stays right
_RESET = ("ecs", "logs", "ssm", "ecr", "codebuild", "cloudwatch", "events")


def _backend(service: str, region: str = "") -> Any:
    """Of the region that a call is for, where none is named."""
    return _of(service, region or AT.get())


@functools.cache  # moto looks long for one, and never changes it
def _of(service: str, region: str) -> Any:
    return get_backend(service)[ACCOUNT][region]  # type: ignore[call-overload]


def cluster(name_or_arn: str) -> Any:
    """A cluster. Raises `Refused`."""
    name = name_or_arn.rpartition("/")[2]
    found = _backend("ecs").clusters.get(name)
    if found is None or found.status != "ACTIVE":
        raise Refused("ClusterNotFoundException", "Cluster not found.")
    return found


def definition(name: str, region: str = "") -> Any:
    """A task definition by family, family:revision or ARN. Raises `Refused`."""
    try:
        found = _backend("ecs", region).describe_task_definition(name)
    except TaskDefinitionNotFoundException:
        raise Refused("ClientException", "TaskDefinition not found.") from None
    if found.status != "ACTIVE":
        raise Refused("ClientException", "TaskDefinition is inactive")
    return found


def complete_definition(asked: Mapping[str, Any]) -> None:
    """moto gives every new task definition that is not for EC2 alone the mode of Fargate, and none its time.

    Source: Amazon ECS API reference, TaskDefinition, `registeredAt`, read 2026-12-01.
    """
    found = _backend("ecs").task_definitions.get(asked["family"]) or {}
    if found:
        newest = found[max(found)]
        newest.registered_at = now()
        if asked.get("networkMode"):
            newest.network_mode = asked["networkMode"]


def roles_of(definition: Any, overrides: Mapping[str, Any]) -> list[str]:
    """The roles of a task: those that it is launched with, else those that its definition names."""
    found = [
        overrides.get(f"{kind}RoleArn") or getattr(definition, f"{kind}_role_arn", None)
        for kind in ("execution", "task")
    ]
    return [arn for arn in found if arn]


def zone_of(subnet: str) -> str:
    """A subnet's availability zone. Raises `Refused`."""
    for subnets in _backend("ec2").subnets.values():
        if subnet in subnets:
            return str(subnets[subnet].availability_zone)
    raise Refused(
        "InvalidParameterException",
        f"Error retrieving subnet information for [{subnet}]: The subnet ID '{subnet}' does not exist",
    )


def create_log_stream(group: str, stream: str, *, create_group: bool) -> None:
    """Have a log stream. Raises KeyError if there is no such group."""
    logs = _backend("logs")
    if group not in logs.groups:
        if not create_group:
            raise KeyError(group)
        logs.create_log_group(group, {})
    logs.ensure_log_stream(group, stream)


def put_lines(group: str, stream: str, lines: list[tuple[float, str]]) -> None:
    """Add lines with their epoch times to a log stream; a stream that was deleted swallows them."""
    events = [{"timestamp": int(at * 1000), "message": line} for at, line in lines]
    log_group = _backend("logs").groups.get(group)
    if events and log_group and stream in log_group.streams:
        log_group.put_log_events(stream, events)


def secret(source: str) -> str:
    """The text of a Secrets Manager secret or an SSM parameter. Raises KeyError."""
    if ":secretsmanager:" in source:
        parts = source.split(":")
        arn, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
        for held in _backend("secretsmanager").secrets.values():
            if arn in (held.arn, held.arn.rpartition("-")[0]):
                version = next(v for v in held.versions.values() if "AWSCURRENT" in v["version_stages"])
                text = version.get("secret_string") or ""
                if not key:
                    return str(text)
                return str(json.loads(text)[key])
        raise KeyError(source)
    region = source.split(":")[3] if source.startswith("arn:") else ""
    bare = source.partition(":parameter/")[2]
    backend = _backend("ssm", region)
    found = (
        backend.get_parameter(source) if not bare else backend.get_parameter(bare) or backend.get_parameter(f"/{bare}")
    )
    if found is None:
        raise KeyError(source)
    return str(found.decrypt(found.value))


def has_parameter(name: str) -> bool:
    """Whether Systems Manager has one of exactly this name."""
    return _backend("ssm").get_parameter(name) is not None


def reset(keep_secret: str) -> None:
    """Everything but networks, roles and the site's own secret is gone."""
    _backend("s3", PARTITION).reset()
    for service in _RESET:
        _backend(service).reset()
    secrets = _backend("secretsmanager").secrets
    for name in [name for name, held in secrets.items() if held.arn != keep_secret]:
        secrets.pop(name)


def repositories() -> dict[str, Any]:
    """ECR's repositories, by name."""
    found: dict[str, Any] = _backend("ecr").repositories
    return dict(found)


def repository(name: str) -> Any:
    """One of ECR's repositories; None if it is not there."""
    return repositories().get(name)


def delete_repository(name: str) -> Any:
    """Delete one that is there; images are not moto's."""
    return _backend("ecr").repositories.pop(name)


def _iam() -> Any:
    return _backend("iam", PARTITION)


def roles() -> list[Any]:
    """All of IAM's."""
    return [*_iam().roles.values()]


def role(arn: str) -> Any:
    """A role of IAM's; None if it is not there."""
    return next((each for each in roles() if each.arn == arn), None)


def role_of_profile(arn: str) -> str | None:
    """The role of an instance profile; None where there is neither."""
    found = next((each for each in list(_iam().instance_profiles.values()) if each.arn == arn), None)
    return str(found.roles[0].arn) if found is not None and found.roles else None


def maps_public_ip(subnet: str) -> bool:
    """Whether an instance that is launched in a subnet has a public address."""
    found = next((group[subnet] for group in _backend("ec2").subnets.values() if subnet in group), None)
    return str(getattr(found, "map_public_ip_on_launch", "false")).lower() == "true"


def user(access_key: str) -> Any:
    """Whose key it is; None if nobody's."""
    return _iam().get_user_from_access_key_id(access_key)


def user_named(name: str) -> Any:
    """A user; None if it is not there."""
    return _iam().users.get(name)


def assumed(access_key: str) -> tuple[str, str] | None:
    """Role and session that STS has given a key for."""
    found = _backend("sts", PARTITION).get_assumed_role_from_access_key(access_key)
    return (found.role_arn, found.session_name) if found else None


def policies_of(holder: Any) -> list[str]:
    """The documents of a role or a user."""
    versions = (version for each in holder.managed_policies.values() for version in each.versions)
    return [*holder.policies.values(), *(version.document for version in versions if version.is_default)]


def give(name: str, policies: Mapping[str, Mapping[str, Any]], *, alone: bool = False) -> None:
    """Let roles and users, by their ARNs, have policies of this name; `alone`: and no others."""
    holders = [*_iam().roles.values(), *_iam().users.values()]
    for holder in (each for each in holders if each.arn in policies):
        if alone:
            holder.policies.clear()
            holder.managed_policies.clear()
        holder.policies[name] = json.dumps(policies[holder.arn])


def new_key(name: str, named: str) -> tuple[str, str]:
    """One more access key of a user's, under a name that need not be like AWS's, with its secret."""
    made = _iam().users[name].create_access_key(prefix="AKIA")
    made.access_key_id = named or made.access_key_id
    return made.access_key_id, made.secret_access_key


def only(roles: Collection[str], keys: Collection[str]) -> None:
    """Of the roles that are not AWS's own those alone that are named by their ARNs, and of all keys these alone."""
    iam = _iam()
    for role_id, each in [*iam.roles.items()]:
        if each.arn not in roles and "/aws-service-role/" not in each.arn:
            del iam.roles[role_id]
    for each in iam.users.values():
        each.access_keys = [key for key in each.access_keys if key.access_key_id in keys]


def services_in(cluster: Any) -> bool:
    """Whether a cluster has services that are not gone."""
    found = _backend("ecs").services.values()
    return any(each.cluster_arn == cluster.arn and each.status == "ACTIVE" for each in found)


def key_of_bucket(name: str) -> list[str]:
    """The key of the account's own that a bucket is encrypted with, if any."""
    found = _backend("s3", PARTITION).buckets.get(name)
    rule = ((found.encryption if found else None) or {}).get("Rule", {}).get("ApplyServerSideEncryptionByDefault", {})
    return [rule["KMSMasterKeyID"]] if str(rule.get("KMSMasterKeyID", "")).startswith("arn:") else []


def key_of_secret(source: str) -> str:
    """The key of the account's own that a secret or a parameter is encrypted with; empty if it is AWS's."""
    if ":secretsmanager:" not in source and (":parameter/" in source or not source.startswith("arn:")):
        bare = source.partition(":parameter/")[2] or source.lstrip("/")
        held = _backend("ssm").get_parameter(bare) or _backend("ssm").get_parameter(f"/{bare}")
        key = held.keyid if held else ""
    else:
        secrets = _backend("secretsmanager").secrets.values()
        key = next((each.kms_key_id for each in secrets if source.startswith(each.arn) or each.name == source), "")
    return key if (key or "").startswith("arn:") else ""


def require_role_of_ecs() -> None:
    """Raise `Refused` as RunTask does in an account without ECS's own role.

    Source: Amazon ECS Developer Guide, "Troubleshoot service-linked roles"; the text as users report it.
    """
    roles = _iam().roles.values()
    if not any(each.name.lower() == "awsserviceroleforecs" for each in roles):
        raise Refused(
            "InvalidParameterException",
            "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
        )


def refuse_second_role_of_ecs() -> None:
    """An account has one service-linked role of ECS. Raises `Refused` as IAM does where it is there.

    Source: https://github.com/hashicorp/terraform-provider-aws/issues/921
    """
    roles = _iam().roles.values()
    if any(each.name.lower() == "awsserviceroleforecs" for each in roles):
        raise Refused(
            "InvalidInput",
            "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix.",
        )


def s3_object(bucket: str, key: str) -> bytes | None:
    """An object's bytes; None if it is not there."""
    found = _backend("s3", PARTITION).buckets.get(bucket)
    held = found.keys.get(key) if found else None
    return bytes(held.value) if held is not None else None


def refuse_other_region(call: Call) -> None:
    """Raises `Refused` as S3 does for a bucket that is in another region than a call is signed for, and tells which.

    Who looks at a bucket without signing is refused, and told too. Source: Amazon S3 API reference, HeadBucket.
    """
    found = _backend("s3", PARTITION).buckets.get(call.path.lstrip("/").partition("?")[0].partition("/")[0])
    if found is None or call.operation == "CreateBucket":
        return
    told = (("x-amz-bucket-region", found.region_name),)
    if call.region and call.region != found.region_name:
        text = "The bucket you are attempting to access must be addressed using the specified endpoint."
        raise Refused("PermanentRedirect", text, status=301, headers=told)
    if not call.region and call.operation == "HeadBucket":
        raise Refused("AccessDenied", "Access Denied", status=403, headers=told)


def objects(bucket: str) -> list[str]:
    """Keys of a bucket."""
    found = _backend("s3", PARTITION).buckets.get(bucket)
    return sorted(found.keys) if found else []


def now() -> float:
    """Epoch time as AWS's answers give it: to the millisecond."""
    return round(CLOCK.time(), 3)
