"""A folder in; the file in it, or above, that says what code there needs, out; what is passed over is named."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starburst_common.environment import conda, pdm, pipfile, poetry, pylock, script, texts, uvlock
from starburst_common.environment.asked import Asked, alone, well_formed, with_project
from starburst_common.environment.lines import is_file
from starburst_common.environment.projects import PROJECT, lists_aside, says_needs
from starburst_common.errors import BadInput
from starburst_common.phrases import one_line, our_log
from starburst_common.toml import toml

_log = our_log()


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of saying what is needed."""

    what: str
    files: Callable[[Path], list[Path]]  #: all that decides, the file itself first
    read: Callable[[Path, str, Asked], str]  #: a requirements file's text out; paths relative to the file's folder
    frozen: bool = True  #: the files alone decide, for ever


_PYLOCK = Kind("pylock.toml", alone, pylock.read)
_TEXT = Kind("requirements.txt", texts.files, texts.read, frozen=False)
_CONDA = Kind("environment.yml", conda.files, conda.read, frozen=False)
_SCRIPT = Kind("script", script.files, script.read, frozen=False)

LOCKS = {
    "uv.lock": Kind("uv.lock", uvlock.files, uvlock.read),
    "pylock.toml": _PYLOCK,
    "poetry.lock": Kind("poetry.lock", with_project, poetry.read),
    "pdm.lock": Kind("pdm.lock", with_project, pdm.read),
    "Pipfile.lock": Kind("Pipfile.lock", alone, pipfile.read),
}
_RYE = "requirements.lock"
_OTHERS = dict.fromkeys(("pixi.lock", *conda.LOCKS), Kind("pixi.lock", alone, conda.read))
KINDS = LOCKS | _OTHERS | dict.fromkeys(("requirements.txt", _RYE, *PROJECT), _TEXT)
_CONDA_FILES = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")

#: What a file's name says of whom it is for.
_DEVELOPMENT = frozenset(
    [
        *("dev", "devel", "develop", "development", "local", "test", "tests", "testing", "doc", "docs"),
        *("documentation", "lint", "linting", "ci", "typing", "types", "style", "format", "build"),
        *("bench", "benchmark", "benchmarks", "rtd", "readthedocs", "mypy", "flake8", "precommit", "pre", "release"),
        *("example", "examples", "notebook", "notebooks"),
    ]
)
_PRODUCTION = frozenset(["prod", "production"])
_BASE = frozenset(["base", "main", "common", "core", "default", "runtime"])
#: A minor version of Python in a name, and systems that workers do not have.
_MINOR = re.compile(r"(?<![a-z0-9.])(?:py|python|cp)?[-_]?3[._]?([6-9]|[1-3]\d)(?![0-9a-z])")
_SYSTEMS = frozenset(["windows", "win", "win32", "win64", "macos", "mac", "osx", "darwin"])
_LIST = "list what your function imports in a requirements.txt, or give image=…"
#: By pattern, what is not read, and what to do.
_UNREAD = {
    "Pipfile": "lock it with `pipenv lock`",
    "pixi.toml": f"lock it with `pixi lock`, or {_LIST}",
    "conda-*.lock": _LIST,
    **dict.fromkeys(
        (
            *("environment[-_.]*.y*ml", "env.y*ml", "conda[-_]env*.y*ml", "env*/*.y*ml", "conda/*.y*ml"),
            *("binder/environment.y*ml", ".binder/environment.y*ml", "*reqs*.txt", "*dependencies*.txt", "deps.txt"),
        ),
        f"name it with requirements=…, or {_LIST}",
    ),
    **dict.fromkeys(
        ("constraints*.txt", "tox.ini", "noxfile.py", "hatch.toml", "[Dd]ockerfile", "Dockerfile.*", "python_env.yaml"),
        _LIST,
    ),
}


def kind_of(path: Path) -> Kind:
    """By name, else by content."""
    if path.name in KINDS:
        return KINDS[path.name]
    if path.name.startswith("pylock.") and path.suffix == ".toml":
        return _PYLOCK
    if path.suffix in (".yml", ".yaml"):
        return _CONDA
    if path.suffix == ".py":
        return _SCRIPT
    if path.suffix in (".toml", ".lock") and not path.name.startswith("requirements"):
        content = toml(path)
        if "lock-version" in content:
            return _PYLOCK
        metadata = content.get("metadata")
        if isinstance(metadata, dict) and "lock-version" in metadata:
            return KINDS["poetry.lock"]
        if isinstance(metadata, dict) and "lock_version" in metadata:
            return KINDS["pdm.lock"]
        raise BadInput(f"{path}: not a lock file that we know; name it as the program that wrote it does (uv.lock, …)")
    return _TEXT


def named(path: Path, asked: Asked) -> Path:
    """The file that was named, or the one in the folder that was. Raises `BadInput`."""
    path = path.expanduser()
    path = path.parent.resolve() / path.name  # a link stays where it is
    if is_file(path):
        return path
    with suppress(OSError):  # too long a name
        if path.is_dir():
            found, unread = _in(path, asked)
            if found is None:
                raise BadInput(f"{path}: nothing in this folder says what is needed{_told(unread)}")
            return found
    raise BadInput(f"{one_line(str(path), 300)}: no such file")


def nearest_requirements(folder: Path) -> Path | None:
    """The file that says what code in a folder needs, there or above; None if there is none. Raises as `nearest`."""
    return nearest(folder.resolve(), Asked(folder=folder.resolve()))


