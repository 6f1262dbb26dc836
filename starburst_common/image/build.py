"""A user's environment in, the name of an image that workers run out: looked up, and built once where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from typing import Any, Protocol

from starburst_common.config import ImageSettings
from starburst_common.environment import Environment
from starburst_common.environment.find import find_environment
from starburst_common.errors import BadInput, CannotBuild, Exists, NotFound, Refused, StarburstError
from starburst_common.image import contents, oci
from starburst_common.image.keep import collect, tags_in_use
from starburst_common.image.recipe import PYTHON_LABEL, Recipe
from starburst_common.image.registry import MANIFEST_BYTES, Manifest, Registry, parse_reference
from starburst_common.image.wheels import NoWheel
from starburst_common.names import build_turns
from starburst_common.phrases import our_log
from starburst_common.ports import SMALL_BYTES, ObjectStore, Repository
from starburst_common.steps import STEPS

_log = our_log(STEPS)
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BEAT_S = 5.0  #: who builds says so that often
LOST_S = 30.0  #: who has not said so for so long is dead
_PULL_TOLD_DAYS = 1  #: ECR tells the last pull that much late. Source: Amazon ECR API reference, ImageDetail


class Builder(Protocol):
    """One way to make an image."""

    name: str

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so, here; empty if it can, as far as can be told without building."""

    def build(self, recipe: Recipe, target: Any, tell: Callable[[str], None]) -> str:
        """Leave the recipe's tag in the target repository, complete or not at all; returns the digest.

        A tag that is there already is no error. Raises `CannotBuild` or `Unavailable`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteImages:
    """The images of one site. Nothing is asked of anybody before a method is called."""

    repository: Repository
    store: ObjectStore
    builders: tuple[Builder, ...]  #: those that may be used, the quickest first
    settings: ImageSettings
    platform: str  #: of the site's workers
    given: str = ""  #: the site's own image, if it has one for all runs
    clock: Callable[[], float] = time.time

    def ensure(self, image: str) -> str:
        """See `starburst_common.ports.Images`."""
        if image:
            self.check(image)
            return image
        if self.given:
            return self.given
        here = Path.cwd()
        return self.built(self.recipe(here), builder=self.settings.in_project(here).builder)

    def environment(self, folder: Path) -> Environment:
        """What is needed, as the project round a folder says, or the running interpreter."""
        settings = self.settings.in_project(folder)
        return find_environment(
            folder,
            requirements=(folder / settings.requirements) if settings.requirements else None,
            groups=settings.groups,
            extras=settings.extras,
            index_strategy=settings.index_strategy,
        )

    def recipe(self, folder: Path, environment: Environment | None = None) -> Recipe:
        """All that the image for a folder's project is made of. Raises `BadInput`, `CannotBuild` or `Unavailable`."""
        settings = self.settings.in_project(folder)
        base = settings.base or f"public.ecr.aws/docker/library/python:{PYTHON}-slim"
        url, repository, reference = parse_reference(base)
        digest = self._registry(url).digest(repository, reference)
        if digest is None:
            raise CannotBuild(f"the base image {base} is not there: give another as `base` in the settings' [image]")
        return Recipe(
            environment=environment or self.environment(folder),
            platforms=settings.platforms or (self.platform,),
            base=base,
            base_digest=digest,
            worker=contents.digest(),
            system_packages=settings.system_packages,
            build_steps=settings.build_steps,
        )

    def reference(self, recipe: Recipe) -> str:
        """What its image is called."""
        return f"{self.repository.uri}:{recipe.tag}"

    def there(self, recipe: Recipe) -> bool:
        """Whether its image is in the repository."""
        access = self.repository.access()
        return Registry.of(access).digest(access.repository, recipe.tag) is not None

    def built(self, recipe: Recipe, *, builder: str = "auto") -> str:
        """The recipe's image, built where it is not there; who comes at the same time, on whatever machine, waits.

        Raises `CannotBuild` or `Unavailable`; whoever tries again begins anew.
        """
        while not self.there(recipe):
            self.repository.ensure()
            turn = Turn(self.store, build_turns(recipe.tag))
            if turn.take(lambda: _log.info("somebody else is building the image %s: waiting for it", recipe.tag)):
                with turn.kept():
                    if not self.there(recipe):  # else who had the turn before has just ended it
                        self._build(recipe, builder)
                        self._tidy()
                break
        return self.reference(recipe)

    def check(self, image: str) -> None:
        """Raise `BadInput` unless an image is there, for the site's platform and for the Python that runs here."""
        url, repository, reference = parse_reference(image)
        registry = self._registry(url)
        manifest = registry.manifest(repository, reference)
        if manifest is None:
            raise BadInput(f"image={image!r} is not in its registry: push it there, or correct the name")
        with oci.well_formed():
            have = oci.platforms(manifest.content) if "manifests" in manifest.content else []
        if self.platform in have:
            with oci.well_formed():
                wanted = str(oci.pick(manifest, self.platform))
            manifest = registry.manifest(repository, wanted)
            if manifest is None:
                raise BadInput(f"image={image!r} lacks what it has for {self.platform}: push it again")
        config = {} if have and self.platform not in have else _config(registry, repository, manifest)
        with oci.well_formed():
            have = have or [oci.platform(config)]
            labels = (config.get("config") or {}).get("Labels") or {}
            python = labels.get(PYTHON_LABEL)
        if self.platform not in have:
            raise BadInput(
                f"image={image!r} is for {', '.join(have)}, the site's workers are {self.platform}: build it for that, "
                "or correct the site's architecture"
            )
        if python is None:
            raise BadInput(
                f"image={image!r} does not hold the worker: build it with `starburst image build`, or on top of an "
                "image that was"
            )
        if python != PYTHON:
            raise BadInput(
                f"image={image!r} has Python {python}, here runs {PYTHON}: start the run from Python {python}, or "
                "build the image from here"
            )

    def _registry(self, url: str) -> Registry:
        host = ""
        with suppress(NotFound):  # no repository yet, so none of ours is asked for
            host = self.repository.uri.partition("/")[0]
        return Registry.of(self.repository.access()) if url.partition("://")[2] == host else Registry(url)

    def _build(self, recipe: Recipe, wanted: str) -> None:
        refused: list[str] = []
        for builder in (each for each in self.builders if wanted in ("auto", each.name)):
            if why := builder.lacking(recipe):
                refused.append(f"{builder.name}: {why}")
                continue
            began = time.monotonic()
            _log.info("building the image %s with %s", recipe.tag, builder.name)
            try:
                builder.build(recipe, self.repository.access(), _log.info)
            except NoWheel as error:
                refused.append(f"{builder.name}: {error}")
                continue
            _log.info("built the image %s in %.1f s", recipe.tag, time.monotonic() - began)
            return
        raise CannotBuild(f"no builder can make the image {recipe.tag}: {'; '.join(refused)}")

    def _tidy(self) -> None:
        """Remove the images that nobody needs any more; what hinders that is told, and is no error."""
        keep_days = self.settings.keep_days + _PULL_TOLD_DAYS
        try:
            used = tags_in_use(self.store, self.repository)
            gone = collect(self.repository, in_use=used, keep_days=keep_days, now=self.clock(), really=True)
        except StarburstError as error:
            _log.warning("images that nobody has pulled for long stay: %s", error)
            return
        for image in gone:
            _log.info("removed the image %s, which nobody has pulled for %d days", image.tag, keep_days)


