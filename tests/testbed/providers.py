"""Capacity providers of Amazon ECS Managed Instances, which moto lacks: made, told and taken away as ECS does.

Sources: Amazon ECS API reference, CreateCapacityProvider, DescribeCapacityProviders, DeleteCapacityProvider; Amazon ECS
Developer Guide, "Troubleshooting Amazon ECS Managed Instances errors"; read 2026-11-30.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starburst_common.instances import Shape, shapes
from tests.testbed import cloud
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION
from tests.testbed.iam import assumable
from tests.testbed.needs import ECS
from tests.testbed.refusals import Refused

Json = dict[str, Any]
_DEFAULT_IDLE_S = 300.0  #: where `scaleInAfter` is not said, AWS decides by itself; how is not documented


@dataclass(slots=True, kw_only=True)
class Provider:
    """One of a cluster."""

    name: str
    cluster: str  #: ARN
    asked: Json  #: managedInstancesProvider
    tags: list[dict[str, str]] = field(default_factory=list)

    @property
    def arn(self) -> str:
        return f"arn:{PARTITION}:ecs:{REGION}:{ACCOUNT}:capacity-provider/{self.name}"

    @property
    def template(self) -> Json:
        template: Json = self.asked["instanceLaunchTemplate"]
        return template

    @property
    def spot(self) -> bool:
        return bool(self.template.get("capacityOptionType") == "SPOT")

    @property
    def subnets(self) -> list[str]:
        return list(self.template["networkConfiguration"]["subnets"])

    @property
    def idle_s(self) -> float:
        """How long an instance without tasks stays; for ever where that is switched off."""
        seconds = (self.asked.get("infrastructureOptimization") or {}).get("scaleInAfter")
        return _DEFAULT_IDLE_S if seconds is None else float("inf") if seconds == -1 else float(seconds)

    def types(self) -> list[Shape]:
        """Those that its requirements allow, the smallest first."""
        needs: Json = self.template.get("instanceRequirements") or {}
        return sorted((each for each in shapes().values() if _fits(each, needs)), key=_size)

    def shown(self) -> Json:
        return {
            "capacityProviderArn": self.arn,
            "name": self.name,
            "cluster": self.cluster,
            "status": "ACTIVE",
            "managedInstancesProvider": self.asked,
            "tags": self.tags,
            "type": "MANAGED_INSTANCES",
        }


def _size(each: Shape) -> tuple[int, int, str]:
    return each.vcpu, each.memory_mib, each.type


def _fits(each: Shape, needs: Json) -> bool:
    """Source: Amazon ECS API reference, InstanceRequirementsRequest."""
    bounds = (("vCpuCount", each.vcpu), ("memoryMiB", each.memory_mib), ("acceleratorCount", each.gpus))
    for name, has in bounds:
        bound = needs.get(name) or {}
        if not bound.get("min", 0) <= has <= bound.get("max", has):
            return False
    allowed, excluded = needs.get("allowedInstanceTypes"), needs.get("excludedInstanceTypes") or ()
    if (allowed and not each.like(tuple(allowed))) or each.like(tuple(excluded)):
        return False
    if ".metal" in each.type and needs.get("bareMetal", "excluded") == "excluded":
        return False
    if each.burstable and needs.get("burstablePerformance", "excluded") == "excluded":
        return False
    makers = needs.get("cpuManufacturers")
    arm = each.arch == "arm"
    return (not makers or arm == (makers == ["amazon-web-services"])) and (
        bool(each.gpu) <= ("gpu" in (needs.get("acceleratorTypes") or ()))
    )


class Providers:
    """All of them. Those of Auto Scaling groups are moto's."""

    def __init__(self, in_use: Callable[[str], bool]) -> None:
        self._in_use = in_use  #: whether tasks use one
        self._lock = threading.Lock()
        self._all: dict[tuple[str, str], Provider] = {}  # by cluster's ARN and name

    def serves(self, operation: str, asked: Json) -> bool:
        """Whether a call is answered here, not by moto."""
        if operation == "CreateCapacityProvider":
            return not asked.get("autoScalingGroupProvider")
        if operation == "DescribeCapacityProviders":
            return bool(asked.get("cluster"))
        if operation in ("TagResource", "UntagResource"):
            return any(each.arn == asked.get("resourceArn") for each in self.all())
        return operation in ("DeleteCapacityProvider", "UpdateCapacityProvider") and bool(asked.get("cluster"))

    def call(self, operation: str, asked: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        of = {
            "CreateCapacityProvider": self._create,
            "UpdateCapacityProvider": self._update,
            "DescribeCapacityProviders": self._describe,
            "DeleteCapacityProvider": self._delete,
            "TagResource": self._tag,
            "UntagResource": self._tag,
        }
        return of[operation](asked)

    def named(self, cluster: str, name: str) -> Provider | None:
        """One of a cluster's, by its ARN."""
        return self._all.get((cluster, name))

    def of_cluster(self, cluster: str) -> list[Provider]:
        """All of a cluster's."""
        with self._lock:
            return [each for (where, _), each in self._all.items() if where == cluster]

    def stay(self, cluster: str) -> None:
        """They are their cluster's whatever others it is said to have."""
        found = cloud.cluster(cluster)
        own = [each.name for each in self.of_cluster(found.arn)]
        found.capacity_providers = [*dict.fromkeys([*(found.capacity_providers or ()), *own])]

    def all(self) -> list[Provider]:
        """Of all clusters."""
        with self._lock:
            return [*self._all.values()]

    def reset(self) -> None:
        """Forget all."""
        with self._lock:
            self._all.clear()

    def _create(self, asked: Json) -> Json:
        if not asked.get("cluster"):
            raise Refused("ClientException", "Managed Instances capacity providers require a cluster name.")
        name, wanted = asked["name"], asked.get("managedInstancesProvider")
        if not wanted:
            raise Refused("ClientException", "A Managed Instances capacity provider requires managedInstancesProvider.")
        if name.lower().startswith(("aws", "ecs", "fargate")):
            raise Refused("InvalidParameterException", f"The capacity provider name {name} is reserved.")
        cluster = cloud.cluster(asked["cluster"])
        _check(wanted)
        with self._lock:
            if (cluster.arn, name) in self._all:
                raise Refused("ClientException", f"A capacity provider named {name} already exists in this cluster.")
            if len([each for each in self._all if each[0] == cluster.arn]) >= 20:
                raise Refused("LimitExceededException", "The limit of capacity providers of a cluster is reached.")
            made = Provider(name=name, cluster=cluster.arn, asked=wanted, tags=asked.get("tags") or [])
            self._all[cluster.arn, name] = made
        cluster.capacity_providers = [*(cluster.capacity_providers or ()), name]
        return {"capacityProvider": made.shown()}

    def _update(self, asked: Json) -> Json:
        cluster = cloud.cluster(asked["cluster"])
        found = self._of(cluster.arn, asked["name"])
        wanted: Json = asked.get("managedInstancesProvider") or {}
        template = {**found.template, **(wanted.get("instanceLaunchTemplate") or {})}
        found.asked = {**found.asked, **wanted, "instanceLaunchTemplate": template}
        _check(found.asked)
        return {"capacityProvider": found.shown()}

    def _describe(self, asked: Json) -> Json:
        cluster = cloud.cluster(asked["cluster"])
        wanted = [each.rpartition("/")[2] for each in asked.get("capacityProviders") or ()]
        there = {each.name: each for each in self.of_cluster(cluster.arn)}
        names = wanted or [*there]
        tagged = "TAGS" in (asked.get("include") or ())
        return {
            "capacityProviders": [
                there[name].shown() | ({} if tagged else {"tags": []}) for name in names if name in there
            ],
            "failures": [
                {"arn": f"arn:{PARTITION}:ecs:{REGION}:{ACCOUNT}:capacity-provider/{name}", "reason": "MISSING"}
                for name in names
                if name not in there
            ],
        }

    def _delete(self, asked: Json) -> Json:
        cluster = cloud.cluster(asked["cluster"])
        found = self._of(cluster.arn, asked["capacityProvider"].rpartition("/")[2])
        if self._in_use(found.name):
            raise Refused("ClientException", "The specified capacity provider is in use and cannot be removed.")
        with self._lock:
            self._all.pop((cluster.arn, found.name), None)
        cluster.capacity_providers = [each for each in cluster.capacity_providers or () if each != found.name]
        return {"capacityProvider": found.shown() | {"status": "INACTIVE", "updateStatus": "DELETE_COMPLETE"}}

    def _tag(self, asked: Json) -> Json:
        """What is put takes the place of what has the same name."""
        put = asked.get("tags") or []
        gone = {*(asked.get("tagKeys") or ()), *(each["key"] for each in put)}
        for found in self.all():
            if found.arn == asked["resourceArn"]:
                found.tags = [*(each for each in found.tags if each["key"] not in gone), *put]
        return {}

    def _of(self, cluster: str, name: str) -> Provider:
        if (found := self.named(cluster, name)) is None:
            raise Refused("ClientException", "The specified capacity provider does not exist.")
        return found


def _check(asked: Json) -> None:
    """Raises `Refused` for what ECS refuses."""
    role, template = asked.get("infrastructureRoleArn") or "", asked.get("instanceLaunchTemplate") or {}
    if not role:
        raise Refused("ClientException", "A Managed Instances capacity provider must specify an infrastructure role.")
    if not template.get("ec2InstanceProfileArn"):
        raise Refused("ClientException", "A Managed Instances capacity provider must specify an instance profile.")
    network = template.get("networkConfiguration") or {}
    if not network.get("subnets"):
        raise Refused("ClientException", "A Managed Instances capacity provider must specify subnets.")
    needs = template.get("instanceRequirements") or {}
    if needs and not ("vCpuCount" in needs and "memoryMiB" in needs):
        raise Refused("ClientException", "Instance requirements must specify vCpuCount and memoryMiB.")
    if not assumable(role, ECS):
        raise Refused("ClientException", f"ECS was unable to assume the role '{role}'.")
    for subnet in network["subnets"]:
        cloud.zone_of(subnet)
    optimization = (asked.get("infrastructureOptimization") or {}).get("scaleInAfter")
    if optimization is not None and not -1 <= optimization <= 3600:
        raise Refused("InvalidParameterException", "scaleInAfter must be from -1 to 3600.")
