"""A site in; instances of its capacity providers without any worker out, which ECS has not ended by itself.

Those of a group of the user's are his: how many there are, and until when, that group says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.ecs_tasks import instance_of
from starburst_common.aws.orphans import Orphan
from starburst_common.aws.owners import Owners
from starburst_common.instances import shapes
from starburst_common.model import Granted

_HUNDRED = 100  #: instances of a DescribeContainerInstances call


class OrphanHosts:
    """ECS ends those that are idle after minutes; one that is there after an hour has not been, as it should."""

    kind = "instance"

    def __init__(self, owners: Owners) -> None:
        self._owners, self._site, self._ecs = owners, owners.site, owners.clients.ecs

    def found(self) -> Iterator[Orphan]:
        if not self._site.own_providers:
            return
        with speaking("ecs:ListContainerInstances"):
            pages = self._ecs.get_paginator("list_container_instances").paginate(cluster=self._site.cluster)
            arns = [arn for page in pages for arn in page["containerInstanceArns"]]
        for at in range(0, len(arns), _HUNDRED):
            for told in self._described(arns[at : at + _HUNDRED]):
                if _is_empty(told) and not self._owners.young(told["registeredAt"].timestamp()):
                    yield self._orphan(told)

    def owned(self, orphan: Orphan) -> bool:
        return not all(map(_is_empty, self._described([orphan.at])))

    def remove(self, orphan: Orphan) -> None:
        """ECS ends an instance that is none of its any more; one that has a worker by now stays."""
        unknown = self._ecs.exceptions.InvalidParameterException
        with speaking("ecs:DeregisterContainerInstance"), suppress(unknown):
            self._ecs.deregister_container_instance(cluster=self._site.cluster, containerInstance=orphan.at)

    def _described(self, arns: list[str]) -> list[Any]:
        with speaking("ecs:DescribeContainerInstances"):
            found = self._ecs.describe_container_instances(cluster=self._site.cluster, containerInstances=arns)
            return [
                each
                for each in found["containerInstances"]
                if each.get("capacityProviderName", "") in self._site.own_providers
            ]

    def _orphan(self, told: Any) -> Orphan:
        instance, provider = instance_of(told), told["capacityProviderName"]
        shape = shapes().get(instance.type)
        granted = Granted(
            capacity=provider,
            architecture=shape.arch if shape is not None else "",
            zone="",
            vcpu=shape.vcpu if shape is not None else 0,
            memory_mib=shape.registered_mib if shape is not None else 0,
            instance=instance.id,
            instance_type=instance.type,
            spot=provider in self._site.spot_providers,
        )
        why = f"no worker is on it, an instance of {instance.type} of {provider}"
        return Orphan(kind=self.kind, name=instance.id, why=why, at=told["containerInstanceArn"], granted=granted)


def _is_empty(told: Any) -> bool:
    return not told["runningTasksCount"] and not told["pendingTasksCount"]
