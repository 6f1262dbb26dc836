"""A task that ECS has forgotten, and its launch, in; the worker that it was out, as far as anybody still knows.

ECS describes a stopped task for an hour. Where no driver looked in that time, what it cost must be known all the same,
or budgets would be spent twice: a worker says in its log when it ends; of one that could not, what it may have cost at
most counts. Source: Amazon ECS API reference, DescribeTasks, read 2026-11-29.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starburst_common.aws.abreast import abreast
from starburst_common.aws.answers import speaking
from starburst_common.aws.ecs_tasks import task_id
from starburst_common.aws.launches import Launch
from starburst_common.aws.requests import log_stream, on_ec2
from starburst_common.errors import StarburstError
from starburst_common.model import Granted, WorkerEnd, WorkerPhase, WorkerState

REASON = "it stopped so long ago that ECS has forgotten it"
_KEPT_S = 3600.0  #: a stopped task is described for so long
_AT_ONCE = 8  #: calls
_ENDED = re.compile(r"worker \S+ ends with \d+$")  #: as a worker says


def forgotten(arn: str, ordinal: int, launch: Launch, now: float) -> WorkerState:
    """From its launch until an hour ago, on Fargate on demand: it stopped no later, and was no dearer.

    >>> request = {"overrides": {"cpu": "1024", "memory": "2048"}}
    >>> launch = Launch(lo=0, count=1, token="", spot=True, request=request, at=1000.0, tasks=("a/task-1",))
    >>> gone = forgotten("a/task-1", 0, launch, 9000.0)
    >>> gone.id, gone.started_at, gone.stopped_at, gone.granted.vcpu, gone.granted.capacity
    ('task-1', 1000.0, 5400.0, 1.0, 'FARGATE')
    """
    return WorkerState(
        id=task_id(arn),
        ordinal=ordinal,
        phase=WorkerPhase.STOPPED,
        end=WorkerEnd.DONE,
        reason=REASON,
        started_at=launch.at,
        stopped_at=max(now - _KEPT_S, launch.at),
        granted=_granted(launch),
    )


def as_they_said(logs: Any, group: str, workers: Sequence[WorkerState]) -> list[WorkerState]:
    """The same workers; those that were forgotten with when they ended, where the last line of their log tells."""

    def told(worker: WorkerState) -> WorkerState:
        try:
            with speaking("logs:GetLogEvents"):
                stream = log_stream(worker.id)
                found = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=1)["events"]
        except StarburstError:  # there is no log, or nobody may read it
            return worker
        if not found or not _ENDED.search(found[-1]["message"].rstrip()):
            return worker
        return replace(worker, stopped_at=min(max(found[-1]["timestamp"] / 1000, worker.started_at), worker.stopped_at))

    gone = {worker.id: worker for worker in workers if worker.reason == REASON}
    ends = {worker.id: worker for worker in abreast(told, [*gone.values()], at_once=_AT_ONCE)}
    return [ends.get(worker.id, worker) for worker in workers]


def _granted(launch: Launch) -> Granted | None:
    """What was asked for; of instances nobody knows which it was."""
    asked, on_instance = launch.request.get("overrides", {}), on_ec2(launch.request)
    if not str(asked.get("cpu", "")).isdecimal() or not str(asked.get("memory", "")).isdecimal():
        return None
    needs = [need for each in asked.get("containerOverrides", []) for need in each.get("resourceRequirements", [])]
    return Granted(
        capacity="EC2" if on_instance else "FARGATE",
        architecture="",
        zone="",
        vcpu=int(asked["cpu"]) / 1024,
        memory_mib=int(asked["memory"]),
        storage_gb=int((asked.get("ephemeralStorage") or {}).get("sizeInGiB") or 0),
        gpus=sum(int(need["value"]) for need in needs if need.get("type") == "GPU"),
        spot=on_instance and launch.spot,
    )
