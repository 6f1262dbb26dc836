"""Settings in, the backend they name out."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from starburst_common.errors import BadInput, NoSpace
from starburst_common.phrases import one_line, our_log, told
from starburst_common.ports import Backend, Repository

if TYPE_CHECKING:
    from starburst_common.image.build import SiteImages

_log = our_log()


def open_backend(backend: str | Backend = "auto") -> Backend:
    """The backend to use: one you made yourself, "aws", "local", or "auto": AWS where a site is configured, else local.

    Raises `BadInput` for any other name.
    """
    if isinstance(backend, Backend):
        return backend
    from starburst_common.config import settings  # a worker has its orders instead
    from starburst_common.outside import halved_sites

    resolved = settings(backend=None if backend == "auto" else backend)
    if resolved.site is not None and resolved.backend != "local":
        _log.info("running on AWS: site %s in %s", resolved.site.name, resolved.site.region)
        from starburst_common.aws import aws_backend

        opened = aws_backend(resolved.site, keep_days=resolved.keep_days, image=resolved.image)
        return replace(opened, discount=resolved.discount)
    if resolved.backend == "auto":
        _log.info("running on this machine (%s): no site is configured", resolved.home)
        if halves := halved_sites():
            _log.warning(
                "site %s is there in part only, so this runs on this machine: `starburst setup` makes it whole, "
                "`starburst teardown --with-data` takes it away; STARBURST_BACKEND=local says that it is meant so",
                ", ".join(halves),
            )
    return replace(local_at(resolved.home, keep_days=resolved.keep_days), discount=resolved.discount)


def preload() -> None:
    """Import now what the first backend of this process would wait for."""
    import starburst_common.config
    import starburst_common.local  # noqa: F401


def open_site_images() -> tuple[Backend, SiteImages]:
    """The configured site, and its images. Raises `BadInput` where no site is configured."""
    from starburst_common.aws.images import EcsImages

    backend = open_backend("aws")
    if not isinstance(backend.images, EcsImages):
        raise BadInput("images are made for AWS only: on this machine workers run in your own environment")
    return backend, backend.images.opened


def open_images() -> tuple[Repository, frozenset[str]]:
    """The configured site's repository, and the tags that open fleets use."""
    from starburst_common.image.keep import tags_in_use

    backend, images = open_site_images()
    return images.repository, tags_in_use(backend.store, images.repository)


def local_at(home: Path, *, keep_days: float = 7) -> Backend:
    """The embedded backend kept in a folder."""
    from starburst_common.local import local_backend

    try:
        return local_backend(home, keep_days=keep_days)
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput | NoSpace):
            raise
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace.on(str(home)) from None
        raise BadInput(
            f"home={told(str(home))} cannot be used: {one_line(str(error), 300)}: set STARBURST_HOME to a folder you "
            "own"
        ) from None
