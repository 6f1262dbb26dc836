"""Images in Amazon ECR: one repository a site, whose tags never move.

Limits are those of the Amazon ECR API reference and of the user guide, "Lifecycle policy properties", read 2026-11-30:
a policy can expire images by when they were pushed only, so those that nobody pulls any more are not its business.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from starburst_common.aws.answers import speaking
from starburst_common.aws.clients import Clients
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clients, self._name, self._tags, self._clock = clients, name, tags, clock
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

    def policy(self) -> str | None:
        """By which images go by themselves, as ECR has it; None where there is none."""
        try:
            with speaking(f"ecr:GetLifecyclePolicy {self._name}"):
                return self._clients.ecr.get_lifecycle_policy(repositoryName=self._name)["lifecyclePolicyText"]
        except NotFound:
            return None

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
        """Have what a stopped build or removal leaves expire; an image can be made without."""
        try:
            there = self.policy()
            if there is None:
                with speaking(f"ecr:PutLifecyclePolicy {self._name}"):
                    self._clients.ecr.put_lifecycle_policy(repositoryName=self._name, lifecyclePolicyText=LIFECYCLE)
                return
            if is_same(there, LIFECYCLE):
                return
            why = "its lifecycle policy is not starburst's, and stays as it is"
        except StarburstError as error:
            why = str(error)
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            _log.warning("what builds leave in the ECR repository %s may not expire: %s", self._name, why)

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


def _expiring(number: int, description: str, **selection: Any) -> dict[str, Any]:
    """A rule for what was pushed over a day ago. What an index refers to stays while the index does."""
    return {
        "rulePriority": number,
        "description": f"starburst: {description}",
        "selection": {**selection, "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1},
        "action": {"type": "expire"},
    }


#: The text of our policy.
LIFECYCLE = json.dumps(
    {
        "rules": [
            _expiring(
                1,
                "what was built for one platform, and no image has any more",
                tagStatus="tagged",
                tagPatternList=[f"{PART}*"],
            ),
            _expiring(2, "what no image has any more", tagStatus="untagged"),
        ]
    }
)


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
