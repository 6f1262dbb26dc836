"""Pipenv's Pipfile.lock in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from starburst_common.environment.asked import Asked, Table, admit, offered
from starburst_common.environment.exact import exact_line, relative
from starburst_common.environment.needs import without_ours
from starburst_common.environment.resolve import compile_text
from starburst_common.errors import BadInput
from starburst_common.phrases import one_line

_MAIN, _DEVELOPMENT, _META = "default", "develop", "_meta"


def read(path: Path, python: str, asked: Asked) -> str:
    """The default packages, and those of categories that are asked for as groups: "develop" is one of them."""
    lock = _json(path)
    meta = lock.get(_META, {})
    version = meta.get("requires", {}).get("python_version") or meta.get("requires", {}).get("python_full_version")
    admit(path, f"=={'.'.join(version.split('.')[:2])}.*" if version else "", python)
    offered(path, "extra", asked.extras, [])
    offered(path, "group", asked.groups, {*lock} - {_MAIN, _META})
    packages = [(name, each) for group in (_MAIN, *asked.groups) for name, each in lock.get(group, {}).items()]
    lines = [_line(name, each) for name, each in packages if not _is_loose(each)]
    if loose := [_loose(name, each) for name, each in packages if _is_loose(each)]:
        options = ["--no-deps", *asked.options]
        lines += compile_text("\n".join(loose), folder=path.parent, python=python, options=options).splitlines()
    return without_ours("\n".join(dict.fromkeys(lines)), {}, ())


def registries(path: Path) -> Iterator[str]:
    """The indexes that it names. Variables in them are filled in, as pipenv does; they may hold credentials."""
    for source in _json(path).get(_META, {}).get("sources", []):
        yield os.path.expandvars(source["url"])


def _is_loose(package: Table) -> bool:
    """Pipenv locks no version of what is for another system than its own, and installs it nevertheless."""
    return not {"git", "path", "file"} & {*package} and package.get("version", "*") == "*"


def _loose(name: str, package: Table) -> str:
    extras, marker = ",".join(package.get("extras", [])), package.get("markers", "")
    return f"{name}{f'[{extras}]' if extras else ''}{f' ; {marker}' if marker else ''}"


def _line(name: str, package: Table) -> str:
    marker, hashes = package.get("markers", ""), package.get("hashes", [])
    if "git" in package:
        return exact_line(name, f"git+{package['git']}@{package['ref']}", marker, [], package.get("subdirectory"))
    if where := package.get("path"):
        return relative(where)
    if where := package.get("file"):
        return exact_line(name, where, marker, hashes) if "://" in where else relative(where)
    return exact_line(name, f"=={package['version'].removeprefix('==')}", marker, hashes)


def _json(path: Path) -> Table:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not as pipenv writes it: {one_line(str(error), 300)}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not as pipenv writes it: not an object")
    return content
