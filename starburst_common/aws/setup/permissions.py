"""A site in; what who asks, and its roles, may do of what they must, out: as IAM reckons it, or tried without effect.

IAM's simulation knows policies and boundaries of a principal, and not all of what an organisation or a bucket denies.
Source: IAM API reference, SimulatePrincipalPolicy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from starburst_common.aws.answers import speaking
from starburst_common.aws.keys import signing_key
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.errors import Denied, NotFound, StarburstError
from starburst_common.sites.permissions import Permission, permissions_of
from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site

_NONE = "0" * 32  #: no task is called so
_DIGEST = f"sha256:{'0' * 64}"


class Ruling(NamedTuple):
    """Whether somebody may do something; None where nobody could tell."""

    permission: Permission
    allowed: bool | None


def own_permissions(account: AwsAccount, site: Site) -> tuple[list[Ruling], str]:
    """Of who asks, as a driver; and how that was found."""
    wanted = permissions_of(POLICIES["driver"](site))
    if account.caller.endswith(":root"):
        return [Ruling(each, True) for each in wanted], "the account's root may do all"
    try:
        return [*_simulated(account, _principal(account), wanted)], "by iam:SimulatePrincipalPolicy"
    except StarburstError:
        return [*_tried(account, site, wanted)], "tried, as iam:SimulatePrincipalPolicy is not allowed"


def role_permissions(account: AwsAccount, site: Site, kind: str) -> list[Ruling]:
    """Of one of the site's roles: execution, task or build. Raises what IAM does where it cannot tell."""
    role = {"execution": site.execution_role, "task": site.task_role, "build": site.build_role}[kind]
    return [*_simulated(account, role, permissions_of(POLICIES[kind](site)))]


def _principal(account: AwsAccount) -> str:
    """Whose policies hold for who asks: of an assumed role that role, whose path its session does not tell."""
    kind, _, rest = account.caller.rpartition(":")[2].partition("/")
    if kind != "assumed-role":
        return account.caller
    name = rest.partition("/")[0]
    try:
        with speaking(f"iam:GetRole {name}"):
            return str(account.clients.iam.get_role(RoleName=name)["Role"]["Arn"])
    except StarburstError:
        return f"arn:{account.partition}:iam::{account.id}:role/{name}"


def _simulated(account: AwsAccount, principal: str, wanted: Sequence[Permission]) -> Iterator[Ruling]:
    def where(each: Permission) -> tuple[str, tuple[tuple[str, str], ...]]:
        return each.resource, each.context

    for (resource, context), group in groupby(sorted(wanted, key=where), key=where):
        them = {each.action: each for each in group}
        asked: dict[str, Any] = {} if resource == "*" else {"ResourceArns": [resource]}
        entries = [
            {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"} for name, value in context
        ]
        with speaking("iam:SimulatePrincipalPolicy"):
            pages = account.clients.iam.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=principal, ActionNames=[*them], ContextEntries=entries, **asked
            )
            for page in pages:
                for found in page["EvaluationResults"]:
                    yield Ruling(them[found["EvalActionName"]], found["EvalDecision"] == "allowed")


def _tried(account: AwsAccount, site: Site, wanted: Sequence[Permission]) -> Iterator[Ruling]:
    """By calls that change nothing, since what they name is not there. Of the others nobody can tell."""
    calls = {**_tries_of_store(account, site), **_tries_of_ecs(account, site), **_tries_of_images(account, site)}
    known: dict[str, bool | None] = {}
    for each in wanted:
        if each.action not in known:
            known[each.action] = _is_allowed(each.action, calls.get(each.action))
        yield Ruling(each, known[each.action])


def _is_allowed(action: str, call: Callable[[], Any] | None) -> bool | None:
    if call is None:
        return None
    try:
        with speaking(action):
            call()
    except Denied:
        return False
    except NotFound:
        return True
    except StarburstError as error:  # it was let through, and found nothing; unless nothing came through at all
        return True if error.__cause__ is not None and hasattr(error.__cause__, "response") else None
    return True


