"""A folder in, a layer's compressed tar file out: the same bytes for the same files; and a cache of such files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from filecmp import cmp
from pathlib import Path
from typing import BinaryIO, cast

from starburst_common.errors import CannotBuild
from starburst_common.image.oci import Layer
from starburst_common.trust import CACHE_INSTEAD, own_folder

_PIECE = 1 << 20
_LEVEL = 6  #: of gzip: 9 takes thrice as long for one hundredth less
_CRASHED_S = 24 * 3600.0  #: a work folder that old has nobody any more
_KEEP_S = 30 * 24 * 3600.0  #: for files that no build used
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
    wanted: list[tuple[Path, str]] = []
    same: list[tuple[Path, Path]] = []
    for number, folder in enumerate(folders):
        for file in sorted(folder.rglob("*.py")):
            name = file.relative_to(folder)
            twin = next((other / name for other in folders[:number] if _alike(other / name, file)), None)
            if twin is None:
                wanted.append((file, f"/{name.as_posix()}"))
            else:
                same.append((twin, file))
    _compile(wanted, folders[0].parent)
    for twin, file in same:
        there, here = _compiled(twin), _compiled(file)
        if there.exists():
            here.parent.mkdir(exist_ok=True)
            shutil.copyfile(there, here)


def pack(folder: Path, file: Path, *, by: str, owners: dict[str, tuple[int, int]]) -> Layer:
    """Make a layer of what is below a folder, which stands for the image's root.

    All is root's but what `owners` names, as "home/me"; all can be read by everybody.
    """
    with file.open("wb") as raw:
        compressed = _Hashed(raw)
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=cast(BinaryIO, compressed), compresslevel=_LEVEL, mtime=0
        ) as zipped:
            plain = _Hashed(zipped)
            with tarfile.open(
                fileobj=cast(BinaryIO, plain), mode="w|", format=tarfile.PAX_FORMAT, bufsize=_PIECE
            ) as tar:
                for path in sorted(folder.rglob("*")):
                    name = path.relative_to(folder).as_posix()
                    _add(tar, path, name, owners.get(name, (0, 0)))
    return Layer(digest=compressed.digest, diff_id=plain.digest, size=compressed.size, by=by)


class LayerCache:
    """Layers made before, by what they are made from; any number of processes share it, and may crash in it."""

    def __init__(self, folder: Path, *, own: bool = True) -> None:
        self.folder = folder
        self._own = own  # nobody else may have a hand in it; one that the caller names is what the caller makes it

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder to make layers in; what crashed builds and old versions left goes."""
        if self._own:
            own_folder(self.folder, CACHE_INSTEAD)  # what is in it goes into images
        self.folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        for path in self.folder.iterdir():
            old_s = now - _modified(path)
            if path.is_dir() and old_s > _CRASHED_S:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and old_s > _KEEP_S:
                path.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="work-", ignore_cleanup_errors=True) as work:
            yield Path(work)

    def find(self, key: str) -> Layer | None:
        """What the layer of a key is, whether or not its file is still here."""
        record = self._record(key)
        with suppress(FileNotFoundError):
            check, _, note = record.read_bytes().partition(b"\n")
            if hashlib.sha256(note).hexdigest().encode() == check:
                os.utime(record)
                return Layer(**json.loads(note))
        return None

    def file(self, layer: Layer) -> Path | None:
        """The layer's file, if it is here and whole."""
        path = self._blob(layer)
        with suppress(FileNotFoundError), path.open("rb") as stream:
            if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == layer.digest:
                os.utime(path)
                return path
            path.unlink()
        return None

    def keep(self, layer: Layer, file: Path) -> Path:
        """Take a layer's file over; returns where it is now."""
        return file.replace(self._blob(layer))

    def remember(self, key: str, layer: Layer) -> None:
        """Note what the layer of a key is."""
        note = json.dumps(asdict(layer)).encode()
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".new", delete=False) as record:
            record.write(hashlib.sha256(note).hexdigest().encode() + b"\n" + note)
        Path(record.name).replace(self._record(key))

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _blob(self, layer: Layer) -> Path:
        return self.folder / f"{layer.digest.rpartition(':')[2]}.tar.gz"


class _Hashed:
    """A stream that knows what went through it."""

    def __init__(self, into: BinaryIO | gzip.GzipFile) -> None:
        self._into, self._seen, self.size = into, hashlib.sha256(), 0

    def write(self, piece: bytes) -> int:
        self._seen.update(piece)
        self.size += len(piece)
        return self._into.write(piece)

    def flush(self) -> None:
        self._into.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._seen.hexdigest()}"


def _add(tar: tarfile.TarFile, path: Path, name: str, owner: tuple[int, int]) -> None:
    entry = tarfile.TarInfo(name)
    entry.uid, entry.gid = owner
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        return
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
        tar.addfile(entry, stream)


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
    return one.exists() and cmp(one, other, shallow=False)


def _compiled(file: Path) -> Path:
    return file.parent / "__pycache__" / f"{file.stem}.{sys.implementation.cache_tag}.pyc"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
