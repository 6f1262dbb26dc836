"""Brings tasks to life: a thread each starts the container, awaits its end and moves the task through its states."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping

from tests.testbed import cloud
from tests.testbed.conditions import AT, Conditions
from tests.testbed.iam import Iam
from tests.testbed.instances import Hosts
from tests.testbed.networks import Full, attach, detach, nowhere, reaches
from tests.testbed.runners import Exit, Order, Runner
from tests.testbed.starts import Lines, NeverStarted, Starts
from tests.testbed.tasks import Task

FLUSH_S = 0.2
#: Source: AWS re:Post, "Fargate tasks stop with InsufficientFreeAddressesInSubnet"
_FULL = (
    "Unexpected EC2 error while attempting to Create Network Interface with public IP assignment {} in subnet '{}': "
    "InsufficientFreeAddressesInSubnet"
)
#: What services are called in variables that name their endpoints, and as endpoints of networks. Sources: AWS SDKs and
#: Tools Reference Guide, "Service-specific endpoints"; AWS PrivateLink Guide, "AWS services that integrate", read
#: 2026-11-30
_VARIABLES = {
    "S3": "s3", "SQS": "sqs", "ECS": "ecs", "ECR": "ecr.api", "CLOUDWATCH_LOGS": "logs", "SSM": "ssm",
    "SECRETS_MANAGER": "secretsmanager", "STS": "sts", "KMS": "kms",
}  # fmt: skip


class Agent:
    """Starts and stops tasks."""

    def __init__(
        self,
        runner: Runner,
        conditions: Conditions,
        iam: Iam,
        endpoint: str,
        hosts: Hosts,
        outside: Mapping[str, str] | None = None,
    ) -> None:
        """`outside`: by which variables a container finds AWS, if not at that endpoint."""
        self._runner = runner
        self._hosts = hosts
        self._conditions = conditions
        self._starts = Starts(iam, runner)
        self._endpoint, self._outside = endpoint, dict(outside or {"AWS_ENDPOINT_URL": endpoint})
        self._lock = threading.Lock()
        self._threads: dict[Task, threading.Thread] = {}
        self._logs: dict[Task, Lines] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._flush, name="logs", daemon=True).start()

    def start(self, task: Task) -> None:
        """Begin a task's life."""
        thread = threading.Thread(target=self._live, args=(task,), name=task.id, daemon=True)
        with self._lock:
            self._threads[task] = thread
        thread.start()

    def stop(self, task: Task, code: str, reason: str) -> None:
        """SIGTERM, after the stop timeout SIGKILL. A task that stops already is left alone."""
        with task.lock:
            if task.desired_status == "STOPPED":
                return
            task.desired_status = "STOPPED"
            task.stop_code, task.stopped_reason = code, reason
            task.stopping_at = cloud.now()
            task.version += 1
            task.stopping.set()
            started = task.running is not None
        if started:
            threading.Thread(target=self._terminate, args=(task,), daemon=True).start()

    def signal(self, task: Task, number: int) -> None:
        """Send a signal to a task's container, if it runs."""
        if task.running and not task.ended.is_set():
            task.running.signal(number)

    def kill(self, task: Task) -> None:
        """End a task's container at once, as a crash would."""
        if task.running and not task.ended.is_set():
            task.running.kill()

    def running(self) -> list[str]:
        """Ids of the tasks whose container really runs."""
        return self._runner.running()

    def end_all(self, tasks: list[Task], within_s: float = 10.0) -> None:
        """End these tasks' containers and wait until their threads are through."""
        until = time.monotonic() + within_s
        for task in tasks:
            with task.lock:
                task.desired_status = "STOPPED"
                task.stop_code = task.stop_code or "UserInitiated"
                task.stopped_reason = task.stopped_reason or "The test bed was reset."
                task.stopping.set()
            self.kill(task)
        with self._lock:
            threads = [self._threads[task] for task in tasks if task in self._threads]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        self._runner.close()

    def _live(self, task: Task) -> None:
        AT.set(task.place.region)
        try:
            self._begin(task)
            assert task.running is not None
            self._finish(task, task.running.wait())
        except NeverStarted as why:
            task.ended.set()
            with task.lock:
                task.desired_status = "STOPPED"
                task.stop_code = task.stop_code or "TaskFailedToStart"
                task.stopped_reason = task.stopped_reason or str(why)
                task.container_reason = str(why)
                task.stopping_at = task.stopping_at or cloud.now()
        task.move("DEPROVISIONING")
        if task.interface is not None and not task.managed:
            detach(task.place, task.interface)
        self._hosts.left(task)
        self._closed.wait(self._conditions.deprovisioning_s)
        task.stopped_at = cloud.now()
        task.move("STOPPED")
        with self._lock:
            self._threads.pop(task, None)
            self._logs.pop(task, None)

    def _begin(self, task: Task) -> None:
        """From PROVISIONING to RUNNING. Raises `NeverStarted`."""
        self._pause(task, self._conditions.provisioning_s)
        if task.managed:
            task.host = self._hosts.place(task)
            task.place, task.interface, task.zone = task.host.place, task.host.interface, task.host.zone
        else:
            self._attach(task)
        task.move("PENDING")
        task.pull_started_at = cloud.now()
        self._pause(task, self._conditions.pull_s)
        self._starts.reach(task)
        environment = self._environment(task)
        if lines := self._starts.log(task):
            with self._lock:
                self._logs[task] = lines
        self._starts.image(task)
        task.pull_stopped_at = cloud.now()
        self._pause(task, self._conditions.starting_s)
        order = Order(
            task_id=task.id,
            image=task.container["image"],
            command=tuple(
                self._conditions.command
                or task.container_override.get("command")
                or task.container.get("command")
                or ()
            ),
            environment=environment,
            cpu_units=task.cpu_units,
            memory_mib=task.memory_mib,
            on_line=lines.add if lines else _unheard,
            init=bool((task.container.get("linuxParameters") or {}).get("initProcessEnabled")),
        )
        with task.lock:
            if task.stopping.is_set():
                raise NeverStarted
            try:
                task.running = self._runner.start(order)
            except Exception as why:  # the engine's own errors too: a task must not stay PENDING for ever
                raise NeverStarted(f"CannotStartContainerError: {why}") from None
        task.started_at = cloud.now()
        task.move("RUNNING")

    def _attach(self, task: Task) -> None:
        """Give a task an interface of its own. Raises `NeverStarted`."""
        try:
            task.interface = attach(task.place)
        except Full:
            public = "enabled" if task.place.public else "disabled"
            raise NeverStarted(_FULL.format(public, task.place.subnet)) from None

    def _finish(self, task: Task, exited: Exit) -> None:
        task.ended.set()
        if lines := self._logs.get(task):
            lines.flush()
        with task.lock:
            task.desired_status = "STOPPED"
            task.exit_code, task.container_reason = exited.code, exited.reason
            task.execution_stopped_at = cloud.now()
            task.stopping_at = task.stopping_at or task.execution_stopped_at
            task.stop_code = task.stop_code or "EssentialContainerExited"
            task.stopped_reason = task.stopped_reason or "Essential container in task exited"

    def _terminate(self, task: Task) -> None:
        running = task.running
        assert running is not None
        running.signal(signal.SIGTERM)
        limit = self._conditions.stop_timeout_s
        if not task.ended.wait(task.stop_timeout_s if limit is None else limit):
            running.kill()

    def _pause(self, task: Task, for_s: float) -> None:
        if task.stopping.wait(for_s):
            raise NeverStarted

    def _environment(self, task: Task) -> dict[str, str]:
        """What the container sees. Raises `NeverStarted` if a secret is not to be had."""
        definition, override = task.container, task.container_override
        found = {each["name"]: each["value"] for each in definition.get("environment") or ()}
        found |= self._starts.secrets(task)
        found |= {each["name"]: each["value"] for each in override.get("environment") or ()}
        if task.managed:
            metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self._endpoint}/imds/{task.host.id}"}
            gpus = [str(number) for number in range(task.gpus)]
            found |= metadata | ({"NVIDIA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})
        else:
            found |= {"AWS_EC2_METADATA_DISABLED": "true"}
        return found | {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._endpoint}/creds/{task.id}",
            "ECS_CONTAINER_METADATA_URI_V4": f"{self._endpoint}/v4/{task.id}",
            "AWS_EXECUTION_ENV": "AWS_ECS_EC2" if task.managed else "AWS_ECS_FARGATE",
            "AWS_REGION": task.place.region,
            "AWS_DEFAULT_REGION": task.place.region,
            **self._endpoints(task),
        }

    def _endpoints(self, task: Task) -> dict[str, str]:
        """Where services are for a container: at an address that does not answer, where its network leads nowhere."""
        if reaches(task.place, task.interface, ""):
            return self._outside
        found = {f"AWS_ENDPOINT_URL_{name}": service for name, service in _VARIABLES.items()}
        near = {name: self._endpoint for name, service in found.items() if reaches(task.place, task.interface, service)}
        return {"AWS_ENDPOINT_URL": f"http://{nowhere()}"} | near

    def _flush(self) -> None:
        while not self._closed.wait(FLUSH_S):
            with self._lock:
                logs = list(self._logs.values())
            for lines in logs:
                lines.flush()


def _unheard(_: str) -> None:
    """What a container without a log driver prints is lost."""
