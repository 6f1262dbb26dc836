"""A region in; the account's quotas on vCPU there, what of them is in use, and free addresses out: `Quotas` on AWS.

A quota's value is the account's own where Service Quotas has one, else AWS's, and where nobody can be asked what new
accounts have, which is told as assumed. What is in use tells the metric that the quota itself names: CloudWatch has it
by the minute, some minutes late, and nothing for as long as nothing runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from threading import Lock
from typing import Any

from starburst_common.aws.abreast import abreast
from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.launch_rate import BURST, EACH_S
from starburst_common.aws.vcpu_quotas import AS_OF, VcpuQuota, ec2_quotas, fargate_quotas
from starburst_common.errors import NotFound, StarburstError
from starburst_common.instances import families
from starburst_common.phrases import our_log
from starburst_common.ports import Basis, LaunchSpeed, Limit, Unit
from starburst_common.sites.site import Site

_log = our_log("starburst.aws")

KEPT_S = 60.0  #: what was told is believed for so long
_FULL_KEPT_S = 20.0  #: of a quota that is nearly used up, since somebody waits for what becomes free
_FAILED_KEPT_S = 300.0  #: and that nobody could be asked
_FULL = 0.75
#: Source of the minute: Amazon CloudWatch User Guide, "CloudWatch usage metrics", read 2026-11-30. How late it comes is
#: not documented.
_PERIOD_S, _LATE_S = 60, 600
#: An image of some hundred MB, pulled and started: from 30 to 60 s are reported, and nothing is promised.
_START_S = 45.0
_RESERVED = 5  #: addresses of a subnet that AWS keeps. Source: Amazon VPC User Guide, "Subnet CIDR blocks"


class AccountQuotas:
    """`Quotas` of one account in one region, for workers in these subnets."""

    speed = LaunchSpeed(burst=BURST, each_s=EACH_S, start_s=_START_S)

    def __init__(
        self,
        clients: Clients,
        subnets: Sequence[str],
        site: Site | None = None,
        *,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clients, self.site, self._subnets = clients, site, [*subnets]
        self._kept_s, self._clock, self._ticks = kept_s, clock, ticks
        self._lock = Lock()
        self._kept: dict[str, tuple[float, Limit]] = {}  # until when each is believed
        self._told: set[str] = set()

    def limits(self, *, spot: bool, ec2: bool = False, gpus: bool = False) -> Sequence[Limit]:
        asks: dict[str, Callable[[], Limit]] = {}
        if ec2 and self.site is not None:  # a worker has its instance's address
            families = instance_families(self.site, gpus=gpus)
            for on_spot in (True, False) if spot else (False,):
                provider = self.site.provider(gpus=gpus, spot=on_spot)
                if on_spot and provider not in self.site.spot_providers:
                    continue
                for quota in ec2_quotas(families, spot=on_spot):
                    asks[f"{quota.path} {provider}"] = partial(self._of_provider, quota, provider)
        else:
            asks |= {quota.path: partial(self.limit, quota) for quota in fargate_quotas(spot=spot)}
            asks["addresses"] = self._addresses
        with self._lock:
            due = [name for name in asks if name not in self._kept or self._ticks() >= self._kept[name][0]]
            for name, limit in zip(due, abreast(lambda name: asks[name](), due, at_once=len(asks) or 1), strict=True):
                self._keep(name, limit)
            return [self._kept[name][1] for name in asks]

    def limit(self, quota: VcpuQuota) -> Limit:
        """A quota as it is now; asked anew."""
        return self._in_use(*self._value(quota))

    def _of_provider(self, quota: VcpuQuota, provider: str) -> Limit:
        """The same, of workers on instances of a capacity provider."""
        return replace(self.limit(quota), capacity=provider)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _keep(self, name: str, limit: Limit) -> None:
        full = limit.used > _FULL * limit.total
        kept_s = _FAILED_KEPT_S if limit.unknown else min(self._kept_s, _FULL_KEPT_S) if full else self._kept_s
        self._kept[name] = self._ticks() + kept_s, limit
        if limit.unknown and limit.unknown not in self._told:
            self._told.add(limit.unknown)
            _log.info("%s: %s", limit.name, limit.unknown)

    def _value(self, quota: VcpuQuota) -> tuple[Limit, dict[str, Any]]:
        """Its value, and which metric tells its use."""
        asked = {"ServiceCode": quota.service, "QuotaCode": quota.code}
        basis = Basis.APPLIED
        try:
            try:
                with speaking("servicequotas:GetServiceQuota"):
                    found = self.clients.quotas.get_service_quota(**asked)["Quota"]
            except NotFound:
                basis = Basis.DEFAULT
                with speaking("servicequotas:GetAWSDefaultServiceQuota"):
                    found = self.clients.quotas.get_aws_default_service_quota(**asked)["Quota"]
            with speaking("servicequotas:GetServiceQuota"):
                value, metric = float(found["Value"]), found.get("UsageMetric") or {}
        except StarburstError as error:
            why = f"assumed to be {quota.default:g}, as of new accounts ({AS_OF}): {error}"
            return self._of(quota, quota.default, Basis.ASSUMED, unknown=why), {}
        return self._of(quota, value, basis), metric

    def _of(self, quota: VcpuQuota, total: float, basis: Basis, **more: Any) -> Limit:
        return Limit(
            name=quota.name, unit=Unit.VCPU, total=total, basis=basis, capacity=quota.capacity, code=quota.path, **more
        )

    def _in_use(self, limit: Limit, metric: dict[str, Any]) -> Limit:
        """The same with what is in use, as far as somebody tells."""
        if limit.basis is Basis.ASSUMED:
            return limit
        if not metric.get("MetricName"):
            return replace(limit, unknown="nobody tells what of it is in use: others are taken to use nothing")
        now = self._clock()  # before it is asked: no worker launched after that is in what is told
        try:
            used, begin = self._used(metric)
        except StarburstError as error:
            return replace(limit, unknown=f"others are taken to use nothing of it: {error}")
        return replace(limit, used=used, seen=(begin, min(begin + _PERIOD_S, now)))

    def _used(self, metric: dict[str, Any]) -> tuple[float, float]:
        """The newest that is told, and of when; nothing, now, where nothing has been told for long."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        statistic = metric.get("MetricStatisticRecommendation") or "Maximum"
        with speaking("cloudwatch:GetMetricStatistics"):
            points = self.clients.metrics.get_metric_statistics(
                Namespace=metric["MetricNamespace"],
                MetricName=metric["MetricName"],
                Dimensions=[{"Name": name, "Value": value} for name, value in metric["MetricDimensions"].items()],
                StartTime=now - timedelta(seconds=_LATE_S),
                EndTime=now,
                Period=_PERIOD_S,
                Statistics=[statistic],
            )["Datapoints"]
            newest = max(points, key=lambda point: point["Timestamp"], default=None)
            if newest is None:
                return 0.0, self._clock() - _PERIOD_S
            return float(newest[statistic]), newest["Timestamp"].timestamp()

    def _addresses(self) -> Limit:
        """Each worker takes one. Source: Amazon ECS Developer Guide, "Task networking on AWS Fargate"."""
        now, free, unknown = self._clock(), 0, ""
        total = 0
        try:
            with speaking("ec2:DescribeSubnets"):
                for subnet in self.clients.networks.describe_subnets(SubnetIds=self._subnets)["Subnets"]:
                    total += ip_network(subnet["CidrBlock"]).num_addresses - _RESERVED
                    free += int(subnet["AvailableIpAddressCount"])
        except StarburstError as error:
            unknown = str(error)
        return Limit(
            name="addresses in the site's subnets",
            unit=Unit.ADDRESS,
            total=total,
            basis=Basis.ASSUMED if unknown else Basis.APPLIED,
            used=total - free,
            seen=(now, now),
            unknown=unknown,
        )


def instance_families(site: Site, *, gpus: bool) -> tuple[str, ...]:
    """The families of quotas of which a site's instances take."""
    return families(site.gpu_types if gpus else site.instance_types, site.tariff.arch)
