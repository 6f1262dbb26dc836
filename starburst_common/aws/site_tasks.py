"""A site in; the tasks of its cluster that are its own out, as ECS alone tells it: by their definition and their tag.

Nothing that lies in the store counts: where others use the cluster too, none of theirs is ever taken for the site's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
from starburst_common.sites.site import Site

_HUNDRED = 100  #: tasks of a DescribeTasks call. Source: Amazon ECS API reference


class SiteTasks:
    """Those of one site; `wait` is called before each request."""

    def __init__(self, site: Site, clients: Clients, wait: Callable[[], None] = lambda: None) -> None:
        self._site, self._clients, self._wait = site, clients, wait
        self._family = re.compile(rf"task-definition/starburst-{re.escape(site.name)}-[0-9a-f]{{12}}:")

    def alive(self, by: str = "") -> Iterator[Any]:
        """Those that are not told to end; of a fleet, if one is named, whose workers' `startedBy` it is.

        Raises `NotFound` where there is no such cluster, `Denied`, `Unavailable`.
        """
        chosen: Any = {"startedBy": by} if by else {"desiredStatus": "RUNNING"}
        ecs = self._clients.ecs
        self._wait()
        with speaking("ecs:ListTasks"):
            pages = ecs.get_paginator("list_tasks").paginate(cluster=self._site.cluster, **chosen)
            arns = [arn for page in pages for arn in page["taskArns"]]
        for at in range(0, len(arns), _HUNDRED):
            self._wait()
            some = arns[at : at + _HUNDRED]
            with speaking("ecs:DescribeTasks"):
                found: Any = ecs.describe_tasks(cluster=self._site.cluster, tasks=some, include=["TAGS"])
            yield from filter(self._is_ours, found["tasks"])

    def _is_ours(self, task: Mapping[str, Any]) -> bool:
        marks = {each["key"]: each["value"] for each in task.get("tags", [])}
        return bool(self._family.search(task["taskDefinitionArn"])) and marks.get("starburst:site") == self._site.name


def key_of(task: Mapping[str, Any]) -> str:
    """What the key is called by which a worker was told to sign, as ECS was asked to start it; empty if none is told.

    >>> key_of({"overrides": {"containerOverrides": [
    ...     {"environment": [{"name": "STARBURST_WORKER", "value": '{"key": "0a1b2c3d"}'}]}]}})
    '0a1b2c3d'
    >>> key_of({"overrides": {}}), key_of({})
    ('', '')
    """
    for override in task.get("overrides", {}).get("containerOverrides", []):
        for variable in override.get("environment", []):
            if variable["name"] == "STARBURST_WORKER":
                with suppress(ValueError, AttributeError):
                    return str(json.loads(variable["value"]).get("key") or "")
    return ""
