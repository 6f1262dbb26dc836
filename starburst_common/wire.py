"""Values to signed, versioned bytes and back. Nothing is unpickled that our key did not sign.

Three layers, described in docs/wire.md:
a *sealed* object is version, HMAC and body; a *document* is a JSON header with blobs after it;
a *frame* is a document that holds pickled values with their large buffers out of band.

What is ours may still be wrong: written by a peer with a fault, or of another release. Whatever is read here is either
as it should be or `Refused`, so that nobody else need look.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import re
import struct
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from starburst_common.errors import Refused, UnknownVersion
from starburst_common.model import Batch, Buffer, Chunk, Failure, FailureKind, Outcome, PackRef, Span, spans_of, without

WIRE_VERSION = 3
_MAGIC = b"SBW"
_HEAD = struct.Struct(">3sB32s")
_LENGTH = struct.Struct(">I")


# --- sealed objects ---------------------------------------------------------------------------------------------------


def seal(key: bytes, about: str, parts: Iterable[Buffer]) -> bytes:
    """Sign a body. `about` says what it is and where it belongs, so it cannot be passed off as something else."""
    return b"".join(sealed_parts(key, about, parts))


def sealed_parts(key: bytes, about: str, parts: Iterable[Buffer]) -> list[Buffer]:
    """The same without joining the parts, which may be large."""
    body = list(parts)
    return [_HEAD.pack(_MAGIC, WIRE_VERSION, _mac(key, about, body)), *body]


def unseal(key: bytes, about: str, blob: Buffer) -> memoryview:
    """The body, if it is ours. Raises `UnknownVersion` or `Refused`, and reads nothing else of it."""
    view = memoryview(blob)
    if len(view) < _HEAD.size or view[:3] != _MAGIC:
        raise Refused(f"{about}: not a starburst payload; refused")
    _, version, mac = _HEAD.unpack_from(view)
    body = view[_HEAD.size :]
    if not hmac.compare_digest(mac, _mac(key, about, [body], version)):
        raise Refused(f"{about}: not signed with this site's key; refused, nothing was unpickled")
    if version != WIRE_VERSION:
        raise unknown_version(about, version)
    return body


def sealed_body(blob: Buffer) -> memoryview:
    """The body of what somebody else has unsealed, for a process that has no key."""
    return memoryview(blob)[_HEAD.size :]


def unknown_version(about: str, version: int) -> UnknownVersion:
    """What is ours, but of another release: versions share the envelope, so this much can be told and trusted."""
    return UnknownVersion(
        f"{about}: wire version {version}, this starburst speaks {WIRE_VERSION}: "
        "use the same starburst release on the driver and the workers"
    )


def _mac(key: bytes, about: str, parts: Iterable[Buffer], version: int | None = None) -> bytes:
    mac = hmac.new(key, f"{WIRE_VERSION if version is None else version}\0{about}\0".encode(), hashlib.sha256)
    for part in parts:
        mac.update(part)
    return mac.digest()


_MISFIT_EXIT = 200  # beyond the codes of processes that a signal ended


def misfit_exit() -> int:
    """The exit code of a worker whose work speaks another wire version; it tells which one the worker speaks."""
    return _MISFIT_EXIT + WIRE_VERSION


def misfit(exit_code: int | None) -> str:
    """Why no such worker can serve this release's runs, if its exit code says so.

    >>> misfit(0)
    ''
    >>> misfit(209).partition(":")[0]
    'a worker speaks wire version 9 and was given work of another, this starburst speaks 3'
    """
    if exit_code is None or not _MISFIT_EXIT < exit_code < 256:
        return ""
    return (
        f"a worker speaks wire version {exit_code - _MISFIT_EXIT} and was given work of another, this starburst speaks "
        f"{WIRE_VERSION}: use the same starburst release on both, in an `image` of your own too; where it was upgraded "
        "while this process ran, start the process anew"
    )


# --- documents --------------------------------------------------------------------------------------------------------


def document(header: dict[str, Any], blobs: Sequence[Buffer] = (), *, align: int = 1) -> list[Buffer]:
    """A JSON header and blobs, as parts to be joined or sealed; the first blob at a multiple of `align` once sealed."""
    views = [memoryview(blob).cast("B") for blob in blobs]
    head = json.dumps({**header, "blobs": [len(view) for view in views]}, separators=(",", ":")).encode()
    head += b" " * (-(_HEAD.size + _LENGTH.size + len(head)) % align)
    return [_LENGTH.pack(len(head)), head, *views]


def read_document(body: Buffer, about: str = "a document") -> tuple[Fields, list[memoryview]]:
    """The inverse of `document`; blobs are views, not copies. Raises `Refused`."""
    view = memoryview(body)
    if len(view) < _LENGTH.size:
        raise malformed(about, "it has no header")
    (length,) = _LENGTH.unpack_from(view)
    at = _LENGTH.size + length
    header = Fields(about, _parsed(about, bytes(view[_LENGTH.size : at])))
    blobs = []
    for size in header.many("blobs"):
        blobs.append(view[at : at + _whole(about, "blobs", size)])
        at += size
    if at != len(view):
        raise malformed(about, f"{len(view)} bytes where its header says {at}")
    return header, blobs


def malformed(about: str, what: str) -> Refused:
    """What nobody forged, but nobody of this release writes either."""
    return Refused(f"{about}: malformed ({what:.200}): written by another starburst release, or by one with a fault")


def _parsed(about: str, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(about, f"no JSON: {error}") from error


_MOST = 2**62
_LARGEST = 1e15  #: in seconds, longer than there is life
LAST_MOMENT = 253_402_300_799.0  #: of the year 9999, after which no date is
_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)


class Fields:
    """A JSON object, read by name and kind. Whatever is not as it should be raises `Refused`."""

    def __init__(self, about: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise malformed(about, f"{value!r:.40} where an object should be")
        self._about, self._value = about, value

    def __getitem__(self, name: str) -> Any:
        """Whatever it is, if it is there."""
        if name not in self._value:
            raise malformed(self._about, f"{name!r} is missing")
        return self._value[name]

    def _kind(self, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        value = self[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise malformed(self._about, f"{name!r} is {value!r:.40}, not {wanted}")
        return value

    def text(self, name: str) -> str:
        """Text, perhaps empty."""
        return str(self._kind(name, str, "text"))

    def name(self, name: str) -> str:
        """Text that may stand in a key or be a queue's name."""
        return _key(self._about, name, self[name], most=1)

    def key(self, name: str) -> str:
        """An object's key."""
        return _key(self._about, name, self[name])

    def flag(self, name: str) -> bool:
        """Yes or no."""
        return bool(self._kind(name, bool, "true or false"))

    def whole(self, name: str, *, least: int = 0) -> int:
        """A whole number."""
        return _whole(self._about, name, self[name], least)

    def number(self, name: str, *, least: float = 0.0) -> float:
        """A number of a size that things have."""
        value = self._kind(name, (int, float), "a number")
        if not least <= value <= _LARGEST:
            raise malformed(self._about, f"{name!r} is {value!r:.40}, not a number from {least:g} to {_LARGEST:g}")
        return float(value)

    def moment(self, name: str) -> float:
        """Seconds on the wall clock, of a year that a date can show."""
        if (value := self.number(name)) > LAST_MOMENT:
            raise malformed(self._about, f"{name!r} is {value!r:.40}, no time before the year 10000")
        return value

    def many(self, name: str) -> list[Any]:
        """A list of anything."""
        return list(self._kind(name, list, "a list"))

    def texts(self, name: str) -> dict[str, str]:
        """Text by text."""
        value = self._kind(name, dict, "an object")
        if not all(isinstance(text, str) for text in value.values()):
            raise malformed(self._about, f"{name!r} holds what is not text")
        return dict(value)

    def fields(self, name: str) -> Fields:
        """An object within this one."""
        return Fields(f"{self._about}: {name}", self[name])

    def span(self, name: str, within: Span | None = None) -> Span:
        """Consecutive items, at least one."""
        return _span(f"{self._about}: {name}", self[name], within)

    def spans(self, name: str) -> list[Span]:
        """Consecutive items, several times."""
        return [_span(f"{self._about}: {name}", value) for value in self.many(name)]

    def chunks(self, name: str, within: Span | None = None) -> list[Chunk]:
        """Chunks, of a span's items."""
        chunks = [read_chunk(fields, f"{self._about}: {name}") for fields in self.many(name)]
        for chunk in chunks:
            _span(f"{self._about}: {name}", [*chunk.span], within)
        return chunks

    @property
    def raw(self) -> dict[str, Any]:
        """As it came, unchecked."""
        return dict(self._value)

    def given(self, name: str) -> bool:
        """Whether there is something other than null."""
        return self._value.get(name) is not None


