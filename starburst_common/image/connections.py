"""A proxy in; connections through it, that trust this machine's own authorities too, out."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from urllib3 import PoolManager, ProxyManager, make_headers

from starburst_common.errors import BadInput

_CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")  # of SSL_CERT_FILE, OpenSSL knows itself


def pool(proxy: str) -> PoolManager:
    context = ssl.create_default_context()
    for name in _CA_FILES:
        if path := os.environ.get(name):
            try:
                context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
            except OSError as error:
                raise BadInput(f"{name}={path} names no certificates that can be read: {error}") from error
    if not proxy:
        return PoolManager(ssl_context=context, maxsize=8)
    split = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    login = split.netloc.rpartition("@")[0]
    return ProxyManager(
        urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2])),
        proxy_headers=make_headers(proxy_basic_auth=unquote(login)) if login else None,
        ssl_context=context,
        maxsize=8,
    )
