"""Service Quotas for Fargate, which moto lacks: what the conditions say, as AWS lists it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import MetricDatum, cloudwatch_backends

from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION, Conditions
from tests.testbed.refusals import Refused
from tests.testbed.tasks import SPOT, TaskStore

Json = dict[str, Any]
_MINUTES = 30
_ON_DEMAND = "L-3032A538"


class Quotas:
    """The two quotas on vCPUs that run at once, and what CloudWatch tells of their use."""

    def __init__(self, conditions: Conditions, tasks: TaskStore) -> None:
        self._conditions, self._tasks = conditions, tasks
        self._calls: dict[str, Callable[[Json], Json]] = {
            "ListServiceQuotas": lambda asked: {"Quotas": self._all(asked)},
            "ListAWSDefaultServiceQuotas": lambda asked: {"Quotas": self._all(asked, default=6.0)},
            "GetServiceQuota": lambda asked: {"Quota": _one(self._all(asked), asked)},
            "GetAWSDefaultServiceQuota": lambda asked: {"Quota": _one(self._all(asked, default=6.0), asked)},
            "RequestServiceQuotaIncrease": lambda asked: {"RequestedQuota": self._request(asked)},
            "ListRequestedServiceQuotaChangeHistoryByQuota": lambda asked: {"RequestedQuotas": self._requests(asked)},
        }

    def serves(self, operation: str, asked: Json) -> bool:
        """Whether a call is answered here, not by moto."""
        return operation in self._calls and asked.get("ServiceCode") == "fargate"

    def call(self, operation: str, asked: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        self._decide()
        return self._calls[operation](asked)

    def _request(self, asked: Json) -> Json:
        """Source: Service Quotas API reference, RequestServiceQuotaIncrease."""
        quota, wanted = _one(self._all(asked), asked), float(asked["DesiredValue"])
        if any(each["Status"] == "PENDING" for each in self._requests(asked)):
            raise Refused("ResourceAlreadyExistsException", "The request already exists.")
        if wanted <= quota["Value"]:
            raise Refused("IllegalArgumentException", "The desired value must be greater than the current one.")
        copied = ("ServiceCode", "ServiceName", "QuotaCode", "QuotaName", "QuotaArn", "GlobalQuota", "Unit")
        made = {name: quota[name] for name in copied} | {
            "Id": uuid.uuid4().hex,
            "DesiredValue": wanted,
            "Status": "PENDING",
            "Created": CLOCK.time(),
            "LastUpdated": CLOCK.time(),
        }
        self._conditions.quota_requests.append(made)
        return made

    def _requests(self, asked: Json) -> list[Json]:
        return [each for each in self._conditions.quota_requests if each["QuotaCode"] == asked["QuotaCode"]]

    def _decide(self) -> None:
        """Answer what was asked long enough ago."""
        set_ = self._conditions
        for each in set_.quota_requests:
            if each["Status"] == "PENDING" and CLOCK.time() - each["Created"] >= set_.quota_answer_s:
                each |= {"Status": set_.quota_answer, "LastUpdated": CLOCK.time()}
                if each["Status"] == "APPROVED":
                    name = "on_demand_vcpu" if each["QuotaCode"] == _ON_DEMAND else "spot_vcpu"
                    set_.set({name: each["DesiredValue"]})

    def publish_use(self) -> None:
        """Have CloudWatch know the use of the quotas, as Fargate publishes it: by the minute, late, never zero.

        Source: Amazon ECS developer guide, "AWS Fargate usage metrics".
        """
        set_, metrics = self._conditions, cloudwatch_backends[ACCOUNT][REGION].metric_data
        metrics[:] = [each for each in metrics if each.namespace != "AWS/Usage"]
        newest = int((CLOCK.time() - set_.usage_lag_s) // 60) * 60
        for minute in range(newest - 60 * _MINUTES, newest, 60):
            for provider, kind, others in (("FARGATE", "OnDemand", set_.others_vcpu), (SPOT, "Spot", 0.0)):
                used = others + sum(
                    task.vcpu
                    for task in self._tasks.all()
                    if task.provider == provider
                    and task.created_at < minute + 60
                    and (task.stopped_at is None or task.stopped_at > minute)
                )
                if used:
                    metrics.append(_point(kind, used, datetime.fromtimestamp(minute, UTC).replace(tzinfo=None)))

    def _all(self, _: Json, *, default: float | None = None) -> list[Json]:
        on_demand = self._conditions.on_demand_vcpu if default is None else default
        spot = self._conditions.spot_vcpu if default is None else default
        return [
            _quota(_ON_DEMAND, "Fargate On-Demand vCPU resource count", "Standard/OnDemand", on_demand),
            _quota("L-36FBB829", "Fargate Spot vCPU resource count", "Standard/Spot", spot),
        ]


def _one(quotas: list[Json], asked: Json) -> Json:
    for quota in quotas:
        if quota["QuotaCode"] == asked.get("QuotaCode"):
            return quota
    raise Refused("NoSuchResourceException", "The request failed because the specified quota does not exist.")


def _dimensions(kind: str) -> dict[str, str]:
    return {"Service": "Fargate", "Type": "Resource", "Resource": "vCPU", "Class": kind}


def _point(kind: str, value: float, at: datetime) -> MetricDatum:
    dimensions = [{"Name": name, "Value": each} for name, each in _dimensions(f"Standard/{kind}").items()]
    return MetricDatum("AWS/Usage", "ResourceCount", value, dimensions, at, "None")


def _quota(code: str, name: str, kind: str, value: float) -> Json:
    return {
        "ServiceCode": "fargate",
        "ServiceName": "AWS Fargate",
        "QuotaArn": f"arn:{PARTITION}:servicequotas:{REGION}:{ACCOUNT}:fargate/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "UsageMetric": {
            "MetricNamespace": "AWS/Usage",
            "MetricName": "ResourceCount",
            "MetricDimensions": _dimensions(kind),
            "MetricStatisticRecommendation": "Maximum",
        },
    }
