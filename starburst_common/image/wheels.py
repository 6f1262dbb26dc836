"""Exact requirements in; a folder with their wheels for another platform out."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from packaging.utils import canonicalize_name

from starburst_common.errors import CannotBuild
from starburst_common.phrases import without_credentials

sysconfig.get_config_vars()  # of two threads that are the first to ask, one may be told nothing, as by `find_uv_bin`

#: as uv names them: for systems with glibc 2.28 of 2018, as Debian 10 and Red Hat 8 have it, or a later one
PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
_NOT_FOUND = 1  #: uv's exit code where requirements cannot be met; 2 is for all that has no such answer
_AT_ONCE = 4
_NOT_OURS = ("UV_COMPILE_BYTECODE", "UV_SYSTEM_PYTHON", "UV_PYTHON")  #: a user's settings that contradict ours
#: how a script begins that a Python runs; where that Python's path is long or has blanks, by way of a shell
_SHEBANG = re.compile(rb"\A#!(?:/bin/sh\n'''exec' .*\n' '''|.*python.*)\n")


class NoWheel(CannotBuild):
    """Packages have no wheel for a platform: they must be built, by a builder that can."""


def install_environment(
    prefix: Path, text: str, *, platform: str, python: str, indexes: Mapping[str, str] = MappingProxyType({})
) -> None:
    """As `install`, laid out as an environment: packages, commands, headers and data each in their place.

    Commands run with whichever Python the search path finds.
    """
    install(prefix, text, platform=platform, python=python, indexes=indexes, how="--prefix")
    if (apart := prefix / "lib64").is_dir() and not apart.is_symlink():  # where this machine's Python has compiled ones
        shutil.copytree(apart, prefix / "lib", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(apart)
    free_commands(prefix)


def install(
    folder: Path,
    text: str,
    *,
    platform: str,
    python: str,
    indexes: Mapping[str, str] = MappingProxyType({}),
    how: str = "--target",
) -> None:
    """Put the wheels of a requirements file whose lines are all exact into a folder.

    The user's settings say from which index, as they do for `uv pip install` in the current folder; where they do not,
    `indexes` do, as uv's environment variables. Raises `NoWheel` with the names of all packages that have none,
    `CannotBuild` with uv's own words for what else is wrong, or the names of those that nobody could build either.
    """
    requirements = text.splitlines()
    if not requirements:
        folder.mkdir(parents=True, exist_ok=True)
        return
    code, said = _installed([how, str(folder)], text, platform, python, indexes)
    if code == 0:
        (folder / ".lock").unlink(missing_ok=True)
        return
    if "os error 28" in said:
        raise OSError(errno.ENOSPC, said.splitlines()[0])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda line: _lacking(folder, line, platform, python, indexes), requirements))
    if never := [f"{_name(line)} ({has})" for line, (_, has) in zip(requirements, found, strict=True) if has]:
        raise CannotBuild(
            f"nothing for Python {python} on {platform}, and no source to build it from: {', '.join(never)}. Choose "
            "another version; what only another system needs gets a marker, as in `pywin32; sys_platform == 'win32'`"
        )
    if names := [_name(line) for line, (lacks, _) in zip(requirements, found, strict=True) if lacks]:
        raise NoWheel(
            f"{len(names)} package{'s' if len(names) > 1 else ''} without a wheel for Python {python} on {platform}: "
            f"{', '.join(names)}"
        )
    raise CannotBuild(f"uv cannot install packages for {platform}:\n{said}")


def sizes(prefix: Path) -> dict[str, int]:
    """How many bytes each package of an environment is said to have, by its name as package indexes have it."""
    found: dict[str, int] = {}
    for record in prefix.glob("lib*/python*/site-packages/*.dist-info/RECORD"):
        with record.open(newline="") as lines:
            sizes = [row[2] for row in csv.reader(lines) if len(row) == 3 and not row[0].startswith("..")]
        found[canonicalize_name(record.parent.name.partition("-")[0])] = sum(int(size) for size in sizes if size)
    return found


def free_commands(prefix: Path) -> None:
    """Let the commands of an environment run with whichever Python the search path finds."""
    for file in sorted(path for path in (prefix / "bin").glob("*") if path.is_file()):  # some bring folders, too
        content = _SHEBANG.sub(b"#!/usr/bin/env python3\n", file.read_bytes(), count=1)
        file.unlink()  # it may be the same file as in uv's cache
        file.write_bytes(content)
        file.chmod(0o755)
    # the list of a package's files has digests of scripts that name this machine's Python
    for record in prefix.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        old = record.read_text()
        new = re.sub(r"^(\.\./\.\./\.\./bin/[^,\n]*),.*$", r"\1,,", old, flags=re.MULTILINE)
        if new != old:
            record.unlink()
            record.write_text(new)


def uv_program() -> str:
    """Where uv is. Raises `CannotBuild`."""
    import uv

    try:
        return os.fspath(uv.find_uv_bin())
    except FileNotFoundError as error:
        if (found := shutil.which("uv")) is not None:
            return found
        raise CannotBuild("the program uv is not found: install it, as with `pip install uv`") from error


def _installed(
    how: Sequence[str], text: str, platform: str, python: str, indexes: Mapping[str, str]
) -> tuple[int, str]:
    lines = [line for line in text.splitlines() if line]
    hashed = ["--require-hashes"] if all("--hash=" in line for line in lines) else []
    where = [*how, "--python-platform", PLATFORMS[platform], "--python-version", python]
    command = [uv_program(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *where, *hashed]
    # what it would write about the installer has paths and times of this machine
    command += ["--no-installer-metadata", "--no-compile-bytecode", "--python", sys.executable, "--requirements", "-"]
    settings = {name: value for name, value in {**indexes, **os.environ}.items() if name not in _NOT_OURS}
    done = subprocess.run(command, input=text, text=True, capture_output=True, env=settings, check=False)
    return done.returncode, without_credentials(done.stderr.strip())


def _lacking(folder: Path, line: str, platform: str, python: str, indexes: Mapping[str, str]) -> tuple[bool, str]:
    """Whether it is for want of a wheel that a requirement cannot be met; where it has no source, what it has instead.

    uv is asked for it alone.
    """
    if re.search(r"@\s*git\+", line):
        return True, ""
    how = ["--target", f"{folder}-dry", "--dry-run"]
    code, said = _installed(how, line, platform, python, indexes)
    said = " ".join(said.split())  # uv breaks its lines as a terminal would
    lacks = code == _NOT_FOUND and ("wheel" in said or "source distribution" in said)
    if not lacks or "no wheels with a matching" not in said:
        return lacks, ""
    there = re.search(r"(?:Wheels are available|only found wheels) for .*: (`.*`)", said)
    return True, there[1].replace("`", "") if there else "no wheel"


def _name(line: str) -> str:
    """A requirement without its hashes, markers, and the address it comes from.

    >>> _name("a==1 ; python_version < '3.12' --hash=sha256:1"), _name("b @ https://me:secret@host/b.zip")
    ('a==1', 'b')
    """
    return re.split(r"\s*;|\s+@|@|\s+--", line)[0].strip()