def _whole(about: str, name: str, value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value < _MOST:
        raise malformed(about, f"{name!r} is {value!r:.40}, not a whole number from {least}")
    return value


def _key(about: str, name: str, value: Any, most: int = 20) -> str:
    parts = value.split("/") if isinstance(value, str) else []
    if not 1 <= len(parts) <= most or not all(map(_NAME.fullmatch, parts)):
        raise malformed(about, f"{name!r} is {value!r:.40}, not a name")
    return str(value)


def _span(about: str, value: Any, within: Span | None = None) -> Span:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise malformed(about, f"{value!r:.40} is no span")
    span = Span(_whole(about, "lo", value[0]), _whole(about, "hi", value[1]))
    if span.lo >= span.hi or (within is not None and not within.lo <= span.lo < span.hi <= within.hi):
        raise malformed(about, f"{value!r:.80} is no span" + (f" within {within}" if within is not None else ""))
    return span


# --- functions --------------------------------------------------------------------------------------------------------

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
    (nbytes,) = _SOURCES.unpack(whole[-_SOURCES.size :]) if len(whole) >= _SOURCES.size else (_MOST,)
    at = len(whole) - _SOURCES.size - nbytes
    if at < 0:
        raise malformed("a function", "its sources are not there")
    return whole[:at], bytes(whole[at : -_SOURCES.size])


# --- shared values ----------------------------------------------------------------------------------------------------

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


# --- frames: many pickled values --------------------------------------------------------------------------------------


_CHECKED_BYTES = 16 << 20  #: of a pickle, at most: a larger one would be held twice
_REFERS = pickle.STACK_GLOBAL[
    0
]  #: a byte, as which it is found soonest: is in a pickle that names what is to be imported, and in others by chance


class Unreadable(Exception):
    """What was pickled does not unpickle; from the exception that says why."""


class FrameWriter:
    """Collects values, each pickled by itself at once: one that cannot be sent, or changes later, harms no other.

    With `checked` each is unpickled as well, but plain data and large ones: one that nobody could read harms no other.
    `look` is shown each pickle that refers to classes or functions, with the modules that code in it imports, before
    the value is taken; what it raises, `add` raises.
    """

    def __init__(self, *, checked: bool = False, look: Callable[[bytes, set[str]], None] | None = None) -> None:
        self._checked, self._look = checked, look
        self._pickles: list[bytes] = []
        self._sizes = array("Q")
        self._counts = array("Q")
        self._buffers: list[Buffer] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._pickles)

    def add(self, value: Any) -> None:
        """Pickle a value; its large buffers (numpy, pandas, Arrow) stay out of band. Raises what pickling raises.

        Raises `Unreadable` from what unpickling raises. What plain pickle cannot send, or would send as a name in
        `__main__`, goes by value through cloudpickle.
        """
        buffers: list[pickle.PickleBuffer] = []
        imports: set[str] | None = None
        try:
            data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        except Exception:
            data = b"__main__"
        if b"_main__" in data:  # or in `__mp_main__`
            from starburst_common.pickling import byvalue

            buffers.clear()
            imports = set()
            data = byvalue.dumps(value, buffer_callback=buffers.append, imports=imports)
        # whoever made the value may fill the same memory with the next one
        copies = [buffer.raw().tobytes() for buffer in buffers]
        if _REFERS in data:
            if self._look is not None:
                self._look(data, imports or set())
            if self._checked and len(data) <= _CHECKED_BYTES:
                try:
                    pickle.loads(data, buffers=buffers)
                except BaseException as error:
                    raise Unreadable(type(error).__name__) from error
        self.add_pickled(data, copies)

    def add_pickled(self, data: bytes, copies: Sequence[Buffer]) -> None:
        """Take a value that is pickled already, as `Frame.pickled` gives it."""
        self._pickles.append(data)
        self._sizes.append(len(data))
        self._counts.append(len(copies))
        self._buffers += copies
        self.nbytes += len(data) + sum(map(len, copies))

    def parts(self) -> list[Buffer]:
        """The frame, as parts to be joined or sealed."""
        stream = b"".join(self._pickles)
        counts = self._counts.tobytes() if self._buffers else b""
        return document({}, [self._sizes.tobytes(), counts, stream, *self._buffers])


