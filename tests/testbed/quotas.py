"""Service Quotas for Fargate and for EC2's instances, which moto lacks: what the conditions say, as AWS lists it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moto.cloudwatch.models import MetricDatum, cloudwatch_backends

from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION, Conditions
from tests.testbed.instances import Hosts
from tests.testbed.refusals import Refused
from tests.testbed.tasks import SPOT, TaskStore

Json = dict[str, Any]
_MINUTES = 30
_ON_DEMAND = "L-3032A538"
_OPEN = ("PENDING", "CASE_OPENED")


class Bucket(NamedTuple):
    """A quota on instances. Source: Amazon EC2 User Guide, "Amazon EC2 instance type quotas", read 2026-11-30.

    Codes and classes are as Service Quotas lists them; no class is known of Trn and HPC.
    """

    code: str
    name: str
    family: str
    spot: bool
    usage_class: str


_FAMILIES = (
    ("Standard", "Standard (A, C, D, H, I, M, R, T, Z)", "L-1216C47A", "L-34B43A08", "Standard"),
    ("G and VT", "G and VT", "L-DB2E81BA", "L-3819A6DF", "G"),
    ("P", "P", "L-417A185B", "L-7212CCBC", "P"),
    ("X", "X", "L-7295265B", "L-E3A00192", "X"),
    ("Inf", "Inf", "L-1945791B", "L-B5D1601B", "Inf"),
    ("Trn", "Trn", "L-2C3B7624", "L-6B0D517C", ""),
    ("F", "F", "L-74FC7D96", "L-88CF9481", "F"),
    ("DL", "DL", "L-6E869C2A", "L-85EED4F7", "DL"),
    ("HPC", "HPC", "L-F7808C92", "", ""),
    ("High Memory", "High Memory", "L-43DA4232", "", "HighMem"),
)
BUCKETS = tuple(
    Bucket(
        code,
        f"All {name} Spot Instance Requests" if spot else f"Running On-Demand {name} instances",
        family,
        spot,
        f"{kind}/{'Spot' if spot else 'OnDemand'}" if kind else "",
    )
    for family, name, on_demand, on_spot, kind in _FAMILIES
    for spot, code in ((False, on_demand), (True, on_spot))
    if code
)


class Quotas:
    """The two quotas on vCPUs that run at once, and what CloudWatch tells of their use."""

    def __init__(self, conditions: Conditions, tasks: TaskStore, hosts: Hosts) -> None:
        self._conditions, self._tasks, self._hosts = conditions, tasks, hosts
        self._calls: dict[str, Callable[[Json], Json]] = {
            "ListServiceQuotas": lambda asked: {"Quotas": self._all(asked)},
            "ListAWSDefaultServiceQuotas": lambda asked: {"Quotas": self._all(asked, default=True)},
            "GetServiceQuota": lambda asked: {"Quota": _one(self._all(asked), asked)},
            "GetAWSDefaultServiceQuota": lambda asked: {"Quota": _one(self._all(asked, default=True), asked)},
            "RequestServiceQuotaIncrease": lambda asked: {"RequestedQuota": self._request(asked)},
            "ListRequestedServiceQuotaChangeHistoryByQuota": lambda asked: {"RequestedQuotas": self._requests(asked)},
        }

    def serves(self, operation: str, asked: Json) -> bool:
        """Whether a call is answered here, not by moto."""
        return operation in self._calls and asked.get("ServiceCode") in ("fargate", "ec2")

    def call(self, operation: str, asked: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        self._decide()
        return self._calls[operation](asked)

    def _request(self, asked: Json) -> Json:
        """Source: Service Quotas API reference, RequestServiceQuotaIncrease."""
        quota, wanted = _one(self._all(asked), asked), float(asked["DesiredValue"])
        if any(each["Status"] in _OPEN for each in self._requests(asked)):
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
            if each["Status"] in _OPEN and CLOCK.time() - each["Created"] >= set_.quota_answer_s:
                each |= {"Status": set_.quota_answer, "LastUpdated": CLOCK.time()}
                if set_.quota_answer == "CASE_OPENED":
                    each["CaseId"] = f"case-{1 + set_.quota_requests.index(each)}"
                bucket = next((known for known in BUCKETS if known.code == each["QuotaCode"]), None)
                if each["Status"] == "APPROVED" and bucket is not None:
                    set_.ec2_vcpu[f"{bucket.family}{' Spot' * bucket.spot}"] = each["DesiredValue"]
                elif each["Status"] == "APPROVED":
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
                    at = datetime.fromtimestamp(minute, UTC).replace(tzinfo=None)
                    metrics.append(_point(_dimensions(f"Standard/{kind}"), used, at))
            for bucket in BUCKETS:
                used = self._hosts.used(bucket.family, bucket.spot, minute, minute + 60) if bucket.usage_class else 0.0
                if used:
                    at = datetime.fromtimestamp(minute, UTC).replace(tzinfo=None)
                    metrics.append(_point(_dimensions(bucket.usage_class, "EC2"), used, at))

    def _all(self, asked: Json, *, default: bool = False) -> list[Json]:
        if asked.get("ServiceCode") == "ec2":
            return [self._of(bucket, default) for bucket in BUCKETS]
        on_demand = 6.0 if default else self._conditions.on_demand_vcpu
        spot = 6.0 if default else self._conditions.spot_vcpu
        return [
            _quota(_ON_DEMAND, "Fargate On-Demand vCPU resource count", "Standard/OnDemand", on_demand),
            _quota("L-36FBB829", "Fargate Spot vCPU resource count", "Standard/Spot", spot),
        ]

    def _of(self, bucket: Bucket, default: bool) -> Json:
        standard = bucket.family == "Standard"
        own = self._conditions.ec2_vcpu.get(f"{bucket.family}{' Spot' * bucket.spot}", 0.0)
        value = (5.0 if standard else 0.0) if default else own
        made = _quota(bucket.code, bucket.name, bucket.usage_class, value, "ec2")
        if not bucket.usage_class:
            made.pop("UsageMetric")
        return made


def _one(quotas: list[Json], asked: Json) -> Json:
    for quota in quotas:
        if quota["QuotaCode"] == asked.get("QuotaCode"):
            return quota
    raise Refused("NoSuchResourceException", "The request failed because the specified quota does not exist.")


def _dimensions(kind: str, service: str = "Fargate") -> dict[str, str]:
    return {"Service": service, "Type": "Resource", "Resource": "vCPU", "Class": kind}


def _point(of: dict[str, str], value: float, at: datetime) -> MetricDatum:
    dimensions = [{"Name": name, "Value": each} for name, each in of.items()]
    return MetricDatum("AWS/Usage", "ResourceCount", value, dimensions, at, "None")


def _quota(code: str, name: str, kind: str, value: float, service: str = "fargate") -> Json:
    full = {"fargate": "AWS Fargate", "ec2": "Amazon Elastic Compute Cloud (Amazon EC2)"}[service]
    return {
        "ServiceCode": service,
        "ServiceName": full,
        "QuotaArn": f"arn:{PARTITION}:servicequotas:{REGION}:{ACCOUNT}:{service}/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        "UsageMetric": {
            "MetricNamespace": "AWS/Usage",
            "MetricName": "ResourceCount",
            "MetricDimensions": _dimensions(kind, {"fargate": "Fargate", "ec2": "EC2"}[service]),
            "MetricStatisticRecommendation": "Maximum",
        },
    }
