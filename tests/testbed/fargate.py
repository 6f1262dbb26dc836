"""Which sizes a Fargate task may have, and what it asks for. Pure."""

from __future__ import annotations

import re
from typing import Any

from tests.testbed.refusals import Refused

#: cpu units: the memory sizes that go with them, MiB (Amazon ECS developer guide, "Task CPU and memory")
SHAPES: dict[int, frozenset[int]] = {
    256: frozenset({512, 1024, 2048}),
    512: frozenset(range(1024, 4096 + 1, 1024)),
    1024: frozenset(range(2048, 8192 + 1, 1024)),
    2048: frozenset(range(4096, 16384 + 1, 1024)),
    4096: frozenset(range(8192, 30720 + 1, 1024)),
    8192: frozenset(range(16384, 61440 + 1, 4096)),
    16384: frozenset(range(32768, 122880 + 1, 8192)),
}


def shape(cpu: str | None, memory: str | None) -> tuple[int, int]:
    """CPU units and MiB of a Fargate task.

    >>> shape("1024", "2048"), shape("1 vCPU", "2 GB")
    ((1024, 2048), (1024, 2048))
    >>> shape("1024", "1024")
    Traceback (most recent call last):
    ...
    tests.testbed.refusals.Refused: ('ClientException', 'No Fargate configuration exists for given values.')
    """
    if not cpu or not memory:
        missing = "cpu" if not cpu else "memory"
        raise Refused("ClientException", f"Fargate requires that '{missing}' be defined at the task level.")
    units, mib = _units(cpu, "vcpu"), _units(memory, "gb")
    if units not in SHAPES:
        raise Refused("ClientException", f"Invalid 'cpu' setting for task: {cpu}.")
    if mib not in SHAPES[units]:
        raise Refused("ClientException", "No Fargate configuration exists for given values.")
    return units, mib


def _units(text: str, unit: str) -> int:
    if text.isdigit():
        return int(text)
    written = re.fullmatch(rf"([\d.]+)\s*{unit}", text.strip().lower())
    return int(float(written[1]) * 1024) if written else -1


def instance_shape(cpu: str | None, memory: str | None) -> tuple[int, int]:
    """CPU units and MiB of a task on instances. Source: Amazon ECS API reference, RegisterTaskDefinition, `cpu`.

    >>> instance_shape("3072", "5000")
    (3072, 5000)
    """
    units, mib = _units(cpu or "", "vcpu"), _units(memory or "", "gb")
    if not 128 <= units <= 196608:
        raise Refused("ClientException", f"Invalid 'cpu' setting for task: {cpu}.")
    if mib < 6:
        raise Refused("ClientException", f"Invalid 'memory' setting for task: {memory}.")
    return units, mib


def spread(strategy: list[dict[str, Any]], count: int) -> list[str]:
    """The provider of each of a call's tasks: bases first, the rest by weight.

    >>> spread([{"capacityProvider": "A", "base": 1, "weight": 1}, {"capacityProvider": "B", "weight": 3}], 5)
    ['A', 'B', 'B', 'A', 'B']
    """
    chosen = [item["capacityProvider"] for item in strategy for _ in range(item.get("base", 0))][:count]
    weights = {item["capacityProvider"]: item.get("weight", 0) for item in strategy}
    if not any(weights.values()):
        weights = {item["capacityProvider"]: 1 for item in strategy}
    given = dict.fromkeys(weights, 0)
    while len(chosen) < count:
        provider = min((name for name in weights if weights[name]), key=lambda name: (given[name] + 1) / weights[name])
        given[provider] += 1
        chosen.append(provider)
    return chosen


def check_definition(body: dict[str, Any]) -> None:
    """Refuse a RegisterTaskDefinition that Fargate would refuse, which moto does not."""
    wanted = body.get("requiresCompatibilities") or ()
    if "MANAGED_INSTANCES" in wanted:
        _check_for_instances(body)
    if "FARGATE" not in wanted:
        return
    units, mib = shape(body.get("cpu"), body.get("memory"))
    if body.get("networkMode", "awsvpc") != "awsvpc":
        raise Refused("ClientException", "Fargate only supports network mode 'awsvpc'.")
    containers = body.get("containerDefinitions") or []
    for container in containers:
        if not 2 <= container.get("stopTimeout", 30) <= 120:
            raise Refused("ClientException", "Invalid 'stopTimeout' setting for container: it must be from 2 to 120.")
        driver = (container.get("logConfiguration") or {}).get("logDriver", "awslogs")
        if driver not in ("awslogs", "splunk", "awsfirelens"):
            raise Refused("ClientException", f"Log driver '{driver}' is not supported by Fargate.")
        if container.get("secrets") and not body.get("executionRoleArn"):
            raise Refused(
                "ClientException", "Fargate requires task definition to have execution role ARN to support secrets."
            )
    if any(container.get("resourceRequirements") for container in containers):
        raise Refused(
            "ClientException", "Tasks using the Fargate launch type do not support GPU resource requirements."
        )
    if sum(container.get("cpu") or 0 for container in containers) > units:
        raise Refused("ClientException", "The sum of all containers' 'cpu' is above the task's.")
    if any((container.get("memory") or 0) > mib for container in containers):
        raise Refused("ClientException", "Invalid setting for container: 'memory' is above the task's.")


def _check_for_instances(body: dict[str, Any]) -> None:
    """Source: Amazon ECS Developer Guide, "Amazon ECS task networking for Amazon ECS Managed Instances"."""
    if body.get("networkMode") not in ("awsvpc", "host"):
        raise Refused("ClientException", "Managed Instances only support the network modes 'awsvpc' and 'host'.")
    if body.get("ephemeralStorage"):
        raise Refused("ClientException", "Ephemeral storage is supported on Fargate only.")
