"""Lock files of Poetry, PDM and PEP 751 in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from starburst_common import phrases
from starburst_common.environment.lines import MACHINES, OURS, counts, logical_lines, requirement
from starburst_common.environment.needs import Edges, Node, needed
from starburst_common.errors import BadInput
from starburst_common.toml import toml

Table = dict[str, Any]
_log = phrases.our_log()
_EVER, _NEVER = 'python_version >= "3"', 'python_version < "3"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which part of a lock is wanted."""

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    folder: Path = Path()  #: where the code is
    index_strategy: str = ""  #: of uv, where it has to choose; its own where empty

    @property
    def options(self) -> list[str]:
        """For uv, where it resolves."""
        return [f"--index-strategy={self.index_strategy}"] if self.index_strategy else []

    def member(self, lock: Path) -> str:
        """Where the code is as seen from a lock: "." if not below."""
        try:
            return self.folder.relative_to(lock.parent.resolve()).as_posix()
        except ValueError:
            return "."


def well_formed(path: Path) -> AbstractContextManager[None]:
    """Raises `BadInput` where a file lacks what its program writes there, or has it of another type."""
    return phrases.well_formed(
        lambda what: BadInput(
            f"{path}: not as the program that makes such files writes it ({what}): have it written anew"
        )
    )


def alone(path: Path) -> list[Path]:
    """A file that needs no other."""
    return [path]


def with_project(path: Path) -> list[Path]:
    """The lock, and the project it was made for."""
    return [file for file in (path, path.parent / "pyproject.toml") if file.is_file()]


def read_pylock(path: Path, python: str, asked: Asked) -> str:
    """PEP 751. Groups and extras are those of the lock itself; its default groups count."""
    lock = toml(path)
    admit(path, lock.get("requires-python", ""), python)
    admit_machines(path, machines_of(lock.get("environments", []), python))
    offered(path, "extra", asked.extras, lock.get("extras", []))
    offered(path, "group", asked.groups, lock.get("dependency-groups", []))
    groups = {*asked.groups, *lock.get("default-groups", [])}
    lines = list[str]()
    for each in lock.get("packages", []):
        marker = _decided(each.get("marker", ""), extras=asked.extras, groups=groups)
        hashes = [_hash(file) for file in (*each.get("wheels", []), *([each["sdist"]] if "sdist" in each else []))]
        if "vcs" in each:
            vcs = each["vcs"]
            where = f"git+{vcs.get('url') or _uri(path, vcs['path'])}@{vcs['commit-id']}"
            lines.append(exact_line(each["name"], where, marker, [], vcs.get("subdirectory")))
        elif "directory" in each:
            lines.append(relative(each["directory"]["path"]))
        elif "archive" in each:
            archive = each["archive"]
            inside = archive.get("subdirectory")
            lines.append(
                exact_line(each["name"], archive["url"], marker, [_hash(archive)], inside)
                if "url" in archive
                else relative(archive["path"])
            )
        else:
            lines.append(exact_line(each["name"], f"=={each.get('version') or _version(each)}", marker, hashes))
    edges: dict[Node, list[Node]] = {
        (canonicalize_name(each["name"]), ""): [(canonicalize_name(to["name"]), "") for to in each["dependencies"]]
        for each in lock.get("packages", [])
        if "dependencies" in each
    }
    return without_ours("\n".join(lines), edges, ())


def read_poetry(path: Path, python: str, asked: Asked) -> str:
    """Poetry 2 writes groups and markers into its lock; of an older one's packages, those that the project needs."""
    lock = toml(path)
    admit(path, str(lock.get("metadata", {}).get("python-versions", "")), python)
    packages: list[Table] = lock.get("package", [])
    offered(path, "extra", asked.extras, lock.get("extras", {}))
    if any("groups" not in each for each in packages):
        from starburst_common.environment import poetry1

        lines = [_poetry_line(path, each, marker) for each, marker in poetry1.needed_of(path, lock, python, asked)]
    else:
        lines = list(_poetry_lines(path, packages, asked))
    edges = {node: targets for each in packages for node, targets in _poetry_edges(each)}
    return without_ours("\n".join(lines), edges, _project_names(path.parent / "pyproject.toml"))


def _poetry_lines(path: Path, packages: Iterable[Table], asked: Asked) -> Iterator[str]:
    groups = {"main", *asked.groups}
    for each in packages:
        wanted = [group for group in each["groups"] if group in groups]
        markers = each.get("markers", "")
        texts = [markers.get(group, "") for group in wanted] if isinstance(markers, dict) else [markers][: len(wanted)]
        marker = "" if "" in texts else " or ".join(f"({text})" for text in texts)
        if wanted:
            yield _poetry_line(path, each, _decided(marker, extras=asked.extras, groups=groups))


