"""pip's settings in; those of its package indexes, as uv wants to hear them, out. They may hold credentials."""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_config_path

PYPI = re.compile(r"https://pypi\.org/simple/?")
_BLANKS = re.compile(r"(?<=\S)[^\S\n]{2,}")  #: but indents: the parser takes the square of their number
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
            parser.read_string(_BLANKS.sub(" ", file.read_text(encoding="utf-8")))
        except (configparser.Error, UnicodeDecodeError, OSError):
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
    """Environment variables for uv, to which the extra indexes come first, and PyPI last, whatever it was called.

    Of several, the first that has a package gives it: who publishes a higher version elsewhere changes nothing. Which
    other rule holds is for uv's `index-strategy` to say.

    >>> uv_settings("https://mine/simple", ["https://pypi.org/simple"])
    {'UV_DEFAULT_INDEX': 'https://pypi.org/simple', 'UV_INDEX': 'https://mine/simple'}
    """
    if default and (public := [url for url in extra if PYPI.fullmatch(url)]):
        default, extra = public[0], [*(url for url in extra if url not in public), default]
    settings = {"UV_DEFAULT_INDEX": default} if default else {}
    return settings | ({"UV_INDEX": " ".join(extra)} if extra else {})
