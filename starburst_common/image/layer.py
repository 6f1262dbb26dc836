"""A recipe in, an image in the registry out, without an engine: layers made of wheels, on top of the base's own."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from starburst_common.environment.indexes import indexes_of
from starburst_common.errors import CannotBuild, Exists, Unavailable
from starburst_common.image import blob, contents, oci, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.blob import LayerCache
from starburst_common.image.oci import Layer, Manifest
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import MANIFEST_BYTES, Registry, parse_reference
from starburst_common.image.wheels import NoWheel
from starburst_common.ports import Access

__all__ = ["LayerBuilder", "NoWheel"]

_AT_ONCE = 4  #: blobs on their way
_RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
Tell = Callable[[str], None]


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
        to = _Place(Registry.of(target), target.repository)
        if (there := to.registry.digest(to.repository, recipe.tag)) is not None:
            return there
        with _trouble_told(self._cache.folder), self._cache.work_folder() as work:
            base = _base(recipe, to)
            parts = [_SUPERVISOR, _SLOTS, *([_PACKAGES] if recipe.environment.requirements else [])]
            made = [self._made(part, recipe, to, work / str(number), tell) for number, part in enumerate(parts)]
            base.copy(to, work, tell)
            _upload([layer for part in made for layer in part.values()], to, tell)
            manifests = {
                platform: below.with_layers([part[platform][0] for part in made], recipe.environment.python, to)
                for platform, below in base.images.items()
            }
            return _publish(manifests, recipe.tag, to)

    def _made(self, part: _Part, recipe: Recipe, to: _Place, work: Path, tell: Tell) -> dict[str, _Made]:
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

    def _packed(self, part: _Part, folder: Path) -> _Made:
        file = folder.with_name(f"{folder.name}.tar.gz")
        layer = blob.pack(folder, file, by=part.name, owners={layout.HOME.strip("/"): layout.USER})
        shutil.rmtree(folder)
        return layer, self._cache.keep(layer, file) if part.kept else file


_Made = tuple[Layer, Path | None]  #: a layer, and its file unless the registry has it


# --- what our layers hold ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One of our layers."""

    name: str
    differs: bool  #: between platforms
    kept: bool  #: its file, for images of other environments
    of: Callable[[Recipe], Any]  #: what it is made from, beside platform and Python
    fill: Callable[[Path, Recipe, str], None]  #: the folder that stands for the image's root

    def key(self, recipe: Recipe, platform: str) -> str:
        """What names the layer of this recipe."""
        where = platform if self.differs else ""
        content = [layout.VERSION, self.name, where, recipe.environment.python, sys.version, self.of(recipe)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def fill_all(self, folders: Sequence[Path], recipe: Recipe, platforms: Sequence[str]) -> None:
        """Each platform's folder. Raises `NoWheel` for all platforms together."""
        lacking = []
        for folder, platform in zip(folders, platforms, strict=True):
            folder.mkdir(parents=True)
            try:
                self.fill(folder, recipe, platform)
            except NoWheel as error:
                lacking.append(str(error))
        if lacking:
            raise NoWheel(
                f"{'; '.join(lacking)}. Choose versions that have one, or a builder that makes them (docker, codebuild)"
            )


def _fill_supervisor(root: Path, recipe: Recipe, platform: str) -> None:
    folder = _below(root, layout.SUPERVISOR)
    contents.prepare_supervisor(folder, platform=platform, python=recipe.environment.python)


def _fill_slots(root: Path, recipe: Recipe, platform: str) -> None:
    python = recipe.environment.python
    contents.prepare_slots(_below(root, layout.SLOTS), platform=platform, python=python)
    _below(root, layout.HOME).mkdir(parents=True)
    packages = _below(root, layout.packages_folder(python))
    packages.mkdir(parents=True)
    (packages / "starburst.pth").write_text(f"{layout.SLOTS}\n")


def _fill_packages(root: Path, recipe: Recipe, platform: str) -> None:
    wheels.install_environment(
        _below(root, layout.PACKAGES),
        recipe.environment.text,
        platform=platform,
        python=recipe.environment.python,
        indexes=indexes_of(recipe.environment),
    )


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


_SUPERVISOR = _Part(
    name="supervisor", differs=True, kept=True, of=lambda recipe: contents.supervisor_digest(), fill=_fill_supervisor
)
_SLOTS = _Part(name="slots", differs=False, kept=True, of=lambda recipe: contents.digest(), fill=_fill_slots)
_PACKAGES = _Part(
    name="packages", differs=True, kept=False, of=lambda recipe: recipe.environment.text, fill=_fill_packages
)


# --- what is below them -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A repository of a registry."""

    registry: Registry
    repository: str

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.registry.has_blob(self.repository, digest)


@dataclass(frozen=True, slots=True)
class _BaseImage:
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

    def with_layers(self, layers: list[Layer], python: str, to: _Place) -> bytes:
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
class _Base:
    """Where the base is, and its image for each platform of a recipe."""

    place: _Place
    images: dict[str, _BaseImage]

    def copy(self, to: _Place, work: Path, tell: Tell) -> None:
        """Have its layers in the target too."""
        sizes = {layer["digest"]: layer["size"] for image in self.images.values() for layer in image.manifest["layers"]}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            there = dict(zip(sizes, pool.map(to.has, sizes), strict=True))
            missing = [digest for digest in sizes if not there[digest]]
            if missing:
                tell(f"copying the base image's layers, {_mb(sum(sizes[one] for one in missing))}")
            list(pool.map(lambda digest: self._copy(digest, sizes[digest], to, work), missing))

    def _copy(self, digest: str, size: int, to: _Place, work: Path) -> None:
        if to.registry.host == self.place.registry.host and to.registry.mount(
            to.repository, digest, self.place.repository
        ):
            return
        file = work / digest.rpartition(":")[2]
        self.place.registry.fetch_blob(self.place.repository, digest, file, size=size)
        to.registry.put_blob(to.repository, digest, file)
        file.unlink()


def _base(recipe: Recipe, to: _Place) -> _Base:
    url, repository, _ = parse_reference(recipe.base)
    registry = to.registry if to.registry.url == url else Registry(url)
    place = _Place(registry, repository)
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
    return _Base(place, images)


def _base_image(found: Manifest, place: _Place) -> _BaseImage:
    with oci.well_formed():
        manifest = found.content
        config = oci.parsed(place.registry.blob(place.repository, manifest["config"]["digest"], most=MANIFEST_BYTES))
        oci.check_layers(manifest, config)
        return _BaseImage(manifest, config)


def _manifest(recipe: Recipe, place: _Place, digest: str) -> Manifest:
    found = place.registry.manifest(place.repository, digest)
    if found is None:
        raise CannotBuild(f"the base image {recipe.base} is not there any more as {digest}: try again, or name another")
    if found.content.get("schemaVersion") != 2:
        raise CannotBuild(f"the base image {recipe.base} is of an old kind: pull it with docker and push it anew")
    return found


# --- upload -----------------------------------------------------------------------------------------------------------


def _upload(layers: list[_Made], to: _Place, tell: Tell) -> None:
    files = {layer.digest: (layer, file) for layer, file in layers if file is not None}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        there = dict(zip(files, pool.map(to.has, files), strict=True))
        missing = [files[digest] for digest in files if not there[digest]]
        if missing:
            tell(f"uploading {_and(layer.by for layer, _ in missing)}, {_mb(sum(layer.size for layer, _ in missing))}")
        list(pool.map(lambda made: to.registry.put_blob(to.repository, made[0].digest, made[1]), missing))


def _publish(manifests: Mapping[str, bytes], tag: str, to: _Place) -> str:
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
            f"{what}: images are made in {folder}, where {_mb(free)} are free without them ({error}). Make room, or "
            "let XDG_CACHE_HOME name a folder on another disk; what uv keeps is where `uv cache dir` says"
        ) from error


def _and(names: Any) -> str:
    return " and ".join(dict.fromkeys(names))


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