class Frame:
    """The values of a frame, unpickled one by one when asked for. Arrays are writable: they lie in a copy made then."""

    def __init__(self, body: Buffer, count: int | None = None) -> None:
        """Raises `Refused`, also where it does not hold as many values as it should."""
        _, blobs = read_document(body, "a frame")
        if len(blobs) < 3 or len(blobs[0]) % 8 or (len(blobs[1]) and len(blobs[1]) != len(blobs[0])):
            raise malformed("a frame", "its sizes are not there")
        sizes, counts, self._stream, *self._buffers = blobs
        self._ends = list(accumulate(array("Q", bytes(sizes)), initial=0))
        self._marks = list(accumulate(array("Q", bytes(counts)), initial=0)) if len(counts) else None
        if self._ends[-1] != len(self._stream) or (self._marks or [0])[-1] != len(self._buffers):
            raise malformed("a frame", "its sizes are not those of what it holds")
        if count is not None and count != len(self):
            raise malformed("a frame", f"it holds {len(self)} values, not {count}")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Any]:
        if self._marks is not None:
            yield from (self[at] for at in range(len(self)))
            return
        stream, loads = self._stream, pickle.loads
        for lo, hi in pairwise(self._ends):
            yield loads(stream[lo:hi])

    def __getitem__(self, at: int) -> Any:
        data, buffers = self._pickled(at)
        return pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])

    def _pickled(self, at: int) -> tuple[memoryview, list[memoryview]]:
        buffers = [] if self._marks is None else self._buffers[self._marks[at] : self._marks[at + 1]]
        return self._stream[self._ends[at] : self._ends[at + 1]], buffers

    def pickled(self, at: int) -> tuple[bytes, list[bytes]]:
        """A value still pickled, and its buffers."""
        data, buffers = self._pickled(at)
        return bytes(data), [bytes(buffer) for buffer in buffers]


