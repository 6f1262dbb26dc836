"""A run's items as sealed frames, one after the other in a pack; and items by their index back."""

from __future__ import annotations

import struct
from typing import Any

from starburst_common.buckets import Buckets
from starburst_common.errors import Refused
from starburst_common.model import Buffer, Span, without
from starburst_common.wire.documents import read_document
from starburst_common.wire.fields import malformed
from starburst_common.wire.frames import Frame, FrameWriter
from starburst_common.wire.seals import nbytes_of, sealed_body, sealed_parts, unseal
from starburst_common.wire.stretches import StretchFrame, StretchWriter

_FRAME = struct.Struct(">QQQ")  # first item, how many, bytes that follow


def items_about(run: str, first: int, count: int) -> str:
    """What an item frame is signed as."""
    return f"items {run} {first} {count}"


def item_parts(key: bytes, run: str, first: int, writer: FrameWriter | StretchWriter) -> list[Buffer]:
    """Consecutive items as one sealed frame, with its first index and length before it.

    In parts that are not joined, as they may be large.
    """
    sealed = sealed_parts(key, items_about(run, first, len(writer)), writer.parts())
    return [_FRAME.pack(first, len(writer), nbytes_of(sealed)), *sealed]


def checked_frames(key: bytes, run: str, frames: Buffer, span: Span) -> tuple[list[Buffer], list[Buffer]]:
    """The frames that hold a span, without their seals, for a process that has no key; and their pickles.

    Raises `Refused`.
    """
    view, at = memoryview(frames), 0
    held: list[Span] = []
    parts: list[Buffer] = []
    pickles: list[Buffer] = []
    while len(view) - at >= _FRAME.size:
        first, count, size = _FRAME.unpack_from(view, at)
        at += _FRAME.size
        if first < span.hi and first + count > span.lo and at + size <= len(view):
            body = unseal(key, items_about(run, first, count), view[at : at + size])
            pickles.append(read_frame(body, count).stream)
            held.append(Span(first, first + count))
            parts += [_FRAME.pack(first, count, len(body)), body]
        at += size
    if without(span, held):
        raise Refused(f"items {span.lo} to {span.hi - 1} of {run} are not all in their pack; refused")
    return parts, pickles


def items_of(before: Buffer) -> Span:
    """The items of a frame, by what comes before it."""
    first, count, _ = _FRAME.unpack(before)
    return Span(first, first + count)


def frames_in(key: bytes, run: str, pack: Buffer) -> list[tuple[Span, int, int]]:
    """The items of each frame in a pack, its offset and its length. Raises `Refused` unless the pack is whole."""
    view, at = memoryview(pack), 0
    found = []
    while at < len(view):
        if len(view) - at < _FRAME.size:
            raise Refused(f"a pack of {run} is cut off; refused")
        first, count, size = _FRAME.unpack_from(view, at)
        unseal(key, items_about(run, first, count), view[at + _FRAME.size : at + _FRAME.size + size])
        found.append((Span(first, first + count), at, _FRAME.size + size))
        at += _FRAME.size + size
    return found


class Frames:
    """Items out of checked frames, by their index in the run; `buckets` as of `read_frame`.

    Frames that are `sealed` are as they lie in a pack, and were checked by somebody else.
    """

    def __init__(self, frames: Buffer, buckets: Buckets | None = None, *, sealed: bool = False) -> None:
        view, at = memoryview(frames), 0
        self._frames: list[tuple[int, int, Frame | StretchFrame]] = []
        while at < len(view):
            if len(view) - at < _FRAME.size:
                raise malformed("items", f"{len(view) - at} bytes more than its frames have")
            first, count, size = _FRAME.unpack_from(view, at)
            at += _FRAME.size
            body = sealed_body(view[at : at + size]) if sealed else view[at : at + size]
            self._frames.append((first, first + count, read_frame(body, buckets=buckets)))
            at += size
        self._near: tuple[int, int, list[Any]] = (0, 0, [])  # items that were unpickled together: from, to

    def __getitem__(self, index: int) -> Any:
        lo, hi, found = self._near
        if lo <= index < hi:
            return found[index - lo]
        frame, at = self._at(index)
        found, place = frame.near(at)
        if len(found) > 1:
            self._near = index - place, index - place + len(found), found
        return found[place]

    def pickled(self, index: int) -> tuple[bytes, list[bytes]]:
        """As `Frame.pickled`."""
        frame, at = self._at(index)
        return frame.pickled(at)

    def _at(self, index: int) -> tuple[Frame | StretchFrame, int]:
        for lo, hi, frame in self._frames:
            if lo <= index < hi:
                return frame, index - lo
        raise IndexError(index)


def read_frame(body: Buffer, count: int | None = None, buckets: Buckets | None = None) -> Frame | StretchFrame:
    """A frame, of either kind; what lies in buckets is read by these, else as this process does. Raises `Refused`."""
    header, blobs = read_document(body, "a frame")
    return StretchFrame(header, blobs, count, buckets) if header.given("stretch") else Frame(body, count)
