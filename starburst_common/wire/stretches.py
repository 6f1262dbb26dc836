"""A sequence, pickled once, as the frame of all that it holds; and each of that, asked of the sequence, back."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from operator import getitem
from typing import Any, NamedTuple

from starburst_common.buckets import Buckets
from starburst_common.model import Buffer
from starburst_common.wire.documents import document
from starburst_common.wire.fields import Fields, malformed


class StretchWriter:
    """A frame of a sequence that can be pickled and is small then, such as one that says where its items lie."""

    def __init__(self, items: Sequence[Any], told: Sequence[Any] = ()) -> None:
        """What is `told` of it beside can be read without unpickling it."""
        self._count, self._pickled, self._told = len(items), pickle.dumps(items, 5), [*told]

    def __len__(self) -> int:
        return self._count

    def parts(self) -> list[Buffer]:
        """As `FrameWriter.parts`."""
        return document({"stretch": self._count, "told": self._told}, [self._pickled])


class StretchFrame:
    """The same again. It is unpickled with the first item that is asked for, and reads what it reads by `buckets`."""

    def __init__(self, header: Fields, blobs: Sequence[Buffer], count: int | None, buckets: Buckets | None) -> None:
        """Raises `Refused`, also where it does not hold as many items as it should."""
        self._buckets = buckets
        self._count = header.whole("stretch", least=1)
        if len(blobs) != 1:
            raise malformed("a frame", f"{len(blobs)} sequences")
        if count is not None and count != self._count:
            raise malformed("a frame", f"it holds {self._count} values, not {count}")
        self.stream = blobs[0]  #: its pickle
        self.told = header.many("told")
        self._items: Any = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> Any:
        return self._sequence[at]

    def after(self, first: int) -> Iterator[list[Any]]:
        """As `Frame.after`."""
        return ([self[at]] for at in range(first, len(self)))

    def near(self, at: int) -> tuple[list[Any], int]:
        """As `Frame.near`."""
        return [self[at]], 0

    def pickled(self, at: int) -> tuple[bytes, list[bytes]]:
        """A pickle that becomes one of its items, and no buffers. The item itself is not looked at."""
        return pickle.dumps(_One(self._sequence[at : at + 1]), 5), []

    @property
    def _sequence(self) -> Any:
        if self._items is None:
            found = pickle.loads(self.stream)
            self._items = found if self._buckets is None else found.seen_by(self._buckets)
        return self._items


class _One(NamedTuple):
    """What is pickled as the one item of a sequence."""

    items: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return getitem, (self.items, 0)
