"""A lock, requirements file or pip's settings in; the package indexes they name, as settings for uv, out.

They may hold credentials: for uv's own environment only, never to be kept or shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from starburst_common.environment import Environment, conda, pipfile, script, texts
from starburst_common.environment.asked import well_formed
from starburst_common.environment.lines import is_file
from starburst_common.environment.pipconfig import PYPI, from_pip, uv_settings
from starburst_common.environment.projects import PROJECT
from starburst_common.toml import toml

_OPTION = re.compile(r"(-i|--index-url|--extra-index-url|--find-links)[\s=]+(.+)")


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
    if path.name == "Pipfile.lock":
        with well_formed(path):
            return uv_settings("", _beside_pypi(pipfile.registries(path)))
    if path.name == "pixi.lock" or path.suffix in (".yml", ".yaml"):
        with well_formed(path):
            return from_pip() | uv_settings("", _beside_pypi(conda.registries(path)))
    if path.name.startswith("pylock.") or (path.suffix == ".lock" and not path.name.startswith("requirements")):
        with well_formed(path):
            sources = dict(_sources(path))
        flat = [url for url, is_flat in sources.items() if is_flat]
        return uv_settings("", _beside_pypi(url for url, is_flat in sources.items() if not is_flat)) | _links(flat)
    with well_formed(path):
        return _told_to_uv(path) | told_to_pip(path)


def told_to_pip(path: Path | None) -> dict[str, str]:
    """Those that pip's settings, or a requirements file, name."""
    if path is None or (path.suffix in (".py", ".yml", ".yaml") and path.name not in PROJECT):
        return from_pip()
    files = [file for file in texts.files(path) if file.suffix not in (".toml", ".py", ".cfg")]
    found = [_OPTION.match(line) for file in files for line in texts.lines_of(file)]
    options = [(match[1], os.path.expandvars(match[2])) for match in found if match]
    indexes = uv_settings(
        next((url for option, url in options if option in ("-i", "--index-url")), ""),
        [url for option, url in options if option == "--extra-index-url"],
    )
    return from_pip() | indexes | _links(place for option, place in options if option == "--find-links")


def _beside_pypi(urls: Iterable[str]) -> list[str]:
    return [url for url in dict.fromkeys(urls) if not PYPI.fullmatch(url)]


def _links(places: Iterable[str]) -> dict[str, str]:
    joined = ",".join(dict.fromkeys(places))
    return {"UV_FIND_LINKS": joined} if joined else {}


def _told_to_uv(path: Path) -> dict[str, str]:
    """What a script, or the project in a folder, tells uv of indexes."""
    if path.suffix == ".py" and path.name not in PROJECT:
        content = script.table(path)
    else:
        project = path.parent / "pyproject.toml"
        content = toml(project) if is_file(project) else {}
    told = content.get("tool", {}).get("uv", {})
    told = {**told, **told.get("pip", {})}
    named = [
        (each, f"{each['name']}={each['url']}" if "name" in each else each["url"]) for each in told.get("index", [])
    ]
    default = [text for each, text in named if each.get("default")] or [told.get("index-url", "")]
    extra = [text for each, text in named if not each.get("default")]
    links = [texts.place(where, path.parent) for where in told.get("find-links", [])]
    return uv_settings(default[0], [*extra, *told.get("extra-index-url", [])]) | _links(links)


def _sources(path: Path) -> Iterable[tuple[str, bool]]:
    """The indexes that a lock names, each with whether it is a mere page or folder of files."""
    content = toml(path)
    project = path.parent / "pyproject.toml"
    named = toml(project).get("tool", {}).get("uv", {}).get("index", []) if project.is_file() else []
    known = {each["url"].rstrip("/"): each for each in named if "url" in each}
    for package in [*content.get("package", []), *content.get("packages", [])]:
        source = package.get("source", {})
        legacy = source.get("url") if source.get("type") == "legacy" else ""
        url = package.get("index") or source.get("registry") or legacy
        if not url:
            continue
        index = known.get(url.rstrip("/"), {})
        if index.get("format") == "flat" or not url.startswith("http"):
            yield texts.place(url, path.parent), True
        else:
            name = index.get("name", "")  # uv looks for UV_INDEX_<NAME>_PASSWORD
            yield (f"{name}={url}" if name else url), False
