"""Instances that ECS starts and ends for tasks of Managed Instances: tasks wait for room, instances for tasks.

As documented: tasks of a provider stay in PROVISIONING until an instance has room for their vCPU, memory and GPUs;
several share one; one without tasks is ended after `scaleInAfter`; on Spot it is drained at its notice and ended two
minutes later, and with it tasks that are of no service. Not documented, and so this bed's own: ECS starts the smallest
type that holds all that waits, or the largest that the account's quota has room for; it registers its memory less 7.5%;
what finds no room is stopped after `placement_s`.

Sources: Amazon ECS Developer Guide, "Architect for Amazon ECS Managed Instances" and "Draining Amazon ECS container
instances"; AWS blog, "Deep Dive: Amazon ECS Managed Instances provisioning and optimization"; read 2026-11-30.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starburst_common.instances import Shape
from tests.testbed import cloud
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION, Conditions
from tests.testbed.iam import Iam
from tests.testbed.needs import EC2, Need
from tests.testbed.networks import Full, Place, attach, detach
from tests.testbed.providers import Provider, Providers
from tests.testbed.starts import NeverStarted
from tests.testbed.tasks import Task, TaskStore

Json = dict[str, Any]
_LOOK_S = 0.02
_GATHER_S = 0.1  #: without one more that waits


@dataclass(slots=True, eq=False, kw_only=True)
class Host:
    """One container instance."""

    provider: Provider
    type: Shape
    place: Place
    zone: str
    interface: Any  #: by which it is in its subnet, and its tasks too
    launched_at: float = field(default_factory=cloud.now)
    ready_at: float = 0.0  #: when it is registered; tasks are told before to which they will go
    status: str = "REGISTERING"
    tasks: list[Task] = field(default_factory=list)
    idle_since: float | None = None
    notice_at: float | None = None  #: it is taken back
    ended_at: float | None = None
    uuid: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def id(self) -> str:
        return f"i-{self.uuid[:17]}"

    @property
    def arn(self) -> str:
        cluster = self.provider.cluster.rpartition("/")[2]
        return f"arn:{PARTITION}:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster}/{self.uuid}"

    def left(self) -> tuple[int, int, int]:
        """CPU units, MiB and GPUs that no task has."""
        return (
            self.type.vcpu * 1024 - sum(task.cpu_units for task in self.tasks),
            self.type.registered_mib - sum(task.memory_mib for task in self.tasks),
            self.type.gpus - sum(task.gpus for task in self.tasks),
        )

    def holds(self, task: Task) -> bool:
        """Whether it has room for one more."""
        cpu, mib, gpus = self.left()
        return task.cpu_units <= cpu and task.memory_mib <= mib and task.gpus <= gpus

    def shown(self) -> Json:
        """As DescribeContainerInstances shows it."""
        cpu, mib, _ = self.left()
        attributes = {
            "ecs.instance-type": self.type.type,
            "ecs.availability-zone": self.zone,
            "ecs.cpu-architecture": {"x86": "x86_64", "arm": "arm64"}[self.type.arch],
            "ecs.os-type": "linux",
            "ecs.subnet-id": self.place.subnet,
        }
        return {
            "containerInstanceArn": self.arn,
            "ec2InstanceId": self.id,
            "capacityProviderName": self.provider.name,
            "version": 1,
            "status": self.status,
            "agentConnected": self.status in ("ACTIVE", "DRAINING"),
            "registeredResources": _resources(self.type.vcpu * 1024, self.type.registered_mib),
            "remainingResources": _resources(cpu, mib),
            "runningTasksCount": sum(task.last_status == "RUNNING" for task in self.tasks),
            "pendingTasksCount": sum(task.last_status in ("PROVISIONING", "PENDING") for task in self.tasks),
            "registeredAt": self.ready_at or self.launched_at,
            "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
            "tags": self.provider.tags if self.provider.asked.get("propagateTags") == "CAPACITY_PROVIDER" else [],
        }


def _resources(cpu: int, mib: int) -> list[Json]:
    return [
        {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": mib},
    ]


class Hosts:
    """All container instances, and the thread that starts and ends them."""

    def __init__(self, tasks: TaskStore, conditions: Conditions, iam: Iam, providers: Providers) -> None:
        self._tasks, self._conditions, self._iam, self._providers = tasks, conditions, iam, providers
        self._lock = threading.Condition()
        self._hosts: list[Host] = []
        self._waiting: dict[Task, float] = {}  # since when
        self._why: dict[Task, str] = {}  # what was found to be in its way
        self._turn = itertools.count()
        self.ended: list[Host] = []
        threading.Thread(target=self._run, name="instances", daemon=True).start()

    def place(self, task: Task) -> Host:
        """Wait for an instance with room for a task. Raises `NeverStarted`."""
        with self._lock:
            self._waiting[task] = time.monotonic()
            self._lock.notify_all()
            while True:
                found = next((host for host in self._hosts if task in host.tasks and host.status == "ACTIVE"), None)
                if found is not None:
                    self._waiting.pop(task, None)
                    return found
                late = time.monotonic() - self._waiting[task] > self._conditions.placement_s
                if task.stopping.is_set() or late:
                    self._waiting.pop(task, None)
                    for host in self._hosts:
                        if task in host.tasks:
                            host.tasks.remove(task)
                    raise NeverStarted(self._why.pop(task, "") if late else "")
                self._lock.wait(_LOOK_S)

    def left(self, task: Task) -> None:
        """A task has ended."""
        with self._lock:
            for host in self._hosts:
                if task in host.tasks:
                    host.tasks.remove(task)

    def all(self) -> list[Host]:
        """Those there are."""
        with self._lock:
            return [*self._hosts]

    def named(self, names: Iterable[str]) -> list[Host]:
        """By ARN, or by either id."""
        wanted = {name.rpartition("/")[2] for name in names}
        return [host for host in self.all() if wanted & {host.uuid, host.id}]

    def notice(self, hosts: Iterable[Host]) -> None:
        """Spot takes them back: they are drained, and ended after `spot_notice_s`."""
        with self._lock:
            for host in hosts:
                if host.notice_at is None:
                    host.notice_at, host.status = time.monotonic(), "DRAINING"

    def deregister(self, host: Host) -> None:
        """It takes no more tasks, and ends."""
        with self._lock:
            self._end(host)

    def reset(self) -> None:
        """Forget all."""
        with self._lock:
            for host in self._hosts:
                detach(host.place, host.interface)
            self._hosts.clear()
            self._waiting.clear()
            self._why.clear()
            self.ended.clear()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._hosts and not self._waiting:
                    self._lock.wait()
                self._step()
            time.sleep(_LOOK_S)

    def _step(self) -> None:
        for host in [*self._hosts]:
            if host.status == "REGISTERING" and time.monotonic() >= host.ready_at:
                host.status, host.ready_at = "ACTIVE", cloud.now()
                self._lock.notify_all()
            self._look(host)
        placed = {task for host in self._hosts for task in host.tasks}
        waiting = [task for task in self._waiting if task not in placed and not task.stopping.is_set()]
        for provider in self._providers.all():
            mine = [task for task in waiting if (task.cluster, task.provider) == (provider.cluster, provider.name)]
            left = [task for task in mine if not self._put(task, provider)]
            if left and time.monotonic() - max(self._waiting[task] for task in left) > _GATHER_S:
                self._start(provider, left)

    def _look(self, host: Host) -> None:
        """End it where its time has come."""
        if host.notice_at is not None:
            if time.monotonic() - host.notice_at > self._conditions.spot_notice_s:
                self._end(host)
            return
        if host.tasks or host.status != "ACTIVE":
            host.idle_since = None
        elif host.idle_since is None:
            host.idle_since = cloud.now()
        elif cloud.now() - host.idle_since >= host.provider.idle_s:
            self._end(host)

    def _end(self, host: Host) -> None:
        """Its tasks end with it, without being told."""
        if host in self._hosts:
            self._hosts.remove(host)
            detach(host.place, host.interface)
            host.status, host.ended_at = "INACTIVE", cloud.now()
            self.ended.append(host)
            for task in host.tasks:
                with task.lock:
                    task.desired_status = "STOPPED"
                    task.stop_code = task.stop_code or "TerminationNotice"
                    task.stopped_reason = task.stopped_reason or f"Host EC2 (instance {host.id}) terminated."
                    task.stopping.set()
                if task.running and not task.ended.is_set():
                    task.running.kill()

    def _put(self, task: Task, provider: Provider) -> bool:
        """On the fullest instance that has room."""
        there = [host for host in self._hosts if host.provider is provider and host.status in ("ACTIVE", "REGISTERING")]
        for host in sorted(there, key=lambda host: host.left()):
            if host.notice_at is None and host.holds(task):
                host.tasks.append(task)
                return True
        return False

    def _start(self, provider: Provider, tasks: list[Task]) -> None:
        """One more instance, for as many of these as the account's quota lets it have room for."""
        if no := self._may_not(provider):
            self._why.update(dict.fromkeys(tasks, f"ResourceInitializationError: unable to launch instances: {no}"))
            return
        largest = max(tasks, key=lambda task: (task.cpu_units, task.memory_mib, task.gpus))
        need = largest.vcpu, largest.memory_mib, largest.gpus
        arch = "arm" if _architecture(largest) == "ARM64" else "x86"
        fits = [each for each in provider.types() if each.fits(*need) and each.arch == arch]
        if not fits:
            self._why.update(dict.fromkeys(tasks, "no type that the capacity provider allows holds such a task"))
            return
        room = [each for each in fits if each.vcpu <= self._room(each.quota_family, provider.spot)]
        if not room:
            self._why.update(dict.fromkeys(tasks, f"VcpuLimitExceeded: {_LIMIT}"))
            return
        room = [each for each in room if each.vcpu <= self._capacity(each.quota_family, provider.spot)]
        if not room:
            self._why.update(dict.fromkeys(tasks, f"InsufficientInstanceCapacity: {_NO_CAPACITY}"))
            return
        whole = [sum(task.vcpu for task in tasks), sum(task.memory_mib for task in tasks)]
        gpus = sum(task.gpus for task in tasks)
        chosen = next((each for each in room if each.fits(whole[0], whole[1], gpus)), room[-1])
        subnet = provider.subnets[next(self._turn) % len(provider.subnets)]
        groups = tuple(provider.template["networkConfiguration"].get("securityGroups") or ())
        place = Place(REGION, subnet, groups, cloud.maps_public_ip(subnet))
        try:
            interface = attach(place)
        except Full:
            self._why.update(dict.fromkeys(tasks, "InsufficientFreeAddressesInSubnet"))
            return
        host = Host(provider=provider, type=chosen, place=place, zone=cloud.zone_of(subnet), interface=interface)
        host.ready_at = time.monotonic() + self._conditions.instance_s
        self._hosts.append(host)

    def _room(self, family: str, spot: bool) -> float:
        """vCPU that the account may still run of a family."""
        return self._conditions.ec2_vcpu.get(f"{family}{' Spot' * spot}", 0.0) - self._running(family, spot)

    def _capacity(self, family: str, spot: bool) -> float:
        """vCPU that EC2 still has of a family."""
        return self._conditions.ec2_room.get(f"{family}{' Spot' * spot}", float("inf")) - self._running(family, spot)

    def _running(self, family: str, spot: bool) -> float:
        return sum(
            host.type.vcpu for host in self._hosts if (host.type.quota_family, host.provider.spot) == (family, spot)
        )

    def used(self, family: str, spot: bool, since: float, until: float) -> float:
        """vCPU of a family that ran in a minute."""
        return sum(
            host.type.vcpu
            for host in [*self.all(), *self.ended]
            if (host.type.quota_family, host.provider.spot) == (family, spot)
            and host.launched_at < until
            and (host.ended_at is None or host.ended_at > since)
        )

    def _may_not(self, provider: Provider) -> str:
        """What the roles of a provider may not do, in IAM's words."""
        infrastructure, profile = provider.asked["infrastructureRoleArn"], provider.template["ec2InstanceProfileArn"]
        if (instance := cloud.role_of_profile(profile)) is None:
            return f"the instance profile {profile} does not exist"
        managed = {"aws:RequestTag/AmazonECSManaged": "true", "ec2:ResourceTag/AmazonECSManaged": "true"}
        asked = [
            (infrastructure, Need(action, f"arn:{PARTITION}:ec2:{REGION}:{ACCOUNT}:{kind}/any", managed))
            for action in ("ec2:CreateFleet", "ec2:RunInstances")
            for kind in ("instance", "subnet", "launch-template")
        ]
        asked.append((infrastructure, Need("iam:PassRole", instance, {"iam:PassedToService": EC2})))
        asked.append((instance, Need("ecs:RegisterContainerInstance", provider.cluster)))
        return next((no for role, need in asked if (no := self._iam.may(role, "ECSManagedInstances", need))), "")


def _architecture(task: Task) -> str:
    platform: Json = getattr(task.definition, "runtime_platform", None) or {}
    return str(platform.get("cpuArchitecture", "X86_64"))


_LIMIT = (
    "You have requested more vCPU capacity than your current vCPU limit allows for the instance bucket that the "
    "specified instance type belongs to."
)
_NO_CAPACITY = "There is no capacity available that matches your request."
