"""A site and a fleet in; the requests ECS is sent, as plain data, out. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from starburst_common.model import Address, FleetId
from starburst_common.ports import WorkerSpec
from starburst_common.resources import Resources
from starburst_common.sites.site import Site

CONTAINER = "worker"
_PLACE = "capacityProviderStrategy"
RUN_TASK_MOST = 10  #: tasks a call. Source: Amazon ECS API reference, RunTask, read 2026-11-22
_STOP_S = 120  #: from SIGTERM to SIGKILL, the most Fargate allows. Source: ECS Developer Guide, "Task definition"


def tags(site: str, more: Sequence[str] = ()) -> dict[str, str]:
    """What marks everything of the site of this name as ours, and what its user wants marked besides.

    >>> tags("main", ["team=x=y"])
    {'team': 'x=y', 'starburst:site': 'main'}
    """
    return {**dict(each.split("=", 1) for each in more), "starburst:site": site}


def address_of(site: Site) -> Address:
    """What a worker is told of a site."""
    return Address(site=site.name, region=site.region, bucket=site.bucket, account=site.account)


def task_definition(site: Site, image: str, *, ec2: bool = False) -> dict[str, Any]:
    """What RegisterTaskDefinition is sent: one for each image, whatever the size; its family names its content.

    On instances workers have their instance's network, and its public address: a task's own interface gets none there,
    and an instance has few. Source: Amazon ECS Developer Guide, "Allocate a network interface for tasks on Amazon ECS
    Managed Instances", read 2026-11-30.

    >>> site = Site.of({"name": "s", "region": "us-east-1", "bucket": "abc", "cluster": "c", "subnets": ["subnet-1"],
    ...     "execution_role": "arn:aws:iam::123456789012:role/e", "task_role": "arn:aws:iam::123456789012:role/t",
    ...     "signing_secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:k"}, "here")
    >>> definition = task_definition(site, "i:1")
    >>> definition["family"] == task_definition(site, "i:1")["family"]
    True
    >>> definition["containerDefinitions"][0]["stopTimeout"]
    120
    >>> task_definition(site, "i:1", ec2=True)["networkMode"]
    'host'
    """
    content: dict[str, Any] = {
        "networkMode": "host" if ec2 else "awsvpc",
        "requiresCompatibilities": ["MANAGED_INSTANCES", "EC2"] if ec2 else ["FARGATE"],
        "cpu": "256",  # each launch overrides both
        "memory": "512",
        "executionRoleArn": site.execution_role,
        "taskRoleArn": site.task_role,
        "runtimePlatform": {"cpuArchitecture": site.architecture, "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [
            {
                "name": CONTAINER,
                "image": image,
                "essential": True,
                "stopTimeout": _STOP_S,
                "secrets": [{"name": "STARBURST_KEY", "valueFrom": site.signing_secret}],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": site.log_group,
                        "awslogs-region": site.region,
                        "awslogs-stream-prefix": "worker",
                        "mode": "non-blocking",  # what must not be lost is in the store
                        "max-buffer-size": "25m",
                    },
                },
            }
        ],
    }
    marked = {**content, "tags": site.tags} if site.tags else content
    digest = hashlib.sha256(json.dumps(marked, sort_keys=True).encode()).hexdigest()[:12]
    return {"family": f"starburst-{site.name}-{digest}", **content, "tags": _pairs(tags(site.name, site.tags))}


def log_stream(task: str) -> str:
    """Where a task's container prints."""
    return f"worker/{CONTAINER}/{task}"


