"""A folder in; what the code there needs, resolved in full, out: from its lock or requirements, else from what runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement
from platformdirs import user_cache_path

from starburst_common.environment import Environment, choose, freeze
from starburst_common.environment.asked import Asked, well_formed
from starburst_common.environment.indexes import told_to_pip
from starburst_common.environment.kept import cached, contents, key_of, running
from starburst_common.environment.lines import Lines, requirement, sort_out
from starburst_common.environment.projects import project_name
from starburst_common.errors import BadInput, CannotBuild
from starburst_common.phrases import our_log
from starburst_common.trust import CACHE_INSTEAD, believed, own_folder, uv_believed

_log = our_log()
_UNPINNED_S = 86400.0  #: what an index chose freely is asked for again after this long
#: Have neither wheels for Linux nor a source that could be built there, by the system that they are for.
_OTHERS = {
    "win32": re.compile(r"pypiwin32|pywin32|pywinpty|pywinrt|win(rt|sdk)(-.+)?|windows-curses"),
    "darwin": re.compile(r"pyobjc(-.+)?"),
}


def find_environment(
    folder: Path,
    *,
    requirements: Path | None = None,
    groups: Sequence[str] = (),
    extras: Sequence[str] = (),
    index_strategy: str = "",
    cache: Path | None = None,
) -> Environment:
    """What code in a folder needs, for the running interpreter's minor version of Python.

    `requirements` (a lock, a requirements file, or a folder with one) wins. Else the nearest folder, upwards, that has
    a file we know counts, up to one with .git, and below the home folder; in it, in this order: uv.lock, pylock.toml,
    poetry.lock, pdm.lock, requirements.txt (else the only requirements*.txt), environment.yml. Where none is, the
    running interpreter's installed packages are taken. What only other systems than Linux need is left out.

    Answers are kept in `cache` for as long as everything that decides stays the same: files, installed packages where
    they matter, groups, extras, uv's version and settings. What an index chose freely (a requirements file's lines that
    are not exact) is asked for anew after a day.

    Raises `BadInput` and `CannotBuild` with the way out, `Unavailable` where an index cannot be reached; `BadInput` too
    where what was found so is another's, since a package that it names may have to be built here, by code of its own.
    """
    folder = folder.resolve()
    asked = Asked(
        groups=tuple(sorted(groups)), extras=tuple(sorted(extras)), folder=folder, index_strategy=index_strategy
    )
    path = choose.named(requirements, asked) if requirements is not None else choose.nearest(folder, asked)
    cache = user_cache_path("starburst") / "environments" if cache is None else cache
    with suppress(OSError):  # a cache that cannot be written costs time only
        cache = own_folder(cache, CACHE_INSTEAD)
    packages = freeze.installed()
    if path is None:
        return _from_interpreter(folder, packages, asked, cache)
    _log.info("environment: %s", path)
    kind = choose.kind_of(path)
    matters = "" if kind.frozen else freeze.state_of(packages)
    files = _files(kind, path, named=requirements is not None)
    key = key_of(
        kind.what,
        *contents(files),
        matters,
        repr(asked.groups),
        repr(asked.extras),
        asked.member(path),
        index_strategy,
    )

    def resolved() -> Environment:
        if not kind.frozen:
            _warn_of_order(told_to_pip(path), asked)
        with well_formed(path):
            return _environment(kind.read(path, running(), asked), path)

    found = cached(cache, key, None if kind.frozen else _UNPINNED_S, str(path), resolved)
    if not found.requirements:
        _log.warning("%s asks for no packages: workers get Python and starburst alone", path)
    _warn_of_differences(found, freeze.versions(packages))
    _warn_of_copies(found, packages)
    return found


def _files(kind: choose.Kind, path: Path, *, named: bool) -> list[Path]:
    """All that decides. Raises `BadInput` for what was found and not named, where it is another's."""
    with well_formed(path):
        files = kind.files(path)
    if named:
        uv_believed(path.parent.parent)  # what lies beside a file that was named is believed with it
        return files
    for file in files:
        believed(file, "name the file that counts, with requirements=… (--requirements FILE)")
    return files


