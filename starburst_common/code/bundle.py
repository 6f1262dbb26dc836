"""Files of modules in; a zip of them, named by its content, out; what is large, left out or unfit is told."""

from __future__ import annotations

import hashlib
import io
import stat
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starburst_common.code.files import BUNDLE_BYTES, BUNDLE_FILES, File, Module
from starburst_common.code.rules import GITS, OURS
from starburst_common.errors import BadInput
from starburst_common.phrases import our_log

_log = our_log()
_LARGE_BYTES = 50 << 20
_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe")
_ELF = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  #: the field `e_machine`
_LEVEL = 1  #: of zlib: a sixth more bytes, in a third of the time
_RACY_S = 2.0  #: a file written so lately may change again without a trace in its times
_NAMED = 10  #: so many files are named in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The user's own modules as a zip; `digest` names its content."""

    digest: str
    archive: bytes
    modules: tuple[str, ...]
    native: tuple[tuple[str, str], ...] = ()  #: its files of machine code, each with its kind of machine


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
            f"workers do not need in {OURS}, or have them read it from S3"
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
            out.writestr(entry, body, zipfile.ZIP_DEFLATED, _LEVEL)
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
    whose = f"your module{'s' * (len(names) > 1)} {', '.join(map(_known_as, names, modules))}"
    count = "1 file" if len(files) == 1 else f"{len(files):,} files"
    _log.info("%s: %s, %.1f MB travel with the function (%s)", whose, count, total / 1e6, digest)
    if ignored := [name for module in modules for name in module.ignored]:
        _log.info("left out as %s and %s say: %s", GITS, OURS, _some(ignored))
    if total > _LARGE_BYTES:
        largest = sorted(files, key=lambda file: -file.stamp.size)[:3]
        _log.warning(
            "%s: %.0f MB travel, of which %s: to start faster, name what workers do not need in %s, or have them read "
            "it from S3",
            whose,
            total / 1e6,
            ", ".join(f"{file.inside} {file.stamp.size / 1e6:.0f} MB" for file in largest),
            OURS,
        )
    if secrets := tuple(name for module in modules for name in module.secrets):
        _warn_of(files[0].path.parent if files else None, secrets)


def _known_as(name: str, module: Module) -> str:
    """As people know it: by its file, where a program loads that under a name it makes up."""
    if len(module.files) != 1 or "/" in module.files[0].inside:
        return name
    file = module.files[0]
    return name if file.path.name == file.inside else file.path.name


@lru_cache(maxsize=256)
def _warn_of(where: Path | None, secrets: tuple[str, ...]) -> None:
    line = "!" + secrets[0].rpartition("/")[2]
    _log.warning("left out as likely secrets: %s (a line %r in %s brings one along)", _some(secrets), line, OURS)


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