def run_task(site: Site, definition: str, spec: WorkerSpec, count: int) -> dict[str, Any]:
    """What RunTask is sent for so many of a fleet's workers; where they run and the token come later."""
    cpu, memory_mib = fargate_size(spec.resources)
    on_gpus = {"resourceRequirements": [{"type": "GPU", "value": str(spec.resources.gpus)}]}
    overrides: dict[str, Any] = {
        "cpu": str(cpu),
        "memory": str(memory_mib),
        "containerOverrides": [
            {
                "name": CONTAINER,
                "environment": [
                    {"name": name, "value": value}
                    for name, value in {**spec.resources.env, "STARBURST_WORKER": json.dumps(duty(site, spec))}.items()
                ],
                **(on_gpus if spec.resources.gpus else {}),
            }
        ],
    }
    if spec.resources.task_role:
        overrides["taskRoleArn"] = spec.resources.task_role
    if spec.resources.storage_gb:
        overrides["ephemeralStorage"] = {"sizeInGiB": spec.resources.storage_gb}
    marked: dict[str, Any] = {"propagateTags": "TASK_DEFINITION"}
    if spec.resources.aws_tags:  # all are said, as it is not documented which of two of one name would count
        marked = {"tags": _pairs({**tags(site.name, site.tags), **spec.resources.aws_tags})}
    request = {
        "cluster": site.cluster,
        "taskDefinition": definition,
        "count": count,
        "startedBy": spec.fleet,
        "overrides": overrides,
        "enableECSManagedTags": True,
        **marked,
    }
    if spec.resources.on_ec2:
        gpus = spec.resources.gpus
        provider = site.provider(gpus=gpus, spot=False) or site.provider(gpus=gpus, spot=True)
        request[_PLACE] = _only(provider)
    return request


def on_ec2(request: dict[str, Any]) -> bool:
    """Whether what RunTask is to be sent is for instances."""
    return _PLACE in request


def placed(request: dict[str, Any], site: Site, *, spot: bool, subnets: tuple[str, ...]) -> dict[str, Any]:
    """The request, with where its tasks run: a capacity of its own for each call, so that falling back is exact.

    On instances it is the provider that says in which subnets. Source: Amazon ECS API reference, RunTask,
    `networkConfiguration`, read 2026-11-30.
    """
    if on_ec2(request):
        named = request[_PLACE][0]["capacityProvider"]
        spots = {site.ec2_provider: site.ec2_spot_provider, site.gpu_provider: site.gpu_spot_provider}
        return {**request, _PLACE: _only((spots.get(named) if spot else "") or named)}
    return {
        **request,
        _PLACE: _only("FARGATE_SPOT" if spot else "FARGATE"),
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": [*subnets],
                "securityGroups": [*site.security_groups],
                "assignPublicIp": "ENABLED" if site.assign_public_ip else "DISABLED",
            }
        },
    }


def ways(spot: bool, subnets: tuple[str, ...], *, ec2: bool = False) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Spot first where it is wanted; all zones, then each alone, since ECS tries only the one it picks.

    >>> list(ways(False, ("subnet-1", "subnet-2")))
    [(False, ('subnet-1', 'subnet-2')), (False, ('subnet-1',)), (False, ('subnet-2',))]
    """
    for on_spot in (True, False) if spot else (False,):
        yield on_spot, () if ec2 else subnets
        if not ec2 and len(subnets) > 1:
            yield from ((on_spot, (subnet,)) for subnet in subnets)


def alike(site: Site, spec: WorkerSpec) -> str:
    """All that would be asked of ECS for a worker, but for its fleet, as one text."""
    definition = task_definition(site, spec.resources.image or site.image, ec2=spec.resources.on_ec2)
    request = run_task(site, definition["family"], replace(spec, fleet=FleetId("")), 1)
    return json.dumps(placed(request, site, spot=spec.resources.spot, subnets=site.subnets), sort_keys=True)


def duty(site: Site, spec: WorkerSpec) -> dict[str, Any]:
    """A worker's orders; which worker it is, its own metadata tell it.

    The least it needs, whatever a site has: a launch's overrides have 8,192 characters. Source: Amazon ECS API
    reference, RunTask, read 2026-11-22.
    """
    return {
        **spec.orders(),
        "backend": "aws",
        "address": asdict(address_of(site)),
        "memory_mib": spec.resources.memory_mib,
        **({"notices": True} if spec.resources.on_ec2 and spec.resources.spot else {}),
        **({"gpus": spec.resources.gpus} if spec.resources.gpus else {}),
    }


def fargate_size(resources: Resources) -> tuple[int, int]:
    """CPU units and memory in MiB. `Resources.of` has checked both.

    >>> fargate_size(Resources.of(0.5, "2GB"))
    (512, 2048)
    """
    return round(resources.cpu * 1024), resources.memory_mib


def _only(provider: str) -> list[dict[str, Any]]:
    return [{"capacityProvider": provider, "weight": 1}]


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in tags.items()]