def read_pdm(path: Path, python: str, asked: Asked) -> str:
    """PDM writes groups and markers into its lock under the strategy `inherit_metadata`, its default since 2.11."""
    lock = toml(path)
    metadata = lock.get("metadata", {})
    targets = metadata.get("targets", [])
    for target in targets[:1]:
        admit(path, target.get("requires_python", ""), python)
    platforms = [target.get("platform", "linux_") for target in targets]  # as manylinux_2_40_x86_64; none: all
    linux = " ".join(each for each in platforms if "linux" in each)
    admit_machines(
        path, [machine for machine in MACHINES if machine in linux or "linux_" in linux.split() or not targets]
    )
    if "inherit_metadata" not in metadata.get("strategy", []):
        raise BadInput(
            f"{path}: it does not say which group a package is for. Run `pdm lock --strategy inherit_metadata`, or "
            "`pdm export --output requirements.txt` and say requirements=…"
        )
    groups = {"default", *asked.groups, *asked.extras}  # to PDM an extra is a group
    offered(path, "group", [*asked.groups, *asked.extras], metadata.get("groups", []))
    lines, edges = list[str](), dict[Node, list[Node]]()
    for each in lock.get("package", []):
        for extra in ["", *each.get("extras", [])]:
            edges.setdefault((canonicalize_name(each["name"]), canonicalize_name(extra)), []).extend(
                _nodes(each.get("dependencies", []))
            )
        if groups & set(each.get("groups", ["default"])) and not each.get("extras"):
            lines.append(_pdm_line(path, each))
    return without_ours("\n".join(lines), edges, _project_names(path.parent / "pyproject.toml"))


def admit(path: Path, requires: str, python: str) -> None:
    """Raises `BadInput` if this Python is not among those that a lock is for.

    Poetry's caret and tilde are understood where they are followed by a mere version; other grammars pass.
    """
    try:
        allowed = SpecifierSet(poetry_specifiers(requires))
    except InvalidSpecifier:
        return
    if not any(allowed.contains(f"{python}.{patch}", prereleases=True) for patch in range(100)):
        raise BadInput(
            f"{path} is for Python {requires}; this is Python {python}, and workers run the same: use another"
        )


def poetry_specifiers(text: str) -> str:
    """Poetry's constraint as everybody writes it.

    >>> poetry_specifiers("^1.2"), poetry_specifiers("^0.2.1"), poetry_specifiers("~3.1"), poetry_specifiers("1.5")
    ('>=1.2,<2', '>=0.2.1,<0.3', '~=3.1.0', '==1.5')
    """

    def caret(found: re.Match[str]) -> str:
        parts = [int(each) for each in found[1].split(".")]
        at = next((number for number, part in enumerate(parts) if part), len(parts) - 1)
        return f">={found[1]},<{'.'.join(map(str, [*parts[:at], parts[at] + 1]))}"

    text = re.sub(r"\^\s*(\d+(?:\.\d+)*)", caret, text)
    text = re.sub(r"(^|,\s*)~\s*(\d+\.\d+)(?=$|,)", r"\1~=\2.0", text)
    return re.sub(r"(^|,\s*)(?=\d)", r"\1==", text)


def admit_machines(path: Path, machines: Iterable[str]) -> None:
    """Raises `BadInput` if a lock is for no machine that workers may have, and warns if for one kind alone."""
    there = [machine for machine in MACHINES if machine in {*machines}]
    if not there:
        raise BadInput(f"{path}: it is not locked for Linux, which workers run: lock it for that too")
    if len(there) < len(MACHINES):
        _log.warning("%s is locked for %s alone: workers of another kind may lack packages", path, there[0])


def machines_of(markers: Iterable[str], python: str) -> list[str]:
    """Those for which one of some markers holds; all where there is none."""
    known = [Marker(text) for text in markers]
    return [each for each in MACHINES if not known or any(counts(one, python, machines=[each]) for one in known)]


def offered(path: Path, what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Raises `BadInput` where a lock has not all groups or extras that are asked for."""
    names = sorted(known)
    if missing := sorted(set(asked) - set(names)):
        raise BadInput(f"{path} has no {what} {', '.join(missing)}; it has {', '.join(names) or 'none'}")


def _decided(marker: str, *, extras: Iterable[str], groups: Iterable[str]) -> str:
    """A marker without the questions that only who installs can answer.

    >>> _decided('extra == "x" and "g" in dependency_groups', extras=["x"], groups=[])
    'python_version >= "3" and python_version < "3"'
    """
    named = {canonicalize_name(extra) for extra in extras}

    def extra(found: re.Match[str]) -> str:
        return _EVER if (canonicalize_name(found[2]) in named) == (found[1] in ("==", "in")) else _NEVER

    def inside(found: re.Match[str]) -> str:
        known = named if found[3] == "extras" else set(groups)
        return _EVER if (found[1] in known) == (found[2] == "in") else _NEVER

    text = re.sub(r"""extra\s*(==|!=)\s*["']([^"']+)["']""", extra, marker)
    return re.sub(r"""["']([^"']+)["']\s+(in|not\s+in)\s+(extras|dependency_groups)""", inside, text)


def exact_line(name: str, what: str, marker: str, hashes: Iterable[str], subdirectory: str | None = None) -> str:
    """A requirements file's line; `what` is "==" and a version, or an address."""
    if not isinstance(name, str):
        raise TypeError(f"a package with the name {name!r}")
    inside = f"#subdirectory={subdirectory}" if subdirectory else ""
    where = what if what.startswith("==") else f" @ {what}{inside}"
    return " ".join(
        [
            f"{name}{where}",
            *([f"; {marker}"] if marker.strip("()") not in ("", _EVER) else []),
            *(f"--hash={each}" for each in hashes),
        ]
    )


def _version(package: Table) -> str:
    """Of a package that does not say it, as it need not: the files' names do."""
    for file in (*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])):
        name = file.get("name") or (file.get("url") or file["path"]).rpartition("/")[2]
        return str((parse_wheel_filename(name) if name.endswith(".whl") else parse_sdist_filename(name))[1])
    raise KeyError("version")


