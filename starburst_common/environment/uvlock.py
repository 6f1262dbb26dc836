"""A uv.lock in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment.asked import Asked, Table, admit, admit_machines, machines_of
from starburst_common.environment.lines import OURS, is_file
from starburst_common.environment.needs import Node, without_ours
from starburst_common.environment.resolve import run_uv
from starburst_common.errors import BadInput
from starburst_common.toml import toml

_OPTIONS = {"resolution-mode": "UV_RESOLUTION", "prerelease-mode": "UV_PRERELEASE", "fork-strategy": "UV_FORK_STRATEGY"}


def files(path: Path) -> list[Path]:
    """The lock, the project it was made for, and all projects in folders that it names."""
    known = [path, path.parent / "pyproject.toml", *(folder / "pyproject.toml" for folder in projects(path))]
    return [file for file in dict.fromkeys(known) if is_file(file)]


def projects(path: Path) -> list[Path]:
    """The folders of the projects that a lock names."""
    return list(dict.fromkeys((path.parent / where).resolve() for _, where in _folders(toml(path))))


def read(path: Path, python: str, asked: Asked) -> str:
    """By `uv export`, for the workspace member whose folder the code is in.

    A lock that is not up to date with its pyproject.toml is an error, for the workers would lack what was added since:
    `uv lock` takes a second. With UV_FROZEN set, as uv itself has it, the lock is taken as it is. Groups are those that
    are asked for: neither dev nor what else uv's `default-groups` installs where the project is worked on.
    """
    lock = toml(path)
    admit(path, lock.get("requires-python", ""), python)
    admit_machines(path, machines_of(lock.get("supported-markers", []), python))
    if path.name != "uv.lock":
        raise BadInput(f"{path}: uv exports a file of the name uv.lock only, beside its pyproject.toml")
    words = ["export", "--no-annotate", "--no-header", *([] if os.environ.get("UV_FROZEN") else ["--locked"])]
    words.append("--no-default-groups")  # those, dev or others, are for who works on the project
    words += ["--python", sys.executable]  # whatever .python-version says
    words += [f"--extra={extra}" for extra in asked.extras] + [f"--group={group}" for group in asked.groups]
    member = _member(lock, asked.member(path))
    words += [f"--package={member}"] if member else []
    try:
        text = run_uv(words, folder=path.parent, settings=_options(lock))
    except BadInput as error:
        if "needs to be updated" not in str(error):
            raise
        raise BadInput(
            f"{path} is not up to date with its pyproject.toml: run `uv lock` (UV_FROZEN=1 takes it as it is)"
        ) from None
    return without_us(text, lock, _direct(lock.get("package", []), asked))


def without_us(text: str, lock: Table, direct: Iterable[str]) -> str:
    """What was exported of a lock, but for what only starburst needs."""
    edges = {node: targets for package in lock.get("package", []) for node, targets in _edges(package)}
    return without_ours(text, edges, direct)


def _options(lock: Table) -> dict[str, str]:
    """What the author's settings were, where they are not in the project: with others the lock seems out of date."""
    options = lock.get("options", {})
    newest = options.get("exclude-newer-span") or options.get("exclude-newer")
    chosen = {"UV_EXCLUDE_NEWER": newest, **{name: options.get(option) for option, name in _OPTIONS.items()}}
    return {name: str(value) for name, value in chosen.items() if value}


def _folders(lock: Table) -> Iterator[tuple[str, str]]:
    for package in lock.get("package", []):
        source = package.get("source", {})
        for kind in ("editable", "virtual", "directory"):
            if kind in source:
                yield package["name"], source[kind]


def _member(lock: Table, where: str) -> str:
    """The workspace member in whose folder the code is; "" for the root."""
    members = lock.get("manifest", {}).get("members", [])
    inside = [
        (len(folder), name)
        for name, folder in _folders(lock)
        if name in members and folder != "." and f"{where}/".startswith(f"{folder}/")
    ]
    return max(inside)[1] if inside else ""


def _edges(package: Table) -> Iterator[tuple[Node, list[Node]]]:
    yield (package["name"], ""), _nodes(package.get("dependencies", []))
    for extra, needs in package.get("optional-dependencies", {}).items():
        yield (package["name"], canonicalize_name(extra)), _nodes(needs)


def _nodes(needs: Iterable[Table]) -> list[Node]:
    return [(each["name"], extra) for each in needs for extra in ("", *each.get("extra", []))]


def _direct(packages: Iterable[Table], asked: Asked) -> set[str]:
    """What the projects here ask for themselves; one that is ours asks for nothing but groups."""
    found = set[str]()
    for each in packages:
        if {"editable", "virtual", "directory"} & set(each.get("source", {})):
            lists = [needs for group, needs in each.get("dev-dependencies", {}).items() if group in asked.groups]
            if each["name"] != OURS:
                lists.append(each.get("dependencies", []))
            found |= {name for needs in lists for name, _ in _nodes(needs)}
    return found
