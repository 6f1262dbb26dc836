"""Manifests, indexes and configs of images in; those of an image with layers on top out. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from starburst_common import phrases
from starburst_common.errors import CannotBuild
from starburst_common.phrases import told

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER = "application/vnd.docker"
_DOCKER_INDEX = f"{_DOCKER}.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
MANIFESTS = (INDEX, MANIFEST, _DOCKER_INDEX, _DOCKER_MANIFEST)
_LAYERS = {  #: as Docker's manifests call layers, and as OCI's do
    f"{_DOCKER}.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": LAYER,
}
_BEGINNING = "1970-01-01T00:00:00Z"  #: a time that is the same whenever an image is made
_OF_A_CONTAINER = ("container", "container_config", "docker_version", "id", "parent")  #: what old engines added
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, as stored."""

    body: bytes
    media_type: str
    digest: str

    @property
    def content(self) -> dict[str, Any]:
        """What it says."""
        return parsed(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A tar file, compressed."""

    digest: str
    diff_id: str  #: digest of what it is uncompressed
    size: int  #: bytes, compressed
    by: str  #: what made it, for people


def parsed(body: bytes) -> dict[str, Any]:
    """A manifest, index or config. Raises `CannotBuild` for what is none."""
    with well_formed():
        said = json.loads(body)
        if not isinstance(said, dict):
            raise TypeError(f"a {type(said).__name__} in place of an object")
    return said


def well_formed() -> AbstractContextManager[None]:
    """Raises `CannotBuild` where what a registry gave lacks what every image has, or has it of another type."""
    return phrases.well_formed(
        lambda what: CannotBuild(
            f"what the registry gave is no image ({what}): look whether its name, and a proxy on the way there, "
            "are right"
        )
    )


def check_layers(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raises `TypeError` or `LookupError` unless layers are told as every image tells them."""
    if not all(isinstance(each, str) for each in config["rootfs"]["diff_ids"]):
        raise TypeError("a diff_id is no text")
    for layer in manifest["layers"]:
        if not (isinstance(layer["size"], int) and isinstance(layer["mediaType"], str)):
            raise TypeError(f"a layer as {told(layer)}")
        if not re.fullmatch("sha256:[0-9a-f]{64}", layer["digest"]):  # a file here is named after it
            raise TypeError(f"a layer with the digest {told(layer['digest'])}")


def digest(body: bytes) -> str:
    """What a registry calls it.

    >>> digest(b"")[:19]
    'sha256:e3b0c44298fc'
    """
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def platform(described: Mapping[str, Any]) -> str:
    """A platform as one would ask for it; the usual variant of an architecture is left out.

    >>> platform({"os": "linux", "architecture": "arm64", "variant": "v8"})
    'linux/arm64'
    >>> platform({"os": "linux", "architecture": "arm", "variant": "v7"})
    'linux/arm/v7'
    """
    name = f"{described.get('os', '')}/{described.get('architecture', '')}"
    variant = described.get("variant", "")
    return name if not variant or (name, variant) in _USUAL else f"{name}/{variant}"


_USUAL = {("linux/arm64", "v8"), ("linux/amd64", "v1")}


def platforms(index: Mapping[str, Any]) -> list[str]:
    """Those an index has images for.

    >>> entries = [{"os": "linux", "architecture": "amd64"}, {"os": "unknown", "architecture": "unknown"}]
    >>> platforms({"manifests": [{"platform": entry} for entry in entries]})
    ['linux/amd64']
    """
    names = {platform(entry.get("platform", {})) for entry in index["manifests"]}
    return sorted(name for name in names if name.strip("/") and not name.startswith("unknown"))


def pick(manifest: Manifest, wanted: str) -> str | None:
    """The digest of an index's manifest for a platform; None for what is no index, but such a manifest itself.

    Raises `CannotBuild`, with the platforms there are.
    """
    content = manifest.content
    if "manifests" not in content:
        return None
    for entry in content["manifests"]:
        if platform(entry.get("platform", {})) == wanted:
            return str(entry["digest"])
    raise CannotBuild(f"there is an image for {', '.join(platforms(content)) or 'no platform'}, none for {wanted}")


def base_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """What the environment of an image's containers says; the search path is always told.

    >>> base_variables({"config": {"Env": ["A=1=2"]}})["A"]
    '1=2'
    """
    said = (config.get("config") or {}).get("Env") or ()
    return {"PATH": _PATH, **{name: value for name, _, value in (text.partition("=") for text in said)}}


def config_on_top(
    base: Mapping[str, Any],
    layers: Sequence[Layer],
    *,
    variables: Mapping[str, str],
    entrypoint: Sequence[str],
    user: str,
    folder: str,
    labels: Mapping[str, str],
) -> bytes:
    """The config of an image that has layers on top of the base's; what the base would run is forgotten."""
    settings = {
        **{name: value for name, value in (base.get("config") or {}).items() if name not in ("Cmd", "OnBuild")},
        "Env": [f"{name}={value}" for name, value in {**base_variables(base), **variables}.items()],
        "Entrypoint": list(entrypoint),
        "User": user,
        "WorkingDir": folder,
        "StopSignal": "SIGTERM",
        "Labels": {**((base.get("config") or {}).get("Labels") or {}), **labels},
    }
    return _json(
        {
            **{name: value for name, value in base.items() if name not in _OF_A_CONTAINER},
            "created": _BEGINNING,
            "config": settings,
            "rootfs": {
                "type": "layers",
                "diff_ids": [*base["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)],
            },
            "history": [
                *(base.get("history") or ()),
                *({"created": _BEGINNING, "created_by": f"starburst: {layer.by}"} for layer in layers),
            ],
        }
    )


def manifest_on_top(base: Mapping[str, Any], layers: Sequence[Layer], config: bytes) -> bytes:
    """The manifest of an image with this config and layers on top of the base's.

    Raises `CannotBuild` for layers of the base that cannot be copied.
    """
    own = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in layers]
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [*map(_as_oci, base["layers"]), *own],
        }
    )


def index(manifests: Mapping[str, bytes]) -> bytes:
    """The index of one image for several platforms, from each one's manifest."""
    entries = []
    for name, body in sorted(manifests.items()):
        system, architecture, *variant = name.split("/")
        described = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        entries.append({"mediaType": MANIFEST, "digest": digest(body), "size": len(body), "platform": described})
    return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def _as_oci(layer: Mapping[str, Any]) -> dict[str, Any]:
    kind = _LAYERS.get(layer["mediaType"], layer["mediaType"])
    if layer.get("urls") or not kind.startswith("application/vnd.oci.image.layer.v1."):
        raise CannotBuild(f"the base image has a layer that cannot be copied ({kind}): choose another base image")
    return {"mediaType": kind, "digest": layer["digest"], "size": layer["size"]}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