# --- items ------------------------------------------------------------------------------------------------------------

_FRAME = struct.Struct(">QQQ")  # first item, how many, bytes that follow


def items_about(run: str, first: int, count: int) -> str:
    """What an item frame is signed as."""
    return f"items {run} {first} {count}"


def item_frame(key: bytes, run: str, first: int, writer: FrameWriter) -> bytes:
    """Consecutive items as one sealed frame, with its first index and length before it."""
    return b"".join(item_parts(key, run, first, writer))


def item_parts(key: bytes, run: str, first: int, writer: FrameWriter) -> list[Buffer]:
    """The same without joining the parts, which may be large."""
    sealed = sealed_parts(key, items_about(run, first, len(writer)), writer.parts())
    return [_FRAME.pack(first, len(writer), nbytes_of(sealed)), *sealed]


def nbytes_of(parts: Iterable[Buffer]) -> int:
    """How long parts are together."""
    return sum(memoryview(part).nbytes for part in parts)


def checked_frames(key: bytes, run: str, frames: Buffer, span: Span) -> list[Buffer]:
    """The frames that hold a span, without their seals, for a process that has no key. Raises `Refused`."""
    view, at = memoryview(frames), 0
    held: list[Span] = []
    parts: list[Buffer] = []
    while len(view) - at >= _FRAME.size:
        first, count, size = _FRAME.unpack_from(view, at)
        at += _FRAME.size
        if first < span.hi and first + count > span.lo and at + size <= len(view):
            body = unseal(key, items_about(run, first, count), view[at : at + size])
            Frame(body, count)
            held.append(Span(first, first + count))
            parts += [_FRAME.pack(first, count, len(body)), body]
        at += size
    if without(span, held):
        raise Refused(f"items {span.lo} to {span.hi - 1} of {run} are not all in their pack; refused")
    return parts


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
    """Items out of checked frames, by their index in the run."""

    def __init__(self, frames: Buffer) -> None:
        view, at = memoryview(frames), 0
        self._frames: list[tuple[int, int, Frame]] = []
        while at < len(view):
            if len(view) - at < _FRAME.size:
                raise malformed("items", f"{len(view) - at} bytes more than its frames have")
            first, count, size = _FRAME.unpack_from(view, at)
            at += _FRAME.size
            self._frames.append((first, first + count, Frame(view[at : at + size])))
            at += size

    def __getitem__(self, index: int) -> Any:
        frame, at = self._at(index)
        return frame[at]

    def pickled(self, index: int) -> tuple[bytes, list[bytes]]:
        """As `Frame.pickled`."""
        frame, at = self._at(index)
        return frame.pickled(at)

    def _at(self, index: int) -> tuple[Frame, int]:
        for lo, hi, frame in self._frames:
            if lo <= index < hi:
                return frame, index - lo
        raise IndexError(index)


