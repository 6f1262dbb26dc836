"""What goes through the queues: a chunk to the workers, a notice of its outcome to the driver."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, NamedTuple

from starburst_common.model import Buffer, Chunk, Outcome, Span
from starburst_common.runs.outcomes import Summary
from starburst_common.wire.documents import open_message, seal_message
from starburst_common.wire.fields import chunk_fields, from_base64, read_chunk


class ChunkMessage(NamedTuple):
    """A chunk as its message brings it."""

    run: str
    chunk: Chunk
    frames: bytes | None  #: if they rode along
    again: bool  #: another message was sent before, so that it may be settled


def chunk_message(
    key: bytes, fleet: str, run: str, chunk: Chunk, frames: Buffer | None = None, *, again: bool = False
) -> str:
    """A chunk as a queue message; small frames may ride along."""
    value: dict[str, Any] = {"run": run, "chunk": chunk_fields(chunk)}
    if again:
        value["again"] = True
    if frames is not None:
        value["frames"] = b64encode(frames).decode()
    return seal_message(key, f"chunk {fleet}", value)


def read_chunk_message(key: bytes, fleet: str, body: str) -> ChunkMessage:
    """The inverse of `chunk_message`. Raises `UnknownVersion` or `Refused`."""
    about = f"chunk {fleet}"
    value = open_message(key, about, body)
    frames = from_base64(about, value.text("frames")) if value.given("frames") else None
    again = value.flag("again") if value.given("again") else False
    return ChunkMessage(value.name("run"), read_chunk(value["chunk"], about), frames, again)


NOTICE_BYTES = 240 << 10  #: a notice is no longer, whatever it tells of: SQS once took 256 KiB, and takes 1 MiB now


class Notice(NamedTuple):
    """That a chunk is settled. What was too much for a message is left out, to be read from the store."""

    span: Span
    summary: Summary | None
    outcome: bytes | None


def notice_message(key: bytes, run: str, outcome: Outcome, body: bytes | None) -> str:
    """A notice of an outcome, with its summary and its `body` if they are small enough."""
    brief: dict[str, Any] = {"span": outcome.span}
    told: dict[str, Any] = {**brief, "summary": Summary.of(outcome).fields}
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
    summary = Summary.read(value.fields("summary"), span) if value.given("summary") else None
    return Notice(span, summary, from_base64(about, value.text("outcome")) if value.given("outcome") else None)
