"""Exact requirements in; a folder with their wheels for another platform out."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from starburst_common.environment.lines import without_credentials
from starburst_common.errors import CannotBuild

#: as uv names them: for systems with glibc 2.28 of 2018, as Debian 10 and Red Hat 8 have it, or a later one
PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
_NOT_FOUND = 1  #: uv's exit code where requirements cannot be met; 2 is for all that has no such answer
_AT_ONCE = 4
_NOT_OURS = ("UV_COMPILE_BYTECODE", "UV_SYSTEM_PYTHON", "UV_PYTHON")  #: a user's settings that contradict ours
#: how a script begins that a Python runs; where that Python's path is long or has blanks, by way of a shell
_SHEBANG = re.compile(rb"\A#!(?:/bin/sh\n'''exec' .*\n' '''|.*python.*)\n")


class NoWheel(CannotBuild):
    """Packages have no wheel for a platform: they must be built, by a builder that can."""


def install(
    folder: Path, text: str, *, platform: str, python: str, indexes: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Put the wheels of a requirements file whose lines are all exact into a folder.

    The user's settings say from which index, as they do for `uv pip install` in the current folder; where they do not,
    `indexes` do, as uv's environment variables. Raises `NoWheel` with the names of all packages that have none,
    `CannotBuild` with uv's own words for what else is wrong.
    """
    requirements = text.splitlines()
    if not requirements:
        folder.mkdir(parents=True, exist_ok=True)
        return
    code, said = _installed(folder, text, platform, python, indexes)
    if code == 0:
        (folder / ".lock").unlink(missing_ok=True)
        return
    if "os error 28" in said:
        raise OSError(errno.ENOSPC, said.splitlines()[0])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        lacking = list(pool.map(lambda line: _has_no_wheel(folder, line, platform, python, indexes), requirements))
    if names := [_name(line) for line, lacks in zip(requirements, lacking, strict=True) if lacks]:
        raise NoWheel(
            f"{len(names)} package{'s' if len(names) > 1 else ''} without a wheel for Python {python} on {platform}: "
            f"{', '.join(names)}"
        )
    raise CannotBuild(f"uv cannot install packages for {platform}:\n{without_credentials(said)}")


def move_scripts(packages: Path, scripts: Path) -> None:
    """Put the commands that packages bring elsewhere, for whichever Python the search path finds there."""
    made = packages / "bin"
    if not made.is_dir():
        return
    scripts.mkdir(parents=True)
    for file in sorted(made.iterdir()):
        moved = scripts / file.name
        moved.write_bytes(_SHEBANG.sub(b"#!/usr/bin/env python3\n", file.read_bytes(), count=1))
        moved.chmod(0o755)
    shutil.rmtree(made)
    # the list of a package's files has digests of scripts that name this machine's Python
    prefix = Path(os.path.relpath(scripts, packages)).as_posix()
    for record in packages.glob("*.dist-info/RECORD"):
        old = record.read_text()
        new = re.sub(r"^bin/([^,\n]*),.*$", rf"{prefix}/\1,,", old, flags=re.MULTILINE)
        if new != old:
            record.unlink()  # it may be the same file as in uv's cache
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
    folder: Path, text: str, platform: str, python: str, indexes: Mapping[str, str], more: Sequence[str] = ()
) -> tuple[int, str]:
    lines = [line for line in text.splitlines() if line]
    hashed = ["--require-hashes"] if all("--hash=" in line for line in lines) else []
    where = ["--target", str(folder), "--python-platform", PLATFORMS[platform], "--python-version", python]
    command = [uv_program(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *where, *hashed, *more]
    # what it would write about the installer has paths and times of this machine
    command += ["--no-installer-metadata", "--no-compile-bytecode", "--python", sys.executable, "--requirements", "-"]
    settings = {name: value for name, value in {**indexes, **os.environ}.items() if name not in _NOT_OURS}
    done = subprocess.run(command, input=text, text=True, capture_output=True, env=settings, check=False)
    return done.returncode, done.stderr.strip()


def _has_no_wheel(folder: Path, line: str, platform: str, python: str, indexes: Mapping[str, str]) -> bool:
    """Whether it is for want of a wheel that a requirement cannot be met; uv is asked for it alone."""
    if re.search(r"@\s*git\+", line):
        return True
    code, said = _installed(folder.with_name(f"{folder.name}-dry"), line, platform, python, indexes, ["--dry-run"])
    return code == _NOT_FOUND and ("wheel" in said or "source distribution" in said)


def _name(line: str) -> str:
    """A requirement without its hashes, markers, and the address it comes from.

    >>> _name("a==1 ; python_version < '3.12' --hash=sha256:1"), _name("b @ https://me:secret@host/b.zip")
    ('a==1', 'b')
    """
    return re.split(r"\s*;|\s+@|@|\s+--", line)[0].strip()
