"""Values to signed, versioned bytes and back. Nothing is unpickled that our key did not sign.

Three layers, described in docs/wire.md:
a *sealed* object is version, HMAC and body; a *document* is a JSON header with blobs after it;
a *frame* is a document that holds pickled values with their large buffers out of band.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import struct
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from typing import Any

from starburst_common.errors import Refused, UnknownVersion
from starburst_common.model import Batch, Buffer, Chunk, Failure, FailureKind, Outcome, PackRef, Span, without

WIRE_VERSION = 1
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
    if version != WIRE_VERSION:
        raise UnknownVersion(
            f"{about}: wire version {version}, this starburst speaks {WIRE_VERSION}: "
            "use the same starburst release on the driver and the workers"
        )
    body = view[_HEAD.size :]
    if not hmac.compare_digest(mac, _mac(key, about, [body])):
        raise Refused(f"{about}: not signed with this site's key; refused, nothing was unpickled")
    return body


def _mac(key: bytes, about: str, parts: Iterable[Buffer]) -> bytes:
    mac = hmac.new(key, f"{WIRE_VERSION}\0{about}\0".encode(), hashlib.sha256)
    for part in parts:
        mac.update(part)
    return mac.digest()


# --- documents --------------------------------------------------------------------------------------------------------


def document(header: dict[str, Any], blobs: Sequence[Buffer] = ()) -> list[Buffer]:
    """A JSON header and blobs, as parts to be joined or sealed."""
    views = [memoryview(blob).cast("B") for blob in blobs]
    head = json.dumps({**header, "blobs": [len(view) for view in views]}, separators=(",", ":")).encode()
    return [_LENGTH.pack(len(head)), head, *views]


def read_document(body: Buffer) -> tuple[dict[str, Any], list[memoryview]]:
    """The inverse of `document`; blobs are views, not copies."""
    view = memoryview(body)
    (length,) = _LENGTH.unpack_from(view)
    at = _LENGTH.size + length
    header = json.loads(bytes(view[_LENGTH.size : at]))
    blobs = []
    for size in header["blobs"]:
        blobs.append(view[at : at + size])
        at += size
    return header, blobs


# --- frames: many pickled values --------------------------------------------------------------------------------------


class FrameWriter:
    """Collects values, each pickled by itself at once: one that cannot be sent, or changes later, harms no other."""

    def __init__(self) -> None:
        self._pickles: list[bytes] = []
        self._sizes = array("Q")
        self._counts = array("Q")
        self._buffers: list[Buffer] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._pickles)

    def add(self, value: Any) -> None:
        """Pickle a value; its large buffers (numpy, pandas, Arrow) stay out of band. Raises what pickling raises.

        What plain pickle cannot send, or would send as a name in `__main__`, goes by value through cloudpickle.
        """
        buffers: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        except Exception:
            data = b"__main__"
        if b"__main__" in data:
            from starburst_common import byvalue

            buffers.clear()
            data = byvalue.dumps(value, buffer_callback=buffers.append)
        self._pickles.append(data)
        self._sizes.append(len(data))
        self._counts.append(len(buffers))
        self.nbytes += len(data)
        for buffer in buffers:
            copy = buffer.raw().tobytes()  # whoever made the value may fill the same memory with the next one
            self._buffers.append(copy)
            self.nbytes += len(copy)

    def parts(self) -> list[Buffer]:
        """The frame, as parts to be joined or sealed."""
        stream = b"".join(self._pickles)
        counts = self._counts.tobytes() if self._buffers else b""
        return document({}, [self._sizes.tobytes(), counts, stream, *self._buffers])


class Frame:
    """The values of a frame, unpickled one by one when asked for. Arrays are writable: they lie in a copy made then."""

    def __init__(self, body: Buffer) -> None:
        _, (sizes, counts, self._stream, *self._buffers) = read_document(body)
        self._ends = list(accumulate(array("Q", bytes(sizes)), initial=0))
        self._marks = list(accumulate(array("Q", bytes(counts)), initial=0)) if len(counts) else None

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
        data = self._stream[self._ends[at] : self._ends[at + 1]]
        if self._marks is None:
            return pickle.loads(data)
        buffers = self._buffers[self._marks[at] : self._marks[at + 1]]
        return pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])


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
            held.append(Span(first, first + count))
            parts += [_FRAME.pack(first, count, len(body)), body]
        at += size
    if without(span, held):
        raise Refused(f"items {span.lo} to {span.hi - 1} of {run} are not all in their pack; refused")
    return parts


class Frames:
    """Items out of checked frames, by their index in the run."""

    def __init__(self, frames: Buffer) -> None:
        view, at = memoryview(frames), 0
        self._frames: list[tuple[int, int, Frame]] = []
        while at < len(view):
            first, count, size = _FRAME.unpack_from(view, at)
            at += _FRAME.size
            self._frames.append((first, first + count, Frame(view[at : at + size])))
            at += size

    def __getitem__(self, index: int) -> Any:
        for lo, hi, frame in self._frames:
            if lo <= index < hi:
                return frame[index - lo]
        raise IndexError(index)


# --- messages ---------------------------------------------------------------------------------------------------------


def seal_message(key: bytes, about: str, value: dict[str, Any]) -> str:
    """A small signed message for a queue, as text."""
    text = json.dumps(value, separators=(",", ":"))
    return f"{WIRE_VERSION}.{_mac(key, about, [text.encode()]).hex()}.{text}"


def open_message(key: bytes, about: str, body: str) -> dict[str, Any]:
    """The inverse of `seal_message`. Raises `UnknownVersion` or `Refused`."""
    version, _, rest = body.partition(".")
    mac, _, text = rest.partition(".")
    if not body.isascii() or not version.isdigit() or not text:
        raise Refused(f"{about}: not a starburst message; refused")
    if version != str(WIRE_VERSION):
        raise UnknownVersion(
            f"{about}: wire version {version:.20}, this starburst speaks {WIRE_VERSION}: "
            "use the same starburst release on the driver and the workers"
        )
    if not hmac.compare_digest(mac, _mac(key, about, [text.encode()]).hex()):
        raise Refused(f"{about}: not signed with this site's key; refused")
    value: dict[str, Any] = json.loads(text)
    return value


def chunk_fields(chunk: Chunk) -> list[Any]:
    """A chunk as JSON."""
    return [*chunk.span, chunk.function, *chunk.ref, chunk.deaths]


def read_chunk(fields: Sequence[Any]) -> Chunk:
    """The inverse of `chunk_fields`."""
    lo, hi, function, key, offset, length, deaths = fields
    return Chunk(span=Span(lo, hi), function=function, ref=PackRef(key, offset, length), deaths=deaths)


def chunk_message(key: bytes, fleet: str, run: str, chunk: Chunk, frames: Buffer | None = None) -> str:
    """A chunk as a queue message; small frames may ride along."""
    value: dict[str, Any] = {"run": run, "chunk": chunk_fields(chunk)}
    if frames is not None:
        value["frames"] = b64encode(frames).decode()
    return seal_message(key, f"chunk {fleet}", value)


def read_chunk_message(key: bytes, fleet: str, body: str) -> tuple[str, Chunk, bytes | None]:
    """The run, its chunk, and the frames if they rode along."""
    value = open_message(key, f"chunk {fleet}", body)
    frames = value.get("frames")
    return value["run"], read_chunk(value["chunk"]), None if frames is None else b64decode(frames)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def outcome_bytes(key: bytes, about: str, outcome: Outcome) -> bytes:
    """An outcome as a sealed document. `about` is the object's key."""
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
    header = {
        "span": outcome.span,
        "worker": outcome.worker,
        "seconds": round(outcome.seconds, 6),
        "batches": [batch.span for batch in outcome.batches],
        "failures": failures,
        "rest": [chunk_fields(chunk) for chunk in outcome.rest],
        "logs": outcome.logs,
    }
    return seal(key, about, document(header, [*(batch.frame for batch in outcome.batches), *pickled]))


def read_outcome(key: bytes, about: str, blob: Buffer) -> Outcome:
    """The inverse of `outcome_bytes`; values stay pickled until `load`. Raises `Refused`."""
    header, blobs = read_document(unseal(key, about, blob))
    spans = [Span(*span) for span in header["batches"]]
    pickled = blobs[len(spans) :]
    failures = []
    for fields in header["failures"]:
        at = fields.pop("pickled")
        exception = None if at is None else bytes(pickled[at])
        failures.append(Failure(**{**fields, "kind": FailureKind(fields["kind"])}, exception=exception))
    return Outcome(
        span=Span(*header["span"]),
        worker=header["worker"],
        seconds=header["seconds"],
        batches=tuple(Batch(span=span, frame=frame) for span, frame in zip(spans, blobs, strict=False)),
        failures=tuple(failures),
        rest=tuple(read_chunk(fields) for fields in header["rest"]),
        logs={int(index): text for index, text in header["logs"].items()},
    )


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
