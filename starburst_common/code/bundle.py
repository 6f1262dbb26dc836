"""A module's place on disk in; which of its files travel, and a zip of them, out.

What stays, by the first of these that applies:

1. Caches, nested environments, `node_modules` and `.git`: always.
2. What `.starburstignore` says, either way: it leaves out, and `!data/table.csv` brings back whatever the rules below
   leave out.
3. Hidden files and folders, and what lies in a folder that is no regular package: only modules travel from there.
4. Files whose names say that they hold secrets: a warning names them.
5. What `.gitignore` leaves out, unless it can be imported, or the module's whole folder is left out. Generated modules
   and compiled extensions are often kept out of Git, and without them an import that works here would fail there.

Both files are written as for Git. They count in the module's own folders, each for what lies below it, and in those
above up to the project's root, the nearest folder with `.git` or `pyproject.toml` (without one: the folder that the
module is imported from). Where several speak, the innermost is right.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starburst_common.errors import BadInput
from starburst_common.phrases import our_log, told
from starburst_common.trust import believed

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_log = our_log()
_NEVER = frozenset({"__pycache__", "node_modules", "venv", ".git"})
_SECRETS = (
    *(".env", ".env.*", ".netrc", ".pypirc", ".aws", ".ssh", "credentials*"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ecdsa*", "id_ed25519*"),
)
_is_secret = re.compile("|".join(map(translate, _SECRETS))).match
_IMPORTABLE = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_OURS, _GITS = ".starburstignore", ".gitignore"
BUNDLE_BYTES = 1 << 30  #: a bundle's files have together at most
BUNDLE_FILES = 100_000
_LARGE_BYTES = 50 << 20
_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe")
_ELF = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  #: the field `e_machine`
_RACY_S = 2.0  #: a file written so lately may change again without a trace in its times
_STARS = 4  #: in a name of a pattern, and names that are two: each lets its time grow by the length once more
_NAMED = 10  #: so many files are named in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The user's own modules as a zip; `digest` names its content."""

    digest: str
    archive: bytes
    modules: tuple[str, ...]
    native: tuple[tuple[str, str], ...] = ()  #: its files of machine code, each with its kind of machine


class Stamp(NamedTuple):
    """What changes when a file does."""

    changed_ns: int
    touched_ns: int  #: unlike the time of change, nobody can set it
    size: int
    mode: int  #: whether its owner may read, write and execute it


class File(NamedTuple):
    """A file that travels."""

    path: Path
    inside: str  #: its name in the zip
    stamp: Stamp


class Piece(NamedTuple):
    """A file, or a folder with all below it, of a module."""

    place: Path
    inside: str  #: its name in the zip


class Module(NamedTuple):
    """A top-level module: what of it travels and what does not."""

    files: tuple[File, ...]
    ignored: tuple[str, ...] = ()  #: by `.gitignore` or `.starburstignore`
    secrets: tuple[str, ...] = ()


def module_at(pieces: Iterable[Piece]) -> Module:
    """What of a module travels. Raises `BadInput` for a pattern that is none in a `.starburstignore`."""
    files: dict[str, File] = {}
    ignored: list[str] = []
    secrets: list[str] = []
    for place, name in pieces:
        place = place.absolute()
        for path, rules, in_package in _walk(place):
            parts = path.relative_to(place).parts
            inside = "/".join((name, *parts))
            if inside in files:  # of several folders, the first has it, as when it is imported
                continue
            match _fate(path, parts or (path.name,), place, rules, in_package=in_package):
                case "travels":
                    with suppress(FileNotFoundError):  # gone meanwhile, or a link to nothing
                        found = path.stat()
                        if stat.S_ISREG(found.st_mode):
                            files[inside] = File(path, inside, _stamp(found))
                case "ignored":
                    ignored.append(inside)
                case "secret":
                    secrets.append(inside)
    return Module(tuple(files.values()), tuple(ignored), tuple(secrets))


