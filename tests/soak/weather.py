"""Random faults, each for a while: a seeded generator in; trouble for a bed, and a count of it, out."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.testbed.bed import Bed

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")

#: Calls that fail with a probability, by name: what `Bed.fault` is given.
SCRIPTED: dict[str, dict[str, Any]] = {
    "S3 503": {"service": "s3", "probability": 0.2, "code": "SlowDown"},
    "S3 409": {
        "service": "s3",
        "operation": "PutObject",
        "probability": 0.3,
        "code": "ConditionalRequestConflict",
    },
    "S3 500 after": {
        "service": "s3",
        "operation": "PutObject",
        "probability": 0.3,
        "code": "InternalError",
        "after": True,
    },
    "SQS throttling": {"service": "sqs", "probability": 0.2, "code": "ThrottlingException", "status": 400},
    "SQS 500 after": {
        "service": "sqs",
        "probability": 0.2,
        "code": "InternalFailure",
        "status": 500,
        "after": True,
    },
    "ECS throttling": {"service": "ecs", "probability": 0.4, "code": "ThrottlingException", "status": 400},
    "ECS 500 after": {
        "service": "ecs",
        "probability": 0.4,
        "code": "ServerException",
        "status": 500,
        "after": True,
    },
    "reset": {"probability": 0.08, "reset": True},
    "reset after": {"probability": 0.08, "reset": True, "after": True},
    "late": {"probability": 0.2, "delay_s": 0.5},
}
#: Conditions that hold for a while, by name.
CONDITIONS: dict[str, dict[str, Any]] = {
    "quota of one worker": {"on_demand_vcpu": 1.0, "spot_vcpu": 1.0},
    "no capacity": {"zone_room": dict.fromkeys(ZONES, 0)},
    "no Spot capacity": {"spot_zone_room": dict.fromkeys(ZONES, 0)},
    "describe lag": {"describe_lag_s": 4.0},
    "slow pull": {"pull_s": 4.0},
}
CALM: dict[str, Any] = {
    "on_demand_vcpu": 4000.0,
    "spot_vcpu": 4000.0,
    "zone_room": {},
    "spot_zone_room": {},
    "describe_lag_s": 0.0,
    "pull_s": 0.05,
}
KILLS = ("task killed", "supervisor killed")
#: What happens at once, by name, with how likely it is beside the others.
EVENTS: dict[str, float] = {
    "task killed": 2,
    "supervisor killed": 2,
    "Spot interruption": 3,
    "StopTask": 2,
    "expired credentials": 2,
    "blackout": 2,
    "driver killed": 1.5,
}


class Weather:
    """A thread that makes trouble while it is bad, and none while it is fair."""

    def __init__(self, bed: Bed, chance: random.Random, *, kill_driver: Callable[[], bool]) -> None:
        self._bed, self._chance, self._kill_driver = bed, chance, kill_driver
        self.times: Counter[str] = Counter()  #: how often each kind was chosen and could be done
        self.struck: Counter[str] = Counter()  #: calls failed, or workers hit
        self.log: list[tuple[float, str]] = []
        self.fair_at = time.monotonic()  #: when the last trouble ended
        self.bad = False  #: there is trouble now
        self.error: BaseException | None = None
        self._dark_s = 0.0
        self._quiet = threading.Event()
        self._thread = threading.Thread(target=self._blow, name="weather", daemon=True)

    @property
    def killed(self) -> int:
        """Workers lost without a word, so far."""
        return sum(self.struck[kind] for kind in KILLS)

    def start(self) -> None:
        """Begin."""
        self._quiet.clear()
        self._thread = threading.Thread(target=self._blow, name="weather", daemon=True)
        self._thread.start()

    def calm(self) -> None:
        """End all trouble."""
        self._quiet.set()
        self._thread.join()

    def _blow(self) -> None:
        try:
            while not self._quiet.wait(self._chance.uniform(0.3, 3.0)):
                self._storm()
        except BaseException as error:
            self.error = error

    def _storm(self) -> None:
        """One to three kinds at once, for some seconds."""
        kinds = [*SCRIPTED, *CONDITIONS, *EVENTS]
        weights = [*[1.0] * len(SCRIPTED), *[0.7] * len(CONDITIONS), *EVENTS.values()]
        chosen = dict.fromkeys(self._chance.choices(kinds, weights, k=self._chance.choice([1, 1, 2, 3])))
        lasts_s = self._chance.uniform(1.0, 6.0)
        self.bad = True
        try:
            scripted = [kind for kind in chosen if kind in SCRIPTED]
            for kind in chosen:
                if kind in SCRIPTED:
                    self._bed.fault(**SCRIPTED[kind])
                elif kind in CONDITIONS:
                    self._bed.set(**CONDITIONS[kind])
                elif hit := self._event(kind):
                    self.struck[kind] += hit
                else:
                    continue  # there was nobody to hit
                self.times[kind] += 1
                self.log.append((time.time(), f"{kind} ({self._dark_s if kind == 'blackout' else lasts_s:.1f} s)"))
            if "blackout" in chosen:
                lasts_s = max(lasts_s, self._dark_s)
            self._quiet.wait(lasts_s)
            for kind, fault in zip(scripted, self._bed.faults(), strict=True):
                self.struck[kind] += fault["hits"]
        finally:
            self._bed.clear_faults()
            self._bed.set(**CALM)
            self._bed.blackout(0)
            self.fair_at, self.bad = time.monotonic(), False

    def _event(self, kind: str) -> int:
        """Do it; how many it hit."""
        if kind == "blackout":
            self._dark_s = self._chance.uniform(3.0, 10.0)
            self._bed.blackout(self._dark_s)
            return 1
        if kind == "driver killed":
            return int(self._kill_driver())
        tasks = [task for task in self._bed.tasks() if task["running"] and task["desired_status"] == "RUNNING"]
        if kind == "Spot interruption":
            tasks = [task for task in tasks if task["provider"] == "FARGATE_SPOT"]
        ids = sorted(task["id"] for task in tasks)
        hit = self._chance.sample(ids, min(len(ids), self._chance.choice([1, 1, 2])))
        if kind == "Spot interruption":
            return len(self._bed.interrupt_spot(tasks=hit)) if hit else 0
        if kind == "supervisor killed":
            return len(self._bed.signal(signal.SIGKILL, tasks=hit)) if hit else 0
        if kind == "task killed":
            return len(self._bed.kill(hit)) if hit else 0
        if kind == "expired credentials":
            return sum(bool(self._bed.expire(task=each)) for each in ids)
        stopped = 0
        for each in hit:
            with suppress(ClientError, BotoCoreError):  # the bed's own faults hit us too
                self._bed.boto("ecs").stop_task(cluster=self._bed.site["cluster"], task=each, reason="soak")
                stopped += 1
        return stopped