def _from_interpreter(folder: Path, packages: dict[str, freeze.Package], asked: Asked, cache: Path) -> Environment:
    if asked.groups or asked.extras:
        raise BadInput("groups and extras come from a lock file or pyproject.toml, and there is none here")
    _log.info("environment: the packages installed for %s", sys.executable)
    if Path(sys.prefix, "conda-meta").is_dir():
        _log.warning(
            "running in a conda environment: workers get its Python packages from PyPI in the same versions, and none "
            "of its other programs and libraries; give image=… if they are needed"
        )

    def found() -> Environment:
        frozen = freeze.freeze(packages)
        _warn_of_order(told_to_pip(None), asked)
        text = freeze.resolve(frozen, folder=folder, python=running(), options=asked.options)
        lines = sort_out(text, python=running())
        return Environment.of(
            running(),
            "\n".join(lines.requirements),
            source=f"the packages installed in {sys.prefix}",
            local=frozen.local,
        )

    kept = cached(
        cache, key_of("freeze", freeze.state_of(packages), asked.index_strategy), None, "the code here", found
    )
    _warn_of_copies(kept, packages)
    return kept


def _environment(text: str, path: Path) -> Environment:
    lines = sort_out(text, python=running())
    _refuse_files(lines, path)
    _refuse_others(lines, path)
    bare = (line.split(" --hash")[0].split(";")[0].strip() for line in lines.requirements)
    loose = [line for line in bare if "==" not in line and " @ " not in line]
    if loose:
        raise BadInput(f"{path}: without an exact version: {', '.join(loose)}")
    folders = ((path.parent / folder).resolve() for folder in lines.folders)
    local = sorted({project_name(folder) for folder in folders})
    return Environment.of(running(), "\n".join(lines.requirements), source=str(path), local=tuple(local))


def _refuse_files(lines: Lines, path: Path) -> None:
    if lines.files:
        raise CannotBuild(
            f"{path}: workers cannot reach {', '.join(lines.files)}. Publish it to an index, name the project's folder "
            "as an editable dependency so that it travels with your code, or give image=…"
        )


def _refuse_others(lines: Lines, path: Path) -> None:
    """A freeze on another system lists them without a marker, and there is nothing to build them from."""
    names = sorted({_parsed(line).name for line in lines.requirements})
    if others := [(name, system) for name in names for system, its in _OTHERS.items() if its.fullmatch(name)]:
        raise CannotBuild(
            f"{path}: for Windows or macOS alone: {', '.join(name for name, _ in others)}. Put a marker behind, or "
            f"behind what needs them, as in `{others[0][0]}; sys_platform == '{others[0][1]}'`, or take them out"
        )


def _parsed(line: str) -> Requirement:
    return requirement(line.split(" --hash")[0])


def _warn_of_order(settings: Mapping[str, str], asked: Asked) -> None:
    """Where pip would choose among several indexes by another rule than uv, which chooses here."""
    if "UV_INDEX" in settings and not (asked.index_strategy or os.environ.get("UV_INDEX_STRATEGY")):
        _log.warning(
            "there are several package indexes: a package comes from the first that has it, the extra ones before the "
            "other, where pip takes the highest version that any has; index_strategy in the settings' [image] chooses"
        )


def _warn_of_differences(found: Environment, here: dict[str, str]) -> None:
    """Results computed here and there would differ."""
    differing = dict[str, str]()
    for line in found.requirements:
        parsed = _parsed(line)
        pinned = [each.version for each in parsed.specifier if each.operator in ("==", "===")]
        if parsed.name in here and pinned and _public(here[parsed.name]) not in map(_public, pinned):
            differing.setdefault(parsed.name, f"{parsed.name} {pinned[0]} (here {here[parsed.name]})")
        elif parsed.name in here and pinned:
            differing.pop(parsed.name, None)
    if differing:
        first = ", ".join(list(differing.values())[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        _log.warning("workers get other versions than are installed here: %s%s, by %s", first, more, found.source)


def _warn_of_copies(found: Environment, packages: dict[str, freeze.Package]) -> None:
    """Modules in site-packages do not travel with the code."""
    if copies := sorted(freeze.copied(packages) & set(found.local)):
        _log.warning(
            "installed from a folder here, but not editable, so that workers lack: %s. Install with `--editable`",
            ", ".join(copies),
        )


def _public(version: str) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version).public
    except InvalidVersion:
        return version
