"""Layers of images in; the same when they are wanted again, by what they are made from, out: a cache of files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starburst_common.image.oci import Layer
from starburst_common.trust import CACHE_INSTEAD, own_folder

_CRASHED_S = 24 * 3600.0  #: a work folder that old has nobody any more
_KEEP_S = 30 * 24 * 3600.0  #: for files that no build used
_MOST_BYTES = 8 << 30  #: of layers' files; those that were used longest ago go first


class LayerCache:
    """Layers made before, by what they are made from; any number of processes share it, and may crash in it."""

    def __init__(self, folder: Path, *, own: bool = True, most_bytes: int = _MOST_BYTES) -> None:
        self.folder, self._most_bytes = folder, most_bytes
        self._own = own  # nobody else may have a hand in it; one that the caller names is what the caller makes it

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder to make layers in; what crashed builds and old versions left goes."""
        if self._own:
            own_folder(self.folder, CACHE_INSTEAD)  # what is in it goes into images
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="work-", ignore_cleanup_errors=True) as work:
            yield Path(work)

    def find(self, key: str) -> Layer | None:
        """What the layer of a key is, whether or not its file is still here."""
        note = self.noted(key)
        return None if note is None else Layer(**note)

    def remember(self, key: str, layer: Layer) -> None:
        """Note what the layer of a key is."""
        self.note(key, asdict(layer))

    def noted(self, key: str) -> Any:
        """What was noted of a key; None where that is nothing, or spoilt."""
        record = self._record(key)
        with suppress(FileNotFoundError):
            check, _, note = record.read_bytes().partition(b"\n")
            if hashlib.sha256(note).hexdigest().encode() == check:
                os.utime(record)
                return json.loads(note)
        return None

    def note(self, key: str, what: Any) -> None:
        """Note something of a key."""
        note = json.dumps(what).encode()
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".new", delete=False) as record:
            record.write(hashlib.sha256(note).hexdigest().encode() + b"\n" + note)
        Path(record.name).replace(self._record(key))

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

    def _clear(self) -> None:
        now, room = time.time(), self._most_bytes
        for modified, size, path in sorted(map(_looked, self.folder.iterdir()), reverse=True):
            if path.is_dir() and now - modified > _CRASHED_S:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                room -= size if path.suffix == ".gz" else 0
                if now - modified > _KEEP_S or (room < 0 and path.suffix == ".gz"):
                    path.unlink(missing_ok=True)

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _blob(self, layer: Layer) -> Path:
        return self.folder / f"{layer.digest.rpartition(':')[2]}.tar.gz"


def _looked(path: Path) -> tuple[float, int, Path]:
    try:
        status = path.stat()
    except FileNotFoundError:  # another build's
        return time.time(), 0, path
    return status.st_mtime, status.st_size, path