def bundle_of(modules: dict[str, Module]) -> Bundle | None:
    """A zip that depends on nothing but names and contents; the same object again while no file has changed."""
    if not modules:
        return None
    names = tuple(sorted(modules))
    files = tuple(file for name in names for file in modules[name].files)
    nbytes = sum(file.stamp.size for file in files)
    if len(files) > BUNDLE_FILES or nbytes > BUNDLE_BYTES:
        largest = max(files, key=lambda file: file.stamp.size)
        raise BadInput(
            f"your modules {', '.join(names)} have {len(files):,} files with {nbytes / 1e6:,.0f} MB (the largest is "
            f"{largest.inside}), and at most {BUNDLE_FILES:,} with {BUNDLE_BYTES / 1e6:,.0f} MB travel: name what "
            f"workers do not need in {_OURS}, or have them read it from S3"
        )
    files = tuple({file.inside: file for file in files}.values())  # modules of one project have its metadata each
    newest_ns = max((max(file.stamp[:2]) for file in files), default=0)
    settled = newest_ns < time.time_ns() - _RACY_S * 1e9
    bundle = (_zipped if settled else _zipped.__wrapped__)(names, files)
    _tell(bundle.digest, tuple(modules[name] for name in names), names)
    return bundle


def bundle_of_files(files: Sequence[File], secrets: Sequence[str]) -> Bundle:
    """A zip of data files that were found; a warning names what is left out."""
    if secrets:
        _log.warning("files= leaves out what may hold secrets: %s: name a file itself to send it", _some([*secrets]))
    return _zipped.__wrapped__((), tuple(files))


def files_at(paths: Iterable[Path], root: Path) -> tuple[list[File], list[str]]:
    """Data files, and what is in folders, by their place below `root`. Raises `BadInput` for too many.

    Caches, and below folders what looks like a secret, are left out; the latter are named beside.
    """
    found: dict[str, File] = {}
    secrets: list[str] = []
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(path).parts
            if not file.is_file() or _NEVER & set(parts):
                continue
            inside = file.relative_to(root).as_posix()
            if any(map(_is_secret, parts)):
                secrets.append(inside)
            else:
                found[inside] = File(file, inside, _stamp(file.stat()))
    nbytes = sum(file.stamp.size for file in found.values())
    if len(found) > BUNDLE_FILES or nbytes > BUNDLE_BYTES:
        raise BadInput(
            f"files= names {len(found):,} files with {nbytes / 1e6:,.0f} MB, and at most {BUNDLE_FILES:,} with "
            f"{BUNDLE_BYTES / 1e6:,.0f} MB travel: have workers read them from S3"
        )
    return [*found.values()], secrets


def mode_of(entry: zipfile.ZipInfo) -> int:
    """Whether its owner may read, write and execute a file of a bundle."""
    return entry.external_attr >> 16 & 0o700


def entry_digest(entry: zipfile.ZipInfo, body: bytes) -> bytes:
    """What of a file a bundle's digest is made of."""
    return f"{entry.filename}\0{mode_of(entry):o}\0{len(body)}\0".encode() + body


@lru_cache(maxsize=2)  # who submits a thousand lambdas has their modules read once
def _zipped(names: tuple[str, ...], files: tuple[File, ...]) -> Bundle:
    archive, content, native = io.BytesIO(), hashlib.sha256(), list[tuple[str, str]]()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in files:
            try:
                body = file.path.read_bytes()
            except FileNotFoundError:  # gone meanwhile, as editors' files are
                continue
            entry = zipfile.ZipInfo(file.inside)
            entry.external_attr = (stat.S_IFREG | file.stamp.mode) << 16
            content.update(entry_digest(entry, body))
            out.writestr(entry, body, zipfile.ZIP_DEFLATED)
            if machine := machine_of(body[:20]):
                native.append((file.inside, machine))
    digest = content.hexdigest()[:32]
    return Bundle(digest=digest, archive=archive.getvalue(), modules=names, native=tuple(native))


def machine_of(head: bytes) -> str:
    r"""Of a file that begins so, the kind of machine that it is compiled for, as `uname -m` has it; or nothing.

    >>> machine_of(b"\x7fELF\2\1".ljust(18, b"\0") + b"\x3e\0"), machine_of(b"PK")
    ('x86_64', '')
    """
    if head[:4] in _MACH_O:
        return "macOS"
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return ""
    number = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
    return _ELF.get(number, f"machine {number} of ELF")


