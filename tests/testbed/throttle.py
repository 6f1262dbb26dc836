"""AWS's published request rates as token buckets; all but one off until asked for."""

from __future__ import annotations

import threading

from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import Conditions
from tests.testbed.refusals import Refused

#: the bucket of each call
#: (Amazon ECS developer guide, "Request throttling for the Amazon ECS API"; CloudWatch Logs user guide, quotas;
#: Amazon ECR user guide, "Amazon ECR service quotas")
_BUCKETS = {
    ("ecs", "RunTask"): "cluster tasks",
    ("ecs", "StartTask"): "cluster tasks",
    ("ecs", "StopTask"): "cluster tasks",
    ("ecs", "DescribeTasks"): "cluster reads",
    ("ecs", "ListTasks"): "cluster reads",
    ("ecs", "RegisterTaskDefinition"): "definitions",
    ("ecs", "DeregisterTaskDefinition"): "definitions",
    ("ecs", "DeleteTaskDefinitions"): "definition deletes",
    ("ecs", "CreateCluster"): "clusters",
    ("ecs", "DeleteCluster"): "clusters",
    ("ecs", "TagResource"): "tags",
    ("registry", "PutManifest"): "put image",
    ("logs", "GetLogEvents"): "log reads",
    ("logs", "FilterLogEvents"): "log filters",
    ("logs", "DescribeLogStreams"): "log streams",
    ("logs", "CreateLogGroup"): "log groups",
}
#: burst, and tokens a second
_RATES = {
    "cluster tasks": (100.0, 40.0),
    "cluster reads": (100.0, 20.0),
    "definitions": (20.0, 1.0),
    "definition deletes": (5.0, 1.0),
    "clusters": (20.0, 1.0),
    "tags": (20.0, 10.0),
    "put image": (10.0, 10.0),
    "log reads": (25.0, 25.0),
    "log filters": (10.0, 10.0),
    "log streams": (25.0, 25.0),
    "log groups": (10.0, 10.0),
}
_ALWAYS = {"put image"}


class Throttle:
    """Refuses what comes faster than its bucket fills."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._lock = threading.Lock()
        self._levels: dict[str, tuple[float, float]] = {}

    def check(self, call: Call) -> None:
        """Take a token for a call. Raises `Refused` if there is none."""
        bucket = _BUCKETS.get((call.service, call.operation))
        if bucket and (self._conditions.throttling or bucket in _ALWAYS):
            burst, rate = _RATES[bucket]
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

    def _take(self, bucket: str, tokens: int, burst: float, rate: float) -> bool:
        with self._lock:
            now = CLOCK.monotonic()
            level, at = self._levels.get(bucket, (burst, now))
            level = min(burst, level + (now - at) * rate)
            enough = level >= tokens
            self._levels[bucket] = (level - tokens if enough else level, now)
        return enough