# --- messages ---------------------------------------------------------------------------------------------------------


def seal_message(key: bytes, about: str, value: dict[str, Any]) -> str:
    """A small signed message for a queue, as text."""
    text = json.dumps(value, separators=(",", ":"))
    return f"{WIRE_VERSION}.{_mac(key, about, [text.encode()]).hex()}.{text}"


def open_message(key: bytes, about: str, body: str) -> Fields:
    """The inverse of `seal_message`. Raises `UnknownVersion` or `Refused`."""
    version, _, rest = body.partition(".")
    mac, _, text = rest.partition(".")
    if not body.isascii() or not version.isdigit() or len(version) > 3 or not text:
        raise Refused(f"{about}: not a starburst message; refused")
    spoken = int(version)
    if not hmac.compare_digest(mac, _mac(key, about, [text.encode()], spoken).hex()) or version != str(spoken):
        raise Refused(f"{about}: not signed with this site's key; refused")
    if spoken != WIRE_VERSION:
        raise unknown_version(about, spoken)
    return Fields(about, _parsed(about, text))


def chunk_fields(chunk: Chunk) -> list[Any]:
    """A chunk as JSON."""
    return [*chunk.span, chunk.function, *chunk.ref, chunk.deaths]


def read_chunk(fields: Any, about: str = "a chunk") -> Chunk:
    """The inverse of `chunk_fields`. Raises `Refused`."""
    if not isinstance(fields, list | tuple) or len(fields) != 7:
        raise malformed(about, f"{fields!r:.80} is no chunk")
    lo, hi, function, key, offset, length, deaths = fields
    ref = PackRef(_key(about, "pack", key), _whole(about, "offset", offset), _whole(about, "length", length))
    return Chunk(
        span=_span(about, [lo, hi]),
        function=_key(about, "function", function),
        ref=ref,
        deaths=_whole(about, "deaths", deaths),
    )