@lru_cache(maxsize=256)
def tell_unfit(native: tuple[tuple[str, str], ...], workers: str) -> None:
    """Warn, once, of machine code that cannot run on workers of that kind, unless it is there for theirs too."""
    fits = {_stem(name) for name, machine in native if machine == workers}
    unfit = [(name, machine) for name, machine in native if machine != workers and _stem(name) not in fits]
    if workers and unfit:
        _log.warning(
            "compiled for %s, and workers are %s, where it cannot be loaded: %s: compile it for those too and put it "
            "beside, publish it as a package with wheels for both, or have workers of this kind (a site's "
            "`architecture`)",
            *(", ".join(sorted({machine for _, machine in unfit})), workers, _some([name for name, _ in unfit])),
        )


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


@lru_cache(maxsize=256)
def _tell(digest: str, modules: tuple[Module, ...], names: tuple[str, ...]) -> None:
    """Once for all files as they are now: how much travels, and what does not."""
    files = [file for module in modules for file in module.files]
    total = sum(file.stamp.size for file in files)
    whose = f"your module{'s' * (len(names) > 1)} {', '.join(names)}"
    _log.info("%s: %d files, %.1f MB travel with the function (%s)", whose, len(files), total / 1e6, digest)
    if ignored := [name for module in modules for name in module.ignored]:
        _log.info("left out as %s and %s say: %s", _GITS, _OURS, _some(ignored))
    if total > _LARGE_BYTES:
        largest = sorted(files, key=lambda file: -file.stamp.size)[:3]
        _log.warning(
            "%s: %.0f MB travel, of which %s: to start faster, name what workers do not need in %s, or have them read "
            "it from S3",
            whose,
            total / 1e6,
            ", ".join(f"{file.inside} {file.stamp.size / 1e6:.0f} MB" for file in largest),
            _OURS,
        )
    if secrets := tuple(name for module in modules for name in module.secrets):
        _warn_of(files[0].path.parent if files else None, secrets)


@lru_cache(maxsize=256)
def _warn_of(where: Path | None, secrets: tuple[str, ...]) -> None:
    line = "!" + secrets[0].rpartition("/")[2]
    _log.warning("left out as likely secrets: %s (a line %r in %s brings one along)", _some(secrets), line, _OURS)


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


# --- which files ------------------------------------------------------------------------------------------------------


class _Rules:
    """One file's patterns, for what lies below its folder; read when first asked, and what was said is remembered."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self._file, self._start = file, len(str(file)) - len(file.name)
        self._said: dict[str, bool | None] = {}

    @property
    def brings_back(self) -> bool:
        """Whether some pattern starts with "!"."""
        return any(pattern.include is False for pattern in self._spec.patterns)

    def leaves_out(self, path: str) -> bool | None:
        """Whether it leaves a file out (True) or in (False); None where it says nothing."""
        if path not in self._said:
            self._said[path] = self._spec.check_file(path[self._start :]).include
        return self._said[path]

    @cached_property
    def _spec(self) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec  # takes a tenth of a second, which most functions need not wait

        patterns = []
        for number, line in enumerate(self._file.read_text("utf-8-sig", errors="replace").splitlines(), 1):
            try:
                line = _few_stars(line)
                with warnings.catch_warnings(action="ignore"):
                    patterns += list(GitIgnoreSpec.from_lines([line]).patterns)
            except (ValueError, re.error, OverflowError, RecursionError) as error:
                if self._file.name == _OURS:  # Git passes over a line that is no pattern
                    raise BadInput(f"{self._file}, line {number}: {told(line)} is no pattern: {error}") from None
        return GitIgnoreSpec(patterns)


def _few_stars(line: str) -> str:
    """The pattern with each run of stars as one, which means the same. Raises `ValueError` where many are left.

    >>> _few_stars("!**/a***b/\\\\**/**")
    '!**/a*b/\\\\**/**'
    """
    if line.startswith("#"):
        return line
    parts = [
        part if part.strip() == "**" else re.sub(r"(\\.)|\*+", lambda found: found[1] or "*", part)
        for part in line.removeprefix("!").split("/")
    ]
    if any(part.count("*") > _STARS for part in parts):
        raise ValueError(f"more than {_STARS} stars in a name take too long to match")
    if sum(part.strip() == "**" for part in parts) > _STARS:
        raise ValueError(f"more than {_STARS} times ** takes too long to match")
    return "!" * line.startswith("!") + "/".join(parts)


class _All(NamedTuple):
    """The rules for one folder, the innermost first."""

    ours: tuple[_Rules, ...] = ()
    gits: tuple[_Rules, ...] = ()

    def with_those_in(self, folder: Path, names: list[str]) -> _All:
        """And a folder's own; `names` are its files."""
        return _All(
            ((_read(folder, _OURS), *self.ours) if _OURS in names else self.ours),
            ((_read(folder, _GITS), *self.gits) if _GITS in names else self.gits),
        )


