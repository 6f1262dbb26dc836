"""Images in Amazon ECR: one repository a site, whose tags never move and whose images expire when nobody pulls them.

Limits are those of the Amazon ECR API reference and of the user guide, "Lifecycle policy properties", read 2026-11-22.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from starburst_common.aws.clients import Clients, speaking
from starburst_common.errors import NotFound, StarburstError
from starburst_common.phrases import our_log
from starburst_common.ports import Access, StoredImage

if TYPE_CHECKING:
    from mypy_boto3_ecr.type_defs import ImageDetailTypeDef, ImageIdentifierTypeDef

_log = our_log()
_BATCH = 100  #: images of a BatchGetImage or BatchDeleteImage call
_TOKEN_LEFT_S = 30 * 60  #: a token with less left is not given out: a push may take that long
_LAYERED = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: What ECR says of an image that need not be deleted: it is gone, or another index has it.
_NO_MATTER = {"ImageNotFound", "ImageReferencedByManifestList"}
Each = TypeVar("Each")
PART = "part-"  #: begins the tag of what was built for one platform of an image for several


class EcrRepository:
    """`Repository` on ECR; see `starburst_common.ports` for what it promises."""

    def __init__(
        self,
        clients: Clients,
        name: str,
        *,
        tags: dict[str, str],
        keep_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clients, self._name, self._tags, self._keep_days, self._clock = clients, name, tags, keep_days, clock
        self._lock = Lock()
        self._token: tuple[Access, float] | None = None  # and until when it is valid
        self._warned = False

    @cached_property
    def uri(self) -> str:
        """What task definitions call it. Raises `NotFound` before `ensure`."""
        with speaking(f"ecr:DescribeRepositories {self._name}"):
            found = self._clients.ecr.describe_repositories(repositoryNames=[self._name])
            return found["repositories"][0]["repositoryUri"]

    def ensure(self) -> None:
        try:
            _ = self.uri
        except NotFound:
            self._make()
        self._see_to_expiry()

    def access(self) -> Access:
        with self._lock:
            if self._token is None or self._clock() > self._token[1] - _TOKEN_LEFT_S:
                with speaking("ecr:GetAuthorizationToken"):
                    (given,) = self._clients.ecr.get_authorization_token()["authorizationData"]
                    user, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
                    access = Access(url=given["proxyEndpoint"], repository=self._name, user=user, password=password)
                    self._token = access, given["expiresAt"].timestamp()
            return self._token[0]

    def images(self) -> list[StoredImage]:
        """Every tagged image but parts of others; of one for several platforms, ECR tells the size of the largest.

        What the others take could be had from its manifest; but who reads that has pulled the image in ECR's eyes, and
        an image whose list is looked at every week would never expire.
        Source: https://github.com/aws/containers-roadmap/issues/2390
        """
        pages = self._clients.ecr.get_paginator("describe_images")
        found: list[StoredImage] = []
        try:
            with speaking(f"ecr:DescribeImages {self._name}"):
                for page in pages.paginate(repositoryName=self._name, filter={"tagStatus": "TAGGED"}):
                    found += [image for detail in page["imageDetails"] for image in _stored(detail)]
        except NotFound:
            return []
        return sorted(found, key=lambda image: image.tag)

    def delete(self, tags: Sequence[str]) -> None:
        """Remove images; who is stopped halfway leaves only manifests without a tag, which expire in a day."""
        try:
            referred = self._referred_to_by(tags)
            self._delete([{"imageTag": tag} for tag in tags])
            mine = [digest for digest in self._untagged() if digest in referred]
            self._delete([{"imageDigest": digest} for digest in mine])
        except NotFound:
            return

    # --- the repository -----------------------------------------------------------------------------------------------

    def _make(self) -> None:
        with speaking(f"ecr:CreateRepository {self._name}"):
            try:
                made = self._clients.ecr.create_repository(
                    repositoryName=self._name,
                    imageTagMutability="IMMUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                    tags=[{"Key": key, "Value": value} for key, value in self._tags.items()],
                )
            except self._clients.ecr.exceptions.RepositoryAlreadyExistsException:
                return  # somebody else was first
        self.__dict__["uri"] = made["repository"]["repositoryUri"]

    def _see_to_expiry(self) -> None:
        try:
            with speaking(f"ecr:GetLifecyclePolicy {self._name}"):
                there = self._clients.ecr.get_lifecycle_policy(repositoryName=self._name)["lifecyclePolicyText"]
        except NotFound:
            there = None
        if there is not None:
            if is_same(there, lifecycle(self._keep_days)):
                return
            if not is_ours(there):
                self._warn_of_another_policy()
                return
        with speaking(f"ecr:PutLifecyclePolicy {self._name}"):
            self._clients.ecr.put_lifecycle_policy(
                repositoryName=self._name, lifecyclePolicyText=lifecycle(self._keep_days)
            )

    def _warn_of_another_policy(self) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if warned:
            return
        _log.warning(
            "the lifecycle policy of the ECR repository %s is not starburst's and stays as it is: images expire as it "
            "says; delete it to have those expire that nobody has pulled for %d days",
            self._name,
            self._keep_days,
        )

    # --- what is in it ------------------------------------------------------------------------------------------------

    def _referred_to_by(self, tags: Sequence[str]) -> set[str]:
        """Digests of the manifests that these images' indexes name."""
        found: set[str] = set()
        for batch in _hundreds(tags):
            ids: list[ImageIdentifierTypeDef] = [{"imageTag": tag} for tag in batch]
            with speaking(f"ecr:BatchGetImage {self._name}"):
                answer = self._clients.ecr.batch_get_image(
                    repositoryName=self._name, imageIds=ids, acceptedMediaTypes=_LAYERED
                )
                for image in answer["images"]:
                    said = json.loads(image["imageManifest"]).get("manifests", [])
                    found.update(str(each["digest"]) for each in said)
        return found

    def _untagged(self) -> Iterator[str]:
        pages = self._clients.ecr.get_paginator("list_images")
        with speaking(f"ecr:ListImages {self._name}"):
            for page in pages.paginate(repositoryName=self._name, filter={"tagStatus": "UNTAGGED"}):
                yield from (image["imageDigest"] for image in page["imageIds"])

    def _delete(self, images: Sequence[ImageIdentifierTypeDef]) -> None:
        for batch in _hundreds(images):
            with speaking(f"ecr:BatchDeleteImage {self._name}"):
                answer = self._clients.ecr.batch_delete_image(repositoryName=self._name, imageIds=[*batch])
            for failure in answer.get("failures", []):
                if failure.get("failureCode") not in _NO_MATTER:
                    raise _refusal(f"ecr:BatchDeleteImage {self._name}", failure)


