"""Requirements files in; exact requirements with hashes out."""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from starburst_common.environment import freeze
from starburst_common.environment.lines import OURS, is_file, logical_lines, requirement, sort_out
from starburst_common.environment.locks import Asked
from starburst_common.environment.resolve import Unsatisfiable, compile_near
from starburst_common.errors import BadInput
from starburst_common.toml import toml

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)[\s=]*(.+)")
_PROJECT = ("pyproject.toml", "setup.cfg", "setup.py")


def files(path: Path) -> list[Path]:
    """The file, those it includes, and what says the needs of the projects that it names. Raises `BadInput`."""
    if path.name == "pyproject.toml":
        return [path]
    found, left = dict[Path, None](), [path]
    while left:
        each = left.pop(0)
        if each in found:
            continue
        found[each] = None
        lines = _lines(each)
        left += [(each.parent / target).resolve() for target in _included(lines)]
        folders = sort_out("\n".join(_named_paths(lines)), python="3").folders
        projects = ((each.parent / folder.split("[")[0]).resolve() for folder in folders)
        found |= dict.fromkeys(file for folder in projects for name in _PROJECT if is_file(file := folder / name))
    return list(found)


def read(path: Path, python: str, asked: Asked) -> str:
    """Files whose lines are all exact, with hashes, are taken as they are; else uv resolves, near what is installed."""
    if path.name != "pyproject.toml":
        if asked.groups or asked.extras:
            raise BadInput(f"{path}: a requirements file has no groups and no extras")
        if all_exact(path):
            return "\n".join(line for file in files(path) for line in _lines(file))
    options = [f"--extra={extra}" for extra in asked.extras] + [f"--group={group}" for group in asked.groups]
    options += asked.options
    near = freeze.versions(freeze.installed())
    with tempfile.TemporaryDirectory() as temporary:
        ours = Path(temporary, "requirements.txt")
        ours.write_text("\n".join(_own_extras(path)))
        sources = [path.name, *([str(ours)] if ours.stat().st_size else [])]
        try:
            return compile_near(sources, folder=path.parent, python=python, near=near, options=options)
        except Unsatisfiable as error:
            raise BadInput(f"{path}: {error}") from None


def all_exact(path: Path) -> bool:
    """Whether there is nothing left to choose, and so nothing to ask an index."""
    lines = _lines(path)
    if any(line.startswith(("-c", "--constraint")) or _named_paths([line]) for line in lines):
        return False
    included = [(path.parent / target).resolve() for target in _included(lines)]
    plain = [line for line in lines if not line.startswith("-")]
    return all("--hash" in line and re.match(r"[^;@]*==\s*[^\s*]+(\s|$)", line) for line in plain) and all(
        all_exact(each) for each in included
    )


def refuse_conda(path: Path, python: str, asked: Asked) -> str:
    """conda's packages are builds of their own: the same names on PyPI would be something else. Raises `BadInput`."""
    raise BadInput(
        f"{path}: conda packages cannot be had from PyPI in the same builds. List what your function imports in a "
        "requirements.txt beside it (lines under `pip:` can be copied there) and say requirements=…, or give image=…"
    )


def _own_extras(path: Path) -> list[str]:
    """What the extras of ours that were asked for need: the user's code may, too."""
    if path.name == "pyproject.toml":
        texts = toml(path).get("project", {}).get("dependencies", [])
    else:
        texts = [line.split(" --")[0] for line in _lines(path) if not line.startswith("-")]
    asked = {
        extra
        for text in texts
        if re.match("starburst[-_.]ecs", text, re.IGNORECASE)
        for extra in requirement(text).extras
    }
    own = map(Requirement, importlib.metadata.requires(OURS) or []) if asked else ()
    return [
        f"{each.name}{each.specifier}"
        for each in own
        if each.marker and not each.marker.evaluate() and any(each.marker.evaluate({"extra": one}) for one in asked)
    ]


def _lines(path: Path) -> list[str]:
    try:
        return logical_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {error}") from None


def _included(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := _INCLUDE.fullmatch(line)) and "://" not in found[1]]


def _named_paths(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"-e|--editable|[./]|file:|\S+/$|[^@]+@\s*(file:|[./])", line)]
