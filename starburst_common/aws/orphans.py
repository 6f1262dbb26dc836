"""A site in; what of it in AWS has no owner any more out, and taken away: nothing that a run, or a warm fleet, has.

What is there is listed first, and then who has it (`owners`). Whatever is younger than a while is left, and before
something goes its owner is looked for once more. Ages are by AWS's clocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, is_gone, speaking
from starburst_common.aws.definitions import active_of, deregister, families_of
from starburst_common.aws.ecr import EcrRepository
from starburst_common.aws.ecs_tasks import worker_state
from starburst_common.aws.owners import Owners
from starburst_common.aws.requests import tags
from starburst_common.aws.site_tasks import SiteTasks, key_of
from starburst_common.errors import NotFound
from starburst_common.ids import ids
from starburst_common.image.keep import removable, tags_in_use
from starburst_common.model import Granted
from starburst_common.names import BUILDS, FLEETS, RUNS, SHARED

_STAMP = r"\d{8}-\d{6}-[0-9a-f]{8}"
_FLEET = re.compile(rf"fleet-{_STAMP}")
_OF_QUEUE = re.compile(rf"((?:fleet|run)-{_STAMP})-(?:work|notices(?:-\d+)?)(?:-dead)?")
_DAY_S = 86400.0  #: a build, or an upload, takes less


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """Something that nobody has any more."""

    kind: str
    name: str
    why: str
    at: str = ""  #: what AWS calls it
    owner: str = ""  #: who had it: a run, a fleet, an image
    key: str = ""  #: by which a worker was told to sign
    granted: Granted | None = None  #: what a task is charged for by the hour
    stored: tuple[str, int] | None = None  #: what is charged for by the month: a name of the price book, and bytes


class Sweep(Protocol):
    """Things of one kind."""

    kind: str

    def found(self) -> Iterator[Orphan]:
        """Those without an owner. Raises `Denied` or `Unavailable`."""

    def owned(self, orphan: Orphan) -> bool:
        """Whether it has an owner after all."""

    def remove(self, orphan: Orphan) -> None:
        """Take it away; one that is gone is no matter."""


class OrphanTasks:
    """Workers of fleets that nobody holds: as of one that hangs, or that was launched while its fleet was closed.

    And those of a key that nobody knows any more, whoever holds their fleet: nobody can use them.
    """

    kind = "task"

    def __init__(self, owners: Owners) -> None:
        self._owners, self._site, self._ecs = owners, owners.site, owners.clients.ecs
        self._tasks = SiteTasks(owners.site, owners.clients)

    def found(self) -> Iterator[Orphan]:
        keys: dict[str, bool] = {}
        for task in self._tasks.alive():
            fleet, state = task.get("startedBy", ""), worker_state(task, 0)
            if not _FLEET.fullmatch(fleet) or self._owners.young(task["createdAt"].timestamp()):
                continue
            if (key := key_of(task)) not in keys:  # after the task was seen, which began by a key that was there
                keys[key] = self._owners.know(key)
            known = keys[key]
            if not known or not self._owners.have(fleet):
                why = f"a worker of {fleet}, {'which nobody holds' if known else 'whose key is known no more'}"
                of = {"owner": fleet, "key": key, "granted": state.granted}
                yield Orphan(kind=self.kind, name=state.id, why=why, at=task["taskArn"], **of)

    def owned(self, orphan: Orphan) -> bool:
        return self._owners.know(orphan.key) and self._owners.have(orphan.owner)

    def remove(self, orphan: Orphan) -> None:
        with speaking("ecs:StopTask"), suppress(self._ecs.exceptions.InvalidParameterException):
            self._ecs.stop_task(cluster=self._site.cluster, task=orphan.at, reason="starburst gc: nobody needs it")


class OrphanQueues:
    """Queues of fleets that nobody holds, and of runs that are over or removed."""

    kind = "queue"

    def __init__(self, owners: Owners) -> None:
        self._owners, self._sqs = owners, owners.clients.sqs
        self._prefix = f"starburst-{owners.site.name}-"

    def found(self) -> Iterator[Orphan]:
        with speaking("sqs:ListQueues"):
            pages = self._sqs.get_paginator("list_queues").paginate(QueueNamePrefix=self._prefix)
            urls = [url for page in pages for url in page.get("QueueUrls", [])]
        for url in urls:
            name = url.rpartition("/")[2]
            of = _OF_QUEUE.fullmatch(name.removeprefix(self._prefix))
            if of and not self._owners.have(of[1]) and self._is_old_and_ours(url):
                yield Orphan(kind=self.kind, name=name, why=f"{of[1]} needs it no more", at=url, owner=of[1])

    def owned(self, orphan: Orphan) -> bool:
        return self._owners.have(orphan.owner)

    def remove(self, orphan: Orphan) -> None:
        with suppress(NotFound), speaking("sqs:DeleteQueue"):
            self._sqs.delete_queue(QueueUrl=orphan.at)

    def _is_old_and_ours(self, url: str) -> bool:
        with suppress(NotFound), speaking("sqs:ListQueueTags"):
            marks = self._sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
            told = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["CreatedTimestamp"])["Attributes"]
            return self._owners.mark(marks) and not self._owners.young(float(told["CreatedTimestamp"]))
        return False


class OrphanDefinitions:
    """Task definitions of images that no held fleet runs in, and what the newest of a family has replaced.

    A driver that is about to use one registers it anew.
    """

    kind = "task definition"

    def __init__(self, owners: Owners) -> None:
        self._owners, self._clients = owners, owners.clients

    def found(self) -> Iterator[Orphan]:
        used = None
        for family in families_of(self._owners.site.name, self._clients, status="ACTIVE"):
            for newer, arn in enumerate(reversed(active_of(family, self._clients))):
                told = self._told(arn)
                if told is None or ("registeredAt" in told and self._owners.young(told["registeredAt"].timestamp())):
                    continue
                image = told["containerDefinitions"][0]["image"]
                used = self._owners.images() if used is None else used
                if newer or image not in used:
                    why = "a newer one has its place" if newer else f"no fleet runs in {image}"
                    owner = "" if newer else image
                    yield Orphan(kind=self.kind, name=arn.rpartition("/")[2], why=why, at=arn, owner=owner)

    def owned(self, orphan: Orphan) -> bool:
        return orphan.owner in self._owners.images()

    def remove(self, orphan: Orphan) -> None:
        deregister(orphan.at, self._clients)

    def _told(self, arn: str) -> Any:
        with speaking("ecs:DescribeTaskDefinition"):
            try:
                found = self._clients.ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
            except ClientError as error:
                if error_code(error) == "ClientException":  # it is gone
                    return None
                raise
        marks = {each["key"]: each["value"] for each in found.get("tags", [])}
        return found["taskDefinition"] if self._owners.mark(marks) else None


class OrphanBuilds:
    """What builds of images left in the bucket, a folder each."""

    kind = "build"

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def found(self) -> Iterator[Orphan]:
        for name in ids(self._owners.store.folders(BUILDS)):
            orphan = Orphan(kind=self.kind, name=f"{BUILDS}{name}/", why="nothing was built there for a day")
            if not self.owned(orphan):
                size = sum(entry.size for entry in self._owners.store.entries(orphan.name))
                yield Orphan(kind=orphan.kind, name=orphan.name, why=orphan.why, stored=("s3-storage", size))

    def owned(self, orphan: Orphan) -> bool:
        written = [entry.written_at for entry in self._owners.store.entries(orphan.name)]
        return self._owners.now - max(written, default=0.0) < max(_DAY_S, self._owners.least_s)

    def remove(self, orphan: Orphan) -> None:
        self._owners.store.delete_folder(orphan.name)


class OrphanUploads:
    """Uploads to the bucket that were not ended, which no listing of it shows."""

    kind = "upload"

    def __init__(self, owners: Owners) -> None:
        self._owners, self._s3, self._bucket = owners, owners.clients.s3, owners.site.bucket

    def found(self) -> Iterator[Orphan]:
        for prefix in (RUNS, FLEETS, BUILDS, SHARED):
            with speaking(f"s3:ListBucketMultipartUploads {self._bucket}"):
                pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
                begun = [each for page in pages for each in page.get("Uploads", [])]
            for each in begun:
                if self._owners.now - each["Initiated"].timestamp() >= max(_DAY_S, self._owners.least_s):
                    yield Orphan(kind=self.kind, name=each["Key"], why="not ended for a day", at=each["UploadId"])

    def owned(self, orphan: Orphan) -> bool:
        return False  # whoever began it has given up

    def remove(self, orphan: Orphan) -> None:
        with speaking(f"s3:AbortMultipartUpload {orphan.name}"):
            try:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=orphan.name, UploadId=orphan.at)
            except ClientError as error:
                if not is_gone(error) and error_code(error) != "NoSuchUpload":
                    raise


class OrphanImages:
    """Images that no fleet uses and nobody has pulled for long."""

    kind = "image"

    def __init__(self, owners: Owners, keep_days: float) -> None:
        self._owners, self._keep_days = owners, keep_days
        site = owners.site
        self._repository = EcrRepository(owners.clients, site.repository, tags=tags(site.name, site.tags))

    def found(self) -> Iterator[Orphan]:
        for image in removable(
            self._repository.images(), in_use=self._in_use, keep_days=self._keep_days, now=self._owners.now
        ):
            why = f"nobody has pulled it for {self._keep_days:g} days"
            yield Orphan(kind=self.kind, name=image.tag, why=why, stored=("ecr-storage", image.size_bytes))

    def owned(self, orphan: Orphan) -> bool:
        return orphan.name in tags_in_use(self._owners.store, self._repository)

    def remove(self, orphan: Orphan) -> None:
        self._repository.delete([orphan.name])

    @cached_property
    def _in_use(self) -> frozenset[str]:
        return tags_in_use(self._owners.store, self._repository)
