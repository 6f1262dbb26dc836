"""What a slot says, in; messages out, with the bytes that come with each. Anything else on its socket is told at once.

A slot runs what anybody wrote, so its socket may hold anything. Nobody waits here for the rest of a message that may
never come, nor makes much room before it has come.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple

from starburst_common.model import Buffer
from starburst_common.wire.fields import Fields
from starburst_common.wire.seals import nbytes_of

_HEAD = Struct(">4sIQ")  # the sign of a message, the length of its JSON, that of what comes with it
_SIGN = b"SBS1"
_TEXT_BYTES = 256 << 20
_PIECE = 1 << 16
_ROOM = 64 << 20  #: is made at once for a message, at most; for a longer one as it comes
_PIECES = 64  #: are taken in, at most, before the slot is looked after again


class Said(NamedTuple):
    """A message, and the bytes that came with it."""

    fields: Fields
    blob: memoryview


def say(handle: int, message: dict[str, Any], blob: Buffer | Sequence[Buffer] = b"") -> None:
    """Write a message to a socket, with bytes, whole or in parts; returns once it is gone."""
    parts = [blob] if isinstance(blob, bytes | bytearray | memoryview) else [*blob]
    text = json.dumps(message).encode()
    for part in (_HEAD.pack(_SIGN, len(text), nbytes_of(parts)) + text, *parts):
        left = memoryview(part)
        while left:
            left = left[os.write(handle, left) :]


class Ear:
    """Hears one slot. A message has at most so many bytes as there is memory."""

    def __init__(self, heard: socket.socket) -> None:
        self._socket = heard
        self._poll = select.poll()
        self._poll.register(heard, select.POLLIN)
        self._got, self._come = bytearray(), 0  # so many bytes of it have come, the rest is room for more
        self._most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def hear(self, wait_s: float) -> Said | None:
        """The next message; None where it is not there in full yet.

        Raises `EOFError` after the last one, `ValueError` or `Refused` for what is none.
        """
        for _ in range(_PIECES):
            if (said := self._whole()) is not None:
                return said
            if not self._poll.poll(1000 * wait_s):
                return None
            if self._come == len(self._got):
                self._got += bytes(_PIECE)
            with memoryview(self._got) as view:
                came = self._socket.recv_into(view[self._come :])
            if not came:
                raise EOFError
            self._come += came
            wait_s = 0.0
        return None

    def _whole(self) -> Said | None:
        if not _SIGN.startswith(self._got[: min(self._come, len(_SIGN))]):
            raise ValueError(f"{bytes(self._got[: min(self._come, 20)])!r} begins no message")
        if self._come < _HEAD.size:
            return None
        _, text, blob = _HEAD.unpack_from(self._got)
        if text > _TEXT_BYTES or blob > self._most:
            raise ValueError(f"a message of {text:,} and {blob:,} bytes")
        end = _HEAD.size + text + blob
        if self._come < end:
            if (lacks := min(end, _ROOM) - len(self._got)) > 0:
                self._got += bytes(lacks)
            return None
        got, self._got = memoryview(self._got).toreadonly(), self._got[end : self._come]  # little, if anything
        self._come = len(self._got)
        said = bytes(got[_HEAD.size : _HEAD.size + text]), got[_HEAD.size + text : end]
        try:
            return Said(Fields("what a slot said", json.loads(said[0])), said[1])
        except RecursionError:
            raise ValueError("what a slot said is nested too deep") from None
