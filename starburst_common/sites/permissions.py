"""A policy in; each permission that it gives, on what and under which circumstances, to be asked after, out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

#: Of a statement about several kinds of things, those that an action is done to; to the others it is not.
#: Source: AWS Service Authorization Reference, Amazon ECS, read 2026-11-30.
_ON = {"ecs:RunTask": ":task-definition/", "ecs:StopTask": ":task/", "ecs:DescribeTasks": ":task/"}


class Permission(NamedTuple):
    """One action on one thing."""

    action: str
    resource: str  #: an ARN; "*" for actions that are on nothing
    context: tuple[tuple[str, str], ...] = ()  #: under which circumstances: names of condition keys with their values


def permissions_of(document: dict[str, Any]) -> list[Permission]:
    """All, each once; where a policy is about many things, one stands for them.

    >>> allowed = {"Action": ["ecs:StopTask"], "Resource": ["arn:x:task-definition/a", "arn:x:task/c/*"]}
    >>> permissions_of({"Statement": [allowed]})
    [Permission(action='ecs:StopTask', resource='arn:x:task/c/none', context=())]
    """
    return [*dict.fromkeys(each for statement in document["Statement"] for each in _of(statement))]


def _of(statement: dict[str, Any]) -> Iterator[Permission]:
    context = tuple(pair for test in statement.get("Condition", {}).values() for pair in test.items())
    for action in statement["Action"]:
        for resource in statement["Resource"]:
            if _ON.get(action, "") in resource:
                one = resource if resource == "*" else resource.replace("*", "none")
                yield Permission(action, one, context)
