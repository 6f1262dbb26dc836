"""pip's settings in; those of its package indexes, as uv wants to hear them, out. They may hold credentials."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_config_path

_OF_UV = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")


def from_pip() -> dict[str, str]:
    """The indexes that pip was told of, as uv wants to hear it; none where uv was told of some itself.

    Only those that are reached by http: what lies on this machine cannot be had elsewhere.
    """
    if any(os.environ.get(name) for name in _OF_UV):
        return {}
    settings = dict[str, str]()
    for file in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            settings |= dict(parser.items(section)) if parser.has_section(section) else {}
    default = os.environ.get("PIP_INDEX_URL") or settings.get("index-url", "")
    extra = os.environ.get("PIP_EXTRA_INDEX_URL") or settings.get("extra-index-url", "")
    return uv_settings("".join(_remote(default.split())[:1]), _remote(extra.split()))


def _pip_files() -> list[Path]:
    """Those that hold least first."""
    if own := os.environ.get("PIP_CONFIG_FILE"):
        return [] if own == os.devnull else [Path(own)]
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    users = [Path.home() / ".pip" / name, user_config_path("pip") / name]
    return [Path("/etc/pip.conf"), *users, Path(sys.prefix, name)]


def _remote(urls: Iterable[str]) -> list[str]:
    return [url for url in urls if url.startswith(("http://", "https://"))]


def uv_settings(default: str, extra: list[str]) -> dict[str, str]:
    """Environment variables for uv; among several indexes the best version counts, as it does for pip."""
    settings = {"UV_DEFAULT_INDEX": default} if default else {}
    return settings | ({"UV_INDEX": " ".join(extra), "UV_INDEX_STRATEGY": "unsafe-best-match"} if extra else {})
