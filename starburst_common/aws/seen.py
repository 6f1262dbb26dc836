"""Tasks of one cluster, by their ARNs or by whose they are, in; workers as ECS sees them out, a hundred a call.

Which instance a task is on is asked once for each instance: what that is does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

from starburst_common.aws.abreast import abreast
from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.ecs_tasks import Instance, instance_of, task_id, worker_state
from starburst_common.aws.forgotten import forgotten
from starburst_common.aws.launches import Launch
from starburst_common.aws.pace import Bucket
from starburst_common.aws.site_tasks import SiteTasks
from starburst_common.errors import Denied, NotFound, StarburstError
from starburst_common.model import FleetId, WorkerPhase, WorkerState
from starburst_common.phrases import our_log
from starburst_common.sites.site import Site

_log = our_log("starburst.aws")

#: Tasks or instances a call. Source: Amazon ECS API reference, DescribeTasks and DescribeContainerInstances
_MOST = 100
_UNSEEN_S = 60.0  #: ECS may not know a task it has just started for so long
_AT_ONCE = 8  #: calls


class SeenTasks:
    """The tasks of one site's cluster, for any number of threads."""

    def __init__(self, site: Site, clients: Clients, *, clock: Callable[[], float], pace: Callable[[], float]) -> None:
        self._site, self._clients, self._clock = site, clients, clock
        # Source: Amazon ECS API reference, "Request throttling": all calls that look share this; read 2026-11-22
        self._calls = Bucket(burst=100, each_s=20, clock=pace)
        self._tasks = SiteTasks(site, clients, self._calls.wait)
        self._lock = Lock()
        self._hosts: dict[str, Instance] = {}  # by ECS's name

    def workers(self, ordinals: Mapping[str, int], launches: Mapping[str, Launch]) -> Iterator[WorkerState]:
        """By the ARNs of their tasks. Several calls at once: a large fleet takes many, and what launches waits."""
        arns = list(ordinals)
        batches = [arns[at : at + _MOST] for at in range(0, len(arns), _MOST)]
        for states, gone_arns in abreast(lambda batch: self._described(batch, ordinals), batches, at_once=_AT_ONCE):
            yield from states
            for arn in gone_arns:
                if self._clock() - launches[arn].at > _UNSEEN_S:
                    yield forgotten(arn, ordinals[arn], launches[arn], self._clock())
                else:
                    yield WorkerState(id=task_id(arn), ordinal=ordinals[arn], phase=WorkerPhase.STARTING)

    def living(self, fleet: FleetId) -> list[Any]:
        """Tasks of a fleet that are not about to end, as ECS lists them: also those that no record knows.

        All are the site's, whatever a fleet is called: what is not is another's, who started it by that name.
        """
        try:
            return [*self._tasks.alive(fleet)]
        except Denied as error:  # a policy from before this was asked for
            _log.warning("workers that no record knows of end by themselves, when they are idle: %s", error)
        except NotFound:  # the cluster
            pass
        return []

    def _described(self, arns: list[str], ordinals: Mapping[str, int]) -> tuple[list[WorkerState], list[str]]:
        """Those that ECS knows, and those that it does not."""
        self._calls.wait()
        try:
            with speaking("ecs:DescribeTasks"):
                found: Any = self._clients.ecs.describe_tasks(cluster=self._site.cluster, tasks=arns)
        except NotFound:  # the cluster, which goes after its tasks: whoever starts others is told what to do
            return [], arns
        with speaking("ecs:DescribeTasks"):
            tasks = [(task, task.get("containerInstanceArn", "")) for task in found["tasks"]]
            gone = [failure["arn"] for failure in found["failures"] if failure["arn"] in ordinals]
        hosts, spots = self._known(sorted({host for _, host in tasks if host})), self._site.spot_providers
        public = self._site.assign_public_ip
        return [
            worker_state(task, ordinals[task["taskArn"]], hosts.get(host), spots, public=public) for task, host in tasks
        ], gone

    def _known(self, arns: Sequence[str]) -> Mapping[str, Instance]:
        """One that nobody may look at, or that is gone, is left out: what it costs is not known."""
        with self._lock:
            new = [arn for arn in arns if arn not in self._hosts]
        for at in range(0, len(new), _MOST):
            self._calls.wait()
            try:
                with speaking("ecs:DescribeContainerInstances"):
                    found = self._clients.ecs.describe_container_instances(
                        cluster=self._site.cluster, containerInstances=new[at : at + _MOST]
                    )["containerInstances"]
            except StarburstError as error:
                _log.info("what workers' instances cost is not known: %s", error)
                continue
            with self._lock:
                self._hosts.update((each["containerInstanceArn"], instance_of(each)) for each in found)
        with self._lock:
            return {arn: self._hosts[arn] for arn in arns if arn in self._hosts}