def _rules_above(place: Path) -> _All:
    """From the project's root down to the folder that the module is in."""
    folders = [place, *place.parents] if place.is_dir() else [*place.parents]
    root = next((f for f in folders if (f / ".git").exists() or (f / "pyproject.toml").exists()), place.parent)
    rules = _All()
    for folder in reversed(place.parents):
        if folder.is_relative_to(root):
            if (ours := folder / _OURS).is_file():
                believed(ours, "remove it")  # it can bring along what would stay here
            rules = rules.with_those_in(folder, [name for name in (_OURS, _GITS) if (folder / name).is_file()])
    return rules


def _read(folder: Path, name: str) -> _Rules:
    return _rules_then(folder / name, _stamp((folder / name).stat()))


@lru_cache(maxsize=1024)
def _rules_then(file: Path, stamp: Stamp) -> _Rules:
    return _Rules(file)


def _walk(place: Path) -> Iterator[tuple[Path, _All, bool]]:
    """Files, each with the rules for it and whether it lies in a regular package; so too hidden folders passed by."""
    above = _rules_above(place)
    if place.is_file():
        yield place, above, False
        return
    known = {place.parent: above}
    packages: set[Path] = set()  # a regular package's data travels; a namespace's folder may be any folder
    for where, folders, names in os.walk(place):
        folder = Path(where)
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        rules = known[folder] = known[folder.parent].with_those_in(folder, names)
        if folder.parent in packages or "__init__.py" in names:
            packages.add(folder)
        if folder not in packages and not rules.ours:  # which may be a folder of a great many files
            names = [name for name in names if name.endswith(_IMPORTABLE)]
        back = any(each.brings_back for each in rules.ours)
        passed_by = [] if back else [name for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if name not in _NEVER and name not in passed_by)
        for name in sorted([*names, *passed_by]):
            yield folder / name, rules, folder in packages


def _fate(path: Path, parts: tuple[str, ...], module: Path, rules: _All, *, in_package: bool) -> str:
    """What becomes of a file: "travels", "stays", or why it is left out, "ignored" or "secret"."""
    if path.suffix == ".pyc":
        return "stays"
    said = _said(rules.ours, str(path))
    if said is not None:
        return "ignored" if said else "travels"
    hidden = any(part.startswith(".") for part in parts)
    if not hidden and (path.name.endswith(_IMPORTABLE) or path == module):
        return "travels"
    if not in_package:
        return "stays"
    if any(map(_is_secret, parts)):
        return "secret"
    if hidden:
        return "stays"
    return "ignored" if _git_ignores(path, module, rules.gits) else "travels"


def _git_ignores(path: Path, module: Path, rules: tuple[_Rules, ...]) -> bool:
    """Rules from above a module have no say where they leave out all of it: it is imported all the same."""
    inner = tuple(each for each in rules if each.folder.is_relative_to(module))
    said = _said(inner, str(path))
    if said is None:
        outer = rules[len(inner) :]
        said = not _said(outer, f"{module}/") and _said(outer, str(path))
    return bool(said)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode & 0o700)


def _said(rules: tuple[_Rules, ...], path: str) -> bool | None:
    return next((said for each in rules if (said := each.leaves_out(path)) is not None), None)
