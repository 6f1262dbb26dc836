"""Folders with Python files in; the same with their compiled code out: the same bytes for the same files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path

from starburst_common.errors import CannotBuild

#: Compiles the files it is told of. The same files in the same order give the same bytes: nothing else happens in its
#: process, and what strings hash to is fixed. What is no Python of this version, such as templates, stays as it is.
_COMPILE = """
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin:
    file, _, shown = line.rstrip("\\n").partition("\\t")
    try:
        py_compile.compile(file, dfile=shown, doraise=True, invalidation_mode=mode)
    except py_compile.PyCompileError:
        pass
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(error.errno or 1)
"""


def compile_all(folders: Sequence[Path]) -> None:
    """Byte-compile all Python files below folders, each of which stands for an image's root; what is the same, once."""
    firsts: dict[str, list[Path]] = {}
    same: list[tuple[Path, Path]] = []
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            there = firsts.setdefault(f"/{file.relative_to(folder).as_posix()}", [])
            twin = next((other for other in there if _alike(other, file)), None)
            if twin is None:
                there.append(file)
            else:
                same.append((twin, file))
    _compile([(file, shown) for shown, files in firsts.items() for file in files], folders[0].parent)
    for twin, file in same:
        source, target = _compiled(twin), _compiled(file)
        if source.exists():
            target.parent.mkdir(exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(source, target)  # nobody writes to either


def _compile(files: Sequence[tuple[Path, str]], work: Path) -> None:
    """In as many processes as there are CPUs; each one's environment is the same on all machines."""
    count = min(os.cpu_count() or 1, len(files))
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-s", "-S", "-P", "-W", "ignore", "-c", _COMPILE]
    running = []
    for first in range(count):
        with tempfile.TemporaryFile("w+", dir=work) as told:
            told.write("".join(f"{file}\t{shown}\n" for file, shown in files[first::count]))
            told.seek(0)
            environment = {**others, "PYTHONHASHSEED": "0"}
            running.append(subprocess.Popen(command, stdin=told, stderr=subprocess.PIPE, env=environment, text=True))
    for process in running:
        said = process.communicate()[1]
        if process.returncode == errno.ENOSPC:
            raise OSError(errno.ENOSPC, said.strip())
        if process.returncode:
            raise CannotBuild(f"the image's Python files cannot be compiled:\n{said}")


def _alike(one: Path, other: Path) -> bool:
    return one.samefile(other) or cmp(one, other, shallow=False)


def _compiled(file: Path) -> Path:
    return file.parent / "__pycache__" / f"{file.stem}.{sys.implementation.cache_tag}.pyc"
