"""A site's cluster in; what others have in it out, which ECS does not let it go for, and whose it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.errors import NotFound
from starburst_common.sites.wanted import SitePart

_HUNDRED = 100  #: tasks, or instances, of a call. Source: Amazon ECS API reference, DescribeTasks
#: What goes no sooner than the cluster: its capacity providers, and what those start instances with.
_WITH_IT = ("cluster", "capacity provider", "instance profile", "network", "security group", "signing key", "bucket")


def stays_with_cluster(part: SitePart) -> bool:
    """Whether a part of a site stays for as long as its cluster must: with what says what is still to go.

    >>> stays_with_cluster(SitePart("role", "starburst-a-eu-west-1-infrastructure"))
    True
    >>> stays_with_cluster(SitePart("role", "starburst-a-eu-west-1-task"))
    False
    """
    return part.kind in _WITH_IT or (part.kind == "role" and part.name.endswith(("-infrastructure", "-instance")))


class Sharers:
    """Who else uses a cluster."""

    def __init__(self, account: AwsAccount, cluster: str) -> None:
        self._account, self._cluster, self._ecs = account, cluster, account.clients.ecs
        self._family = re.compile(rf":task-definition/starburst-{re.escape(account.site)}-[0-9a-f]{{12}}:")

    def told(self) -> list[str]:
        """What others have there, by whose it is; empty where there is nothing, or no such cluster."""
        try:
            tasks = Counter(
                _whose(each) for each in self._tasks() if not self._family.search(each["taskDefinitionArn"])
            )
            found = [(count, f"task{'s' * (count > 1)} of {whose}") for whose, count in sorted(tasks.items())]
            found += [(count := self._services(), f"service{'s' * (count > 1)}")]
            found += [(count := self._instances(), f"container instance{'s' * (count > 1)} of others")]
        except NotFound:
            return []
        return [f"{count} {what}" for count, what in found if count]

    def _tasks(self) -> Iterator[Any]:
        """All that have not ended."""
        statuses: Any = ("RUNNING", "STOPPED")
        pages = self._ecs.get_paginator("list_tasks")
        with speaking("ecs:ListTasks"):
            arns = [
                arn
                for status in statuses
                for page in pages.paginate(cluster=self._cluster, desiredStatus=status)
                for arn in page["taskArns"]
            ]
        for at in range(0, len(arns), _HUNDRED):
            with speaking("ecs:DescribeTasks"):
                asked: Any = {"tasks": arns[at : at + _HUNDRED], "include": ["TAGS"]}
                found = self._ecs.describe_tasks(cluster=self._cluster, **asked)["tasks"]
            yield from (task for task in found if task["lastStatus"] != "STOPPED")

    def _services(self) -> int:
        with speaking("ecs:DescribeClusters"):
            found = self._ecs.describe_clusters(clusters=[self._cluster])["clusters"]
        return sum(each.get("activeServicesCount", 0) for each in found if each["status"] == "ACTIVE")

    def _instances(self) -> int:
        """Those that none of the site's capacity providers has."""
        with speaking("ecs:ListContainerInstances"):
            pages = self._ecs.get_paginator("list_container_instances").paginate(cluster=self._cluster)
            arns = [arn for page in pages for arn in page["containerInstanceArns"]]
        count = 0
        for at in range(0, len(arns), _HUNDRED):
            with speaking("ecs:DescribeContainerInstances"):
                asked: Any = {"cluster": self._cluster, "containerInstances": arns[at : at + _HUNDRED]}
                found = self._ecs.describe_container_instances(**asked)["containerInstances"]
            own = f"starburst-{self._account.site}-"
            count += sum(not str(each.get("capacityProviderName", "")).startswith(own) for each in found)
        return count


def _whose(task: Any) -> str:
    """Of which site a task is; else of what it was started for, as ECS has it."""
    site = next((each["value"] for each in task.get("tags", []) if each["key"] == "starburst:site"), "")
    return f"site {site}" if site else str(task.get("group") or "others")