def chunk_message(key: bytes, fleet: str, run: str, chunk: Chunk, frames: Buffer | None = None) -> str:
    """A chunk as a queue message; small frames may ride along."""
    value: dict[str, Any] = {"run": run, "chunk": chunk_fields(chunk)}
    if frames is not None:
        value["frames"] = b64encode(frames).decode()
    return seal_message(key, f"chunk {fleet}", value)


def read_chunk_message(key: bytes, fleet: str, body: str) -> tuple[str, Chunk, bytes | None]:
    """The run, its chunk, and the frames if they rode along. Raises `UnknownVersion` or `Refused`."""
    about = f"chunk {fleet}"
    value = open_message(key, about, body)
    frames = _bytes(about, value.text("frames")) if value.given("frames") else None
    return value.name("run"), read_chunk(value["chunk"], about), frames


def _bytes(about: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise malformed(about, f"no base64: {error}") from error


# --- what was asked of a run ------------------------------------------------------------------------------------------


def read_options(fields: Fields) -> dict[str, Any]:
    """A run's options as they are stored. Raises `Refused`."""
    return {
        "chunk_size": fields.whole("chunk_size", least=1) if fields.given("chunk_size") else None,
        "retries": fields.whole("retries"),
        "retry_delay_s": fields.number("retry_delay_s"),
        "timeout_s": fields.number("timeout_s") if fields.given("timeout_s") else None,
        "tolerate_count": fields.whole("tolerate_count") if fields.given("tolerate_count") else None,
        "tolerate_percent": fields.number("tolerate_percent") if fields.given("tolerate_percent") else None,
        "return_exceptions": fields.flag("return_exceptions"),
        "budget_usd": fields.number("budget_usd") if fields.given("budget_usd") else None,
        "seed": fields.whole("seed") if fields.given("seed") else None,
    }


# --- outcomes ---------------------------------------------------------------------------------------------------------


def outcome_bytes(key: bytes, about: str, outcome: Outcome) -> bytes:
    """An outcome as a sealed document. `about` is the object's key."""
    return b"".join(outcome_parts(key, about, outcome))


def outcome_parts(key: bytes, about: str, outcome: Outcome) -> list[Buffer]:
    """The same without joining the parts, which may be large.

    Its summary comes first, under a seal of its own: who wants no more need read no more.
    """
    failures: list[dict[str, Any]] = []
    pickled: list[bytes] = []
    for failure in outcome.failures:
        fields = asdict(failure)
        exception = fields.pop("exception")
        fields["pickled"] = None
        if exception is not None:
            fields["pickled"] = len(pickled)
            pickled.append(exception)
        failures.append(fields)
    header = {"batches": [batch.span for batch in outcome.batches], "failures": failures}
    logs = [json.dumps(outcome.logs, separators=(",", ":")).encode()] if outcome.logs else []
    blobs: list[Buffer] = [*(batch.frame for batch in outcome.batches), *pickled, *logs]
    body = document(header, blobs)
    told = {**summary_fields(outcome), "after": nbytes_of(body)}
    summary = seal(key, _summary_about(about), document(told))
    return sealed_parts(key, about, [_LENGTH.pack(len(summary)), summary, *body])


def read_outcome(key: bytes, about: str, blob: Buffer) -> Outcome:
    """The inverse of `outcome_bytes`; values stay pickled until `load`. Raises `Refused`."""
    whole = unseal(key, about, blob)
    summary, body = _read_summary(key, about, whole, len(whole))
    header, blobs = read_document(body, about)
    span, rest = summary["span"], [read_chunk(fields, about) for fields in summary["rest"]]
    spans = [_span(about, each, span) for each in header.many("batches")]
    frames, others = blobs[: len(spans)], blobs[len(spans) :]
    failures = [_failure(Fields(f"{about}: a failure", each), span, others) for each in header.many("failures")]
    pickled = sum(failure.exception is not None for failure in failures)
    if len(frames) != len(spans) or not pickled <= len(others) <= pickled + 1 or len(failures) != summary["failed"]:
        raise malformed(about, "it does not hold what its header tells")
    failed = spans_of(sorted(failure.index for failure in failures))
    if left := without(span, [*spans, *failed, *(chunk.span for chunk in rest)]):
        raise malformed(about, f"no word on the items {left[0]}")
    return Outcome(
        span=span,
        worker=summary["worker"],
        seconds=summary["seconds"],
        batches=tuple(Batch(span=span, frame=frame) for span, frame in zip(spans, frames, strict=True)),
        failures=tuple(failures),
        rest=tuple(rest),
        logs=_logs(about, bytes(others[pickled])) if len(others) > pickled else {},
    )


def _failure(fields: Fields, span: Span, pickled: Sequence[memoryview]) -> Failure:
    index, kind = fields.whole("index", least=span.lo), fields.text("kind")
    at = None if fields["pickled"] is None else fields.whole("pickled")
    if index >= span.hi or kind not in [*FailureKind] or (at is not None and at >= len(pickled)):
        raise malformed(f"item {index}", f"a failure of kind {kind!r:.40}, pickled {at}")
    texts = {name: fields.text(name) for name in ("error", "message", "traceback", "worker")}
    exception = None if at is None else bytes(pickled[at])
    return Failure(index=index, kind=FailureKind(kind), **texts, exception=exception)


def _logs(about: str, blob: bytes) -> dict[int, str]:
    logs = Fields(about, {"logs": _parsed(about, blob)}).texts("logs")
    if not all(index.isdecimal() and len(index) < 20 for index in logs):
        raise malformed(about, "logs of what is no item")
    return {int(index): text for index, text in logs.items()}


# --- prints: what running items say -----------------------------------------------------------------------------------


class Printed(NamedTuple):
    """A piece of what an item prints."""

    item: int
    turn: int  #: of the turns that its worker has had at any item; a later one begins the item anew
    at: int  #: so many characters of that turn's text come before it
    text: str
    ended: bool  #: the item prints no more


def prints_bytes(key: bytes, about: str, prints: Iterable[Printed]) -> bytes:
    """What a worker's items printed lately, sealed."""
    return seal(key, about, document({"prints": list(prints)}))


def read_prints(key: bytes, about: str, blob: Buffer) -> list[Printed]:
    """The inverse of `prints_bytes`. Raises `Refused`."""
    header, _ = read_document(unseal(key, about, blob), about)
    return [read_printed(about, each) for each in header.many("prints")]


def read_printed(about: str, value: Any) -> Printed:
    """One piece. Raises `Refused`."""
    if not isinstance(value, list) or [*map(type, value)] != [int, int, int, str, bool]:
        raise malformed(about, f"{value!r:.80} is nothing that an item printed")
    for name, number in zip(Printed._fields, value[:3], strict=False):
        _whole(about, name, number)
    return Printed(*value)


# --- summaries: what a driver must know of an outcome without its values ----------------------------------------------

_TOLD = 100  #: failures a summary tells in words


def summary_fields(outcome: Outcome) -> dict[str, Any]:
    """The part of an outcome that rides in a notice, as JSON."""
    return {
        "span": outcome.span,
        "worker": outcome.worker,
        "seconds": round(outcome.seconds, 6),
        "failed": len(outcome.failures),
        "alike": [failure.alike for failure in outcome.failures[:_TOLD]],
        "first_failure": outcome.failures[0].index if outcome.failures else None,
        "rest": [chunk_fields(chunk) for chunk in outcome.rest],
    }


SUMMARY_BYTES = 4 << 10  #: of an outcome hold its summary, unless that tells of many chunks, or many kinds of failure
_SUMMARY_AT = _HEAD.size + _LENGTH.size


def summary_nbytes(start: Buffer) -> int:
    """So many of an outcome's bytes hold its summary, as the first of them say; all of what this release did not write.

    Nothing vouches for that yet, so it is no more than what to read next.
    """
    view = memoryview(start)
    if len(view) < _SUMMARY_AT or view[: len(_MAGIC) + 1] != _MAGIC + bytes([WIRE_VERSION]):
        return _MOST
    return _SUMMARY_AT + int(_LENGTH.unpack_from(view, _HEAD.size)[0])


def read_summary(key: bytes, about: str, start: Buffer, size: int) -> dict[str, Any]:
    """The summary of an outcome of `size` bytes, of which so much is given as `summary_nbytes` says, or all there is.

    Of what comes after it, nothing but its length is looked at. Raises `UnknownVersion` or `Refused`.
    """
    view = memoryview(start)
    if len(view) < summary_nbytes(view):
        unseal(key, about, view)  # says what is wrong with it
        raise malformed(about, "it ends within its summary")
    return _read_summary(key, about, view[_HEAD.size :], size - _HEAD.size)[0]


def _read_summary(key: bytes, about: str, body: memoryview, size: int) -> tuple[dict[str, Any], memoryview]:
    """An outcome's summary, and what is given of that which comes after it; of `size` bytes together."""
    if len(body) < _LENGTH.size:
        raise malformed(about, "it has no summary")
    at = _LENGTH.size + int(_LENGTH.unpack_from(body)[0])
    about = _summary_about(about)
    fields, _ = read_document(unseal(key, about, body[_LENGTH.size : at]), about)
    if size != at + (after := fields.whole("after")):
        raise malformed(about, f"{size - at} bytes come after it, and should be {after}")
    return _summary(fields, fields.span("span")), body[at:]


def _summary_about(about: str) -> str:
    return f"{about} summary"


# --- notices ----------------------------------------------------------------------------------------------------------

NOTICE_BYTES = 240 << 10  #: a notice is no longer, whatever it tells of: SQS once took 256 KiB, and takes 1 MiB now


class Notice(NamedTuple):
    """That a chunk is settled. What was too much for a message is left out, to be read from the store."""

    span: Span
    summary: dict[str, Any] | None
    outcome: bytes | None


def notice_message(key: bytes, run: str, outcome: Outcome, body: bytes | None) -> str:
    """A notice of an outcome, with its summary and its `body` if they are small enough."""
    brief: dict[str, Any] = {"span": outcome.span}
    told: dict[str, Any] = {**brief, "summary": summary_fields(outcome)}
    more = {**told, "outcome": b64encode(body).decode()} if body is not None else told
    for value in (more, told):
        text = seal_message(key, f"notice {run}", value)
        if len(text) <= NOTICE_BYTES:
            return text
    return seal_message(key, f"notice {run}", brief)


def read_notice(key: bytes, run: str, body: str) -> Notice:
    """The inverse of `notice_message`. Raises `UnknownVersion` or `Refused`."""
    about = f"notice {run}"
    value = open_message(key, about, body)
    span = value.span("span")
    summary = _summary(value.fields("summary"), span) if value.given("summary") else None
    return Notice(span, summary, _bytes(about, value.text("outcome")) if value.given("outcome") else None)


def _summary(fields: Fields, span: Span) -> dict[str, Any]:
    alike = fields.many("alike")
    if not all(isinstance(each, list) and len(each) == 2 and {*map(type, each)} == {str} for each in alike):
        raise malformed(f"a summary of {span}", "'alike' does not hold pairs of text")
    if fields.span("span") != span:
        raise malformed(f"a summary of {span}", f"it is one of {fields.span('span')}")
    first = None if fields["first_failure"] is None else fields.whole("first_failure", least=span.lo)
    return {
        "span": span,
        "worker": fields.text("worker"),
        "seconds": fields.number("seconds"),
        "failed": fields.whole("failed"),
        "alike": alike,
        "first_failure": first,
        "rest": [chunk_fields(chunk) for chunk in fields.chunks("rest", span)],
    }
