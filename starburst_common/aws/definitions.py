"""A site and an image in; the ARN of its task definition out, registered at its first use, with its log group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.refusals import Refusal
from starburst_common.aws.requests import tags, task_definition
from starburst_common.errors import Denied
from starburst_common.phrases import our_log
from starburst_common.ports import ObjectStore, is_there
from starburst_common.sites.site import Site

_log = our_log("starburst.aws")
SITES = "sites/"  #: a folder a site in its bucket, of what setup has made; not sealed


def torn_down(site: str) -> str:
    """There while a site is being taken away, and after; empty, not sealed."""
    return f"{SITES}{site}/torn-down"


def families_of(site: str, clients: Clients, *, status: str = "ALL") -> Iterator[str]:
    """The families of a site's task definitions, and no other's whose name goes on after a hyphen."""
    whole = re.compile(rf"starburst-{re.escape(site)}-[0-9a-f]{{12}}")
    with speaking("ecs:ListTaskDefinitionFamilies"):
        pages = clients.ecs.get_paginator("list_task_definition_families")
        for page in pages.paginate(familyPrefix=f"starburst-{site}-", status=status):  # type: ignore[arg-type]
            yield from (each for each in page["families"] if whole.fullmatch(each))


def active_of(family: str, clients: Clients) -> list[str]:
    """The ARNs of a family's task definitions that tasks can be started by, the oldest first."""
    with speaking("ecs:ListTaskDefinitions"):
        pages = clients.ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
        return [arn for page in pages for arn in page["taskDefinitionArns"]]


def deregister(arn: str, clients: Clients) -> None:
    """No task can be started by it any more; those that run are none the worse. AWS deletes it at its leisure."""
    with speaking("ecs:DeregisterTaskDefinition"):
        clients.ecs.deregister_task_definition(taskDefinition=arn)
    with speaking("ecs:DeleteTaskDefinitions"):
        clients.ecs.delete_task_definitions(taskDefinitions=[arn])


class Definitions:
    """The task definitions of one site, for any number of threads."""

    def __init__(self, site: Site, clients: Clients) -> None:
        self._site, self._clients = site, clients
        self._lock = Lock()
        self._known: dict[tuple[str, bool], str] = {}  #: by image, and whether for instances

    def ensure(self, image: str, *, ec2: bool = False) -> str:
        """The ARN of an image's."""
        with self._lock:
            if (image, ec2) not in self._known:
                wanted = task_definition(self._site, image, ec2=ec2)
                self._ensure_log_group()  # without which no task starts; somebody may have removed it
                self._known[image, ec2] = self._registered(wanted["family"]) or self._register(wanted, image)
            return self._known[image, ec2]

    def doubt(self) -> None:
        """A task found that something of it is gone: the next use looks anew."""
        with self._lock:
            self._known.clear()

    def gone(self, store: ObjectStore) -> Refusal:
        """ECS knows one no more: `gc` took it for unused, and it is made anew; or the site is being taken away."""
        self.doubt()
        return Refusal.FATAL if is_there(store, torn_down(self._site.name)) else Refusal.GONE

    def _registered(self, family: str) -> str:
        with speaking("ecs:DescribeTaskDefinition"):
            try:
                found = self._clients.ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
            except ClientError as error:
                if error_code(error) == "ClientException":  # how ECS says that there is none
                    return ""
                raise
            return found["taskDefinitionArn"] if found["status"] == "ACTIVE" else ""

    def _register(self, wanted: dict[str, Any], image: str) -> str:
        with speaking("ecs:RegisterTaskDefinition"):
            made = self._clients.ecs.register_task_definition(**wanted)["taskDefinition"]["taskDefinitionArn"]
        _log.info("registered the task definition %s for %s", wanted["family"], image)
        return made

    def _ensure_log_group(self) -> None:
        logs, group = self._clients.logs, self._site.log_group
        try:
            with speaking("logs:CreateLogGroup"):
                try:
                    logs.create_log_group(logGroupName=group, tags=tags(self._site.name, self._site.tags))
                except logs.exceptions.ResourceAlreadyExistsException:
                    return  # its owner may have chosen another retention
            with speaking("logs:PutRetentionPolicy"):
                logs.put_retention_policy(logGroupName=group, retentionInDays=self._site.log_days)
        except Denied as error:  # it may be there all the same
            _log.warning("the workers' log group %s: %s", group, error)
