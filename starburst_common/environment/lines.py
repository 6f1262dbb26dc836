"""A requirements file's text in; its lines by what can be done with them elsewhere out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from starburst_common.errors import BadInput
from starburst_common.phrases import without_credentials

OURS = "starburst-ecs"  #: never among the requirements: its part of an image comes by itself
MACHINES = ("x86_64", "aarch64")  #: of workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """A requirements file's lines by what can be done with them elsewhere."""

    requirements: tuple[str, ...] = ()  #: can be had anywhere; one line each, with hashes
    folders: tuple[str, ...] = ()  #: projects in folders here, as written
    files: tuple[str, ...] = ()  #: wheels and source archives here, as written


def sort_out(text: str, *, python: str) -> Lines:
    """The lines of uv's output, or of a requirements file that is exact, that count on Linux, written in one way.

    >>> lines = sort_out("Six==1.16 --hash=sha256:1  # why" + chr(10) + "-e ./a" + chr(10) + "./b.whl", python="3.11")
    >>> lines.requirements, lines.folders, lines.files
    (('six==1.16 --hash=sha256:1',), ('./a',), ('./b.whl',))
    >>> sort_out("colorama==1 ; sys_platform == 'win32'", python="3.11").requirements
    ()
    """
    requirements, folders, files = list[str](), list[str](), list[str]()
    for line in logical_lines(text):
        what, *hashes = re.split(r"\s+--hash[= ]", line)
        editable = re.match(r"(?:-e|--editable)[\s=]+(.*)", what)
        path = _path(editable[1] if editable else what)
        if path:
            (files if not editable and _is_archive(path) else folders).append(path)
        elif not what.startswith("-"):
            parsed = requirement(what)
            if parsed.name != OURS and counts(parsed.marker, python):
                requirements.append(" ".join([str(parsed), *(f"--hash={each.strip()}" for each in sorted(hashes))]))
    return Lines(requirements=tuple(requirements), folders=tuple(folders), files=tuple(files))


def logical_lines(text: str) -> list[str]:
    """Without comments, blank lines, and breaks within a line.

    >>> logical_lines("a==1 " + chr(92) + chr(10) + "  --hash=x # c" + chr(10) * 2 + "b")
    ['a==1 --hash=x', 'b']
    """
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    return [" ".join(words) for line in lines if (words := re.sub(r"(^|\s)#.*", "", line).split())]


def requirement(line: str) -> Requirement:
    """A requirement with its name as indexes write it, and without credentials. Raises `BadInput`."""
    try:
        parsed = Requirement(line)
    except InvalidRequirement as error:
        raise BadInput(f"{without_credentials(line)}: {without_credentials(str(error))}") from None
    parsed.name = canonicalize_name(parsed.name)
    parsed.url = without_credentials(parsed.url) if parsed.url else None
    return parsed


def counts(marker: Marker | None, python: str, *, machines: Iterable[str] = MACHINES, extra: str = "") -> bool:
    """Whether it may hold on a worker: any Linux of ours, any patch release of this Python."""
    if marker is None:
        return True
    patches = {f"{python}.0", f"{python}.99", ".".join(map(str, sys.version_info[:3]))}
    linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_version": ""}
    return any(
        marker.evaluate(
            {
                **{name: str(value) for name, value in default_environment().items()},
                **linux,
                "platform_machine": machine,
                "python_version": python,
                "python_full_version": patch,
                "implementation_version": patch,
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "extra": extra,
            }
        )
        for machine in machines
        for patch in patches
        if patch.startswith(f"{python}.")
    )


def is_file(path: Path) -> bool:
    """Whether a path of others' is one; what has a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _path(what: str) -> str:
    """The path that a line names, or nothing: `name @ file://…`, `file://…` and what starts like a path."""
    where = re.sub(r"\s+;.*", "", re.sub(r"^[A-Za-z0-9._-]+(\[[^]]*])?\s*@\s*", "", what))
    if where.startswith("file:"):
        return re.sub(r"^file:(//)?", "", where).split("#")[0]
    bare = re.sub(r"\[[^]]*]$", "", where)
    if re.match(r"\.{0,2}[/\\]|\.{1,2}$|[A-Za-z]:[\\/]", bare):
        return bare
    if where == what and "://" not in bare and (_is_archive(bare) or re.match(r"[^\s;<>=!~@]+/", bare)):
        return bare
    return ""


def _is_archive(path: str) -> bool:
    return path.endswith((".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))
