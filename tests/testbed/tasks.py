"""ECS tasks as the bed keeps them, and as DescribeTasks shows them."""

from __future__ import annotations

import itertools
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.testbed.cloud import now
from tests.testbed.networks import Place
from tests.testbed.runners import Running

SPOT = "FARGATE_SPOT"


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """One task. Only the agent moves it; `lock` guards its start against its stop."""

    cluster: str  #: ARN
    cluster_name: str
    definition: Any  #: moto's record
    cpu_units: int
    memory_mib: int
    provider: str  #: "FARGATE", "FARGATE_SPOT" or a capacity provider's name
    by_strategy: bool  #: asked for with a capacity provider strategy, not with a launch type
    zone: str
    place: Place
    started_by: str
    group: str
    overrides: dict[str, Any]
    tags: list[dict[str, str]]
    order: int  #: in order of creation
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    last_status: str = "PROVISIONING"
    statuses: list[str] = field(default_factory=lambda: ["PROVISIONING"])  #: all so far
    desired_status: str = "RUNNING"
    version: int = 1
    created_at: float = field(default_factory=now)
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    started_at: float | None = None
    stopping_at: float | None = None
    execution_stopped_at: float | None = None
    stopped_at: float | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    exit_code: int | None = None
    container_reason: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)  #: its container has ended, or never began
    running: Running | None = None
    interface: Any = None  #: by which it is in its subnet: moto's record
    managed: bool = False  #: for instances
    host: Any = None  #: the one that it is on

    @property
    def _stem(self) -> str:
        return self.cluster.partition(":cluster/")[0]

    @property
    def arn(self) -> str:
        return f"{self._stem}:task/{self.cluster_name}/{self.id}"

    @property
    def container(self) -> dict[str, Any]:
        """The definition of its one container."""
        first: dict[str, Any] = self.definition.container_definitions[0]
        return first

    @property
    def container_override(self) -> dict[str, Any]:
        """What the call changed of it."""
        for override in self.overrides.get("containerOverrides") or ():
            if override.get("name") == self.container["name"]:
                return dict(override)
        return {}

    @property
    def stop_timeout_s(self) -> float:
        return float(self.container.get("stopTimeout", 30))

    @property
    def gpus(self) -> int:
        """Of its one container."""
        asked = self.container_override.get("resourceRequirements") or self.container.get("resourceRequirements") or ()
        return sum(int(each["value"]) for each in asked if each["type"] == "GPU")

    @property
    def vcpu(self) -> float:
        return self.cpu_units / 1024

    def move(self, status: str) -> None:
        """The task's next state."""
        self.last_status = status
        self.statuses.append(status)
        self.version += 1

    def shown(self) -> dict[str, Any]:
        """As in the API's answers."""
        times = {
            "createdAt": self.created_at,
            "pullStartedAt": self.pull_started_at,
            "pullStoppedAt": self.pull_stopped_at,
            "startedAt": self.started_at,
            "stoppingAt": self.stopping_at,
            "executionStoppedAt": self.execution_stopped_at,
            "stoppedAt": self.stopped_at,
            "stopCode": self.stop_code,
            "stoppedReason": self.stopped_reason,
        }
        of_kind = self._on_instances() if self.managed else self._on_fargate()
        shown = {
            "taskArn": self.arn,
            "clusterArn": self.cluster,
            "taskDefinitionArn": self.definition.arn,
            "lastStatus": self.last_status,
            "desiredStatus": self.desired_status,
            "cpu": str(self.cpu_units),
            "memory": str(self.memory_mib),
            "group": self.group,
            "startedBy": self.started_by,
            "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []} | self.overrides,
            "version": self.version,
            "connectivity": "CONNECTED",
            "enableExecuteCommand": False,
            "healthStatus": "UNKNOWN",
            "tags": self.tags,
            "containers": [self._container()],
        } | {name: value for name, value in times.items() if value is not None}
        return shown | of_kind | ({"capacityProviderName": self.provider} if self.by_strategy else {})

    def _on_fargate(self) -> dict[str, Any]:
        return {
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "availabilityZone": self.zone,
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "ephemeralStorage": self.overrides.get("ephemeralStorage")
            or self.definition.ephemeral_storage
            or {"sizeInGiB": 20},
            "attachments": [self._interface()],
        }

    def _on_instances(self) -> dict[str, Any]:
        """In its instance's network it has no interface of its own; none is known before it has an instance."""
        told = {"launchType": "MANAGED_INSTANCES", "attributes": [], "attachments": []}
        if self.host is None:
            return told
        return told | {"availabilityZone": self.zone, "containerInstanceArn": self.host.arn}

    def _interface(self) -> dict[str, Any]:
        status = {"PROVISIONING": "PRECREATED", "STOPPED": "DELETED"}.get(self.last_status, "ATTACHED")
        details = [{"name": "subnetId", "value": self.place.subnet}]
        if (has := self.interface) is not None:
            details += [
                {"name": "networkInterfaceId", "value": has.id},
                {"name": "privateIPv4Address", "value": str(has.private_ip_address)},
            ]
        return {"id": self.id[:8], "type": "ElasticNetworkInterface", "status": status, "details": details}

    def _container(self) -> dict[str, Any]:
        status = self.last_status if self.last_status in ("RUNNING", "STOPPED") else "PENDING"
        shown = {
            "containerArn": f"{self._stem}:container/{self.cluster_name}/{self.id}/{self.id[:8]}",
            "taskArn": self.arn,
            "name": self.container["name"],
            "image": self.container["image"],
            "lastStatus": "STOPPED" if self.execution_stopped_at else status,
            "networkInterfaces": [],
            "healthStatus": "UNKNOWN",
            "cpu": str(self.container.get("cpu", 0)),
        }
        if self.exit_code is not None:
            shown["exitCode"] = self.exit_code
        if self.container_reason:
            shown["reason"] = self.container_reason
        return shown


class TaskStore:
    """The tasks there are, in order of their creation."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tasks: dict[str, Task] = {}
        self._order = itertools.count()

    def next_order(self) -> int:
        """A number for a new task."""
        return next(self._order)

    def add(self, tasks: list[Task]) -> None:
        """Keep new tasks."""
        with self.lock:
            self._tasks |= {task.id: task for task in tasks}

    def get(self, name: str) -> Task | None:
        """A task by id or ARN."""
        return self._tasks.get(name.rpartition("/")[2])

    def all(self, *, stopped_kept_s: float | None = None) -> list[Task]:
        """All tasks, but those stopped longer ago than given."""
        with self.lock:
            if stopped_kept_s is not None:
                limit = now() - stopped_kept_s
                self._tasks = {i: t for i, t in self._tasks.items() if t.stopped_at is None or t.stopped_at > limit}
            return list(self._tasks.values())

    def live(self) -> list[Task]:
        """Those not STOPPED."""
        return [task for task in self.all() if task.last_status != "STOPPED"]

    def clear(self) -> None:
        """Forget all."""
        with self.lock:
            self._tasks.clear()
