"""A JSON header with blobs after it, as bytes and back; and JSON alone, signed, as a queue's message."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from starburst_common.errors import Unsigned
from starburst_common.model import Buffer
from starburst_common.wire.fields import Fields, malformed, parsed, whole
from starburst_common.wire.keys import KeyRing
from starburst_common.wire.seals import HEAD_BYTES, seal, seal_text, unseal, unseal_text

_FIRST = 1  #: version of the wire
LENGTH = struct.Struct(">I")


def document(header: dict[str, Any], blobs: Sequence[Buffer] = (), *, align: int = 1) -> list[Buffer]:
    """A JSON header and blobs, as parts to be joined or sealed; the first blob at a multiple of `align` once sealed."""
    views = [memoryview(blob).cast("B") for blob in blobs]
    head = json.dumps({**header, "blobs": [len(view) for view in views]}, separators=(",", ":")).encode()
    head += b" " * (-(HEAD_BYTES + LENGTH.size + len(head)) % align)
    return [LENGTH.pack(len(head)), head, *views]


def read_document(body: Buffer, about: str = "a document") -> tuple[Fields, list[memoryview]]:
    """The inverse of `document`; blobs are views, not copies. Raises `Refused`."""
    view = memoryview(body)
    if len(view) < LENGTH.size:
        raise malformed(about, "it has no header")
    (length,) = LENGTH.unpack_from(view)
    at = LENGTH.size + length
    header = Fields(about, parsed(about, bytes(view[LENGTH.size : at])))
    blobs = []
    for size in header.many("blobs"):
        blobs.append(view[at : at + whole(about, "blobs", size)])
        at += size
    if at != len(view):
        raise malformed(about, f"{len(view)} bytes where its header says {at}")
    return header, blobs


def seal_document(key: bytes, about: str, header: dict[str, Any], blobs: Sequence[Buffer] = ()) -> bytes:
    """A document, sealed."""
    return seal(key, about, document(header, blobs))


def open_document(key: bytes, about: str, blob: Buffer) -> tuple[Fields, list[memoryview]]:
    """The inverse of `seal_document`. Raises `UnknownVersion` or `Refused`."""
    return read_document(unseal(key, about, blob), about)


def open_kept(key: bytes, about: str, blob: Buffer, written_at: Callable[[], float]) -> Fields:
    """The header of a document that is kept beyond its key and release: of any version until ours, also by a key that

    is retired, if it was there before that.

    `written_at` is by the store's clock, which nobody who writes there can set back. What is unpickled is not read so.
    """
    try:
        return read_document(unseal(key, about, blob, since=_FIRST), about)[0]
    except Unsigned:
        for retired in key.retired if isinstance(key, KeyRing) else ():
            with suppress(Unsigned):
                fields, _ = read_document(unseal(retired.key, about, blob, since=_FIRST), about)
                if written_at() <= retired.until:
                    return fields
        raise


def seal_message(key: bytes, about: str, value: dict[str, Any]) -> str:
    """A small signed message for a queue, as text."""
    return seal_text(key, about, json.dumps(value, separators=(",", ":")))


def open_message(key: bytes, about: str, body: str) -> Fields:
    """The inverse of `seal_message`. Raises `UnknownVersion` or `Refused`."""
    return Fields(about, parsed(about, unseal_text(key, about, body)))
