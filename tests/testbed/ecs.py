"""Amazon ECS: RunTask, StopTask, DescribeTasks and ListTasks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.testbed import cloud, fargate
from tests.testbed.agent import Agent
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import AT, Conditions
from tests.testbed.iam import assumable
from tests.testbed.instances import Host, Hosts
from tests.testbed.needs import ECS_TASKS
from tests.testbed.networks import Place, unknown_group
from tests.testbed.providers import Providers
from tests.testbed.refusals import Refused
from tests.testbed.tasks import SPOT, Task, TaskStore
from tests.testbed.throttle import Throttle

Json = dict[str, Any]
_DAY_S, _HOUR_S = 86_400.0, 3600.0
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
NO_QUOTA = "You've reached the limit on the number of vCPUs you can run concurrently"


class Ecs:
    """The task calls. What else ECS can do is moto's."""

    operations = (
        *("RunTask", "StopTask", "DescribeTasks", "ListTasks"),
        *("ListContainerInstances", "DescribeContainerInstances", "DeregisterContainerInstance"),
    )

    def __init__(
        self,
        tasks: TaskStore,
        agent: Agent,
        conditions: Conditions,
        throttle: Throttle,
        providers: Providers,
        hosts: Hosts,
    ) -> None:
        self.providers, self.hosts = providers, hosts
        self._tasks = tasks
        self._agent = agent
        self._conditions = conditions
        self.throttle = throttle
        self._tokens: dict[tuple[str, str], tuple[str, list[Task], list[Json]]] = {}  # by cluster and token
        self._over_quota = 0  #: launches that were beyond the quota as a whole
        self._calls: dict[str, Callable[[Json], Json]] = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "DescribeTasks": self._describe_tasks,
            "ListTasks": self._list_tasks,
            "ListContainerInstances": self._list_instances,
            "DescribeContainerInstances": self._describe_instances,
            "DeregisterContainerInstance": self._deregister,
        }

    def call(self, operation: str, body: Json) -> Json:
        """Answer a call. Raises `Refused`."""
        return self._calls[operation](body)

    def reset(self) -> None:
        """Forget all tasks and tokens."""
        with self._tasks.lock:
            self._tokens.clear()
            self._over_quota = 0
            self._tasks.clear()
        self.hosts.reset()
        self.providers.reset()

    def _run_task(self, body: Json) -> Json:
        cluster = cloud.cluster(body.get("cluster") or "default")
        definition = cloud.definition(body.get("taskDefinition") or "")
        count = body.get("count", 1)
        providers = _providers(body, cluster, count)
        managed = self._managed(cluster.arn, providers)
        overrides = _checked(body, definition, "MANAGED_INSTANCES" if managed else "FARGATE")
        cloud.require_role_of_ecs()
        shape = fargate.instance_shape if managed else fargate.shape
        cpu, memory = shape(overrides.get("cpu") or definition.cpu, overrides.get("memory") or definition.memory)
        if managed:
            _check_host_network(body, definition)
        network = {"subnets": []} if managed else _network(body)
        subnets = [(subnet, cloud.zone_of(subnet)) for subnet in network["subnets"]] or [("", "")]
        groups, public = tuple(network.get("securityGroups") or ()), network.get("assignPublicIp") == "ENABLED"
        _check_roles(definition, overrides)
        token = body.get("clientToken")
        asked = json.dumps({name: value for name, value in body.items() if name != "clientToken"}, sort_keys=True)
        with self._tasks.lock:
            if token and (known := self._known(cluster.arn, token)):
                before, tasks, failures = known
                if before != asked:
                    raise Refused(
                        "ConflictException", "The clientToken was already used in a request with other parameters."
                    )
                return {"tasks": [task.shown() for task in tasks], "failures": failures}
            self._have_room(cluster)
            if not managed:
                self.throttle.launch(providers)
            started: list[Task] = []
            reasons: list[str] = []
            for number, provider in enumerate(providers):
                placed = subnets[0] if managed else self._place(provider, cpu / 1024, subnets, number)
                if isinstance(placed, str):
                    reasons.append(placed)
                    continue
                task = Task(
                    cluster=cluster.arn,
                    cluster_name=cluster.name,
                    definition=definition,
                    cpu_units=cpu,
                    memory_mib=memory,
                    provider=provider,
                    by_strategy=not body.get("launchType"),
                    zone=placed[1],
                    place=Place(AT.get(), placed[0], groups, public),
                    started_by=body.get("startedBy") or "",
                    group=body.get("group") or f"family:{definition.family}",
                    overrides=overrides,
                    tags=[*(body.get("tags") or ()), *_propagated(body, definition)],
                    order=self._tasks.next_order(),
                    managed=managed,
                )
                self._tasks.add([task])
                started.append(task)
            if not started and NO_QUOTA in reasons and self._as_exception():
                raise Refused("ClientException", NO_QUOTA)
            failures = [{"reason": reason} for reason in reasons]
            if token and started:
                self._tokens[cluster.arn, token] = (asked, started, failures)
            shown = [task.shown() for task in started]
        for task in started:
            self._agent.start(task)
        return {"tasks": shown, "failures": failures}

    def check_deleted(self, body: Json) -> None:
        """Raises `Refused` for a cluster that cannot go.

        Source: Amazon ECS API reference, DeleteCluster, "Errors", read 2026-12-01.
        """
        cluster = cloud.cluster(body.get("cluster") or "default")
        if cloud.services_in(cluster):
            raise Refused(
                "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."
            )
        if any(task.cluster == cluster.arn for task in self._tasks.live()):
            raise Refused("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        if self._of_cluster(body):
            raise Refused(
                "ClusterContainsContainerInstancesException",
                "The Cluster cannot be deleted while Container Instances are active or draining.",
            )
        if self.providers.of_cluster(cluster.arn):
            raise Refused(
                "ClusterContainsCapacityProviderException",
                "The Cluster cannot be deleted while it has capacity providers of Managed Instances.",
            )

    def _managed(self, cluster: str, providers: list[str]) -> bool:
        """Whether a call is for instances. Raises `Refused` where it is for both."""
        found = [self.providers.named(cluster, name) is not None for name in providers]
        if any(found) and not all(found):
            raise Refused(
                "InvalidParameterException",
                "A capacity provider strategy cannot contain a mix of capacity providers of different kinds.",
            )
        return any(found)

    def _list_instances(self, body: Json) -> Json:
        found = [host for host in self._of_cluster(body) if body.get("status") in (None, host.status)]
        return {"containerInstanceArns": [host.arn for host in found]}

    def _describe_instances(self, body: Json) -> Json:
        asked = body.get("containerInstances") or []
        if not 1 <= len(asked) <= 100:
            raise Refused("InvalidParameterException", "Container instances must be from 1 to 100.")
        there = {name: host for host in self._of_cluster(body, ended=True) for name in (host.arn, host.uuid)}
        return {
            "containerInstances": [there[name].shown() for name in asked if name in there],
            "failures": [{"arn": name, "reason": "MISSING"} for name in asked if name not in there],
        }

    def _deregister(self, body: Json) -> Json:
        names = {body["containerInstance"].rpartition("/")[2]}
        found = next((host for host in self._of_cluster(body) if host.uuid in names), None)
        if found is None:
            raise Refused("InvalidParameterException", "The referenced container instance was not found.")
        if found.tasks and not body.get("force"):
            raise Refused("InvalidParameterException", "Found running tasks on the instance.")
        self.hosts.deregister(found)
        return {"containerInstance": found.shown()}

    def _of_cluster(self, body: Json, *, ended: bool = False) -> list[Host]:
        cluster = cloud.cluster(body.get("cluster") or "default")
        hosts = [*self.hosts.all(), *(self.hosts.ended if ended else [])]
        return [host for host in hosts if host.provider.cluster == cluster.arn]

    def _known(self, cluster: str, token: str) -> tuple[str, list[Task], list[Json]] | None:
        """What was started under a token, for a day, or an hour after the last of it has stopped, if that is sooner.

        Source: Amazon ECS API reference, "Ensuring idempotency", read 2026-11-30.
        """
        if known := self._tokens.get((cluster, token)):
            began = min(task.created_at for task in known[1])
            ended = [task.stopped_at for task in known[1]]
            until = min([began + _DAY_S, *([max(each for each in ended if each) + _HOUR_S] if all(ended) else [])])
            if CLOCK.time() >= until:
                del self._tokens[cluster, token]
                return None
        return known

    def _as_exception(self) -> bool:
        """Whether a launch that is beyond the quota as a whole is refused with an exception, this time."""
        self._over_quota += 1
        return {"exception": True, "failures": False}.get(self._conditions.quota_form, self._over_quota % 2 == 1)

    def _have_room(self, cluster: Any) -> None:
        waiting = sum(task.cluster == cluster.arn and task.last_status == "PROVISIONING" for task in self._tasks.live())
        if waiting >= self._conditions.provisioning_max:
            raise Refused("ClientException", "Provisioning capacity limit exceeded.")

    def _place(self, provider: str, vcpu: float, subnets: list[tuple[str, str]], turn: int) -> tuple[str, str] | str:
        """A subnet and zone with room, or the reason there is none."""
        set_ = self._conditions
        live = self._tasks.live()
        quota = set_.spot_vcpu if provider == SPOT else set_.on_demand_vcpu - set_.others_vcpu
        if sum(task.vcpu for task in live if (task.provider == SPOT) == (provider == SPOT)) + vcpu > quota:
            return NO_QUOTA
        subnet, zone = subnets[turn % len(subnets)]  # in which the task is to run, whatever the others have
        there = [task for task in live if task.zone == zone]
        spot = sum(task.provider == SPOT for task in there)
        if len(there) >= set_.zone_room.get(zone, len(there) + 1):
            return NO_CAPACITY
        if provider == SPOT and spot >= set_.spot_zone_room.get(zone, spot + 1):
            return NO_CAPACITY
        return subnet, zone

    def _stop_task(self, body: Json) -> Json:
        task = self._in_cluster(body, body.get("task") or "")
        if task is None:
            raise Refused("InvalidParameterException", "The referenced task was not found.")
        self._agent.stop(task, "UserInitiated", body.get("reason") or "Task stopped by user")
        return {"task": task.shown()}

    def _describe_tasks(self, body: Json) -> Json:
        asked = body.get("tasks") or []
        if len(asked) > 100:
            raise Refused("InvalidParameterException", "Tasks cannot be more than 100.")
        if not asked:
            raise Refused("InvalidParameterException", "Tasks cannot be empty.")
        cluster = cloud.cluster(body.get("cluster") or "default")
        self._tasks.all(stopped_kept_s=self._conditions.stopped_kept_s)
        found, missing = [], []
        for name in asked:
            task = self._in_cluster(body, name)
            if task and self._seen(task):
                shown = task.shown()
                found.append(shown if "TAGS" in (body.get("include") or ()) else shown | {"tags": []})
            else:
                arn = name if name.startswith("arn:") else cluster.arn.replace(":cluster/", ":task/") + f"/{name}"
                missing.append({"arn": arn, "reason": "MISSING"})
        return {"tasks": found, "failures": missing}

    def _list_tasks(self, body: Json) -> Json:
        cluster = cloud.cluster(body.get("cluster") or "default")
        most = body.get("maxResults", 100)
        if not 1 <= most <= 100:
            raise Refused("InvalidParameterException", "maxResults must be between 1 and 100.")
        desired = body.get("desiredStatus", "RUNNING")
        after = _page(body.get("nextToken"))
        wanted = [
            task
            for task in self._tasks.all(stopped_kept_s=self._conditions.stopped_kept_s)
            if task.order > after
            and task.cluster == cluster.arn
            and task.desired_status == desired
            and self._seen(task)
            and body.get("startedBy") in (None, task.started_by)
            and body.get("family") in (None, task.definition.family)
            and body.get("launchType") in (None, "MANAGED_INSTANCES" if task.managed else "FARGATE")
        ]
        page = {"taskArns": [task.arn for task in wanted[:most]]}
        if len(wanted) > most:
            return page | {"nextToken": base64.b64encode(str(wanted[most - 1].order).encode()).decode()}
        return page

    def _in_cluster(self, body: Json, name: str) -> Task | None:
        cluster = cloud.cluster(body.get("cluster") or "default")
        task = self._tasks.get(name)
        return task if task and task.cluster == cluster.arn else None

    def _seen(self, task: Task) -> bool:
        return cloud.now() - task.created_at >= self._conditions.describe_lag_s


def _check_host_network(body: Json, definition: Any) -> None:
    """Source: Amazon ECS API reference, RunTask, `networkConfiguration`."""
    if definition.network_mode == "host" and body.get("networkConfiguration"):
        raise Refused(
            "InvalidParameterException",
            "Network Configuration is not valid for the given networkMode of this task definition.",
        )


def _checked(body: Json, definition: Any, kind: str = "FARGATE") -> Json:
    """The overrides of a call whose parameters are within limits."""
    if not 1 <= body.get("count", 1) <= 10:
        raise Refused("InvalidParameterException", "Count must be between 1 and 10.")
    if len(body.get("startedBy") or "") > 128:
        raise Refused("InvalidParameterException", "startedBy is longer than 128 characters.")
    if len(body.get("clientToken") or "") > 64:
        raise Refused("InvalidParameterException", "clientToken is longer than 64 characters.")
    if len(body.get("tags") or ()) > 50:
        raise Refused("InvalidParameterException", "Too many tags: at most 50.")
    overrides: Json = body.get("overrides") or {}
    if len(json.dumps(overrides, separators=(",", ":"))) > 8192:
        raise Refused("InvalidParameterException", "Container Overrides length must be at most 8192")
    gib = (overrides.get("ephemeralStorage") or {}).get("sizeInGiB", 21)
    if not 21 <= gib <= 200:
        raise Refused("InvalidParameterException", "Ephemeral storage size must be between 21 and 200 GiB.")
    names = {container["name"] for container in definition.container_definitions}
    for override in overrides.get("containerOverrides") or ():
        if override.get("name") not in names:
            raise Refused(
                "InvalidParameterException",
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition.",
            )
    if overrides.get("ephemeralStorage") and kind != "FARGATE":
        raise Refused("InvalidParameterException", "Ephemeral storage is supported on Fargate only.")
    if kind not in definition.requires_compatibilities:
        raise Refused("InvalidParameterException", f"Task definition does not support launch_type {kind}.")
    return overrides


def _propagated(body: Json, definition: Any) -> list[dict[str, str]]:
    """The tags that a task takes over from its definition."""
    return list(definition.tags or ()) if body.get("propagateTags") == "TASK_DEFINITION" else []


def _check_roles(definition: Any, overrides: Json) -> None:
    """Raises `Refused` for a role that is not there, or does not trust ECS.

    Source: Amazon ECS Developer Guide, "Amazon ECS task execution IAM role"; the text as in AWS re:Post, "ECS was
    unable to assume the role", read 2026-11-30.
    """
    for role in cloud.roles_of(definition, overrides):
        if role and not assumable(role, ECS_TASKS):
            raise Refused(
                "ClientException",
                f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the "
                "role being passed has the proper trust relationship and permissions and that your IAM user has "
                "permissions to pass this role.",
            )


def _network(body: Json) -> Json:
    """Where a call wants its tasks. Raises `Refused`."""
    network: Json = (body.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    if not network:
        raise Refused(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        )
    subnets: list[str] = network.get("subnets") or []
    if not subnets:
        raise Refused("InvalidParameterException", "subnets can not be empty.")
    if len(subnets) > 16:
        raise Refused("InvalidParameterException", "subnets can have at most 16 items.")
    if unknown := unknown_group(AT.get(), network.get("securityGroups") or ()):
        raise Refused("InvalidParameterException", f"The security group '{unknown}' does not exist")
    return network


def _providers(body: Json, cluster: Any, count: int) -> list[str]:
    """The capacity provider of each task."""
    strategy, launch_type = body.get("capacityProviderStrategy"), body.get("launchType")
    if strategy and launch_type:
        raise Refused("InvalidParameterException", "Specify only a launch type or a capacity provider strategy.")
    if launch_type == "FARGATE":
        return ["FARGATE"] * count
    strategy = strategy or _strategy_of(cluster)
    if launch_type or not strategy:
        raise Refused("InvalidParameterException", "No Container Instances were found in your cluster.")
    if unknown := {item["capacityProvider"] for item in strategy} - set(cluster.capacity_providers or ()):
        raise Refused(
            "InvalidParameterException",
            f"The specified capacity provider '{min(unknown)}' was not found. "
            "Specify a valid name or ARN and try again.",
        )
    return fargate.spread(strategy, count)


def _strategy_of(cluster: Any) -> list[Json]:
    items: Iterable[Json] = getattr(cluster, "default_capacity_provider_strategy", None) or ()
    return list(items)


def _page(token: str | None) -> int:
    try:
        return int(base64.b64decode(token)) if token else -1
    except ValueError:
        raise Refused("InvalidParameterException", "Invalid token.") from None
