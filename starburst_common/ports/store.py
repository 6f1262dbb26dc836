"""Where bytes lie under names: what every store promises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from starburst_common.errors import NotFound
from starburst_common.model import Buffer

#: An object that has more than this machine's memory is not read.
MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
#: Whatever has no items, functions, modules, plans or values in it has fewer: more of it is of somebody else's making.
SMALL_BYTES = 16 << 20
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


class Entry(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    size: int  #: bytes
    written_at: float  #: see `ObjectStore.written_at`


class ObjectStore(Protocol):
    """Named bytes. A reader sees an object whole or not at all, and at once after its write returned."""

    place: str  #: where it is, for people: a folder or a bucket

    def create(self, key: str, body: Buffer | Sequence[Buffer]) -> None:
        """Write a new object, whole or from parts. If the key is taken, raises `Exists` and leaves it as it was.

        Of many callers at once exactly one succeeds.
        """

    def put(self, key: str, body: Buffer) -> None:
        """Write an object, replacing what was there."""

    def publish(self, key: str, page: str) -> str:
        """`put` a page of HTML for people; the URL at which a person with access to the store finds it."""

    def get(self, key: str, most: int = MEMORY_BYTES) -> Buffer:
        """The whole object. Raises `NotFound`; `Refused` where it has more than `most` bytes: none is read then."""

    def get_range(self, key: str, offset: int, length: int) -> Buffer:
        """`length` bytes from `offset`. Raises `NotFound`, also where the object ends before them."""

    def file(self, key: str) -> Path | None:
        """Where the object lies as a file of this machine, to be mapped; None where it must be fetched.

        The file keeps its bytes, also once the object is deleted or replaced. Raises `NotFound` or gives None.
        """

    def folders(self, prefix: str) -> list[str]:
        """The names directly under the folder `prefix` that hold keys of their own, in the order of the text.

        What others have put there under a name that is none of ours (`is_key`) may be told of or not, here and
        in other listings, and costs only itself.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error."""

    def delete_folder(self, prefix: str) -> None:
        """Remove everything under the folder `prefix`, with what crashed writers, or others, left there."""

    def sweep(self, prefix: str, *, older_than_s: float) -> None:
        """Remove what writers that crashed so long ago left half-written under the folder `prefix`."""

    def list(self, prefix: str) -> Iterator[str]:
        """Every key under the folder `prefix` (which ends in "/"), in the order of the text, however many."""

    def entries(self, prefix: str) -> Sequence[Entry]:
        """The same, with what the listing tells of each."""

    def written_at(self, key: str) -> float:
        """When an object was last written, on the store's own clock, in seconds. Raises `NotFound`.

        That clock may be wrong, but what passes on it has really passed: no writer's clock, nor a jump of it, matters.
        It may tell whole seconds.
        """


def is_key(name: str) -> bool:
    """Whether a key may be called so. Nobody of ours writes others, and obstore reads none of them.

    >>> [name for name in ("a/b", "a/", "/a", "a//b", "a/../b", "a\\n", "\\udcff", "a\\x7f") if is_key(name)]
    ['a/b']
    """
    return not _CONTROLS.search(name) and not {"", ".", ".."} & {*name.split("/")}


def is_there(store: ObjectStore, key: str) -> bool:
    """Whether there is such an object; none of it is read."""
    with suppress(NotFound):
        store.written_at(key)
        return True
    return False
