"""A stored bundle in; a folder with just its files out, whole or not there at all."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from shutil import rmtree

from starburst_common.code.bundle import entry_digest, mode_of
from starburst_common.code.files import BUNDLE_BYTES, BUNDLE_FILES
from starburst_common.errors import Refused
from starburst_common.model import Buffer
from starburst_common.ports import Backend
from starburst_common.trust import owner_only
from starburst_common.wire.seals import unseal


def unpack_bundle(backend: Backend, key: str, folder: Path) -> None:
    """Unpack a bundle into a folder that is not there yet. Raises `Refused` unless it is all that the digest says."""
    digest = key.rpartition("/")[2]
    archive = unseal(backend.key, key, backend.store.get(key))
    draft = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(mode=0o700)
        found = _unpacked(archive, draft)
        if found != digest:
            raise Refused(f"{key}: its files are those of {found}; refused")
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody unpacked the same meanwhile
                raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Refused(f"{key}: no zip of files that starburst makes: {error}; refused") from None
    finally:
        rmtree(draft, ignore_errors=True)


def _unpacked(archive: Buffer, folder: Path) -> str:
    """What the files in a zip are called by their content, once they are unpacked."""
    content = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        entries = zipped.infolist()
        nbytes = sum(entry.file_size for entry in entries)
        if len(entries) > BUNDLE_FILES or nbytes > BUNDLE_BYTES:
            raise ValueError(
                f"{len(entries):,} files with {nbytes:,} bytes, more than {BUNDLE_FILES:,} and {BUNDLE_BYTES:,}"
            )
        for entry in entries:
            inside = PurePosixPath(entry.filename)
            if inside.is_absolute() or ".." in inside.parts or str(inside) != entry.filename:
                raise ValueError(f"an entry named {entry.filename!r}")
            place = folder / inside
            for parent in reversed([each for each in place.parents if each.is_relative_to(folder)]):
                parent.mkdir(mode=0o700, exist_ok=True)
            body = zipped.read(entry)
            content.update(entry_digest(entry, body))
            with open(place, "xb", opener=owner_only) as out:
                out.write(body)
                os.fchmod(out.fileno(), mode_of(entry) | 0o400)
    return content.hexdigest()[:32]
