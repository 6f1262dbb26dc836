"""A shared value's pickle and its buffers, which a slot can map as they lie; and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starburst_common.model import Buffer
from starburst_common.wire.documents import document, read_document
from starburst_common.wire.fields import Fields, malformed

_ALIGN = 64  #: bytes, as widest vector registers and lines of caches have
_DIGEST = re.compile("[0-9a-f]{64}")


def shared_document(pickled: Buffer, buffers: Iterable[Buffer], refers: Iterable[str]) -> list[Buffer]:
    """A value's pickle and its buffers, each of which is aligned once sealed, and the shared values it refers to."""
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    padded = [part for view in views for part in (view, bytes(-len(view) % _ALIGN))]
    return document({"shared": sorted(refers)}, [*padded, pickled], align=_ALIGN)


def read_shared(body: Buffer, about: str = "a shared value") -> tuple[memoryview, list[memoryview], list[str]]:
    """The inverse: views, no copies. Raises `Refused`."""
    header, blobs = read_document(body, about)
    if not len(blobs) % 2:
        raise malformed(about, f"{len(blobs)} parts")
    return blobs[-1], blobs[:-1:2], read_digests(header, about)


def read_digests(header: Fields, about: str, name: str = "shared") -> list[str]:
    """Which shared values something refers to. Raises `Refused`."""
    found = header.many(name) if header.given(name) else []
    if not all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in found):
        raise malformed(about, f"{found!r:.80} are no digests")
    return found
