"""A task in; what its execution role gets for it out, or why it does not: registry, secrets, log stream, image.

Sources: Amazon ECS Developer Guide, "Troubleshooting Amazon ECS ResourceInitializationError errors",
"CannotPullContainer task errors in Amazon ECS" and "Amazon ECS task execution IAM role"; Amazon ECR User Guide, "Amazon
ECR interface VPC endpoints (AWS PrivateLink)", which of them a pull takes; read 2026-11-30.
"""

from __future__ import annotations

import threading
import time

from tests.testbed import cloud
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION
from tests.testbed.iam import Iam
from tests.testbed.needs import Need
from tests.testbed.networks import reaches
from tests.testbed.parameters import arn_of
from tests.testbed.runners import CannotPull, Runner
from tests.testbed.tasks import Task
from tests.testbed.unreached import unreached

_INIT = "ResourceInitializationError: "
_AUTH = f"{_INIT}unable to pull secrets or registry auth: "
_FAILED = f"{_AUTH}execution resource retrieval failed: "
_STATUS = " status code: 400, request id: BED00000-0000-0000-0000-000000000000"
_REGISTRY = f"{ACCOUNT}.dkr.ecr."
#: Source: AWS Managed Policy Reference, "AmazonECSTaskExecutionRolePolicy", read 2026-11-30.
_PULLS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


class NeverStarted(Exception):
    """The task stops before its container ran. The text is the reason; empty if it was stopped from outside."""


class Lines:
    """A container's output on its way to its log stream."""

    def __init__(self, group: str, stream: str) -> None:
        self._group = group
        self._stream = stream
        self._lock = threading.Lock()
        self._lines: list[tuple[float, str]] = []

    def add(self, line: str) -> None:
        """Take a line."""
        with self._lock:
            self._lines.append((time.time(), line))

    def flush(self) -> None:
        """Put what came into the stream."""
        with self._lock:
            lines, self._lines = self._lines, []
            cloud.put_lines(self._group, self._stream, lines)


class Starts:
    """What ECS does for a task before its container runs. Each raises `NeverStarted` where it cannot."""

    def __init__(self, iam: Iam, runner: Runner) -> None:
        self._iam, self._runner = iam, runner

    def reach(self, task: Task) -> None:
        """Get a password of the registry."""
        ours = task.container["image"].startswith(_REGISTRY)
        if ours:
            _need(task, "ecr.api")
        if ours and (no := self._may_not(task, "ecr:GetAuthorizationToken", "*")):
            why = "unable to retrieve ecr registry auth: service call has been retried 1 time(s): "
            raise NeverStarted(f"{_FAILED}{why}AccessDeniedException: {no}{_STATUS}")

    def secrets(self, task: Task) -> dict[str, str]:
        """Get the values of its secrets."""
        return {each["name"]: self._secret(task, each["valueFrom"]) for each in task.container.get("secrets") or ()}

    def log(self, task: Task) -> Lines | None:
        """Have the stream that its lines go to."""
        asked = task.container.get("logConfiguration") or {}
        if asked.get("logDriver") != "awslogs":
            return None
        options = asked.get("options") or {}
        group = options.get("awslogs-group", "")
        stream = f"{options.get('awslogs-stream-prefix', 'ecs')}/{task.container['name']}/{task.id}"
        _need(task, "logs")
        arn = f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:{stream}"
        if no := self._may_not(task, "logs:CreateLogStream", arn):
            raise NeverStarted(_no_stream(f"AccessDeniedException: {no}{_STATUS}"))
        try:
            cloud.create_log_stream(group, stream, create_group=options.get("awslogs-create-group") == "true")
        except KeyError:
            said = "ResourceNotFoundException: The specified log group does not exist. "
            raise NeverStarted(_no_stream(said)) from None
        return None if self._may_not(task, "logs:PutLogEvents", arn) else Lines(group, stream)

    def image(self, task: Task) -> None:
        """Pull it."""
        image = task.container["image"]
        _need(task, "ecr.dkr" if image.startswith(_REGISTRY) else "", image)
        if image.startswith(_REGISTRY):
            name = image.partition("/")[2].partition("@")[0].partition(":")[0]
            for action in _PULLS:
                if self._may_not(task, action, f"arn:{PARTITION}:ecr:{REGION}:{ACCOUNT}:repository/{name}"):
                    raise NeverStarted(
                        f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve "
                        f"ref {image}: pulling from host {image.partition('/')[0]} failed with status code [manifests "
                        f"{image.rpartition(':')[2]}]: 403 Forbidden"
                    )
        try:
            self._runner.pull(image)
        except CannotPull as why:
            text = str(why).removeprefix("CannotPullContainerError: ")
            raise NeverStarted(f"CannotPullContainerError: {text}") from None
        _need(task, "s3" if image.startswith(_REGISTRY) else "", image)

    def _secret(self, task: Task, source: str) -> str:
        kept, action = "secrets manager", "secretsmanager:GetSecretValue"
        if ":secretsmanager:" not in source:  # a parameter, by its ARN or, in the task's region, its name alone
            kept, action = "ssm", "ssm:GetParameters"
        _need(task, "ssm" if kept == "ssm" else "secretsmanager", source)
        of_key = cloud.key_of_secret(source)
        arn = arn_of(source) if kept == "ssm" else ":".join(source.split(":")[:7])
        no = self._may_not(task, action, arn) or (of_key and self._may_not(task, "kms:Decrypt", of_key))
        try:
            if not no:
                return cloud.secret(source)
            said = f"AccessDeniedException: {no}{_STATUS}"
        except KeyError:
            said = "ResourceNotFoundException: Secrets Manager can't find the specified secret."
        raise NeverStarted(
            f"{_FAILED}unable to retrieve secret from {'asm' if kept != 'ssm' else kept}: service call has been "
            f"retried 1 time(s): failed to fetch secret {source} from {kept}: {said}"
        )

    def _may_not(self, task: Task, action: str, resource: str) -> str:
        role = getattr(task.definition, "execution_role_arn", None) or ""
        return self._iam.may(role, task.id, Need(action, resource))


def _need(task: Task, service: str, what: str = "") -> None:
    """Raises `NeverStarted` if a task's network does not lead to what it needs now."""
    if not reaches(task.place, task.interface, service):
        raise NeverStarted(unreached(service, task.place.region, what))


def _no_stream(said: str) -> str:
    return (
        f"{_INIT}failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch "
        f"log stream: {said}: exit status 1"
    )
