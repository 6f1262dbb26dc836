"""A recipe in, an image in the registry out, without an engine: layers made of wheels, on top of the base's own."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from packaging.utils import canonicalize_name
from platformdirs import user_cache_path

from starburst_common.errors import CannotBuild, Exists, Unavailable
from starburst_common.image import oci, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.below import AT_ONCE, RegistryPlace, base_of, mb
from starburst_common.image.blob import LayerCache
from starburst_common.image.compiled import compile_all
from starburst_common.image.grouped import Group, grouped, package
from starburst_common.image.oci import Layer
from starburst_common.image.output import Tell
from starburst_common.image.packed import pack
from starburst_common.image.parts import SLOTS, SUPERVISOR, ImagePart, install, packages, sizes
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
            with ThreadPoolExecutor(os.cpu_count()) as cores:
                stacks = {
                    platform: [SUPERVISOR, SLOTS, *map(packages, groups)]
                    for platform, groups in self._groups(recipe, work / "sizes").items()
                }
                made = self._made(stacks, recipe, to, work, tell, cores)
            base.copy(to, work, tell)
            _upload(made.values(), to, tell)
            layers = {
                platform: [made[part.key(recipe, platform)][0] for part in stack] for platform, stack in stacks.items()
            }
            manifests = {
                platform: below.with_layers(layers[platform], recipe.environment.python, to)
                for platform, below in base.images.items()
            }
            return _publish(manifests, recipe.tag, to)

    def _groups(self, recipe: Recipe, work: Path) -> dict[str, list[Group]]:
        """Which packages share a layer, for each platform. Those that nobody measured yet are installed to see."""
        lines = recipe.environment.requirements
        keys = {(platform, line): _size_key(recipe, platform, line) for platform in recipe.platforms for line in lines}
        known = {which: size for which, key in keys.items() if (size := self._cache.noted(key)) is not None}
        folders = {platform: work / platform.replace("/", "-") for platform in recipe.platforms}
        unknown = {platform: [line for line in lines if (platform, line) not in known] for platform in folders}
        wanted = [platform for platform in folders if unknown[platform]]
        _all_of(lambda platform: install(folders[platform], recipe, platform, unknown[platform]), wanted)
        for platform in wanted:
            found = sizes(folders[platform])
            for line in unknown[platform]:
                known[platform, line] = found.get(canonicalize_name(package(line)), 0)
                self._cache.note(keys[platform, line], known[platform, line])
        return {platform: grouped(lines, {line: known[platform, line] for line in lines}) for platform in folders}

    def _made(
        self,
        stacks: Mapping[str, Sequence[ImagePart]],
        recipe: Recipe,
        to: RegistryPlace,
        work: Path,
        tell: Tell,
        cores: Executor,
    ) -> dict[str, _Made]:
        """Each part's layer, by its key; only what neither this machine nor the registry has is made."""
        parts = {part.key(recipe, platform): (part, platform) for platform, stack in stacks.items() for part in stack}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            kept = dict(zip(parts, pool.map(lambda key: self._kept(key, to), parts), strict=True))
        made = {key: one for key, one in kept.items() if one is not None}
        missing = {key: one for key, one in parts.items() if key not in made}
        if missing:
            differing = [platform for part, platform in missing.values() if part.differs]
            tell(f"making {_and(part.name for part, _ in missing.values())}{_for(differing)}")
            folders = {key: work / key for key in missing}
            _all_of(lambda key: missing[key][0].fill(folders[key], recipe, missing[key][1]), missing)
            compile_all(list(folders.values()))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                packed = pool.map(lambda key: self._packed(missing[key][0], folders[key], cores), missing)
                for key, one in zip(missing, packed, strict=True):
                    self._cache.remember(key, one[0])
                    made[key] = one
        return made

    def _kept(self, key: str, to: RegistryPlace) -> _Made | None:
        if (layer := self._cache.find(key)) is None:
            return None
        if to.has(layer.digest):
            return layer, None
        file = self._cache.file(layer)
        return None if file is None else (layer, file)

    def _packed(self, part: ImagePart, folder: Path, cores: Executor) -> _Made:
        file = folder.with_name(f"{folder.name}.tar.gz")
        owners = {layout.HOME.strip("/"): layout.USER}
        layer = pack(folder, file, by=part.name, owners=owners, cores=cores)
        shutil.rmtree(folder)
        return layer, self._cache.keep(layer, file)


_Made = tuple[Layer, Path | None]  #: a layer, and its file unless the registry has it


def _all_of(fill: Callable[[str], None], wanted: Collection[str]) -> None:
    """Fill all folders that are wanted, some at once. Raises `NoWheel` for all together."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        filling = [pool.submit(fill, one) for one in wanted]
    lacking = list(dict.fromkeys(str(one.exception()) for one in filling if isinstance(one.exception(), NoWheel)))
    if lacking:
        raise NoWheel(
            f"{'; '.join(lacking)}. Choose versions that have one, or a builder that makes them (docker, codebuild)"
        )
    for one in filling:
        one.result()


def _size_key(recipe: Recipe, platform: str, line: str) -> str:
    return hashlib.sha256(json.dumps(["size", recipe.environment.python, platform, line]).encode()).hexdigest()


def _upload(layers: Iterable[_Made], to: RegistryPlace, tell: Tell) -> None:
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


def _for(platforms: Collection[str]) -> str:
    return f" for {_and(platforms)}" if platforms else ""


def _and(names: Iterable[str]) -> str:
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} and {last}" if first else last