def nearest(folder: Path, asked: Asked) -> Path | None:
    """In the folder or above, up to one with .git, and below the home folder; what is there and not read is warned of.

    A script that runs and says itself what it needs comes first. Raises `BadInput` where several files would do.
    """
    if running := script.running():
        return running
    home = Path.home()
    unread = list[str]()
    for each in (folder, *folder.parents):
        if each != folder and each in (home, Path(each.anchor)):
            break
        found, more = _in(each, asked)
        if found:
            return _workspace(found) or found
        unread += more
        if (each / ".git").exists():
            break
    if unread:
        _log.warning("environment: workers get what is installed here%s", _told(unread))
    return None


def _in(folder: Path, asked: Asked) -> tuple[Path | None, list[str]]:
    """The file that counts there; else what there is that does not, each with what to do."""
    locked = _there(folder, LOCKS) or _one_of(folder.glob("pylock.*.toml")) or _there(folder, [_RYE])
    project, of_conda = _project(folder, asked), _there(folder, _CONDA_FILES)
    others = [_there(folder, _OTHERS), project, of_conda]
    # beside what speaks for all of the project, a list whose name says another purpose is for that
    listed = _there(folder, ["requirements.txt"]) or _listed(folder, plain=any([locked, *others]))
    ways = [*filter(None, [locked, listed, *others])]
    if not ways:
        return None, [*_unread(folder)]
    chosen, *passed = ways
    if passed:
        _log.info("environment: %s is taken, not %s", chosen.name, ", ".join(path.name for path in passed))
    if chosen == project:
        beside = [f"what {name} lists for conda ({what})" for name, what in conda.told_to_pixi(folder).items() if what]
        beside += [path.name for path in (of_conda, *_lists(folder, "txt")) if path and _is_another(path)]
        if beside:
            _log.warning("environment: %s is taken, not %s", chosen, ", ".join(beside))
    return chosen, []


def _listed(folder: Path, *, plain: bool) -> Path | None:
    for ending in ("txt", "in"):
        paths = _lists(folder, ending)
        if found := _one_of([path for path in paths if not (plain and _is_another(path))]):
            return found
    return None


def _lists(folder: Path, ending: str) -> list[Path]:
    """What is for who runs the project, going by names."""
    patterns = (f"*[Rr]equirements*.{ending}", f"requirements/*.{ending}")
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return [path for path in paths if not _is_for_others(path)]


def _is_for_others(path: Path) -> bool:
    """Who works on the project, or has another Python or system than workers."""
    words, minors = _words(path), {int(minor) for minor in _MINOR.findall(path.stem.lower())}
    return bool(words & (_DEVELOPMENT | _SYSTEMS)) or bool(minors - {sys.version_info.minor})


def _is_another(path: Path) -> bool:
    words = _words(path)
    return bool(words) and not words & (_BASE | _PRODUCTION)


def _there(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if is_file(folder / name)), None)


def _one_of(paths: Iterable[Path]) -> Path | None:
    """The one for who runs the project, going by names. Raises `BadInput` where several may be meant."""
    files = sorted(path for path in paths if not _is_for_others(path) and is_file(path))
    if len(files) < 2:
        return files[0] if files else None
    production = [path for path in files if _words(path) & _PRODUCTION]
    base = [path for path in files if not _words(path) or _words(path) & _BASE]
    best, *several = production or base or files
    if several:
        names = ", ".join(path.name for path in files)
        raise BadInput(f"{best.parent}: which of {names} do the workers need? Say requirements=… (--requirements FILE)")
    if rest := [path.name for path in files if path not in (best, *_included(best))]:
        _log.warning("environment: %s is taken, not %s", best, ", ".join(rest))
    return best


def _included(path: Path) -> list[Path]:
    return [] if path.suffix == ".toml" else texts.files(path)


def _words(path: Path) -> set[str]:
    """What a name says beside what every such file's does, and beside a Python and the system of workers."""
    text = _MINOR.sub(" ", path.stem.lower())
    return {*re.split(r"[-_.\s]+", text)} - {"requirements", "pylock", "linux", ""}


def _project(folder: Path, asked: Asked) -> Path | None:
    return next((folder / name for name in PROJECT if says_needs(folder / name, asked)), None)


def _workspace(path: Path) -> Path | None:
    """The uv.lock above that was made for the project in a folder too."""
    if path.name not in PROJECT:
        return None
    for folder in path.parent.parents:
        lock = folder / "uv.lock"
        if is_file(lock):
            with well_formed(lock):
                return lock if path.parent in uvlock.projects(lock) else None
        if (folder / ".git").exists():
            break
    return None


def _unread(folder: Path) -> Iterable[str]:
    for path in sorted([*folder.glob("*[Rr]equirements*"), *folder.glob("requirements/*.txt")]):
        if path.suffix in (".txt", ".in", ".lock") and is_file(path) and _is_for_others(path):
            whom = "development" if _words(path) & _DEVELOPMENT else "another Python or system"
            yield f"{path} is for {whom}: name it with requirements=… (--requirements FILE) if it is not"
    for path in sorted(folder.glob("*.py")):
        if script.block(path) is not None:
            yield f"{path} says what it needs itself: name it with requirements=… (--requirements FILE)"
    project = folder / "pyproject.toml"
    if aside := lists_aside(project):
        yield f"{project} is not read: what it needs is in {aside}: say groups=…, extras=…, or {_LIST}"
    if "pyproject.toml" in conda.told_to_pixi(folder):
        yield f"{project}, [tool.pixi], is not read: {_UNREAD['pixi.toml']}"
    for pattern, what in _UNREAD.items():
        for path in sorted(folder.glob(pattern)):
            yield f"{path} is not read: {what}"


def _told(unread: list[str]) -> str:
    return f" ({'; '.join(unread)})" if unread else ""
