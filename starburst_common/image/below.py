"""A recipe's base image in; what of it lies below our layers, checked and copied to where the image will be, out."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starburst_common.errors import CannotBuild
from starburst_common.image import oci
from starburst_common.image import recipe as layout
from starburst_common.image.oci import Layer, Manifest
from starburst_common.image.output import Tell
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import MANIFEST_BYTES, Registry, parse_reference

AT_ONCE = 4  #: blobs on their way


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A repository of a registry."""

    registry: Registry
    repository: str

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.registry.has_blob(self.repository, digest)


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The base, for one platform."""

    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    def check(self, recipe: Recipe, platform: str) -> None:
        """Raises `CannotBuild` where it cannot be the base of this recipe."""
        if oci.platform(self.config) != platform:
            raise CannotBuild(f"the base image {recipe.base} is for {oci.platform(self.config)}, not for {platform}")
        version = oci.base_variables(self.config).get("PYTHON_VERSION", "")
        minor = ".".join(version.split(".")[:2])
        if version and minor != recipe.environment.python:
            raise CannotBuild(
                f"the base image {recipe.base} has Python {minor}, and the environment is for "
                f"{recipe.environment.python}: choose a base image with that Python"
            )

    def with_layers(self, layers: list[Layer], python: str, to: RegistryPlace) -> bytes:
        """The manifest of the image with layers on top; its config is stored."""
        config = oci.config_on_top(
            self.config,
            layers,
            variables=layout.variables(oci.base_variables(self.config)["PATH"]),
            entrypoint=["python3", layout.SUPERVISOR],
            user=":".join(map(str, layout.USER)),
            folder=layout.HOME,
            labels={layout.PYTHON_LABEL: python},
        )
        to.registry.put_blob(to.repository, oci.digest(config), config)
        return oci.manifest_on_top(self.manifest, layers, config)


@dataclass(frozen=True, slots=True)
class Base:
    """Where the base is, and its image for each platform of a recipe."""

    place: RegistryPlace
    images: dict[str, BaseImage]

    def copy(self, to: RegistryPlace, work: Path, tell: Tell) -> None:
        """Have its layers in the target too."""
        sizes = {layer["digest"]: layer["size"] for image in self.images.values() for layer in image.manifest["layers"]}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = dict(zip(sizes, pool.map(to.has, sizes), strict=True))
            missing = [digest for digest in sizes if not there[digest]]
            if missing:
                tell(f"copying the base image's layers, {mb(sum(sizes[one] for one in missing))}")
            list(pool.map(lambda digest: self._copy(digest, sizes[digest], to, work), missing))

    def _copy(self, digest: str, size: int, to: RegistryPlace, work: Path) -> None:
        if to.registry.host == self.place.registry.host and to.registry.mount(
            to.repository, digest, self.place.repository
        ):
            return
        file = work / digest.rpartition(":")[2]
        self.place.registry.fetch_blob(self.place.repository, digest, file, size=size)
        to.registry.put_blob(to.repository, digest, file)
        file.unlink()


def base_of(recipe: Recipe, to: RegistryPlace) -> Base:
    url, repository, _ = parse_reference(recipe.base)
    registry = to.registry if to.registry.url == url else Registry(url)
    place = RegistryPlace(registry, repository)
    found = _manifest(recipe, place, recipe.base_digest)
    images = {}
    for platform in sorted(recipe.platforms):
        try:
            with oci.well_formed():
                digest = oci.pick(found, platform)
        except CannotBuild as error:
            raise CannotBuild(
                f"the base image {recipe.base}: {error}. Choose another base, or fewer platforms"
            ) from error
        images[platform] = _base_image(_manifest(recipe, place, digest) if digest else found, place)
    for platform, image in images.items():
        with oci.well_formed():
            image.check(recipe, platform)
    return Base(place, images)


def _base_image(found: Manifest, place: RegistryPlace) -> BaseImage:
    with oci.well_formed():
        manifest = found.content
        config = oci.parsed(place.registry.blob(place.repository, manifest["config"]["digest"], most=MANIFEST_BYTES))
        oci.check_layers(manifest, config)
        return BaseImage(manifest, config)


def _manifest(recipe: Recipe, place: RegistryPlace, digest: str) -> Manifest:
    found = place.registry.manifest(place.repository, digest)
    if found is None:
        raise CannotBuild(f"the base image {recipe.base} is not there any more as {digest}: try again, or name another")
    if found.content.get("schemaVersion") != 2:
        raise CannotBuild(f"the base image {recipe.base} is of an old kind: pull it with docker and push it anew")
    return found


def mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