def _tries_of_store(account: AwsAccount, site: Site) -> Mapping[str, Callable[[], Any]]:
    s3, bucket, key = account.clients.s3, site.bucket, "runs/none"
    secret = "ssm:GetParameter" if ":ssm:" in site.signing_secret else "secretsmanager:GetSecretValue"
    return {
        "s3:ListBucket": lambda: s3.list_objects_v2(Bucket=bucket, MaxKeys=1),
        "s3:GetObject": lambda: s3.get_object(Bucket=bucket, Key=key),
        "s3:PutObject": lambda: s3.put_object(Bucket=bucket, Key=key, IfMatch='"none"'),
        "s3:DeleteObject": lambda: s3.delete_object(Bucket=bucket, Key=key),
        "s3:AbortMultipartUpload": lambda: s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId="none"),
        secret: lambda: signing_key(account.clients, site.signing_secret),
    }


def _tries_of_ecs(account: AwsAccount, site: Site) -> Mapping[str, Callable[[], Any]]:
    ecs, logs, cluster = account.clients.ecs, account.clients.logs, site.cluster
    family, task = f"starburst-{site.name}-none", account.arn("ecs", f"task/{cluster}/{_NONE}")
    metric = {"Namespace": "AWS/Usage", "MetricName": "ResourceCount", "Period": 60, "Statistics": ["Maximum"]}
    now, fargate = datetime.now(UTC), {"ServiceCode": "fargate", "QuotaCode": "L-3032A538"}
    return {
        "ecs:DescribeTaskDefinition": lambda: ecs.describe_task_definition(taskDefinition=family),
        "ecs:RunTask": lambda: ecs.run_task(
            cluster=cluster, taskDefinition=account.arn("ecs", f"task-definition/{family}:1")
        ),
        "ecs:StopTask": lambda: ecs.stop_task(cluster=cluster, task=task),
        "ecs:DescribeTasks": lambda: ecs.describe_tasks(cluster=cluster, tasks=[task]),
        "ecs:ListTasks": lambda: ecs.list_tasks(cluster=cluster, maxResults=1),
        "servicequotas:GetServiceQuota": lambda: account.clients.quotas.get_service_quota(**fargate),
        "servicequotas:GetAWSDefaultServiceQuota": lambda: account.clients.quotas.get_aws_default_service_quota(
            **fargate
        ),
        "cloudwatch:GetMetricStatistics": lambda: account.clients.metrics.get_metric_statistics(
            **metric, StartTime=now - timedelta(hours=1), EndTime=now
        ),
        "ec2:DescribeSubnets": lambda: account.clients.ec2.describe_subnets(MaxResults=5),
        "logs:GetLogEvents": lambda: logs.get_log_events(logGroupName=site.log_group, logStreamName="none"),
    }


def _tries_of_images(account: AwsAccount, site: Site) -> Mapping[str, Callable[[], Any]]:
    ecr, name = account.clients.ecr, site.repository
    tag: Any = [{"imageTag": "none"}]
    return {
        "ecr:GetAuthorizationToken": ecr.get_authorization_token,
        "ecr:DescribeRepositories": lambda: ecr.describe_repositories(repositoryNames=[name]),
        "ecr:DescribeImages": lambda: ecr.describe_images(repositoryName=name, maxResults=1),
        "ecr:ListImages": lambda: ecr.list_images(repositoryName=name, maxResults=1),
        "ecr:GetLifecyclePolicy": lambda: ecr.get_lifecycle_policy(repositoryName=name),
        "ecr:BatchGetImage": lambda: ecr.batch_get_image(repositoryName=name, imageIds=tag),
        "ecr:BatchDeleteImage": lambda: ecr.batch_delete_image(repositoryName=name, imageIds=tag),
        "ecr:BatchCheckLayerAvailability": lambda: ecr.batch_check_layer_availability(
            repositoryName=name, layerDigests=[_DIGEST]
        ),
        "ecr:GetDownloadUrlForLayer": lambda: ecr.get_download_url_for_layer(repositoryName=name, layerDigest=_DIGEST),
        "codebuild:BatchGetProjects": lambda: account.clients.codebuild.batch_get_projects(
            names=[f"starburst-{site.name}"]
        ),
    }
