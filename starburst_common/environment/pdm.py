"""PDM's lock in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment.asked import Asked, Table, admit, admit_machines, offered
from starburst_common.environment.exact import exact_line, relative
from starburst_common.environment.lines import MACHINES
from starburst_common.environment.needs import Node, nodes, without_ours
from starburst_common.environment.projects import names_asked_for
from starburst_common.errors import BadInput
from starburst_common.toml import toml


def read(path: Path, python: str, asked: Asked) -> str:
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
                nodes(each.get("dependencies", []))
            )
        if groups & set(each.get("groups", ["default"])) and not each.get("extras"):
            lines.append(_line(path, each))
    return without_ours("\n".join(lines), edges, names_asked_for(path.parent / "pyproject.toml"))


def _line(path: Path, package: Table) -> str:
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
