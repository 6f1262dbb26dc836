"""A recipe in, an image in the registry out, without an engine: layers made of wheels, on top of the base's own."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from starburst_common.errors import CannotBuild, Exists, Unavailable
from starburst_common.image import blob, oci, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.below import AT_ONCE, RegistryPlace, base_of, mb
from starburst_common.image.blob import LayerCache
from starburst_common.image.oci import Layer
from starburst_common.image.output import Tell
from starburst_common.image.parts import PACKAGES, SLOTS, SUPERVISOR, ImagePart
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.image.wheels import NoWheel
from starburst_common.ports import Access

__all__ = ["LayerBuilder", "NoWheel"]

_RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


class LayerBuilder:
    """Makes images of what has wheels; needs neither an engine nor the platform they are for."""

    name = "layer"

    def __init__(self, *, cache: Path | None = None) -> None:
        self._cache = LayerCache(cache or user_cache_path("starburst") / "layers", own=cache is None)

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so; empty if it can, as far as one can say without asking for wheels."""
        for what, named in (("system packages", recipe.system_packages), ("build steps", recipe.build_steps)):
            if named:
                return f"{what} ({', '.join(named)}) need a builder that runs them: docker or codebuild"
        if unknown := [platform for platform in recipe.platforms if platform not in wheels.PLATFORMS]:
            return f"wheels are chosen for {_and(wheels.PLATFORMS)} only, not for {_and(unknown)}"
        if recipe.environment.python != _RUNNING:
            return f"this Python is {_RUNNING} and compiles for itself only: the image has {recipe.environment.python}"
        return ""

    def build(self, recipe: Recipe, target: Access, tell: Tell) -> str:
        """Leave `recipe.tag` in the target repository, complete or not at all; returns the digest.

        A tag that is there already is left as it is. Raises `NoWheel`, `CannotBuild` or `Unavailable`.
        """
        if why := self.lacking(recipe):
            raise CannotBuild(why)
        to = RegistryPlace(Registry.of(target), target.repository)
        if (there := to.registry.digest(to.repository, recipe.tag)) is not None:
            return there
        with _trouble_told(self._cache.folder), self._cache.work_folder() as work:
            base = base_of(recipe, to)
            parts = [SUPERVISOR, SLOTS, *([PACKAGES] if recipe.environment.requirements else [])]
            made = [self._made(part, recipe, to, work / str(number), tell) for number, part in enumerate(parts)]
            base.copy(to, work, tell)
            _upload([layer for part in made for layer in part.values()], to, tell)
            manifests = {
                platform: below.with_layers([part[platform][0] for part in made], recipe.environment.python, to)
                for platform, below in base.images.items()
            }
            return _publish(manifests, recipe.tag, to)

    def _made(self, part: ImagePart, recipe: Recipe, to: RegistryPlace, work: Path, tell: Tell) -> dict[str, _Made]:
        """A part's layer for each platform; only what neither this machine nor the registry has is made."""
        made: dict[str, _Made] = {}
        platforms = recipe.platforms if part.differs else recipe.platforms[:1]
        keys = {platform: part.key(recipe, platform) for platform in platforms}
        for platform, key in keys.items():
            if (layer := self._cache.find(key)) is not None:
                file = self._cache.file(layer)
                if file is not None or to.has(layer.digest):
                    made[platform] = layer, file
        if missing := [platform for platform in platforms if platform not in made]:
            tell(f"making {part.name}{f' for {_and(missing)}' if part.differs else ''}")
            folders = [work / platform.replace("/", "-") for platform in missing]
            part.fill_all(folders, recipe, missing)
            blob.compile_all(folders)
            with ThreadPoolExecutor(len(missing)) as pool:
                packed = list(pool.map(lambda folder: self._packed(part, folder), folders))
            for platform, one in zip(missing, packed, strict=True):
                self._cache.remember(keys[platform], one[0])
                made[platform] = one
        return made if part.differs else dict.fromkeys(recipe.platforms, made[platforms[0]])

    def _packed(self, part: ImagePart, folder: Path) -> _Made:
        file = folder.with_name(f"{folder.name}.tar.gz")
        layer = blob.pack(folder, file, by=part.name, owners={layout.HOME.strip("/"): layout.USER})
        shutil.rmtree(folder)
        return layer, self._cache.keep(layer, file) if part.kept else file


_Made = tuple[Layer, Path | None]  #: a layer, and its file unless the registry has it


def _upload(layers: list[_Made], to: RegistryPlace, tell: Tell) -> None:
    files = {layer.digest: (layer, file) for layer, file in layers if file is not None}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        there = dict(zip(files, pool.map(to.has, files), strict=True))
        missing = [files[digest] for digest in files if not there[digest]]
        if missing:
            tell(f"uploading {_and(layer.by for layer, _ in missing)}, {mb(sum(layer.size for layer, _ in missing))}")
        list(pool.map(lambda made: to.registry.put_blob(to.repository, made[0].digest, made[1]), missing))


def _publish(manifests: Mapping[str, bytes], tag: str, to: RegistryPlace) -> str:
    """Name the image, which from then on is there: everything else was stored before."""
    if len(manifests) == 1:
        (body,), kind = manifests.values(), oci.MANIFEST
    else:
        for one in manifests.values():
            to.registry.put_manifest(to.repository, oci.digest(one), one, oci.MANIFEST)
        body, kind = oci.index(manifests), oci.INDEX
    try:
        return to.registry.put_manifest(to.repository, tag, body, kind)
    except Exists:  # somebody was first
        return to.registry.digest(to.repository, tag) or oci.digest(body)


@contextmanager
def _trouble_told(folder: Path) -> Iterator[None]:
    """Say which folder, and how full it is, where files cannot be written."""
    try:
        yield
    except Unavailable:
        raise
    except OSError as error:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "a file cannot be read or written"
        raise CannotBuild(
            f"{what}: images are made in {folder}, where {mb(free)} are free without them ({error}). Make room, or "
            "let XDG_CACHE_HOME name a folder on another disk; what uv keeps is where `uv cache dir` says"
        ) from error


def _and(names: Any) -> str:
    return " and ".join(dict.fromkeys(names))
