"""A project's folder in; what it is called, and whether it says what it needs, out; nothing of it is run."""

from __future__ import annotations

import ast
import configparser
from contextlib import suppress
from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment.lines import is_file
from starburst_common.environment.locks import Asked, Table, well_formed
from starburst_common.errors import BadInput
from starburst_common.toml import toml

PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")


def says_needs(path: Path, asked: Asked) -> bool:
    """Whether one of a project's files says what the project needs, or has what was asked for. Raises `BadInput`."""
    if not is_file(path):
        return False
    if path.name == "setup.cfg":
        return bool(_cfg(path, "options", "install_requires"))
    if path.name != "pyproject.toml":
        return True
    content = toml(path)
    with well_formed(path):
        project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
        return bool(
            project.get("dependencies")
            or "dependencies" in project.get("dynamic", ())
            or {*poetry.get("dependencies", {})} - {"python"}
            or {*asked.groups} & {*content.get("dependency-groups", {})}
            or {*asked.extras} & {*project.get("optional-dependencies", {})}
        )


def project_name(folder: Path) -> str:
    """What the project in a folder is called; the folder's own name where no file says it."""
    named = _toml_name(folder / "pyproject.toml") or _cfg(folder / "setup.cfg", "metadata", "name")
    named = named or _script_name(folder / "setup.py")
    return canonicalize_name(named) if named else folder.resolve().name


def _toml_name(path: Path) -> str:
    with suppress(BadInput, AttributeError):
        content = toml(path)
        tables: list[Table] = [content.get("project", {}), content.get("tool", {}).get("poetry", {})]
        return str(next((table["name"] for table in tables if table.get("name")), ""))
    return ""


def _cfg(path: Path, section: str, option: str) -> str:
    parser = configparser.RawConfigParser()
    with suppress(OSError, ValueError, configparser.Error):
        parser.read_string(path.read_text(encoding="utf-8"))
        return parser.get(section, option, fallback="").strip()
    return ""


def _script_name(path: Path) -> str:
    """Where `setup(name="…")` says it outright."""
    with suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError, StopIteration):
        calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
        words = [word for call in calls if ast.unparse(call.func).endswith("setup") for word in call.keywords]
        named = (word.value for word in words if word.arg == "name")
        return next(str(value.value) for value in named if isinstance(value, ast.Constant))
    return ""
