"""A recipe in; what CodeBuild is asked to build, as plain data, and why a build failed, in words, out."""

from __future__ import annotations

import json
import secrets
import shlex
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

from starburst_common.aws.ecr import PART
from starburst_common.image import context, oci
from starburst_common.image.packed import pack
from starburst_common.image.recipe import Recipe

#: Environment type and image. Source: github.com/aws/aws-codebuild-docker-images, README, "actively maintained", as of
#: 2026-04-09; both have Docker 28.5 with the overlay2 store, which pushes a plain manifest for a platform.
MACHINES = {
    "linux/amd64": ("LINUX_CONTAINER", "aws/codebuild/amazonlinux-x86_64-standard:5.0"),
    "linux/arm64": ("ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"),
}
MINUTES = 60  #: a build may wait for its turn so long, and take so long
_PACKED = "source.tar.gz"
_ARGUMENTS = "arguments.sh"  #: in the source, which only this account can read, rather than in what the console shows


class SourcePlace(NamedTuple):
    """Where a build's source lies."""

    bucket: str
    key: str
    account: str  #: whose bucket it is


def part_tags(recipe: Recipe) -> list[tuple[str, str]]:
    """Each platform, and under which tag what is built for it is pushed: the image's own if it is the only one."""
    if len(recipe.platforms) == 1:
        return [(recipe.platforms[0], recipe.tag)]
    return [
        (platform, f"{PART}{recipe.tag.partition('-')[2]}-{context.architecture(platform)}")
        for platform in recipe.platforms
    ]


def index_of(manifests: dict[str, oci.Manifest]) -> bytes:
    """The index of one image for several platforms; engines differ in what kind of manifest they push."""
    kinds = {manifest.digest: manifest.media_type for manifest in manifests.values()}
    index = json.loads(oci.index({platform: manifest.body for platform, manifest in manifests.items()}))
    for entry in index["manifests"]:
        entry["mediaType"] = kinds[entry["digest"]]
    return json.dumps(index, separators=(",", ":"), sort_keys=True).encode()


def project(name: str, role: str, tags: dict[str, str]) -> dict[str, Any]:
    """What CreateProject is sent; each build says for itself what it builds."""
    kind, image = MACHINES["linux/amd64"]
    return {
        "name": name,
        "description": "Images of starburst's workers",
        "source": {"type": "NO_SOURCE", "buildspec": json.dumps({"version": 0.2, "phases": {}})},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": kind, "image": image, "computeType": "BUILD_GENERAL1_SMALL", "privilegedMode": True},
        "serviceRole": role,
        "timeoutInMinutes": MINUTES,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }


def request(project: str, platform: str, buildspec: str) -> dict[str, Any]:
    """What StartBuild is sent: all that is done, in words of its own; nothing in the bucket is believed.

    >>> request("starburst-lab", "linux/arm64", "{}")["environmentTypeOverride"]
    'ARM_CONTAINER'
    """
    kind, image = MACHINES[platform]
    return {
        "projectName": project,
        "sourceTypeOverride": "NO_SOURCE",
        "buildspecOverride": buildspec,
        "environmentTypeOverride": kind,
        "imageOverride": image,
        "computeTypeOverride": "BUILD_GENERAL1_SMALL",
        "privilegedModeOverride": True,
        "timeoutInMinutesOverride": MINUTES,
        "queuedTimeoutInMinutesOverride": MINUTES,
        "idempotencyToken": secrets.token_hex(16),
    }


class PackedSource(NamedTuple):
    """What docker builds from, packed: the same bytes for the same recipe."""

    body: bytes
    digest: str  #: SHA-256 of it
    arguments: tuple[str, ...]  #: names of build arguments that it sets

    @classmethod
    def of(cls, recipe: Recipe, platform: str) -> Self:
        """For one platform. Raises `CannotBuild`."""
        arguments = {"TARGETARCH": context.architecture(platform), **context.arguments(recipe)}
        with tempfile.TemporaryDirectory(prefix="starburst-build-") as folder:
            place, packed = Path(folder, "source"), Path(folder, _PACKED)
            place.mkdir()
            context.prepare(place, recipe, platforms=(platform,))
            (place / _ARGUMENTS).write_text(
                "".join(f"{name}={shlex.quote(text)}\n" for name, text in arguments.items())
            )
            (place / ".dockerignore").write_text(f"{_ARGUMENTS}\n")
            with ThreadPoolExecutor(1) as cores:
                layer = pack(place, packed, by="", owners={}, cores=cores)
            return cls(packed.read_bytes(), layer.digest.rpartition(":")[2], tuple(arguments))


def buildspec(place: SourcePlace, source: PackedSource, image: str) -> str:
    """What a build does. The machine is its alone, so its network may be used as it is.

    Whoever may write to the bucket could put another source there: so what is fetched is compared with what was sent.

    >>> place = SourcePlace("bucket", "builds/a.tar.gz", "123456789012")
    >>> source = PackedSource(b"", "0a1b", ("TARGETARCH",))
    >>> spec = buildspec(place, source, "registry/repository:tag")
    >>> [line.split()[:2] for phase in json.loads(spec)["phases"].values() for line in phase["commands"]]
    [['aws', 's3api'], ['echo', '"0a1b'], ['mkdir', 'source'], ['aws', 'ecr'], ['cd', 'source'], ['docker', 'push']]
    """
    named = " ".join(f"--build-arg {name}" for name in source.arguments)
    exchanged = (
        f"s3://{place.bucket}/{place.key} is not what was sent there: somebody has exchanged it. Nothing of it was "
        "run, and nothing is pushed. See who may write to the bucket, and build again."
    )
    commands = {
        "install": [
            f"aws s3api get-object --bucket {place.bucket} --key {place.key} --expected-bucket-owner {place.account} "
            f"{_PACKED} > fetched.json",
            f'echo "{source.digest}  {_PACKED}" | sha256sum --check --status || {{ echo "{exchanged}"; false; }}',
            f"mkdir source && tar --extract --no-same-owner --file {_PACKED} --directory source",
        ],
        "pre_build": [
            f"aws ecr get-login-password | docker login --username AWS --password-stdin {image.partition('/')[0]}"
        ],
        "build": [
            f"cd source && set -a && . ./{_ARGUMENTS} && set +a && docker build --network host {named} --tag {image} .",
            f"docker push {image}",
        ],
    }
    phases = {name: {"commands": lines} for name, lines in commands.items()}
    return json.dumps({"version": 0.2, "phases": phases}, indent=1)  # which is YAML too


def why_failed(build: dict[str, Any], platform: str, last: list[str]) -> str:
    """Why a build failed: its phases' own words, and what it printed last."""
    ends = {
        "TIMED_OUT": f"took longer than {MINUTES} minutes",
        "STOPPED": "was stopped by somebody",
        "FAULT": "failed by a fault of CodeBuild's own: try again",
    }
    end = ends.get(build["buildStatus"], "failed")
    contexts = [
        f"{phase['phaseType']}: {context.get('statusCode', '')} {context['message']}".replace("  ", " ")
        for phase in build.get("phases", [])
        for context in phase.get("contexts", [])
        if context.get("message")
    ]
    return "\n".join([f"CodeBuild's build {build['id']} for {platform} {end}", *contexts, *last])
