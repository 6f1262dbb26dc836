"""A function's pickle, with the sources of what goes by value of it, compressed if that pays; and back."""

from __future__ import annotations

import struct
import zlib

from starburst_common.errors import Refused
from starburst_common.model import Buffer
from starburst_common.wire.fields import malformed

FUNCTION_BYTES = 2 << 30  #: a pickled function has at most
_SOURCES = struct.Struct(">Q")
_PIECES, _PIECE = 16, 16 << 10  #: of a function, and bytes of each, that are compressed to see whether that pays
_WORTHWHILE = 0.9  #: of the bytes are left, at most, of what is compressed


def deflated(pickled: bytes, sources: bytes) -> bytes:
    """A function's pickle as it is stored, with the sources of what goes by value of it; compressed if that pays."""
    deflater = zlib.compressobj(1 if shrinks(pickled, to=_WORTHWHILE) else 0)
    return b"".join(map(deflater.compress, (pickled, sources, _SOURCES.pack(len(sources))))) + deflater.flush()


def shrinks(body: Buffer, *, to: float) -> bool:
    """Whether some pieces of it do: to find that random numbers do not, all of them, costs a second for each 20 MB."""
    pieces = [body[at : at + _PIECE] for at in range(0, len(body), max(_PIECE, len(body) // _PIECES))]
    return len(zlib.compress(b"".join(pieces), 1)) < to * sum(map(len, pieces))


def inflated(blob: Buffer) -> tuple[memoryview, bytes]:
    """A stored function's pickle, and its sources. Raises `Refused` for one that is larger than any that is stored."""
    inflater = zlib.decompressobj()
    try:
        whole = memoryview(inflater.decompress(blob, FUNCTION_BYTES))
    except zlib.error as error:
        raise Refused(f"a function that cannot be decompressed: {error}; refused") from None
    if not inflater.eof:
        raise Refused(f"a function that is cut off, or has more than {FUNCTION_BYTES:,} bytes; refused")
    (nbytes,) = _SOURCES.unpack(whole[-_SOURCES.size :]) if len(whole) >= _SOURCES.size else (len(whole),)
    at = len(whole) - _SOURCES.size - nbytes
    if at < 0:
        raise malformed("a function", "its sources are not there")
    return whole[:at], bytes(whole[at : -_SOURCES.size])
