"""The bed's own endpoints, under /_bed/: what a test sets, and what it may know."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from starburst_common.names import ACCOUNTS, LAUNCHING
from tests.testbed import cloud
from tests.testbed.agent import Agent
from tests.testbed.calls import Call
from tests.testbed.clock import CLOCK
from tests.testbed.codebuild import CodeBuild
from tests.testbed.conditions import ACCOUNT, ADMINISTRATOR, STRANGER, Conditions
from tests.testbed.distribution import Distribution
from tests.testbed.ecr import Ecr
from tests.testbed.ecs import Ecs
from tests.testbed.faults import Fault, Faults
from tests.testbed.iam import Iam
from tests.testbed.late import LATE, Seen
from tests.testbed.refusals import Answer, Refused, as_json
from tests.testbed.simulation import simulated
from tests.testbed.site import Site, grant
from tests.testbed.sqs import Sqs
from tests.testbed.tasks import SPOT, Task, TaskStore
from tests.testbed.taskside import TaskSide
from tests.testbed.throttle import Throttle

Json = dict[str, Any]


class Control:
    """One method per endpoint, named like it."""

    def __init__(
        self,
        *,
        conditions: Conditions,
        tasks: TaskStore,
        agent: Agent,
        ecs: Ecs,
        ecr: Ecr,
        distribution: Distribution,
        codebuild: CodeBuild,
        sqs: Sqs,
        task_side: TaskSide,
        faults: Faults,
        throttle: Throttle,
        iam: Iam,
    ) -> None:
        self._iam = iam
        self._conditions = conditions
        self._tasks = tasks
        self._agent = agent
        self._ecs = ecs
        self._ecr = ecr
        self._distribution = distribution
        self._codebuild = codebuild
        self._sqs = sqs
        self._task_side = task_side
        self._faults = faults
        self._throttle = throttle
        self._requests: Counter[tuple[str, str]] = Counter()
        self._hosts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self.site: Site | None = None
        self._calls: dict[str, Callable[[Json], object]] = {
            "requests": self._count,
            "hosts": lambda _: [[*asked, number] for asked, number in sorted(self._hosts.items())],
            "conditions": self._set,
            "fault": self._fault,
            "faults": self._script,
            "blackout": lambda asked: self._faults.blackout(asked["seconds"]),
            "expire": self._expire,
            "tasks": self._show,
            "signal": self._signal,
            "interrupt": self._interrupt,
            "kill": self._kill,
            "expire_images": lambda _: self._ecr.expire(),
            "elapse": self._elapse,
            "polls": lambda _: self._sqs.waiting(),
            "stop_clock": lambda _: CLOCK.stop(),
            "instances": self._instances,
            "take_back": self._take_back,
            "leftovers": lambda _: self.leftovers(),
            "reset": lambda _: self.reset(),
            "allowed": lambda _: sorted(self._iam.used),
            "key": lambda asked: cloud.new_key(asked["user"], asked["named"]),
            "grant": lambda asked: grant(asked["site"], setup=asked["setup"]),
            "site": lambda _: self.site.settings() if self.site else None,
        }

    def count(self, call: Call, host: str = "") -> None:
        """One more call of its kind, by the name that it came under, if it was one of AWS's."""
        with self._lock:
            self._requests[call.service, call.operation] += 1
        whose = "administrator" if call.access_key == ADMINISTRATOR else ""
        if host and not whose and (who := self._iam.who(call.access_key)):
            whose = who.kind
        with self._lock:
            self._hosts[host, call.service, whose] += 1

    def check(self, call: Call) -> None:
        """Raise `Refused` for what S3 refuses of whoever, or has in another region, and for what IAM refuses."""
        if call.unsigned:
            raise Refused("AccessDenied", "There were headers present in the request which were not signed", status=403)
        bucket = call.path.lstrip("/").partition("?")[0].partition("/")[0]
        if call.owner and call.owner != (STRANGER if bucket in self._conditions.taken else ACCOUNT):
            raise Refused("AccessDenied", "Access Denied", status=403)
        if call.service == "s3":
            cloud.refuse_other_region(call)
        self._iam.check(call)

    def check_missing(self, call: Call) -> None:
        """Raise `Refused` if who asks for an object that is not there may not know that."""
        self._iam.check_missing(call)

    def changed_roles(self, call: Call, before: dict[str, Seen]) -> None:
        """Who is no preparation of a test has changed some, since they were so."""
        if call.access_key != ADMINISTRATOR:
            times = self._conditions.new_role_s, self._conditions.changed_role_s
            LATE.changed(before, known_s=times[0], changed_s=times[1])

    def simulated(self, call: Call) -> Answer:
        """What IAM reckons that somebody may do. Raises `Refused`."""
        return simulated(call, self._iam)

    def answer(self, method: str, name: str, body: bytes) -> Answer:
        """Answer a request of a test."""
        if name not in self._calls:
            return as_json({"error": f"no such control: {name}", "controls": sorted(self._calls)}, status=404)
        try:
            return as_json(self._calls[name](json.loads(body or b"{}")))
        except (ValueError, TypeError, KeyError) as error:
            return as_json({"error": f"{type(error).__name__}: {error}"}, status=400)

    def reset(self) -> None:
        """As after the start: tasks ended, everything but the site gone."""
        CLOCK.reset()
        self._faults.reset()
        self._agent.end_all(self._tasks.live())
        self._sqs.reset()
        self._ecs.reset()
        self._codebuild.reset()
        self._distribution.reset()
        self._task_side.reset()
        self._conditions.reset()
        self._iam.reset()
        self._throttle.reset()
        self._choice.seed(0)
        if self.site:
            cloud.reset(keep_secret=self.site.signing_secret)
            self.site.remake()
        self.forget_requests()

    def close(self) -> None:
        """End the builds that run."""
        self._codebuild.reset()

    def forget_requests(self) -> None:
        """Count from zero."""
        with self._lock:
            self._requests.clear()
            self._hosts.clear()

    def leftovers(self) -> dict[str, list[str]]:
        """What is there that a finished run should have taken away: accounts stay, and the pace that all share."""
        objects = cloud.objects(self.site.bucket) if self.site else []
        return {
            "tasks": [task.id for task in self._tasks.live()],
            "processes": self._agent.running(),
            "queues": self._sqs.queues(),
            "objects": [key for key in objects if not key.startswith((ACCOUNTS, LAUNCHING))],
        }

    def _count(self, asked: Json) -> object:
        with self._lock:
            counted = [[service, operation, n] for (service, operation), n in sorted(self._requests.items())]
            if asked.get("reset"):
                self._requests.clear()
        return counted

    def _set(self, asked: Json) -> object:
        self._conditions.set(asked)
        return dataclasses.asdict(self._conditions)

    def _fault(self, asked: Json) -> None:
        self._faults.add(Fault(**asked))

    def _script(self, asked: Json) -> object:
        if asked.get("clear"):
            self._faults.clear()
        return [dataclasses.asdict(fault) for fault in self._faults.script()]

    def _elapse(self, asked: Json) -> None:
        CLOCK.elapse(float(asked["seconds"]))
        self._faults.expire(self._task_side.over())
        self._sqs.look_again()

    def _expire(self, asked: Json) -> object:
        keys = asked.get("keys")
        keys = self._task_side.keys(asked.get("task")) if keys is None else keys
        self._faults.expire(keys)
        return keys

    def _show(self, _: Json) -> object:
        running = set(self._agent.running())
        return [
            {
                "id": task.id,
                "arn": task.arn,
                "last_status": task.last_status,
                "statuses": task.statuses,
                "desired_status": task.desired_status,
                "provider": task.provider,
                "zone": task.zone,
                "cpu_units": task.cpu_units,
                "memory_mib": task.memory_mib,
                "started_by": task.started_by,
                "stop_code": task.stop_code,
                "stopped_reason": task.stopped_reason,
                "exit_code": task.exit_code,
                "running": task.id in running,
            }
            for task in self._tasks.all()
        ]

    def _signal(self, asked: Json) -> object:
        chosen = self._chosen(asked, lambda task: True)
        for task in chosen:
            self._agent.signal(task, int(asked.get("number", signal.SIGTERM)))
        return [task.id for task in chosen]

    def _interrupt(self, asked: Json) -> object:
        chosen = self._chosen(asked, lambda task: task.provider == SPOT)
        for task in chosen:
            self._agent.stop(task, "SpotInterruption", "Your Spot Task was interrupted.")
        return [task.id for task in chosen]

    def _instances(self, _: Json) -> object:
        return [
            {
                "id": host.id,
                "type": host.type.type,
                "vcpu": host.type.vcpu,
                "provider": host.provider.name,
                "status": host.status,
                "idle": host.idle_since is not None,
                "tasks": [task.id for task in host.tasks],
            }
            for host in [*self._ecs.hosts.all(), *self._ecs.hosts.ended]
        ]

    def _take_back(self, asked: Json) -> object:
        """Notice of so many, such a share, or all Spot instances; or of those named."""
        spot = [host for host in self._ecs.hosts.all() if host.provider.spot and host.status == "ACTIVE"]
        if (named := asked.get("instances")) is not None:
            spot = [host for host in spot if host.id in named]
        count = asked.get("count")
        if (share := asked.get("share")) is not None:
            count = round(share * len(spot))
        chosen = spot if count is None else self._choice.sample(spot, min(count, len(spot)))
        self._ecs.hosts.notice(chosen)
        return [host.id for host in chosen]

    def _kill(self, asked: Json) -> object:
        chosen = self._chosen(asked, lambda task: True)
        for task in chosen:
            self._agent.kill(task)
        return [task.id for task in chosen]

    def _chosen(self, asked: Json, fits: Callable[[Task], bool]) -> list[Task]:
        """The running tasks named; or so many, or such a share, of those that fit, by seeded chance; or all of them."""
        running = [task for task in self._tasks.live() if task.last_status == "RUNNING" and fits(task)]
        if (named := asked.get("tasks")) is not None:
            ids = {name.rpartition("/")[2] for name in named}
            return [task for task in running if task.id in ids]
        count = asked.get("count")
        if (share := asked.get("share")) is not None:
            count = round(share * len(running))
        return running if count is None else self._choice.sample(running, min(count, len(running)))
