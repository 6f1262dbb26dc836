"""What only a task's container asks: its credentials, and its metadata."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.testbed.clock import CLOCK
from tests.testbed.iam import Iam
from tests.testbed.instances import Hosts
from tests.testbed.refusals import Answer, as_json
from tests.testbed.tasks import Task, TaskStore

_CREDENTIALS_S = 21_600.0  # the longest of a role's


class TaskSide:
    """The endpoints named by AWS_CONTAINER_CREDENTIALS_FULL_URI and ECS_CONTAINER_METADATA_URI_V4."""

    def __init__(self, tasks: TaskStore, iam: Iam, hosts: Hosts) -> None:
        self._hosts = hosts
        self._tasks = tasks
        self._iam = iam
        self._lock = threading.Lock()
        self._issued: dict[str, dict[str, float]] = {}  # by task, keys and until when they last

    def answer(self, path: str) -> Answer:
        """Answer a GET."""
        kind, _, rest = path.lstrip("/").partition("/")
        task_id, _, part = rest.partition("/")
        task = self._tasks.get(task_id)
        if task is None:
            return as_json({"code": "NoSuchTask", "message": f"no task {task_id}"}, status=404)
        if kind == "creds":
            return as_json(self._credentials(task))
        return as_json(_task(task) if part == "task" else _container(task))

    def metadata(self, method: str, path: str, token: str) -> Answer:
        """What an instance tells of itself, to whoever has a token (EC2 user guide, "Instance metadata")."""
        instance, _, what = path.removeprefix("/imds/").partition("/")
        host = next(iter(self._hosts.named([instance])), None)
        if host is None:
            return Answer(404, [], b"")
        if what == "latest/api/token":
            return Answer(200 if method == "PUT" else 405, [], f"token-of-{instance}".encode())
        if token != f"token-of-{instance}":
            return Answer(401, [], b"Unauthorized")
        if what == "latest/meta-data/spot/instance-action" and host.notice_at is not None:
            return as_json({"action": "terminate", "time": _iso(CLOCK.time() + 120)})
        return Answer(404, [], b"Not Found")

    def keys(self, task_id: str | None = None) -> list[str]:
        """Access key ids given to one task, or to all."""
        with self._lock:
            return [key for owner, keys in self._issued.items() if task_id in (None, owner) for key in keys]

    def over(self) -> list[str]:
        """Those whose time is over."""
        with self._lock:
            return [key for keys in self._issued.values() for key, until in keys.items() if until <= CLOCK.time()]

    def reset(self) -> None:
        """Forget what was issued."""
        with self._lock:
            self._issued.clear()

    def _credentials(self, task: Task) -> dict[str, str]:
        role = str(task.overrides.get("taskRoleArn") or getattr(task.definition, "task_role_arn", ""))
        key, until = self._iam.lend(role, task.id), CLOCK.time() + _CREDENTIALS_S
        with self._lock:
            self._issued.setdefault(task.id, {})[key] = until
        return {
            "AccessKeyId": key,
            "SecretAccessKey": uuid.uuid4().hex,
            "Token": uuid.uuid4().hex,
            "Expiration": _iso(until),
            "RoleArn": role,
        }


def _container(task: Task) -> dict[str, Any]:
    return {
        "DockerId": f"{task.id}-1",
        "Name": task.container["name"],
        "DockerName": task.container["name"],
        "Image": task.container["image"],
        "Labels": {
            "com.amazonaws.ecs.cluster": task.cluster,
            "com.amazonaws.ecs.container-name": task.container["name"],
            "com.amazonaws.ecs.task-arn": task.arn,
            "com.amazonaws.ecs.task-definition-family": task.definition.family,
            "com.amazonaws.ecs.task-definition-version": str(task.definition.revision),
        },
        "DesiredStatus": task.desired_status,
        "KnownStatus": task.last_status,
        "Limits": {"CPU": task.container.get("cpu", 0), "Memory": task.memory_mib},
        "CreatedAt": _iso(task.created_at),
        "StartedAt": _iso(task.started_at or task.created_at),
        "Type": "NORMAL",
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "Cluster": task.cluster,
        "TaskARN": task.arn,
        "Family": task.definition.family,
        "Revision": str(task.definition.revision),
        "DesiredStatus": task.desired_status,
        "KnownStatus": task.last_status,
        "Limits": {"CPU": task.vcpu, "Memory": task.memory_mib},
        "PullStartedAt": _iso(task.pull_started_at or task.created_at),
        "PullStoppedAt": _iso(task.pull_stopped_at or task.created_at),
        "AvailabilityZone": task.zone,
        "LaunchType": "MANAGED_INSTANCES" if task.managed else "FARGATE",
        "Containers": [_container(task)],
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
