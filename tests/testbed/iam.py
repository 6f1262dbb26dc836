"""A call in; refused unless the least policy of who makes it, as `starburst iam-policy` prints it, allows it.

What an operation needs, and on what, is as in the AWS Service Authorization Reference: a tag given while something is
made needs the right to tag it as well, and a role that is handed on the right to pass it to that service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from starburst_common.sites.policies import POLICIES, TRUSTED
from starburst_common.sites.site import Site
from tests.policies import needed_for
from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, REGION
from tests.testbed.refusals import Refused

DRIVER = "bed"  #: the access key of who starts runs
OPERATOR = "operator"  #: of who looks after the site
TASKS, BUILDS = "ASIABEDT", "ASIABEDB"  #: how those of tasks and builds begin
_FREE = {"sts:GetCallerIdentity"}


class Need(NamedTuple):
    """What a call must be allowed."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = {}


def who(call: Call) -> str:
    """Whose policy a call is under; empty for those of tests."""
    begins = {DRIVER: "driver", OPERATOR: "operator", TASKS: "task", BUILDS: "build"}
    return next((kind for begin, kind in begins.items() if call.access_key.startswith(begin)), "")


def check(call: Call, settings: Mapping[str, Any], used: set[tuple[str, str]], denied: Collection[str]) -> None:
    """Raise `Refused` for what the policy does not allow, or is denied in any case; what it does allow, is used."""
    if not (kind := who(call)):
        return
    site = Site.of(settings, "the test bed")
    document = POLICIES[kind](site)
    for need in needs(call, site):
        if need.action in _FREE:
            continue
        if need.action in denied or not any(allows(statement, need) for statement in document["Statement"]):
            raise _denied(call, kind, need)
        used.add((kind, need.action))


def needs(call: Call, site: Site) -> Iterator[Need]:
    """All that a call must be allowed."""
    action = needed_for(f"{call.service}:{call.operation}")
    if call.service == "s3":
        bucket, _, key = call.path.partition("?")[0].lstrip("/").partition("/")
        keys = re.findall(rb"<Key>(.*?)</Key>", call.body) if call.operation == "DeleteObjects" else [key.encode()]
        for each in keys:
            yield Need(action, f"arn:aws:s3:::{bucket}" + (f"/{each.decode()}" if each else ""))
        return
    asked = json.loads(call.body) if call.body.startswith(b"{") else {}
    yield from _OF.get(call.service, _plain)(action, asked, site)


def _plain(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    yield Need(action)


def _sqs(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    if action == "sqs:ListQueues":
        yield Need(action, _arn("sqs", "any"))
        return
    name = asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2]
    yield Need(action, _arn("sqs", name))
    if asked.get("tags"):
        yield Need("sqs:TagQueue", _arn("sqs", name))


def _ecs(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    cluster = str(asked.get("cluster", "default"))
    match action:
        case "ecs:RunTask":
            yield Need(action, asked["taskDefinition"])
            if asked.get("tags") or asked.get("propagateTags") or asked.get("enableECSManagedTags"):
                yield Need("ecs:TagResource", _arn("ecs", f"task/{cluster}/new"))
            yield from _passed(site.execution_role, site.task_role)
        case "ecs:RegisterTaskDefinition":
            yield Need(action)
            if asked.get("tags"):
                yield Need("ecs:TagResource", _arn("ecs", f"task-definition/{asked['family']}:1"))
            yield from _passed(asked["executionRoleArn"], asked["taskRoleArn"])
        case "ecs:ListTasks":
            yield Need(action, context={"ecs:cluster": _arn("ecs", f"cluster/{cluster}")})
        case "ecs:DescribeTasks" | "ecs:StopTask":
            yield from (Need(action, arn) for arn in asked.get("tasks") or [asked["task"]])
        case "ecs:DeleteTaskDefinitions":
            yield from (Need(action, arn) for arn in asked["taskDefinitions"])
        case _:
            yield Need(action)


def _passed(*roles: str) -> Iterator[Need]:
    yield from (Need("iam:PassRole", role, {"iam:PassedToService": TRUSTED["task"]}) for role in roles)


def _logs(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    yield Need(action, _arn("logs", f"log-group:{asked.get('logGroupName', '')}"))


def _secret(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    yield Need(action, asked["SecretId"])


def _ecr(action: str, asked: dict[str, Any], site: Site) -> Iterator[Need]:
    if action == "ecr:GetAuthorizationToken":
        yield Need(action)
        return
    names = asked.get("repositoryNames") or [asked["repositoryName"]]
    yield from (Need(action, _arn("ecr", f"repository/{name}")) for name in names)
    if asked.get("tags"):
        yield Need("ecr:TagResource", _arn("ecr", f"repository/{names[0]}"))


_OF = {"sqs": _sqs, "ecs": _ecs, "logs": _logs, "secretsmanager": _secret, "ecr": _ecr}


def _arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


def allows(statement: Mapping[str, Any], need: Need) -> bool:
    """Whether a policy's statement does."""
    conditions = [pair for test in statement.get("Condition", {}).values() for pair in test.items()]
    return (
        any(fnmatchcase(need.action, action) for action in statement["Action"])
        and any(fnmatchcase(need.resource, resource) for resource in statement["Resource"])
        and all(need.context.get(name) == value for name, value in conditions)
    )


def _denied(call: Call, kind: str, need: Need) -> Refused:
    """As IAM says it. Source: IAM User Guide, "Troubleshoot access denied error messages"."""
    text = (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{kind}/bed is not authorized to perform: {need.action} on "
        f"resource: {need.resource} because no identity-based policy allows the {need.action} action"
    )
    if call.service in ("s3", "sqs"):
        return Refused("AccessDenied", text, status=403)
    return Refused("AccessDeniedException", text)
