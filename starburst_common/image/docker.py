"""A recipe in, an image in the registry out, by a container engine: builds what has no wheel, and runs build steps."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from platformdirs import user_cache_path

from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image import context, wheels
from starburst_common.image.buildx import build_command, ensure_builder, has_buildx, logged_in
from starburst_common.image.engine import engine, network, platform_of, remove
from starburst_common.image.output import Tell, Told
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.ports import Access
from starburst_common.trust import CACHE_INSTEAD, own_folder, owner_only

if TYPE_CHECKING:
    from docker import DockerClient

_ANSWER_S, _PATIENCE_S = 5, 3600  #: until an engine that works says anything; until its next word while it builds


class DockerBuilder:
    """Makes images with the engine of this machine; several platforms, or a foreign one, with its buildx."""

    name = "docker"

    def __init__(self, *, logs: Path | None = None) -> None:
        self._logs = logs or user_cache_path("starburst") / "builds"

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so, here; empty if it can."""
        if unknown := [platform for platform in recipe.platforms if platform not in wheels.PLATFORMS]:
            return f"the worker runs on {' and '.join(wheels.PLATFORMS)} only, not on {', '.join(unknown)}"
        try:
            with engine(_ANSWER_S) as client:
                own = platform_of(client)
        except CannotBuild as error:
            return str(error)
        if recipe.platforms != (own,) and not has_buildx():
            return f"the engine builds for {own}; for {', '.join(recipe.platforms)} install docker's buildx plugin"
        return ""

    def build(self, recipe: Recipe, target: Access, tell: Tell) -> str:
        """Leave `recipe.tag` in the target repository, complete or not at all; returns the digest.

        A tag that is there already is left as it is. What the build prints is kept where it fails. Raises `CannotBuild`
        or `Unavailable`.
        """
        registry = Registry.of(target)
        if (there := registry.digest(target.repository, recipe.tag)) is not None:
            return there
        if why := self.lacking(recipe):
            raise CannotBuild(why)
        own_folder(self._logs, CACHE_INSTEAD)
        log = self._logs / f"{recipe.tag}.log"
        with (
            tempfile.TemporaryDirectory(prefix="starburst-build-") as folder,
            open(log, "w", opener=owner_only) as kept,
        ):
            context.prepare(Path(folder), recipe)
            told = Told(kept.write, tell, log)
            with engine(_PATIENCE_S) as client:
                if recipe.platforms == (platform_of(client),):
                    self._one(client, Path(folder), recipe, target, told)
                else:
                    self._several(Path(folder), recipe, target, told)
        digest = registry.digest(target.repository, recipe.tag)
        if digest is None:
            raise Unavailable(f"{_image(target, recipe)} was pushed, but its registry does not have it: try again")
        log.unlink(missing_ok=True)
        return digest

    def _one(self, client: DockerClient, folder: Path, recipe: Recipe, target: Access, told: Told) -> None:
        image = _image(target, recipe)
        arguments = {"TARGETARCH": context.architecture(recipe.platforms[0]), **_proxies(), **context.arguments(recipe)}
        login = {"username": target.user, "password": target.password} if target.user else None
        try:
            with told.building():
                if login and context.pinned(recipe).partition("/")[0] == image.partition("/")[0]:
                    base = client.api.pull(context.pinned(recipe), stream=True, decode=True, auth_config=login)
                    told.steps(base)
                steps = client.api.build(
                    path=str(folder), tag=image, buildargs=arguments, network_mode=network(client), rm=True,
                    forcerm=True, decode=True, timeout=_PATIENCE_S,
                )  # fmt: skip
                told.steps(steps)
            with told.pushing(image, lambda: _there(target, recipe)):
                name, _, tag = image.rpartition(":")
                told.steps(client.api.push(name, tag, stream=True, decode=True, auth_config=login))
        finally:
            remove(client, image)

    def _several(self, folder: Path, recipe: Recipe, target: Access, told: Told) -> None:
        image, arguments = _image(target, recipe), {**_proxies(), **context.arguments(recipe)}
        with logged_in(target) as settings:
            env = {**os.environ, **arguments, **settings}
            env.pop("BUILDX_BUILDER", None)
            ensure_builder(env)
            try:
                told.command(build_command(folder, recipe, image, sorted(arguments)), env)
            except CannotBuild:
                if not _there(target, recipe):  # else somebody has pushed it meanwhile, and it stays
                    raise


def _image(target: Access, recipe: Recipe) -> str:
    return f"{urlsplit(target.url).netloc}/{target.repository}:{recipe.tag}"


def _there(target: Access, recipe: Recipe) -> bool:
    return Registry.of(target).digest(target.repository, recipe.tag) is not None


def _proxies() -> dict[str, str]:
    """Those this machine is told to use: docker knows them as build arguments, and keeps them out of the image."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if os.environ.get(name)}
