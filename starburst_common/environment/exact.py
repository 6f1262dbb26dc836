"""A package as a lock has it in; its exact line for a requirements file out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from starburst_common.environment.asked import Table

_EVER, _NEVER = 'python_version >= "3"', 'python_version < "3"'


def decided(marker: str, *, extras: Iterable[str], groups: Iterable[str]) -> str:
    """A marker without the questions that only who installs can answer.

    >>> decided('extra == "x" and "g" in dependency_groups', extras=["x"], groups=[])
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


def version_of(package: Table) -> str:
    """Of a package that does not say it, as it need not: the files' names do."""
    for file in (*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])):
        name = file.get("name") or (file.get("url") or file["path"]).rpartition("/")[2]
        return str((parse_wheel_filename(name) if name.endswith(".whl") else parse_sdist_filename(name))[1])
    raise KeyError("version")


def hash_of(file: Mapping[str, Any]) -> str:
    kinds = file["hashes"]
    kind = "sha256" if "sha256" in kinds else min(kinds)
    return f"{kind}:{kinds[kind]}"


def relative(path: str) -> str:
    """A path as a requirements file has it."""
    return path if path.startswith(("/", "./", "../")) else f"./{path}"


def uri(lock: Path, path: str) -> str:
    return (lock.parent / path).resolve().as_uri()
