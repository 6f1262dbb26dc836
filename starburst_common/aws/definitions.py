"""A site and an image in; the ARN of its task definition out, registered at its first use, with its log group."""

from __future__ import annotations

from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.clients import Clients
from starburst_common.aws.requests import task_definition
from starburst_common.errors import Denied
from starburst_common.phrases import our_log
from starburst_common.sites.site import Site

_log = our_log("starburst.aws")


class Definitions:
    """The task definitions of one site, for any number of threads."""

    def __init__(self, site: Site, clients: Clients) -> None:
        self._site, self._clients = site, clients
        self._lock = Lock()
        self._known: dict[str, str] = {}  #: by image

    def ensure(self, image: str) -> str:
        """The ARN of an image's."""
        with self._lock:
            if image not in self._known:
                wanted = task_definition(self._site, image)
                self._ensure_log_group()  # without which no task starts; somebody may have removed it
                self._known[image] = self._registered(wanted["family"]) or self._register(wanted, image)
            return self._known[image]

    def doubt(self) -> None:
        """A task found that something of it is gone: the next use looks anew."""
        with self._lock:
            self._known.clear()

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
                    logs.create_log_group(logGroupName=group)
                except logs.exceptions.ResourceAlreadyExistsException:
                    return  # its owner may have chosen another retention
            with speaking("logs:PutRetentionPolicy"):
                logs.put_retention_policy(logGroupName=group, retentionInDays=self._site.log_days)
        except Denied as error:  # it may be there all the same
            _log.warning("the workers' log group %s: %s", group, error)
