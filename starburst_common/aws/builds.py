"""A recipe in; what CodeBuild is asked to build, as plain data, and why a build failed, in words, out."""

from __future__ import annotations

import io
import json
import secrets
import shlex
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from starburst_common.aws.ecr import PART
from starburst_common.image import context, oci
from starburst_common.image.recipe import Recipe

#: Environment type and image. Source: github.com/aws/aws-codebuild-docker-images, README, "actively maintained", as of
#: 2026-04-09; both have Docker 28.5 with the overlay2 store, which pushes a plain manifest for a platform.
MACHINES = {
    "linux/amd64": ("LINUX_CONTAINER", "aws/codebuild/amazonlinux-x86_64-standard:5.0"),
    "linux/arm64": ("ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"),
}
MINUTES = 60  #: a build may wait for its turn so long, and take so long
_EARLIEST = (1980, 1, 1, 0, 0, 0)  #: a zip knows no time before
_ARGUMENTS = "arguments.sh"  #: in the source, which only this account can read, rather than in what the console shows


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


def request(project: str, location: str, platform: str) -> dict[str, Any]:
    """What StartBuild is sent.

    >>> request("starburst-lab", "bucket/source.zip", "linux/arm64")["environmentTypeOverride"]
    'ARM_CONTAINER'
    """
    kind, image = MACHINES[platform]
    return {
        "projectName": project,
        "sourceTypeOverride": "S3",
        "sourceLocationOverride": location,
        "buildspecOverride": "buildspec.yml",
        "environmentTypeOverride": kind,
        "imageOverride": image,
        "computeTypeOverride": "BUILD_GENERAL1_SMALL",
        "privilegedModeOverride": True,
        "timeoutInMinutesOverride": MINUTES,
        "queuedTimeoutInMinutesOverride": MINUTES,
        "idempotencyToken": secrets.token_hex(16),
    }


def source(recipe: Recipe, platform: str, image: str) -> bytes:
    """The build's source as a zip, the same for the same recipe: what docker builds from, and how to."""
    arguments = {"TARGETARCH": context.architecture(platform), **context.arguments(recipe)}
    body = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="starburst-build-") as folder:
        place = Path(folder)
        context.prepare(place, recipe, platforms=(platform,))
        (place / "buildspec.yml").write_text(json.dumps(buildspec(image, tuple(arguments))))  # which is YAML too
        (place / _ARGUMENTS).write_text("".join(f"{name}={shlex.quote(text)}\n" for name, text in arguments.items()))
        (place / ".dockerignore").write_text(f"{_ARGUMENTS}\nbuildspec.yml\n")
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(each for each in place.rglob("*") if each.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(place).as_posix(), _EARLIEST)
                entry.external_attr = file.stat().st_mode << 16
                packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return body.getvalue()


def buildspec(image: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What a build does. The machine is its alone, so its network may be used as it is.

    >>> buildspec("registry/repository:tag", ("TARGETARCH",))["phases"]["build"]["commands"][-1]
    'docker push registry/repository:tag'
    """
    named = " ".join(f"--build-arg {name}" for name in arguments)
    login = "aws ecr get-login-password | docker login --username AWS --password-stdin"
    return {
        "version": 0.2,
        "phases": {
            "pre_build": {"commands": [f"{login} {image.partition('/')[0]}"]},
            "build": {
                "commands": [
                    "chmod +x */uv",  # which a zip forgets
                    f"set -a && . ./{_ARGUMENTS} && set +a && docker build --network host {named} --tag {image} .",
                    f"docker push {image}",
                ]
            },
        },
    }


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
