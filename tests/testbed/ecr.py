"""ECR's calls about images and tokens in; what the registry really holds out. Repositories are moto's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.testbed import cloud
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT
from tests.testbed.distribution import Distribution, no_repository, referenced
from tests.testbed.images import Image, Images, check_policy, expired
from tests.testbed.refusals import Refused

Json = dict[str, Any]
_PAGE = 100  # without maxResults
_IDS_MAX = 100  # of a batch


class Ecr:
    """One method per call that moto lacks or answers from images it does not have."""

    operations = frozenset(
        [
            *("GetAuthorizationToken", "DescribeImages", "ListImages", "BatchGetImage", "BatchDeleteImage"),
            *("PutLifecyclePolicy", "DeleteRepository", "PutAccountSetting", "GetAccountSetting"),
            "GetDownloadUrlForLayer",
        ]
    )

    def __init__(self, distribution: Distribution, endpoint: str) -> None:
        self._distribution = distribution
        self._images: Images = distribution.images
        self._endpoint = endpoint
        self._calls: dict[str, Callable[[Json], Json]] = {
            "DescribeImages": self._describe,
            "ListImages": self._list,
            "BatchGetImage": self._batch_get,
            "BatchDeleteImage": self._batch_delete,
            "PutLifecyclePolicy": self._put_policy,
            "DeleteRepository": self._delete_repository,
            "GetDownloadUrlForLayer": self._layer,
            "PutAccountSetting": self._put_setting,
            "GetAccountSetting": self._setting,
        }

    def call(self, operation: str, asked: Json, access_key: str) -> Json:
        """Answer one call. Raises `Refused`."""
        if operation == "GetAuthorizationToken":
            return self._token(asked, access_key)
        return self._calls[operation](asked)

    def expire(self) -> dict[str, list[str]]:
        """Evaluate every lifecycle policy once: digests that expired, by repository."""
        out = {}
        for name, repository in sorted(cloud.repositories().items()):
            if repository.lifecycle_policy:
                rules = check_policy(repository.lifecycle_policy)
                gone = expired(self._images.of(name), rules, CLOCK.time())
                for image in gone:
                    self._distribution.delete(name, image)
                out[name] = [image.digest for image in gone]
        return out

    def _token(self, asked: Json, access_key: str) -> Json:
        data = []
        for _ in asked.get("registryIds") or [ACCOUNT]:
            password, until = self._distribution.token(access_key)
            token = base64.b64encode(f"AWS:{password}".encode()).decode()
            data.append({"authorizationToken": token, "expiresAt": until, "proxyEndpoint": self._endpoint})
        return {"authorizationData": data}

    def _describe(self, asked: Json) -> Json:
        name = asked["repositoryName"]
        if self._distribution.given.endswith(f"/{name}:{_tag_of(asked)}"):
            return {"imageDetails": [{"registryId": ACCOUNT, "repositoryName": name, "imageTags": [_tag_of(asked)]}]}
        name = _known(asked)
        if asked.get("imageIds") is not None:
            if asked.get("maxResults") or asked.get("nextToken"):
                raise Refused("InvalidParameterException", "imageIds cannot be used with maxResults or nextToken")
            return {"imageDetails": [self._detail(name, self._named(name, each)) for each in asked["imageIds"]]}
        chosen = [image for image in self._images.of(name) if _is_chosen(image, asked)]
        page, more = _page(chosen, asked)
        return {"imageDetails": [self._detail(name, image) for image in page]} | more

    def _detail(self, name: str, image: Image) -> Json:
        config = image.manifest.get("config") or {}
        detail: Json = {
            "registryId": ACCOUNT,
            "repositoryName": name,
            "imageDigest": image.digest,
            "imageSizeInBytes": self._images.size(name, image),
            "imagePushedAt": image.pushed_at,
            "imageManifestMediaType": image.media_type,
        }
        if image.tags:
            detail["imageTags"] = sorted(image.tags)
        if config:
            detail["artifactMediaType"] = config.get("mediaType", "")
        if image.pulled_at is not None:
            detail["lastRecordedPullTime"] = image.pulled_at
        return detail

    def _named(self, name: str, asked: Json) -> Image:
        digest, tag = asked.get("imageDigest"), asked.get("imageTag")
        image = self._images.find(name, digest or tag or "")
        if image is None or (tag and tag not in image.tags):
            which = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
            raise Refused(
                "ImageNotFoundException",
                f"The image with imageId {which} does not exist within the repository with name '{name}' in the "
                f"registry with id '{ACCOUNT}'",
            )
        return image

    def _list(self, asked: Json) -> Json:
        name = _known(asked)
        chosen = [image for image in self._images.of(name) if _is_chosen(image, asked)]
        page, more = _page([each for image in chosen for each in _ids(image)], asked)
        return {"imageIds": page} | more

    def _batch_get(self, asked: Json) -> Json:
        name, images, failures = _known(asked), [], []
        for each in _few(asked["imageIds"]):
            image, why = self._found(name, each)
            if image is None:
                failures.append(why)
                continue
            self._distribution.read(image)  # it counts as a pull: github.com/aws/containers-roadmap/issues/2390
            images.append(
                {
                    "registryId": ACCOUNT,
                    "repositoryName": name,
                    "imageId": {"imageDigest": image.digest} | _only(each, "imageTag"),
                    "imageManifest": image.body.decode(),
                    "imageManifestMediaType": image.media_type,
                }
            )
        return {"images": images, "failures": failures}

    def _batch_delete(self, asked: Json) -> Json:
        name = _known(asked)
        gone: list[Json] = []
        failures: list[Json] = []
        with self._images.lock:
            # what an index refers to as the call comes; whether AWS looks again within one call is not documented
            indexes = {image.digest: self._images.indexes_of(name, image.digest) for image in self._images.of(name)}
            for each in _few(asked["imageIds"]):
                image, why = self._found(name, each)
                if image is None:
                    failures.append(why)
                elif "imageDigest" not in each and len(image.tags) > 1:
                    image.tags.discard(each["imageTag"])
                    gone.append({"imageDigest": image.digest, "imageTag": each["imageTag"]})
                elif referring := indexes[image.digest]:
                    failures.append(_failure(each, "ImageReferencedByManifestList", referenced(referring)))
                else:
                    gone += _ids(image)
                    self._distribution.delete(name, image)
        return {"imageIds": gone, "failures": failures}

    def _found(self, name: str, asked: Json) -> tuple[Image | None, Json]:
        digest, tag = asked.get("imageDigest"), asked.get("imageTag")
        if not digest and not tag:
            why = "Invalid request parameters: both tag and digest cannot be null"
            return None, _failure(asked, "MissingDigestAndTag", why)
        if digest and not digest.startswith("sha256:"):
            why = "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"
            return None, _failure(asked, "InvalidImageDigest", why)
        image = self._images.find(name, digest or tag or "")
        if image is None:
            return None, _failure(asked, "ImageNotFound", "Requested image not found")
        if tag and tag not in image.tags:
            return None, _failure(asked, "ImageTagDoesNotMatchDigest", "Tag does not match the digest")
        return image, {}

    def _put_policy(self, asked: Json) -> Json:
        name, text = _known(asked), asked["lifecyclePolicyText"]
        check_policy(text)
        cloud.repository(name).lifecycle_policy = text
        return {"registryId": ACCOUNT, "repositoryName": name, "lifecyclePolicyText": text}

    def _delete_repository(self, asked: Json) -> Json:
        name = _known(asked)
        images = self._images.of(name)
        if images and not asked.get("force"):
            raise Refused(
                "RepositoryNotEmptyException",
                f"The repository with name '{name}' in registry with id '{ACCOUNT}' cannot be deleted because it "
                "still contains images",
            )
        for image in images:
            self._distribution.delete(name, image)
        self._images.forget(name)
        gone = cloud.delete_repository(name)
        return {
            "repository": {
                "registryId": ACCOUNT,
                "repositoryName": name,
                "repositoryArn": gone.arn,
                "repositoryUri": gone.uri,
                "createdAt": gone.created_at.timestamp(),
            }
        }

    def _layer(self, asked: Json) -> Json:
        """Nobody pulls but by the registry; who asks for one tries whether he may."""
        _known(asked)
        raise Refused("LayersNotFoundException", f"The layer {asked['layerDigest']} does not exist in the repository.")

    def _put_setting(self, asked: Json) -> Json:
        name, value = asked["name"], asked["value"]
        if name != "BLOB_MOUNTING" or value not in ("ENABLED", "DISABLED"):
            raise Refused("InvalidParameterException", f"The test bed knows BLOB_MOUNTING alone, not {name}={value}")
        self._distribution.mounts = value == "ENABLED"
        return {"name": name, "value": value}

    def _setting(self, asked: Json) -> Json:
        if asked["name"] != "BLOB_MOUNTING":
            raise Refused("InvalidParameterException", f"The test bed knows BLOB_MOUNTING alone, not {asked['name']}")
        return {"name": asked["name"], "value": "ENABLED" if self._distribution.mounts else "DISABLED"}


def _tag_of(asked: Json) -> str:
    """Of the one image that is asked for; of several, none."""
    ids = asked.get("imageIds") or []
    return str(ids[0].get("imageTag", "-")) if len(ids) == 1 else "-"


def _known(asked: Json) -> str:
    name = str(asked["repositoryName"])
    if cloud.repository(name) is None:
        raise Refused("RepositoryNotFoundException", no_repository(name))
    return name


def _is_chosen(image: Image, asked: Json) -> bool:
    wanted = (asked.get("filter") or {}).get("tagStatus", "ANY")
    return bool(wanted == "ANY" or (wanted == "TAGGED") == bool(image.tags))


def _page(rows: list[Any], asked: Json) -> tuple[list[Any], Json]:
    start = int(base64.b64decode(asked["nextToken"])) if asked.get("nextToken") else 0
    end = start + int(asked.get("maxResults") or _PAGE)
    more = {"nextToken": base64.b64encode(str(end).encode()).decode()} if end < len(rows) else {}
    return rows[start:end], more


def _ids(image: Image) -> list[Json]:
    return [{"imageDigest": image.digest} | ({"imageTag": tag} if tag else {}) for tag in sorted(image.tags) or [""]]


def _few(ids: list[Json]) -> list[Json]:
    if not 1 <= len(ids) <= _IDS_MAX:
        raise Refused(
            "InvalidParameterException",
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length less than or "
            f"equal to {_IDS_MAX}', found {len(ids)}",
        )
    return ids


def _only(asked: Json, name: str) -> Json:
    return {name: asked[name]} if name in asked else {}


def _failure(asked: Json, code: str, reason: str) -> Json:
    return {"imageId": asked, "failureCode": code, "failureReason": reason}
