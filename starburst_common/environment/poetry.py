"""Poetry's lock in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment import poetry1
from starburst_common.environment.asked import Asked, Table, admit, offered
from starburst_common.environment.exact import decided, exact_line, relative
from starburst_common.environment.needs import Node, nodes, without_ours
from starburst_common.environment.projects import names_asked_for
from starburst_common.toml import toml


def read(path: Path, python: str, asked: Asked) -> str:
    """Poetry 2 writes groups and markers into its lock; of an older one's packages, those that the project needs."""
    lock = toml(path)
    admit(path, str(lock.get("metadata", {}).get("python-versions", "")), python)
    packages: list[Table] = lock.get("package", [])
    offered(path, "extra", asked.extras, lock.get("extras", {}))
    if any("groups" not in each for each in packages):
        lines = [_line(path, each, marker) for each, marker in poetry1.needed_of(path, lock, python, asked)]
    else:
        lines = list(_lines(path, packages, asked))
    edges = {node: targets for each in packages for node, targets in _edges(each)}
    return without_ours("\n".join(lines), edges, names_asked_for(path.parent / "pyproject.toml"))


def _lines(path: Path, packages: Iterable[Table], asked: Asked) -> Iterator[str]:
    groups = {"main", *asked.groups}
    for each in packages:
        wanted = [group for group in each["groups"] if group in groups]
        markers = each.get("markers", "")
        texts = [markers.get(group, "") for group in wanted] if isinstance(markers, dict) else [markers][: len(wanted)]
        marker = "" if "" in texts else " or ".join(f"({text})" for text in texts)
        if wanted:
            yield _line(path, each, decided(marker, extras=asked.extras, groups=groups))


def _line(path: Path, package: Table, marker: str) -> str:
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


def _edges(package: Table) -> Iterator[tuple[Node, list[Node]]]:
    name = canonicalize_name(package["name"])
    targets = list[Node]()
    for target, how in package.get("dependencies", {}).items():
        extras = [extra for each in (how if isinstance(how, list) else [how]) if isinstance(each, dict)
                  for extra in each.get("extras", [])]  # fmt: skip
        targets += [(canonicalize_name(target), canonicalize_name(extra)) for extra in ("", *extras)]
    optional = {extra: nodes(needs) for extra, needs in package.get("extras", {}).items()}
    only_optional = {node for needs in optional.values() for node in needs}
    yield (name, ""), [node for node in targets if node not in only_optional]
    for extra, needs in optional.items():
        yield (name, canonicalize_name(extra)), needs
