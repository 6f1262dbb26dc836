"""A folder in; what the code there needs, resolved in full, out: from its lock or requirements, else from what runs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from starburst_common.environment import Environment, freeze, locks, texts, uvlock
from starburst_common.environment.indexes import index_settings
from starburst_common.environment.lines import Lines, is_file, project_name, requirement, sort_out, without_credentials
from starburst_common.environment.locks import Asked
from starburst_common.errors import BadInput, CannotBuild
from starburst_common.phrases import one_line, our_log
from starburst_common.toml import toml
from starburst_common.trust import CACHE_INSTEAD, believed, own_folder, owner_only, uv_believed

_log = our_log()
_VERSION = 2  #: of what is cached
_UNPINNED_S = 86400.0  #: what an index chose freely is asked for again after this long
_KEPT_S = 30 * 86400.0  #: unused answers are thrown away then
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of saying what is needed."""

    what: str
    files: Callable[[Path], list[Path]]  #: all that decides, the file itself first
    read: Callable[[Path, str, Asked], str]  #: a requirements file's text out; paths relative to the file's folder
    frozen: bool = True  #: the files alone decide, for ever


KINDS = {
    "uv.lock": Kind("uv.lock", uvlock.files, uvlock.read),
    "pylock.toml": Kind("pylock.toml", locks.alone, locks.read_pylock),
    "poetry.lock": Kind("poetry.lock", locks.with_project, locks.read_poetry),
    "pdm.lock": Kind("pdm.lock", locks.with_project, locks.read_pdm),
    "requirements.txt": Kind("requirements.txt", texts.files, texts.read, frozen=False),
    "environment.yml": Kind("environment.yml", locks.alone, texts.refuse_conda),
    "environment.yaml": Kind("environment.yaml", locks.alone, texts.refuse_conda),
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
    path = _named(requirements) if requirements is not None else _nearest(folder)
    cache = user_cache_path("starburst") / "environments" if cache is None else cache
    with suppress(OSError):  # a cache that cannot be written costs time only
        cache = own_folder(cache, CACHE_INSTEAD)
    packages = freeze.installed()
    asked = Asked(
        groups=tuple(sorted(groups)), extras=tuple(sorted(extras)), folder=folder, index_strategy=index_strategy
    )
    if path is None:
        return _from_interpreter(folder, packages, asked, cache)
    _log.info("environment: %s", path)
    kind = kind_of(path)
    matters = "" if kind.frozen else freeze.fingerprint(packages)
    with locks.well_formed(path):
        files = kind.files(path)
    if requirements is not None:
        uv_believed(path.parent.parent)  # what lies beside a file that was named is believed with it
    for file in files if requirements is None else ():
        believed(file, "name the file that counts, with requirements=… (--requirements FILE)")
    key = _key(
        kind.what,
        *_contents(files),
        matters,
        repr(asked.groups),
        repr(asked.extras),
        asked.member(path),
        index_strategy,
    )

    def resolved() -> Environment:
        if not kind.frozen:
            _warn_of_order(index_settings(path), asked)
        with locks.well_formed(path):
            return _environment(kind.read(path, _python(), asked), path)

    found = _cached(cache, key, None if kind.frozen else _UNPINNED_S, resolved)
    _warn_of_differences(found, freeze.versions(packages))
    _warn_of_copies(found, packages)
    return found


def kind_of(path: Path) -> Kind:
    """By name, else by content."""
    if path.name in KINDS:
        return KINDS[path.name]
    if path.name.startswith("pylock.") and path.suffix == ".toml":
        return KINDS["pylock.toml"]
    if path.suffix in (".yml", ".yaml"):
        return KINDS["environment.yml"]
    if path.suffix in (".toml", ".lock") and path.name != "pyproject.toml":
        content = toml(path)
        if "lock-version" in content:
            return KINDS["pylock.toml"]
        metadata = content.get("metadata")
        if isinstance(metadata, dict) and "lock-version" in metadata:
            return KINDS["poetry.lock"]
        if isinstance(metadata, dict) and "lock_version" in metadata:
            return KINDS["pdm.lock"]
        raise BadInput(f"{path}: not a lock file that we know; name it as the program that wrote it does (uv.lock, …)")
    return KINDS["requirements.txt"]


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _named(path: Path) -> Path:
    path = path.expanduser()
    path = path.parent.resolve() / path.name  # a link stays where it is
    if is_file(path):
        return path
    with suppress(OSError):  # too long a name
        if path.is_dir():
            if (inside := _known_in(path)) is None:
                raise BadInput(f"{path}: no lock file and no requirements*.txt in this folder")
            return inside
    raise BadInput(f"{one_line(str(path), 300)}: no such file")


def _nearest(folder: Path) -> Path | None:
    home = Path.home()
    for each in (folder, *folder.parents):
        if each != folder and each in (home, Path(each.anchor)):
            return None
        if found := _known_in(each):
            return found
        if (each / ".git").exists():
            return None
    return None


def _known_in(folder: Path) -> Path | None:
    known = [folder / name for name in KINDS if (folder / name).is_file()]
    several = sorted(folder.glob("requirements*.txt"))
    locked = [path for path in known if path.name not in ("environment.yml", "environment.yaml")]
    if not locked and len(several) > 1:
        names = ", ".join(path.name for path in several)
        raise BadInput(f"{folder}: which of {names} do the workers need? Say requirements=… (--requirements FILE)")
    chosen = (locked or several or known)[:1]
    others = [path.name for path in known if path not in chosen]
    if chosen and others:
        _log.info("environment: %s is taken, not %s", chosen[0].name, ", ".join(others))
    return chosen[0] if chosen else None


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
        _warn_of_order(index_settings(None), asked)
        text = freeze.resolve(frozen, folder=folder, python=_python(), options=asked.options)
        lines = sort_out(text, python=_python())
        return Environment.of(
            _python(),
            "\n".join(lines.requirements),
            source=f"the packages installed in {sys.prefix}",
            local=frozen.local,
        )

    kept = _cached(cache, _key("freeze", freeze.fingerprint(packages), asked.index_strategy), None, found)
    _warn_of_copies(kept, packages)
    return kept


def _environment(text: str, path: Path) -> Environment:
    lines = sort_out(text, python=_python())
    _refuse_files(lines, path)
    bare = (line.split(" --hash")[0].split(";")[0].strip() for line in lines.requirements)
    loose = [line for line in bare if "==" not in line and " @ " not in line]
    if loose:
        raise BadInput(f"{path}: without an exact version: {', '.join(loose)}")
    folders = ((path.parent / folder).resolve() for folder in lines.folders)
    local = sorted({project_name(folder) for folder in folders})
    return Environment.of(_python(), "\n".join(lines.requirements), source=str(path), local=tuple(local))


def _refuse_files(lines: Lines, path: Path) -> None:
    if lines.files:
        raise CannotBuild(
            f"{path}: workers cannot reach {', '.join(lines.files)}. Publish it to an index, name the project's folder "
            "as an editable dependency so that it travels with your code, or give image=…"
        )


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
        parsed = requirement(line.split(" --hash")[0])
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


def _contents(files: list[Path]) -> list[str]:
    return [f"{path}\n{_text(path)}" for path in files]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot read what the environment is made of: {error}") from None


def _key(*parts: str) -> str:
    settings = sorted(
        f"{name}={without_credentials(value)}"
        for name, value in os.environ.items()
        if name.startswith("UV_") and not name.endswith(("PASSWORD", "TOKEN", "USERNAME"))
    )
    everything = [_VERSION, _python(), sys.prefix, sys.platform, version("uv"), settings, parts]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def _cached(cache: Path, key: str, good_for_s: float | None, find: Callable[[], Environment]) -> Environment:
    path = cache / f"{key}.json"
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if good_for_s is None or 0 <= time.time() - path.stat().st_mtime < good_for_s:
            kept = {**fields, "requirements": tuple(fields["requirements"]), "local": tuple(fields["local"])}
            if all(isinstance(each, str) for each in (*kept["requirements"], *kept["local"], fields["source"])):
                return Environment(**kept)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        path.unlink(missing_ok=True)
    found = find()
    _keep(path, json.dumps(asdict(found)))
    return found


def _keep(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=owner_only) as file:
            file.write(text)
        temporary.replace(path)
        for old in path.parent.iterdir():
            if old.stat().st_mtime < time.time() - _KEPT_S:
                old.unlink(missing_ok=True)
    except OSError as error:  # a cache that cannot be written costs time only
        _log.info("the environment was not kept: %s", error)
