"""A project's folder in; what it is called, and whether it says what it needs, out; nothing of it is run."""

from __future__ import annotations

import ast
import configparser
from contextlib import suppress
from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment.asked import (
    Asked,
    Table,
    offered,
    poetry_specifiers,
    well_formed,
)
from starburst_common.environment.lines import is_file
from starburst_common.environment.needs import nodes
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
            or _flit(content).get("requires")
            or "dependencies" in project.get("dynamic", ())
            or {*poetry.get("dependencies", {})} - {"python"}
            or {*asked.groups} & {*content.get("dependency-groups", {})}
            or {*asked.extras} & {*project.get("optional-dependencies", {})}
        )


def listed_by(path: Path, asked: Asked) -> list[str] | None:
    """The requirements that uv would have to build the project for; None where it need not, or nothing else will do.

    Raises `BadInput` for what Poetry alone understands.
    """
    if path.name == "setup.cfg":
        return None if asked.extras else _listed_in_cfg(path) or None
    if path.name != "pyproject.toml":
        return None
    content = toml(path)
    with well_formed(path):
        if "project" not in content and (flit := _flit(content)):
            extras = flit.get("requires-extra", {})
            offered(path, "extra", asked.extras, extras)
            return [*flit.get("requires", []), *(line for extra in asked.extras for line in extras[extra])]
        table = content.get("tool", {}).get("poetry", {}).get("dependencies")
        if table is None or "project" in content:
            return None
        needs = [
            (name, {"version": how} if isinstance(how, str) else how)
            for name, hows in table.items()
            if name != "python"
            for how in (hows if isinstance(hows, list) else [hows])
        ]
        needs = [(name, how) for name, how in needs if not how.get("optional")]
        odd = [name for name, how in needs if not _is_plain(how)]
        if odd or asked.groups or asked.extras:
            raise BadInput(
                f"{path}: {', '.join(odd) or 'groups and extras'}: for Poetry to resolve, with `poetry lock`"
            )
        return [_line(name, how) for name, how in needs]


def lists_aside(path: Path) -> str:
    """Where a project that asks for nothing itself says what is needed for a purpose; "" if nowhere."""
    with suppress(BadInput, AttributeError):
        content = toml(path)
        hatch = content.get("tool", {}).get("hatch", {}).get("envs", {})
        places = {
            "[dependency-groups]": content.get("dependency-groups"),
            "[project.optional-dependencies]": content.get("project", {}).get("optional-dependencies"),
            "[tool.hatch.envs]": [env for env in hatch.values() if env.get("dependencies")],
        }
        return " and ".join(place for place, there in places.items() if there)
    return ""


def _flit(content: Table) -> Table:
    """What Flit before 3.2 had in place of [project]."""
    table: Table = content.get("tool", {}).get("flit", {}).get("metadata", {})
    return table


def _listed_in_cfg(path: Path) -> list[str]:
    """As setuptools reads it: one a line, or between semicolons in one line; or what is in files."""
    text = _cfg(path, "options", "install_requires")
    if text.startswith("file:"):
        names = [name.strip() for name in text.removeprefix("file:").split(",")]
        return [f"-r {path.parent / name}" for name in names]
    return text.splitlines() if "\n" in text else text.split(";")


def _is_plain(how: Table) -> bool:
    return {*how} <= {"version", "extras", "markers", "optional"} and "||" not in how.get("version", "*")


def _line(name: str, how: Table) -> str:
    version, extras, marker = how.get("version", "*"), ",".join(how.get("extras", [])), how.get("markers", "")
    specifiers = "" if version == "*" else poetry_specifiers(version)
    return f"{name}{f'[{extras}]' if extras else ''} {specifiers}{f' ; {marker}' if marker else ''}"


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
    """Where `setup(name="…")` says it outright, or by a name for it."""
    with suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError, StopIteration):
        nodes = [*ast.walk(ast.parse(path.read_bytes()))]
        known = {ast.unparse(to): node.value for node in nodes if isinstance(node, ast.Assign) for to in node.targets}
        calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setup")]
        named = (word.value for call in calls for word in call.keywords if word.arg == "name")
        values = (known.get(ast.unparse(value), value) for value in named)
        return next(str(value.value) for value in values if isinstance(value, ast.Constant))
    return ""


def names_asked_for(path: Path) -> set[str]:
    """What a project asks for itself, in whatever group."""
    if not path.is_file():
        return set()
    content = toml(path)
    project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
    tables = [*project.get("optional-dependencies", {}).values(), *content.get("dependency-groups", {}).values()]
    texts = [*project.get("dependencies", []), *(each for table in tables for each in table if isinstance(each, str))]
    keys = [*poetry.get("dependencies", {}), *poetry.get("dev-dependencies", {})]
    keys += [key for group in poetry.get("group", {}).values() for key in group.get("dependencies", {})]
    return {name for name, _ in nodes(texts)} | {canonicalize_name(key) for key in keys}
