"""AWS's published request rates as token buckets."""

from __future__ import annotations

import threading

from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import Conditions
from tests.testbed.refusals import Refused

#: How many calls at once, then how many a second, and which of a service share them, of those that published any.
#: Sources: Amazon ECS Developer Guide, "Request throttling for the Amazon ECS API"; CloudWatch Logs User Guide,
#: "CloudWatch Logs quotas"; Amazon ECR User Guide, "Amazon ECR service quotas"; AWS General Reference, "AWS Systems
#: Manager endpoints and quotas"; read 2026-11-30. Where a service names one rate, it is the burst, too.
_BUCKETS = (
    ("ecs", 20, 1, "CreateCluster DeleteCluster PutClusterCapacityProviders UpdateCluster UpdateClusterSettings"),
    ("ecs", 50, 20, "DescribeClusters ListClusters"),
    ("ecs", 20, 1, "RegisterTaskDefinition DeregisterTaskDefinition"),
    ("ecs", 50, 20, "DescribeTaskDefinition ListTaskDefinitions ListTaskDefinitionFamilies"),
    ("ecs", 5, 1, "DeleteTaskDefinitions"),
    ("ecs", 10, 1, "CreateCapacityProvider DeleteCapacityProvider UpdateCapacityProvider"),
    ("ecs", 50, 20, "DescribeCapacityProviders"),
    ("ecs", 20, 10, "TagResource UntagResource"),
    ("ecs", 50, 20, "ListTagsForResource"),
    ("ecs", 10, 1, "DeleteAccountSetting PutAccountSetting PutAccountSettingDefault"),
    ("ecs", 50, 20, "ListAccountSettings"),
    ("ecs", 100, 40, "RunTask StartTask StopTask ExecuteCommand"),
    ("ecs", 100, 20, "DescribeTasks ListTasks DescribeContainerInstances ListContainerInstances"),
    ("registry", 10, 10, "PutManifest"),
    ("ecr", 10, 10, "PutImage"),
    ("ecr", 500, 500, "GetAuthorizationToken"),
    ("ecr", 100, 100, "InitiateLayerUpload"),
    ("ecr", 100, 100, "CompleteLayerUpload"),
    ("ecr", 500, 500, "UploadLayerPart"),
    ("logs", 25, 25, "GetLogEvents"),
    ("logs", 10, 10, "FilterLogEvents"),
    ("logs", 25, 25, "DescribeLogStreams"),
    ("logs", 10, 10, "DescribeLogGroups"),
    ("logs", 10, 10, "CreateLogGroup"),
    ("logs", 10, 10, "DeleteLogGroup"),
    ("ssm", 40, 40, "GetParameter GetParameters PutParameter"),
)
_OF = {(service, name): number for number, (service, _, _, names) in enumerate(_BUCKETS) for name in names.split()}


class Throttle:
    """Refuses what comes faster than its bucket fills."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._lock = threading.Lock()
        self._levels: dict[int | str, tuple[float, float]] = {}

    def check(self, call: Call) -> None:
        """Take a token for a call. Raises `Refused` if there is none."""
        bucket = _OF.get((call.service, call.operation))
        if bucket is None or not self._conditions.throttling:
            return
        _, burst, rate, _ = _BUCKETS[bucket]
        if not self._take(bucket, 1, burst, rate):
            raise Refused("ThrottlingException", "Rate exceeded")

    def launch(self, providers: list[str]) -> None:
        """Take a token for each task a call starts. Raises `Refused` if there are too few."""
        if self._conditions.throttling:
            for provider in sorted(set(providers)):
                each = providers.count(provider)
                limits = self._conditions.launch_burst, self._conditions.launch_rate
                if not self._take(f"launches {provider}", each, *limits):
                    raise Refused("ThrottlingException", "Rate exceeded.")

    def reset(self) -> None:
        """Fill every bucket."""
        with self._lock:
            self._levels.clear()

    def _take(self, bucket: int | str, tokens: int, burst: float, rate: float) -> bool:
        with self._lock:
            now = CLOCK.monotonic()
            level, at = self._levels.get(bucket, (burst, now))
            level = min(burst, level + (now - at) * rate)
            enough = level >= tokens
            self._levels[bucket] = (level - tokens if enough else level, now)
        return enough
