"""A site in; what runs have left of it, and what setup has made, taken away in the order in which AWS lets go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.definitions import active_of, deregister, families_of
from starburst_common.aws.setup.account import AwsAccount
from starburst_common.aws.setup.bucket import SiteBucket
from starburst_common.aws.setup.inventory import Inventory
from starburst_common.aws.setup.making import Tell
from starburst_common.aws.setup.sharers import Sharers, stays_with_cluster
from starburst_common.aws.setup.state import KINDS
from starburst_common.errors import Unavailable
from starburst_common.sites.wanted import SitePart

DATA = ("signing key", "bucket")  #: what holds runs and their results, and what those are worth nothing without
_PATIENCE_S = 300.0  #: a task has two minutes to end
_LOOK_S = 3.0
_HUNDRED = 100  #: tasks of a DescribeTasks call


def inventoried(account: AwsAccount, bucket: str) -> list[SitePart]:
    """What setup has made of the site and is there still, in the order in which it goes.

    The bucket is known by its mark: what was written down in it may have gone before it.
    """
    there = SiteBucket(account, bucket)
    if not there.there():
        return []
    order = [*KINDS]
    found = {part for part in Inventory(account, bucket).parts() if part.kind in KINDS and part.kind != "bucket"}
    own = [SitePart("bucket", bucket)] if there.ours() else []
    return [*sorted(found, key=lambda part: (order.index(part.kind), part.name)), *own]


def tear_down(account: AwsAccount, bucket: str, cluster: str, *, with_data: bool, tell: Tell) -> list[SitePart]:
    """Take away what runs have left, then what setup has made; what stays. Whoever is stopped halfway does it again.

    Without `with_data` what holds it stays. Where others use the cluster it stays, with all that it needs.
    """
    if not SiteBucket(account, bucket).there():
        return []
    inventory = Inventory(account, bucket)
    with inventory.held(tell):
        inventory.mark_torn_down(True)
        LeftByRuns(account, cluster, tell).remove()
        parts = inventoried(account, bucket)
        others = others_in(account, parts)
        going = [part for part in parts if goes(part, with_data=with_data, others=others)]
        for part in going:
            made = KINDS[part.kind](account, part.name)
            if made.there():
                if not made.ours():
                    tell(f"{part.kind} {part.name}: lacks the tag starburst:site={account.site} and stays")
                    continue
                made.remove()
                tell(f"{part.kind} {part.name}: gone")
            if part.kind != "bucket":  # what was written down went with it
                inventory.drop(part)
        left = [part for part in parts if part not in going]
        if not left and SitePart("bucket", bucket) not in going:  # it is the user's, and stays
            inventory.forget_asked()
    return left


def others_in(account: AwsAccount, parts: Sequence[SitePart]) -> list[str]:
    """What others have in the cluster that setup has made, for which it stays; `parts` are those of the site."""
    return [text for part in parts if part.kind == "cluster" for text in Sharers(account, part.name).told()]


def goes(part: SitePart, *, with_data: bool, others: Sequence[str]) -> bool:
    """Whether a part of a site is taken away."""
    return (with_data or part.kind not in DATA) and not (others and stays_with_cluster(part))


class Leavings(NamedTuple):
    """What runs have left, by what it is."""

    tasks: list[str]  #: that run
    definitions: list[str]  #: families of them
    queues: list[str]  #: addresses
    builds: list[str]  #: the project and its log


class LeftByRuns:
    """Tasks, queues, task definitions, the project and the log of builds."""

    def __init__(self, account: AwsAccount, cluster: str, tell: Tell = lambda _: None) -> None:
        self._account, self._cluster, self._tell = account, cluster, tell
        self._clients = account.clients
        self._stem = f"starburst-{account.site}"

    def found(self) -> Leavings:
        """What there is."""
        families = [*families_of(self._account.site, self._clients)]
        active = [family for family in families if active_of(family, self._clients)]
        project = [f"CodeBuild project {self._stem}"] if self._project() else []
        return Leavings(self._running(families), active, [*self._own_queues()], project)

    def remove(self) -> None:
        """Take it away."""
        families = [*families_of(self._account.site, self._clients)]
        self._definitions(families)  # first: drivers that live on can start no more tasks then
        self._stop_tasks(families)
        self._queues()
        self._builds()

    def _stop_tasks(self, families: list[str]) -> None:
        ecs = self._clients.ecs
        until, told = time.monotonic() + _PATIENCE_S, set[str]()
        while running := self._running(families):
            if new := {*running} - told:
                for task in new:
                    with speaking("ecs:StopTask"):
                        ecs.stop_task(cluster=self._cluster, task=task, reason="starburst teardown")
                told |= new
                self._tell(f"{len(new)} tasks are told to stop, and waited for")
            if time.monotonic() > until:
                raise Unavailable(f"{len(running)} tasks have not stopped for {_PATIENCE_S:.0f} s: try again later")
            time.sleep(_LOOK_S)

    def _running(self, families: list[str]) -> list[str]:
        ecs = self._clients.ecs
        with speaking("ecs:ListTasks"):
            try:
                tasks = [
                    task
                    for family in families
                    for status in ("RUNNING", "STOPPED")
                    for page in ecs.get_paginator("list_tasks").paginate(
                        cluster=self._cluster,
                        family=family,
                        desiredStatus=status,
                    )
                    for task in page["taskArns"]
                ]
            except ClientError as error:
                if error_code(error) == "ClusterNotFoundException":
                    return []
                raise
        alive = []
        with speaking("ecs:DescribeTasks"):
            for at in range(0, len(tasks), _HUNDRED):
                found = ecs.describe_tasks(cluster=self._cluster, tasks=tasks[at : at + _HUNDRED])["tasks"]
                alive += [task["taskArn"] for task in found if task["lastStatus"] != "STOPPED"]
        return alive

    def _definitions(self, families: list[str]) -> None:
        """Those that are inactive cost nothing and are deleted by AWS at its leisure."""
        for family in families:
            for arn in active_of(family, self._clients):
                deregister(arn, self._clients)
        if families:
            self._tell(f"{len(families)} task definitions: gone")

    def _queues(self) -> None:
        gone = 0
        for url in self._own_queues():
            with speaking("sqs:DeleteQueue"):
                try:
                    self._clients.sqs.delete_queue(QueueUrl=url)
                    gone += 1
                except ClientError as error:
                    if not _is_no_queue(error):
                        raise
        if gone:
            self._tell(f"{gone} queues: gone")

    def _own_queues(self) -> Iterator[str]:
        """Those that bear the site's mark: another's name may go on as its own begins."""
        sqs = self._clients.sqs
        with speaking("sqs:ListQueues"):
            pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=f"{self._stem}-")
            urls = [url for page in pages for url in page.get("QueueUrls", [])]
        for url in urls:
            with speaking("sqs:ListQueueTags"):
                try:
                    tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
                except ClientError as error:
                    if not _is_no_queue(error):
                        raise
                    continue
            if tags.get("starburst:site") == self._account.site:
                yield url

    def _project(self) -> bool:
        with speaking("codebuild:BatchGetProjects"):
            return bool(self._clients.codebuild.batch_get_projects(names=[self._stem])["projects"])

    def _builds(self) -> None:
        log = f"/aws/codebuild/{self._stem}"
        if self._project():
            with speaking("codebuild:DeleteProject"):
                self._clients.codebuild.delete_project(name=self._stem)
            self._tell(f"CodeBuild project {self._stem}: gone")
        with speaking(f"logs:DeleteLogGroup {log}"):
            try:
                self._clients.logs.delete_log_group(logGroupName=log)
                self._tell(f"log group {log}: gone")
            except self._clients.logs.exceptions.ResourceNotFoundException:
                pass


def _is_no_queue(error: ClientError) -> bool:
    return error_code(error).endswith(("NonExistentQueue", "QueueDoesNotExist"))
