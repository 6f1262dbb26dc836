"""Service Quotas for Fargate, which moto lacks: what the conditions say, as AWS lists it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.testbed.conditions import ACCOUNT, REGION, Conditions
from tests.testbed.refusals import Refused

Json = dict[str, Any]


class Quotas:
    """The two quotas on vCPUs that run at once."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._calls: dict[str, Callable[[Json], Json]] = {
            "ListServiceQuotas": lambda asked: {"Quotas": self._all(asked)},
            "ListAWSDefaultServiceQuotas": lambda asked: {"Quotas": self._all(asked, default=6.0)},
            "GetServiceQuota": lambda asked: {"Quota": _one(self._all(asked), asked)},
            "GetAWSDefaultServiceQuota": lambda asked: {"Quota": _one(self._all(asked, default=6.0), asked)},
        }

    def serves(self, operation: str, asked: Json) -> bool:
        """Whether a call is answered here, not by moto."""
        return operation in self._calls and asked.get("ServiceCode") == "fargate"

    def call(self, operation: str, asked: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        return self._calls[operation](asked)

    def _all(self, _: Json, *, default: float | None = None) -> list[Json]:
        on_demand = self._conditions.on_demand_vcpu if default is None else default
        spot = self._conditions.spot_vcpu if default is None else default
        return [
            _quota("L-3032A538", "Fargate On-Demand vCPU resource count", "Standard/OnDemand", on_demand),
            _quota("L-36FBB829", "Fargate Spot vCPU resource count", "Standard/Spot", spot),
        ]


def _one(quotas: list[Json], asked: Json) -> Json:
    for quota in quotas:
        if quota["QuotaCode"] == asked.get("QuotaCode"):
            return quota
    raise Refused("NoSuchResourceException", "The request failed because the specified quota does not exist.")


def _quota(code: str, name: str, kind: str, value: float) -> Json:
    return {
        "ServiceCode": "fargate",
        "ServiceName": "AWS Fargate",
        "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:fargate/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "UsageMetric": {
            "MetricNamespace": "AWS/Usage",
            "MetricName": "ResourceCount",
            "MetricDimensions": {"Service": "Fargate", "Type": "Resource", "Resource": "vCPU", "Class": kind},
            "MetricStatisticRecommendation": "Maximum",
        },
    }
