"""Settings in, the backend they name out."""

from __future__ import annotations

import logging
from pathlib import Path

from starburst_common.config import settings
from starburst_common.errors import BadInput
from starburst_common.ports import Backend

_log = logging.getLogger("starburst")


def open_backend(backend: str | Backend = "auto") -> Backend:
    """The backend to use: one you made yourself, "aws", "local", or "auto": AWS where a site is configured, else local.

    Raises `BadInput` for any other name.
    """
    if isinstance(backend, Backend):
        return backend
    resolved = settings(backend=None if backend == "auto" else backend)
    if resolved.site is not None and resolved.backend != "local":
        _log.info("running on AWS: site %s in %s", resolved.site.name, resolved.site.region)
        from starburst_common.aws import aws_backend

        return aws_backend(resolved.site, keep_days=resolved.keep_days)
    if resolved.backend == "auto":
        _log.info("running on this machine (%s): no site is configured", resolved.home)
    return local_at(resolved.home, keep_days=resolved.keep_days)


def local_at(home: Path, *, keep_days: float = 7) -> Backend:
    """The embedded backend kept in a folder."""
    from starburst_common.local import local_backend

    try:
        return local_backend(home, keep_days=keep_days)
    except OSError as error:
        raise BadInput(f"home={str(home)!r} cannot be used: {error}: set STARBURST_HOME to a folder you own") from None
