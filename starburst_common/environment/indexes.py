"""A lock, requirements file or pip's settings in; the package indexes they name, as settings for uv, out.

They may hold credentials: for uv's own environment only, never to be kept or shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from starburst_common.environment import Environment, locks, texts
from starburst_common.environment.lines import logical_lines
from starburst_common.environment.pipconfig import PYPI, from_pip, uv_settings
from starburst_common.toml import toml

_OPTION = re.compile(r"(-i|--index-url|--extra-index-url)[\s=]+(\S+)")


def indexes_of(environment: Environment) -> dict[str, str]:
    """`index_settings` for where an environment was found, to install what it says.

    Where hashes say which files those are, any index may give them.
    """
    file = Path(environment.source)
    found = index_settings(file if file.is_file() else None)
    if "UV_INDEX" in found and all("--hash=" in line or " @ " in line for line in environment.requirements):
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def index_settings(path: Path | None) -> dict[str, str]:
    """Variables with which uv finds what `find_environment` found; `path` is its file, None after a freeze."""
    if path is None:
        return from_pip()
    if path.name.endswith(".lock") or path.name.startswith("pylock."):
        with locks.well_formed(path):
            urls = dict.fromkeys(_registries(path))
        return uv_settings("", [url for url in urls if not PYPI.fullmatch(url)])
    files = [file for file in texts.files(path) if file.suffix not in (".toml", ".py", ".cfg")]
    found = [_OPTION.match(line) for file in files for line in logical_lines(file.read_text(encoding="utf-8-sig"))]
    options = [(match[1], os.path.expandvars(match[2])) for match in found if match]
    return from_pip() | uv_settings(
        next((url for option, url in options if option != "--extra-index-url"), ""),
        [url for option, url in options if option == "--extra-index-url"],
    )


def _registries(path: Path) -> Iterable[str]:
    content = toml(path)
    project = path.parent / "pyproject.toml"
    named = toml(project).get("tool", {}).get("uv", {}).get("index", []) if project.is_file() else []
    names = {each["url"].rstrip("/"): each.get("name", "") for each in named if "url" in each}
    for package in [*content.get("package", []), *content.get("packages", [])]:
        source = package.get("source", {})
        legacy = source.get("url") if source.get("type") == "legacy" else ""
        url = package.get("index") or source.get("registry") or legacy
        if url and url.startswith("http"):
            name = names.get(url.rstrip("/"), "")  # uv looks for UV_INDEX_<NAME>_PASSWORD
            yield f"{name}={url}" if name else url
