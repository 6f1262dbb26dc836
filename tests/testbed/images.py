"""Manifests that were pushed in; what ECR tells of them, and what its lifecycle policies expire, out."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from tests.testbed.refusals import Refused

_DAY_S = 86_400.0


@dataclass(kw_only=True)
class Image:
    """One manifest of a repository: an image of one platform, or an index of several."""

    digest: str
    media_type: str
    body: bytes = field(repr=False)
    pushed_at: float  #: epoch
    pulled_at: float | None = None
    tags: set[str] = field(default_factory=set)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest, read."""
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def children(self) -> list[str]:
        """Digests of the manifests that an index lists."""
        return [each["digest"] for each in self.manifest.get("manifests") or ()]

    @property
    def own_bytes(self) -> int:
        """Layers and config as they are stored; none for an index."""
        parts = [*(self.manifest.get("layers") or ()), self.manifest.get("config") or {}]
        return sum(int(each.get("size", 0)) for each in parts)


class Images:
    """Every repository's images, by digest."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  #: held by who looks and then changes
        self._held: dict[str, dict[str, Image]] = {}

    def put(self, repository: str, body: bytes, media_type: str, tag: str, now: float) -> Image:
        """Have an image, and let a tag, unless it is empty, name it alone. One that is there keeps its push time."""
        digest = digest_of(body)
        with self.lock:
            held = self._held.setdefault(repository, {})
            image = held.get(digest)
            if image is None:
                image = held[digest] = Image(digest=digest, media_type=media_type, body=body, pushed_at=now)
            if tag:
                for other in held.values():
                    other.tags.discard(tag)
                image.tags.add(tag)
            return image

    def find(self, repository: str, reference: str) -> Image | None:
        """An image by tag or digest."""
        with self.lock:
            held = self._held.get(repository, {})
            return held.get(reference) or next((each for each in held.values() if reference in each.tags), None)

    def of(self, repository: str) -> list[Image]:
        """A repository's images, in an order that means nothing."""
        with self.lock:
            return sorted(self._held.get(repository, {}).values(), key=lambda image: image.digest)

    def indexes_of(self, repository: str, digest: str) -> list[str]:
        """Digests of the indexes that refer to an image."""
        return [image.digest for image in self.of(repository) if digest in image.children]

    def size(self, repository: str, image: Image) -> int:
        """imageSizeInBytes: of an index, "the max size of all manifests in the list" (API reference, ImageDetail)."""
        children = [self.find(repository, digest) for digest in image.children]
        return max([image.own_bytes, *(child.own_bytes for child in children if child)])

    def remove(self, repository: str, digest: str) -> None:
        """Forget an image."""
        with self.lock:
            self._held.get(repository, {}).pop(digest, None)

    def forget(self, repository: str) -> None:
        """Forget all images of a repository."""
        with self.lock:
            self._held.pop(repository, None)

    def reset(self) -> None:
        """Forget all images."""
        with self.lock:
            self._held.clear()