def _hash(file: Mapping[str, Any]) -> str:
    kinds = file["hashes"]
    kind = "sha256" if "sha256" in kinds else min(kinds)
    return f"{kind}:{kinds[kind]}"


def relative(path: str) -> str:
    """A path as a requirements file has it."""
    return path if path.startswith(("/", "./", "../")) else f"./{path}"


def _uri(lock: Path, path: str) -> str:
    return (lock.parent / path).resolve().as_uri()


def _poetry_line(path: Path, package: Table, marker: str) -> str:
    source = package.get("source", {})
    hashes = [file["hash"] for file in package.get("files", [])]
    kind = source.get("type", "legacy")
    if kind == "git":
        where = f"git+{source['url']}@{source['resolved_reference']}"
        return exact_line(package["name"], where, marker, [], source.get("subdirectory"))
    if kind in ("directory", "file"):
        return relative(source["url"])
    if kind == "url":
        return exact_line(package["name"], source["url"], marker, hashes)
    return exact_line(package["name"], f"=={package['version']}", marker, hashes)


def _poetry_edges(package: Table) -> Iterator[tuple[Node, list[Node]]]:
    name = canonicalize_name(package["name"])
    targets = list[Node]()
    for target, how in package.get("dependencies", {}).items():
        extras = [extra for each in (how if isinstance(how, list) else [how]) if isinstance(each, dict)
                  for extra in each.get("extras", [])]  # fmt: skip
        targets += [(canonicalize_name(target), canonicalize_name(extra)) for extra in ("", *extras)]
    optional = {extra: _nodes(needs) for extra, needs in package.get("extras", {}).items()}
    only_optional = {node for needs in optional.values() for node in needs}
    yield (name, ""), [node for node in targets if node not in only_optional]
    for extra, needs in optional.items():
        yield (name, canonicalize_name(extra)), needs


def _pdm_line(path: Path, package: Table) -> str:
    marker = package.get("marker", "")
    hashes = [file["hash"] for file in package.get("files", [])]
    if "git" in package:
        where = f"git+{package['git']}@{package['revision']}"
        return exact_line(package["name"], where, marker, [], package.get("subdirectory"))
    if "path" in package:
        return relative(package["path"])
    if "url" in package:
        return exact_line(package["name"], package["url"], marker, hashes, package.get("subdirectory"))
    return exact_line(package["name"], f"=={package['version']}", marker, hashes)


def _nodes(needs: Iterable[str]) -> list[Node]:
    found = list[Node]()
    for text in needs:
        try:
            each = Requirement(re.sub(r"\s*\((.*?)\)", r" \1", text))
        except InvalidRequirement:
            each = Requirement(re.match(r"[\w.-]+(\[[^]]*])?", text)[0])  # type: ignore[index]
        name = canonicalize_name(each.name)
        found += [(name, canonicalize_name(extra)) for extra in ("", *each.extras)]
    return found


def _project_names(path: Path) -> set[str]:
    """What a project asks for itself, in whatever group."""
    if not path.is_file():
        return set()
    content = toml(path)
    project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
    tables = [*project.get("optional-dependencies", {}).values(), *content.get("dependency-groups", {}).values()]
    texts = [*project.get("dependencies", []), *(each for table in tables for each in table if isinstance(each, str))]
    keys = [*poetry.get("dependencies", {}), *poetry.get("dev-dependencies", {})]
    keys += [key for group in poetry.get("group", {}).values() for key in group.get("dependencies", {})]
    return {name for name, _ in _nodes(texts)} | {canonicalize_name(key) for key in keys}


def without_ours(text: str, edges: Edges, direct: Iterable[str]) -> str:
    """Without starburst and what only starburst needs; what is `direct` was asked for whoever else needs it."""
    lines = logical_lines(text)
    names = {line: _line_name(line) for line in lines}
    if OURS not in {name for name, _ in edges} | set(names.values()):
        return text
    kept = needed([name for name in names.values() if name], edges, direct=direct)
    return "\n".join(line for line in lines if not names[line] or names[line] in kept)


def _line_name(line: str) -> str:
    """ "" for a path."""
    try:
        return requirement(line.split(" --hash")[0]).name
    except BadInput:
        return ""
