"""A site in, its images out: kept in ECR, built here with or without an engine, or by CodeBuild."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from starburst_common.aws.requests import tags
from starburst_common.config import ImageSettings
from starburst_common.errors import StarburstError
from starburst_common.sites.site import Site

if TYPE_CHECKING:
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.store import S3Objects
    from starburst_common.image.build import SiteImages

PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}


class EcsImages:
    """`Images` of a site. What makes them is imported when one is wanted: workers have no need of it."""

    def __init__(self, site: Site, settings: ImageSettings, clients: Clients, store: S3Objects) -> None:
        self._site, self._settings, self._clients, self._store = site, settings, clients, store

    def ensure(self, image: str) -> str:
        if not image and self._site.image:
            return self._site.image
        return self.opened.ensure(image)

    def nbytes(self, image: str) -> int:
        from starburst_common.aws.ecr import EcrRepository

        wanted, repository = image or self._site.image, EcrRepository(self._clients, self._site.repository, tags={})
        with suppress(StarburstError):
            stored = sorted(repository.images(), key=lambda each: each.pushed_at, reverse=True)
            found = (each for each in stored if not wanted or wanted == f"{repository.uri}:{each.tag}")
            return next((each.size_bytes for each in found), 0)
        return 0

    @cached_property
    def opened(self) -> SiteImages:
        """To look at them, build and remove them."""
        from starburst_common.aws.codebuild import CodeBuildBuilder
        from starburst_common.aws.ecr import EcrRepository
        from starburst_common.image.build import SiteImages
        from starburst_common.image.docker import DockerBuilder
        from starburst_common.image.layer import LayerBuilder

        site, marks = self._site, tags(self._site.name, self._site.tags)
        return SiteImages(
            repository=EcrRepository(self._clients, site.repository, tags=marks),
            store=self._store,
            builders=(
                LayerBuilder(),
                DockerBuilder(),
                CodeBuildBuilder(self._clients, self._store, site=site.name, role=site.build_role, tags=marks),
            ),
            settings=self._settings,
            platform=PLATFORMS[site.architecture],
            given=site.image,
        )
