"""An ECS task as DescribeTasks tells it, in; our `WorkerState` and why it stopped, out. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from starburst_common.aws.refusals import ROLE_NEEDS
from starburst_common.aws.ways import unanswered, way_out
from starburst_common.instances import shapes
from starburst_common.model import Granted, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.wire.seals import DENIED_EXIT, TAKEN_EXIT, misfit

#: Told by text, in this order. Sources: Amazon ECS Developer Guide, "Stopped tasks error messages" and "Task
#: lifecycle", read 2026-11-30. AWS's own examples name a Spot loss by two stop codes, so its text counts as well.
_CUT_OFF = re.compile(
    r"connection issue between the task and|check your task network|i/o timeout|context deadline exceeded|no such host"
    r"|connection refused|network is unreachable|while waiting for connection|connect timeout",
    re.IGNORECASE,
)
_FULL = re.compile(r"InsufficientFreeAddresses|not enough free addresses|free IP addresses", re.IGNORECASE)
_NEVER = re.compile(
    r"not found|no such image|does not exist|denied|unauthorized|403|invalid reference|image Manifest does not contain"
    r"|exec format error|executable file not found|unable to assume|AccessDenied|ResourceNotFound|is not authorized",
    re.IGNORECASE,
)
_SPOT = re.compile(
    r"SpotInterruption|TerminationNotice|Spot Task was interrupted|InfrastructureHealth|Host EC2 \(instance"
)
_OOM = re.compile(r"OutOfMemory")
_DENIED = re.compile(r"not authorized to perform: (?P<action>[\w-]+:\w+)")
_KILLED = 137
#: What a worker tells by its exit code.
_BY_CODE = {
    DENIED_EXIT: (WorkerEnd.DENIED, f"the task role may not do a worker's work, as its log says: {ROLE_NEEDS}"),
    TAKEN_EXIT: (WorkerEnd.SPOT, "EC2 took its instance back"),
}


class Instance(NamedTuple):
    """One that tasks share, as DescribeContainerInstances tells it."""

    id: str  #: in EC2
    type: str


def instance_of(told: Mapping[str, Any]) -> Instance:
    """Source of the attribute: Amazon ECS Developer Guide, "Container instance attributes", read 2026-11-30.

    >>> instance_of({"ec2InstanceId": "i-1", "attributes": [{"name": "ecs.instance-type", "value": "c7g.large"}]})
    Instance(id='i-1', type='c7g.large')
    """
    named = {each.get("name"): each.get("value", "") for each in told.get("attributes", [])}
    return Instance(told.get("ec2InstanceId", ""), named.get("ecs.instance-type", ""))


def task_id(arn: str) -> WorkerId:
    """The last part of a task's ARN, which is also the name of its log stream.

    >>> task_id("arn:aws:ecs:us-east-1:123456789012:task/main/0123456789abcdef")
    '0123456789abcdef'
    """
    return WorkerId(arn.rsplit("/", 1)[-1])


def worker_state(
    task: dict[str, Any],
    ordinal: int,
    instance: Instance | None = None,
    spots: Collection[str] = (),
    *,
    public: bool = False,
) -> WorkerState:
    """A worker, from its task, and the instance that it is on; `spots` are the providers of instances on Spot.

    `public`: the site has its workers ask for public addresses.
    """
    phase = _phase(task.get("lastStatus", ""))
    end, reason = _end(task, public=public) if phase is WorkerPhase.STOPPED else (None, "")
    return WorkerState(
        id=task_id(task["taskArn"]),
        ordinal=ordinal,
        phase=phase,
        end=end,
        exit_code=_container(task).get("exitCode") if end is not None else None,
        reason=reason,
        started_at=_charged_from(task),
        stopped_at=_seconds(task.get("stoppedAt")) if end is not None else 0.0,
        ran_s=_ran_s(task),
        granted=_granted(task, instance, spots),
    )


def on_instance(task: Mapping[str, Any]) -> bool:
    """Whether a task is one for instances, which may not have started yet."""
    return task.get("launchType", "FARGATE") != "FARGATE" or "containerInstanceArn" in task


def _charged_from(task: dict[str, Any]) -> float:
    """A task for which no instance has started yet costs nothing."""
    if on_instance(task):
        return _seconds(task.get("pullStartedAt") or task.get("startedAt"))
    return _seconds(task.get("pullStartedAt") or task.get("createdAt"))


def _granted(task: dict[str, Any], instance: Instance | None, spots: Collection[str]) -> Granted:
    """Source of the fields: Amazon ECS API Reference, Task, read 2026-11-29."""
    attributes = {each.get("name"): each.get("value", "") for each in task.get("attributes", [])}
    known = shapes().get(instance.type) if instance is not None else None
    asked = [need for each in task.get("overrides", {}).get("containerOverrides", []) for need in _needs(each)]
    return Granted(
        capacity=task.get("capacityProviderName", ""),
        architecture={"x86": "x86_64", "arm": "arm64"}[known.arch]
        if known is not None
        else attributes.get("ecs.cpu-architecture", ""),
        zone=task.get("availabilityZone", ""),
        vcpu=int(task.get("cpu") or 0) / 1024,
        memory_mib=int(task.get("memory") or 0),
        storage_gb=int((task.get("ephemeralStorage") or {}).get("sizeInGiB") or 0),
        gpus=sum(int(need["value"]) for need in asked if need.get("type") == "GPU"),
        instance=instance.id if instance is not None else "",
        instance_type=instance.type if instance is not None else "",
        spot=task.get("capacityProviderName", "") in spots,
        managed=task.get("launchType", "") != "EC2",  # as of instances of a group
    )


def _needs(override: Mapping[str, Any]) -> list[dict[str, str]]:
    return list(override.get("resourceRequirements") or ())


def _ran_s(task: dict[str, Any]) -> float:
    """Without the pull before and what ECS takes down after."""
    began, ended = task.get("startedAt"), task.get("executionStoppedAt")
    return max((ended - began).total_seconds(), 0.0) if began and ended else 0.0


def _phase(status: str) -> WorkerPhase:
    """The many states of a task are three to us. One that is being stopped may still settle what it has.

    >>> [_phase(status).value for status in ("PENDING", "RUNNING", "STOPPING", "STOPPED")]
    ['starting', 'running', 'running', 'stopped']
    """
    if status in ("PROVISIONING", "PENDING", "ACTIVATING", ""):
        return WorkerPhase.STARTING
    return WorkerPhase.STOPPED if status in ("STOPPED", "DELETED") else WorkerPhase.RUNNING


def _end(task: dict[str, Any], *, public: bool = False) -> tuple[WorkerEnd, str]:
    """Why a task stopped, and the same for a person.

    >>> stopped = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"}
    >>> _end(stopped | {"containers": [{"exitCode": 0}]})[0].value
    'done'
    >>> _end(stopped | {"containers": [{"exitCode": 137, "reason": "OutOfMemoryError: killed"}]})
    (<WorkerEnd.OOM: 'oom'>, 'OutOfMemoryError: killed: give each worker more memory')
    >>> _end(stopped | {"containers": [{"exitCode": 137}]})
    (<WorkerEnd.CRASHED: 'crashed'>, 'killed (exit code 137)')
    >>> _end(stopped | {"containers": [{"exitCode": 209}]})[0].value
    'unstartable'
    >>> _end(stopped | {"containers": [{"exitCode": 195}]})[0].value
    'denied'
    >>> _end({"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."})[0].value
    'spot'
    >>> _end({"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: a/b:c: not found"})[0].value
    'unstartable'
    >>> _end({"stopCode": "TaskFailedToStart", "stoppedReason": "ResourceInitializationError: i/o timeout"})[0].value
    'cut off'
    >>> _end(stopped | {"containers": [{"exitCode": 197}]})[1].partition(":")[0]
    'SQS takes no connection'
    >>> ["assign_public_ip" in _end({"containers": [{"exitCode": 197}]}, public=each)[1] for each in (False, True)]
    [True, False]
    >>> _end(stopped | {"stoppedReason": "OutOfMemoryError: Container killed due to memory usage"})[0].value
    'oom'
    >>> _end({"stopCode": "InfrastructureHealth", "containers": [{"exitCode": 137}]})[0].value
    'spot'
    """
    container = _container(task)
    code, said = container.get("exitCode"), container.get("reason", "")
    stop_code, reason = task.get("stopCode", ""), task.get("stoppedReason", "")
    if killed := next((text for text in (said, reason) if _OOM.search(text)), ""):
        return WorkerEnd.OOM, f"{killed}: give each worker more memory"
    if why := misfit(code):
        return WorkerEnd.UNSTARTABLE, why
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code is not None and (way := unanswered("", code)) is not None:
        return WorkerEnd.CUT_OFF, f"{way.name} takes no connection: {way_out([way], _region(task), public=public)}"
    if _SPOT.search(f"{stop_code} {reason}"):
        return WorkerEnd.SPOT, reason or stop_code
    if stop_code == "TaskFailedToStart" or (code is None and stop_code == "EssentialContainerExited"):
        why = reason if said in reason else f"{reason} {said}".strip()
        if _CUT_OFF.search(why):
            way = unanswered(why)
            return WorkerEnd.CUT_OFF, f"{why}: {way_out([way] if way else [], _region(task), public=public)}"
        if _FULL.search(why):
            return WorkerEnd.UNSTARTED, f"{why}: give the site more or larger subnets, or ask for fewer workers"
        if _NEVER.search(why):
            return WorkerEnd.UNSTARTABLE, f"no worker can start: {why}: {_advice(why)}"
        return WorkerEnd.UNSTARTED, why
    if stop_code == "UserInitiated" or code in (0, 143):
        return WorkerEnd.DONE, f"{reason}: killed (exit code {_KILLED})" if code == _KILLED else reason
    if code == _KILLED:
        return WorkerEnd.CRASHED, f"killed (exit code {_KILLED})"
    return WorkerEnd.CRASHED, f"exit code {code}" if code is not None else reason


def _region(task: dict[str, Any]) -> str:
    return str(task.get("taskArn", ":::")).split(":")[3]


def _advice(why: str) -> str:
    if "unable to launch instances" in why:
        return "let the site's infrastructure role do so, as `starburst iam-policy infrastructure` says"
    if "CannotPull" in why and re.search(r"403|denied|not authorized", why):
        return "let the site's execution role pull from that repository, as `starburst iam-policy execution` says"
    if "CannotPull" in why:
        return (
            "correct the site's image, or push it, or the `image` of the run; its architecture must be the site's; "
            "without either, one is made"
        )
    if denied := _DENIED.search(why):
        what = f"do {denied['action']}, as `starburst iam-policy execution` says"
        return f"let the site's execution role {what}; a role that was just made or changed takes a minute"
    if "ResourceInitialization" in why:
        return "let the site's execution role read its secret and write its log group"
    return "correct the image"


def _container(task: dict[str, Any]) -> dict[str, Any]:
    return next(iter(task.get("containers", [])), {})


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at is not None else 0.0
