"""A lock of Poetry 1 in, which does not say what a package is for; the packages that workers need of it out.

Poetry walks from what the project asks for, along what each package needs, and so does this: once for each machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from starburst_common.environment.asked import Asked, Table, offered, poetry_specifiers
from starburst_common.environment.lines import MACHINES, counts
from starburst_common.toml import toml

_ROUNDS = 10  #: of choosing anew, where another version of one package asks for other versions of the next


def needed_of(path: Path, lock: Table, python: str, asked: Asked) -> Iterator[tuple[Table, str]]:
    """The lock's packages, each with its files, that workers need, and the marker of the machines that do."""
    project = toml(path.parent / "pyproject.toml").get("tool", {}).get("poetry", {})
    groups = {name: group.get("dependencies", {}) for name, group in project.get("group", {}).items()}
    groups |= {"dev": project["dev-dependencies"]} if "dev-dependencies" in project else {}
    offered(path, "group", asked.groups, groups)
    by_extra = {_name(text) for extra in asked.extras for text in lock.get("extras", {}).get(extra, [])}
    main = {name: how for name, how in project.get("dependencies", {}).items() if name != "python"}
    asks = [need for table in (main, *(groups[group] for group in asked.groups)) for need in _needs(table)]
    asks = [need for need in asks if not need.optional or need.name in by_extra]
    versions = _versions(lock, python)
    for_machine = {machine: _chosen(asks, versions, python, machine) for machine in MACHINES}
    for package in (each for several in versions.values() for each in several):
        machines = [machine for machine in MACHINES if package in for_machine[machine]]
        if machines:
            yield package, "" if len(machines) == len(MACHINES) else f'platform_machine == "{machines[0]}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What a package, or the project, asks for."""

    name: str
    constraint: str
    extras: tuple[str, ...]
    marker: str
    python: str
    platform: str
    optional: bool

    def counts(self, python: str, machine: str, extra: str) -> bool:
        """Whether it holds there, for those who ask with an extra or without."""
        return (
            self.platform == "linux"
            and _admits(self.python, python)
            and (not self.marker or counts(Marker(self.marker), python, machines=[machine], extra=extra))
        )


def _needs(table: Table) -> Iterator[_Need]:
    for name, hows in table.items():
        for how in hows if isinstance(hows, list) else [hows]:
            each = how if isinstance(how, dict) else {"version": how}
            yield _Need(
                name=_name(name),
                constraint=each.get("version", "*"),
                extras=tuple(map(canonicalize_name, each.get("extras", ()))),
                marker=each.get("markers", ""),
                python=each.get("python", "*"),
                platform=each.get("platform", "linux"),
                optional=bool(each.get("optional")),
            )


def _versions(lock: Table, python: str) -> dict[str, list[Table]]:
    """What a lock has for this Python, by name; the highest version first."""
    files = lock.get("metadata", {}).get("files", {})  # where Poetry before 1.3 has them
    found: dict[str, list[Table]] = {}
    for each in lock.get("package", []):
        if _admits(each.get("python-versions", "*"), python):
            found.setdefault(canonicalize_name(each["name"]), []).append({"files": files.get(each["name"], []), **each})
    for several in found.values():
        several.sort(key=lambda each: Version(each["version"]), reverse=True)
    return found


def _chosen(asks: list[_Need], versions: dict[str, list[Table]], python: str, machine: str) -> list[Table]:
    """The packages for a machine: of each the highest version that all admit who need it there."""
    choice = {name: several[0] for name, several in versions.items()}
    for _ in range(_ROUNDS):
        needs = _followed(asks, choice, python, machine)
        admitted = {
            name: [each for each in several if all(_admits(need, each["version"]) for need in needs.get(name, ()))]
            for name, several in versions.items()
        }
        again = {name: (admitted[name] or several)[0] for name, several in versions.items()}
        if again == choice:
            break
        choice = again
    return [choice[name] for name in _followed(asks, choice, python, machine)]


def _followed(asks: list[_Need], choice: dict[str, Table], python: str, machine: str) -> dict[str, list[str]]:
    """The names of all that is needed, each with the constraints of those who need it."""
    found: dict[str, list[str]] = {}
    seen, left = set[tuple[str, str]](), [need for need in asks if need.counts(python, machine, "")]
    while left:
        need = left.pop()
        if need.name not in choice:
            continue
        found.setdefault(need.name, []).append(need.constraint)
        for extra in ("", *need.extras):
            if (need.name, extra) not in seen:
                seen.add((need.name, extra))
                theirs = _needs(choice[need.name].get("dependencies", {}))
                left += [each for each in theirs if each.counts(python, machine, extra)]
    return found


def _admits(constraint: str, version: str) -> bool:
    """Whether Poetry's constraint holds for a version, or for any release of a minor version of Python."""
    releases = [version, *(f"{version}.{patch}" for patch in range(40) if version.count(".") == 1)]
    for part in constraint.split("||"):
        text = poetry_specifiers(part.strip())
        try:
            allowed = SpecifierSet("" if text == "*" else text)
        except InvalidSpecifier:
            return True
        if any(allowed.contains(release, prereleases=True) for release in releases):
            return True
    return False


def _name(text: Any) -> str:
    return canonicalize_name(re.split(r"[\s(\[<>=!~;]", text.strip())[0])