class Turn:
    """The right to build one tag, held by one process at a time: the last of a folder's numbered objects.

    Who holds it writes it anew every few seconds; who sees it unchanged for longer takes the next number. If two come
    to build all the same, neither spoils the other's image.
    """

    def __init__(self, store: ObjectStore, folder: str, *, beat_s: float = BEAT_S, lost_s: float = LOST_S) -> None:
        self._store, self._folder, self._beat_s, self._lost_s = store, folder, beat_s, lost_s
        self._key = ""

    def take(self, waiting: Callable[[], None] = lambda: None) -> bool:
        """Take it if nobody holds it, or who does is lost; else say so, wait for their end, and return False."""
        seen: tuple[str, bytes] | None = None
        since = time.monotonic()
        while True:
            keys = list(self._store.list(self._folder))
            if not keys or (seen is not None and time.monotonic() - since > self._lost_s):
                last = keys[-1].rpartition("/")[2] if keys else ""
                number = 1 + int(last) if last.isdecimal() and len(last) < 20 else 0
                self._key = f"{self._folder}{number:06d}"
                try:
                    self._store.create(self._key, token_hex(8).encode())
                except Exists:
                    return False
                return True
            with suppress(NotFound):
                try:
                    now = (keys[-1], bytes(self._store.get(keys[-1], SMALL_BYTES)))
                except Refused:  # another's: it does not change
                    now = (keys[-1], b"")
                if seen is None:
                    seen = now
                    waiting()
                elif now != seen:
                    seen, since = now, time.monotonic()
            time.sleep(min(1.0, self._beat_s))
            if not list(self._store.list(self._folder)):
                return False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Hold it while the block runs; then nobody does."""
        over = Event()

        def beat() -> None:
            while not over.wait(self._beat_s):
                with suppress(StarburstError, OSError):
                    self._store.put(self._key, token_hex(8).encode())

        beating = Thread(target=beat, name="starburst-build-turn", daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
            self._store.delete_folder(self._folder)


def _config(registry: Registry, repository: str, manifest: Manifest) -> dict[str, Any]:
    with oci.well_formed():
        return oci.parsed(registry.blob(repository, manifest.content["config"]["digest"], most=MANIFEST_BYTES))