def digest_of(body: bytes) -> str:
    """What content is called.

    >>> digest_of(b"")
    'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def is_immutable(tag: str, mutability: str, excluded: Iterable[str]) -> bool:
    """Whether a tag, once pushed, stays; `excluded` are the patterns of the repository's exclusion filters.

    >>> is_immutable("env-1", "IMMUTABLE", [])
    True
    >>> is_immutable("latest", "IMMUTABLE_WITH_EXCLUSION", ["lat*"])
    False
    """
    by_default = mutability.startswith("IMMUTABLE")
    is_excluded = "EXCLUSION" in mutability and any(fnmatchcase(tag, pattern) for pattern in excluded)
    return by_default != is_excluded


# --- lifecycle policies -----------------------------------------------------------------------------------------------
# (Amazon ECR user guide, "Lifecycle policy properties in Amazon ECR" and "How lifecycle policies work", November 2026)

_KEYS = {"rulePriority", "description", "selection", "action"}
_SELECTION = {"tagStatus", "tagPatternList", "tagPrefixList", "countType", "countUnit", "countNumber", "storageClass"}
_COUNTS = {"imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned"}
_RULES_MAX = 50
_WILDCARDS_MAX = 4
_ARCHIVED_MIN = 90  #: days


def check_policy(text: str) -> list[dict[str, Any]]:
    """The rules of a lifecycle policy, by priority. Raises `Refused` for what AWS refuses."""
    try:
        policy = json.loads(text)
    except ValueError:
        policy = None
    if not isinstance(policy, dict):
        raise _invalid("Could not map policyString into LifecyclePolicy.")
    rules = policy.get("rules")
    if not isinstance(rules, list):
        raise _invalid('object has missing required properties (["rules"])')
    if not 1 <= len(rules) <= _RULES_MAX:
        raise _invalid(f"rules must be 1 to {_RULES_MAX}, found {len(rules)}")
    for rule in rules:
        _check_rule(rule)
    ordered: list[dict[str, Any]] = sorted(rules, key=lambda rule: int(rule["rulePriority"]))
    priorities = [rule["rulePriority"] for rule in ordered]
    if len(set(priorities)) < len(priorities):
        raise _invalid(f"rulePriority must be unique, found {priorities}")
    if any(rule["selection"]["tagStatus"] == "any" for rule in ordered[:-1]):
        raise _invalid("a rule with tagStatus any must have the highest rulePriority")
    return ordered


def _check_rule(rule: Any) -> None:
    if not isinstance(rule, dict) or not {"rulePriority", "selection", "action"} <= set(rule) <= _KEYS:
        raise _invalid(f"a rule has rulePriority, selection, action and may have a description, found {rule}")
    if not isinstance(rule["rulePriority"], int) or rule["rulePriority"] < 1:
        raise _invalid(f"numeric instance is lower than the required minimum (minimum: 1): {rule['rulePriority']}")
    selection, action = rule["selection"], rule["action"]
    if not {"tagStatus", "countType", "countNumber"} <= set(selection) <= _SELECTION:
        raise _invalid(f"a selection has tagStatus, countType, countNumber and no other than {sorted(_SELECTION)}")
    if selection["tagStatus"] not in ("tagged", "untagged", "any"):
        raise _invalid(f"instance value ({selection['tagStatus']}) not found in enum (tagged, untagged, any)")
    if selection["countType"] not in _COUNTS:
        raise _invalid("instance failed to match exactly one schema (matched 0 out of 4)")
    if (selection["countType"] == "imageCountMoreThan") == (selection.get("countUnit") == "days"):
        raise _invalid("countUnit must be days for a countType that begins with since, and must be absent otherwise")
    if not isinstance(selection["countNumber"], int) or selection["countNumber"] < 1:
        raise _invalid("numeric instance is lower than the required minimum (minimum: 1)")
    patterns, prefixes = selection.get("tagPatternList"), selection.get("tagPrefixList")
    if (selection["tagStatus"] == "tagged") != bool(patterns or prefixes) or (patterns and prefixes):
        raise _invalid("tagPatternList or tagPrefixList, and not both, are required for tagStatus tagged alone")
    if any(pattern.count("*") > _WILDCARDS_MAX for pattern in patterns or ()):
        raise _invalid(f"a tag pattern has at most {_WILDCARDS_MAX} wildcards")
    _check_action(selection, action)


def _check_action(selection: Mapping[str, Any], action: Mapping[str, Any]) -> None:
    """What is counted from its last pull can be archived alone, and only what was archived expires from there.

    (Amazon ECR user guide, "Lifecycle policy properties": count type, storage class, action; seen as a refusal in
    github.com/aws/containers-roadmap/issues/921 and 2728)
    """
    kind, does = selection["countType"], action.get("type")
    if does not in ("expire", "transition"):
        raise _invalid(f"instance value ({does}) not found in enum (expire, transition)")
    if does == "transition" and action.get("targetStorageClass") != "archive":
        raise _invalid('object has missing required properties (["targetStorageClass"])')
    if (kind == "sinceImagePulled" and does != "transition") or (kind == "sinceImageTransitioned" and does != "expire"):
        raise _invalid(f"countType {kind} does not go with the action {does}")
    archived = selection.get("storageClass", "standard") == "archive"
    if archived != (kind == "sinceImageTransitioned"):
        raise _invalid(f"storageClass archive goes with countType sinceImageTransitioned, found {kind}")
    if archived and selection["countNumber"] < _ARCHIVED_MIN:
        raise _invalid(f"numeric instance is lower than the required minimum (minimum: {_ARCHIVED_MIN})")


def _invalid(why: str) -> Refused:
    begin = "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
    return Refused("InvalidParameterException", f"{begin}'Lifecycle policy validation failure: {why}'")


def expired(images: list[Image], rules: list[dict[str, Any]], now: float) -> list[Image]:
    """What one evaluation of a policy expires.

    An image belongs to the first rule whose tags it matches, whether or not that one expires it. What an index refers
    to stays until a later evaluation, after the index is gone. What a rule would archive stays as it is here.
    """
    referred = {digest for image in images for digest in image.children}
    left, out = list(images), []
    for rule in rules:
        selection = rule["selection"]
        own = [image for image in left if _selects(selection, image.tags)]
        left = [image for image in left if image not in own]
        due = _due(selection, own, now) if rule["action"]["type"] == "expire" else []
        out += [image for image in due if image.digest not in referred]
    return out


def _selects(selection: Mapping[str, Any], tags: set[str]) -> bool:
    if selection["tagStatus"] != "tagged":
        return selection["tagStatus"] == "any" or not tags
    # "if you specify multiple tags, only the images with all specified tags are selected"
    patterns = [re.escape(pattern).replace(r"\*", ".*") for pattern in selection.get("tagPatternList") or ()]
    patterns += [re.escape(prefix) + ".*" for prefix in selection.get("tagPrefixList") or ()]
    return all(any(re.fullmatch(pattern, tag) for tag in tags) for pattern in patterns)


def _due(selection: Mapping[str, Any], images: list[Image], now: float) -> list[Image]:
    count, kind = selection["countNumber"], selection["countType"]
    if kind == "imageCountMoreThan":
        return sorted(images, key=lambda image: -image.pushed_at)[count:]
    if kind == "sinceImageTransitioned":
        return []  # nothing is ever archived here
    return [image for image in images if image.pushed_at < now - count * _DAY_S]
