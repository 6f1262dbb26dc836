"""A lock of PEP 751 in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name

from starburst_common.environment.asked import Asked, admit, admit_machines, machines_of, offered
from starburst_common.environment.exact import decided, exact_line, hash_of, relative, uri, version_of
from starburst_common.environment.needs import Node, without_ours
from starburst_common.toml import toml


def read(path: Path, python: str, asked: Asked) -> str:
    """PEP 751. Groups and extras are those of the lock itself; its default groups count."""
    lock = toml(path)
    admit(path, lock.get("requires-python", ""), python)
    admit_machines(path, machines_of(lock.get("environments", []), python))
    offered(path, "extra", asked.extras, lock.get("extras", []))
    offered(path, "group", asked.groups, lock.get("dependency-groups", []))
    groups = {*asked.groups, *lock.get("default-groups", [])}
    lines = list[str]()
    for each in lock.get("packages", []):
        marker = decided(each.get("marker", ""), extras=asked.extras, groups=groups)
        hashes = [hash_of(file) for file in (*each.get("wheels", []), *([each["sdist"]] if "sdist" in each else []))]
        if "vcs" in each:
            vcs = each["vcs"]
            where = f"git+{vcs.get('url') or uri(path, vcs['path'])}@{vcs['commit-id']}"
            lines.append(exact_line(each["name"], where, marker, [], vcs.get("subdirectory")))
        elif "directory" in each:
            lines.append(relative(each["directory"]["path"]))
        elif "archive" in each:
            archive = each["archive"]
            inside = archive.get("subdirectory")
            lines.append(
                exact_line(each["name"], archive["url"], marker, [hash_of(archive)], inside)
                if "url" in archive
                else relative(archive["path"])
            )
        else:
            lines.append(exact_line(each["name"], f"=={each.get('version') or version_of(each)}", marker, hashes))
    edges: dict[Node, list[Node]] = {
        (canonicalize_name(each["name"]), ""): [(canonicalize_name(to["name"]), "") for to in each["dependencies"]]
        for each in lock.get("packages", [])
        if "dependencies" in each
    }
    return without_ours("\n".join(lines), edges, ())