def lifecycle(keep_days: int) -> str:
    """The policy's text. An image that was never pulled counts from when it was pushed; one that an index refers to
    stays while the index does.

    >>> rules = json.loads(lifecycle(30))["rules"]
    >>> [(rule["selection"]["countType"], rule["selection"]["countNumber"]) for rule in rules]
    [('sinceImagePulled', 30), ('sinceImagePushed', 1), ('sinceImagePushed', 1)]
    """
    pulled: dict[str, Any] = {"tagStatus": "tagged", "tagPatternList": ["env-*"], "countType": "sinceImagePulled"}
    parts: dict[str, Any] = {"tagStatus": "tagged", "tagPatternList": [f"{PART}*"], "countType": "sinceImagePushed"}
    pushed: dict[str, Any] = {"tagStatus": "untagged", "countType": "sinceImagePushed"}
    rules = [
        (f"starburst: images that were not pulled for {keep_days} days", pulled, keep_days),
        ("starburst: what was built for one platform, and no image has any more", parts, 1),
        ("starburst: what no image has any more", pushed, 1),
    ]
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": number,
                    "description": description,
                    "selection": {**selection, "countUnit": "days", "countNumber": days},
                    "action": {"type": "expire"},
                }
                for number, (description, selection, days) in enumerate(rules, 1)
            ]
        }
    )


def is_ours(policy: str) -> bool:
    """Whether a policy is one that we write, for any number of days, and that nobody has edited.

    >>> is_ours(lifecycle(7)), is_ours(lifecycle(7).replace('"countNumber": 7', '"countNumber": 90'))
    (True, False)
    """
    try:
        days = json.loads(policy)["rules"][0]["selection"]["countNumber"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return isinstance(days, int) and is_same(policy, lifecycle(days))


def is_same(policy: str, other: str) -> bool:
    """Whether two policies say the same, however they are laid out."""
    try:
        return bool(json.loads(policy) == json.loads(other))
    except (ValueError, RecursionError):
        return False


def _stored(detail: ImageDetailTypeDef) -> Iterator[StoredImage]:
    pulled = detail.get("lastRecordedPullTime")
    for tag in (each for each in detail.get("imageTags", []) if not each.startswith(PART)):
        yield StoredImage(
            tag=tag,
            digest=detail["imageDigest"],
            size_bytes=detail.get("imageSizeInBytes") or 0,
            pushed_at=detail["imagePushedAt"].timestamp(),
            pulled_at=pulled.timestamp() if pulled else None,
        )


def _refusal(doing: str, failure: Any) -> StarburstError:
    image = failure.get("imageId", {})
    name = image.get("imageTag") or image.get("imageDigest")
    return StarburstError(f"{doing}: {name} stays: {failure.get('failureCode')}: {failure.get('failureReason')}")


def _hundreds(them: Sequence[Each]) -> Iterator[Sequence[Each]]:
    for at in range(0, len(them), _BATCH):
        yield them[at : at + _BATCH]
