"""The running interpreter's packages in; requirements that give the same elsewhere out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from starburst_common.environment.lines import OURS
from starburst_common.environment.needs import Node, needed, reach
from starburst_common.environment.resolve import compile_text, deadline, pin
from starburst_common.errors import CannotBuild, StarburstError, Unavailable
from starburst_common.phrases import ODD, oddity, one_line, our_log, without_credentials

_log = our_log()
TOOLS = frozenset({"pip", "setuptools", "wheel", "uv"})  #: they make environments and are seldom part of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed distribution."""

    name: str
    version: str
    metadata: Path  #: its .dist-info folder, or its older .egg-info

    def read(self, name: str) -> str:
        """One of its metadata files; "" where it lacks that."""
        try:
            return (self.metadata / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What is installed, by how it can be had elsewhere."""

    pins: dict[str, str]  #: exact requirements, by name
    roots: tuple[str, ...]  #: of those, the names that none of the others needs
    local: tuple[str, ...]  #: names of projects installed from a folder here


def installed() -> dict[str, Package]:
    """By normalized name; the first on sys.path counts, as it does for imports. Reads folders' names only."""
    found: dict[str, Package] = {}
    for entry in dict.fromkeys(sys.path):
        folder = Path(entry)
        for info in sorted((*folder.glob("*.dist-info"), *folder.glob("*.egg-info"))):
            name, _, version = info.stem.partition("-")
            if version:
                package = Package(name=canonicalize_name(name), version=version.split("-py3")[0], metadata=info)
                found.setdefault(package.name, package)
    return found


def state_of(packages: dict[str, Package]) -> str:
    """Text that changes with what is installed and from where."""
    lines = (f"{each.name}=={each.version} {_origin_text(each)}" for each in packages.values())
    return "\n".join(sorted(lines))


def versions(packages: dict[str, Package]) -> dict[str, str]:
    """Of the packages that came from an index."""
    return {each.name: each.version for each in packages.values() if not _origin_text(each) and each.name != OURS}


def copied(packages: dict[str, Package]) -> set[str]:
    """Names of those installed from a folder here as a copy: what is imported is not what is in the folder."""
    origins = {name: _origin(each) for name, each in packages.items()}
    return {name for name, origin in origins.items() if not origin.get("dir_info", {"editable": True}).get("editable")}


def requested(packages: dict[str, Package]) -> set[str]:
    """Names of those that were asked for, and not only needed, where that can be told."""
    asked = {each.name for each in packages.values() if (each.metadata / "REQUESTED").exists()}
    return asked - TOOLS if len(asked) < len(packages) else set()  # some installers say so of every package


def freeze(packages: dict[str, Package]) -> Frozen:
    """Raises `CannotBuild` that names packages which came from a file or a system that workers cannot reach."""
    edges = edges_of(packages)
    kept = needed(packages, edges, direct=requested(packages), never=TOOLS)
    pins, local, lost = dict[str, str](), list[str](), list[str]()
    for name in sorted(kept):
        package = packages[name]
        origin = _origin(package)
        if "dir_info" in origin:
            local.append(name)
        elif line := _line(package, origin):
            pins[name] = line
        else:
            lost.append(f"{name} (from {without_credentials(origin['url'])})")
    if lost:
        raise CannotBuild(
            f"installed from what workers cannot reach: {', '.join(lost)}. Publish it to an index, install it editable "
            "so that it travels with your code, list what your function needs in a requirements.txt, or give image=…"
        )
    return Frozen(pins=pins, roots=tuple(_roots(set(pins), edges)), local=tuple(local))


def resolve(frozen: Frozen, *, folder: Path, python: str, options: Sequence[str] = ()) -> str:
    """Requirements with hashes, and what the packages need on Linux beside what they need here.

    Packages that do not fit together, or cannot say what they need without being built, are taken as they are.
    Raises `CannotBuild` that names all that cannot be had, `Unavailable` where the indexes cannot be reached.
    """
    if not frozen.pins:
        return ""
    until = deadline()
    by_version = {name: line.partition("==")[2] for name, line in frozen.pins.items() if " @ " not in line}
    wanted = [frozen.pins[name] for name in (*frozen.roots, *(set(frozen.pins) - set(by_version)))]
    try:
        text = "\n".join(dict.fromkeys(wanted))
        return compile_text(
            text, folder=folder, python=python, constraints=by_version, options=options, until=deadline(0.5)
        )
    except Unavailable:
        raise
    except StarburstError as error:
        text = pin(frozen.pins.values(), folder=folder, python=python, options=options, until=until)
        _log.warning(
            "the packages installed here do not fit together, or one must be built to know what it needs (see `uv pip "
            "check`): workers get just the same ones. uv said: %s",
            " ".join(str(error).split())[:300],
        )
        return text


def _origin_text(package: Package) -> str:
    """PEP 610. conda's packages name the folder where they were built: they came from a channel."""
    text = package.read("direct_url.json")
    return "" if text and package.read("INSTALLER").strip() == "conda" else text


def _origin(package: Package) -> dict[str, Any]:
    """The same, empty for what came from an index. Raises `CannotBuild` for what is not as PEP 610 has it."""
    if not (text := _origin_text(package)):
        return {}
    try:
        origin = json.loads(text)
        tables = [origin[name] for name in ("dir_info", "vcs_info", "archive_info") if name in origin]
        texts = [origin["url"], origin.get("subdirectory", "")]
        if "vcs_info" in origin:
            texts += [origin["vcs_info"]["vcs"], origin["vcs_info"]["commit_id"]]
        archive = origin.get("archive_info", {})
        texts += [archive.get("hash", "="), *archive.get("hashes", {}).values()]
        if not all(isinstance(each, dict) for each in tables) or not all(isinstance(each, str) for each in texts):
            raise TypeError("something of the wrong type")
    except ODD as error:
        raise CannotBuild(
            f"{package.metadata / 'direct_url.json'} does not say where {package.name} came from "
            f"({oddity(error)}): install it anew"
        ) from None
    return dict(origin)


def _line(package: Package, origin: dict[str, Any]) -> str:
    if not origin:
        return f"{package.name}=={package.version}"
    url = without_credentials(origin["url"])
    inside = f"#subdirectory={origin['subdirectory']}" if origin.get("subdirectory") else ""
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f"{package.name} @ git+{url}@{vcs['commit_id']}{inside}" if vcs["vcs"] == "git" else ""
    if url.startswith("file:"):
        return ""
    archive = origin.get("archive_info", {})
    hashes = archive.get("hashes") or dict([archive["hash"].split("=", 1)] if archive.get("hash") else [])
    sha = f"#sha256={hashes['sha256']}" if "sha256" in hashes else ""
    return f"{package.name} @ {url}{sha or inside}"


def edges_of(packages: dict[str, Package]) -> dict[Node, list[Node]]:
    """What each package needs here, and each extra of it that somebody asks for."""
    edges: dict[Node, list[Node]] = {}
    texts = {name: _requires(each) for name, each in packages.items()}
    parsed = {name: list(_parsed(lines)) for name, lines in texts.items()}
    wanted = {(name, "") for name in packages}
    while wanted:
        name, extra = wanted.pop()
        nodes = list[Node]()
        for each in parsed.get(name, []):
            if _applies(each, extra):
                target = canonicalize_name(each.name)
                nodes += [(target, ""), *((target, canonicalize_name(asked)) for asked in each.extras)]
        edges[name, extra] = nodes
        wanted |= set(nodes) - set(edges)
    return edges


def _requires(package: Package) -> list[str]:
    """Its requirements as written. Raises `CannotBuild` where its metadata cannot be read."""
    try:
        return Distribution.at(package.metadata).requires or []
    except (OSError, ValueError) as error:
        raise CannotBuild(
            f"{package.metadata} does not say what {package.name} needs ({one_line(str(error), 200)}): install it anew"
        ) from None


def _applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    plain = requirement.marker.evaluate({"extra": ""})
    return requirement.marker.evaluate({"extra": extra}) and not plain if extra else plain


#: What requirements raise that were written before there was a grammar, or ask for what no environment has.
_SENSELESS = (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName)


def _parsed(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            requirement = Requirement(line)
            _applies(requirement, "")
        except _SENSELESS:
            continue
        yield requirement


def _roots(names: set[str], edges: dict[Node, list[Node]]) -> list[str]:
    """The names that no other needs, and one of each circle of those that need each other."""
    targets = {target for (name, _), nodes in edges.items() if name in names for target, _ in nodes if target != name}
    roots = sorted(names - targets)
    for name in sorted(names):
        if name not in {reached for reached, _ in reach([(root, "") for root in roots], edges)}:
            roots.append(name)
    return roots
