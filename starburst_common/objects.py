"""An obstore store in, our `ObjectStore` out: the same adapter for a folder and for S3."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

import obstore
from obstore.exceptions import AlreadyExistsError

from starburst_common.errors import Exists, NotFound
from starburst_common.model import Buffer


class Objects:
    """`ObjectStore` over any obstore store; see `starburst_common.ports` for what it promises."""

    def __init__(self, store: obstore.store.ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder  # where the store is a folder, so that crashed writers' leftovers can be removed

    def create(self, key: str, body: Buffer) -> None:
        try:
            obstore.put(self._store, key, body, mode="create")
        except AlreadyExistsError:
            raise Exists(f"{key} is already there") from None

    def put(self, key: str, body: Buffer) -> None:
        obstore.put(self._store, key, body)

    def get(self, key: str) -> Buffer:
        try:
            return memoryview(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            raise NotFound(f"no object {key}") from None

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        try:
            if length == 0:  # a range no store can ask for
                obstore.head(self._store, key)
                return b""
            return memoryview(obstore.get_range(self._store, key, start=offset, length=length))
        except FileNotFoundError:
            raise NotFound(f"no object {key}") from None

    def folders(self, prefix: str) -> list[str]:
        found = obstore.list_with_delimiter(self._store, prefix.rstrip("/"))["common_prefixes"]
        if self._folder is not None:  # a folder of files outlives them
            found = [path for path in found if next(self.list(path), None) is not None]
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def delete_folder(self, prefix: str) -> None:
        if self._folder is not None:
            rmtree(self._folder / prefix, ignore_errors=True)
            return
        self.delete([*self.list(prefix)])

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        if self._folder is None:
            return  # a bucket has a lifecycle rule for it
        for draft in (self._folder / prefix).rglob("*#*"):  # how obstore names a file that is being written
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime >= older_than_s:
                    draft.unlink()

    def list(self, prefix: str) -> Iterator[str]:
        keys = [meta["path"] for page in obstore.list(self._store, prefix.rstrip("/")) for meta in page]
        yield from sorted(keys)
