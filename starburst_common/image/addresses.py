"""Where a registry sends us, in; an address that HTTP goes to, out. Pure."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from starburst_common.errors import CannotBuild
from starburst_common.phrases import told


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def sent_to(base: str, to: str) -> str:
    """Where a registry sends us. Raises `CannotBuild` where that is nowhere that HTTP goes."""
    try:
        url = urljoin(base, to)
        split = urlsplit(url)
        if split.scheme in ("http", "https") and split.hostname and (split.port is None or split.port) and _plain(url):
            return url
    except ValueError:
        pass
    raise CannotBuild(f"{urlsplit(base).netloc.rpartition('@')[2]} sends us to {told(to)}, which is no address of HTTP")


def _plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url
