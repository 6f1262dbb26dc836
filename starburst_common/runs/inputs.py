"""What a run is fed with, in sealed documents: functions, its plan, how many items there are. Bytes and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

from starburst_common.model import Buffer, Chunk
from starburst_common.wire.documents import open_document, seal_document
from starburst_common.wire.fields import chunk_fields, malformed
from starburst_common.wire.shared import read_digests


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function, still pickled."""

    blob: bytes  #: compressed, with its sources
    style: str  #: "one" argument, "star" for several, "call" for (args, kwargs)
    retry_timeouts: bool
    bundle: str | None = None  #: digest of the user's own modules that travel with it
    shared: tuple[str, ...] = ()  #: digests of the shared values that it refers to, and of its buffers
    buffers: tuple[str, ...] = ()  #: digests of these, as its pickle takes them

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        fields = asdict(self)
        return seal_document(key, about, fields, [fields.pop("blob")])

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        header, blobs = open_document(key, about, blob)
        if len(blobs) != 1:
            raise malformed(about, f"{len(blobs)} functions")
        return cls(
            blob=bytes(blobs[0]),
            style=header.text("style"),
            retry_timeouts=header.flag("retry_timeouts"),
            bundle=header.name("bundle") if header.given("bundle") else None,
            shared=tuple(read_digests(header, about)),
            buffers=tuple(read_digests(header, about, "buffers")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChunks:
    """A part of a run's plan: the chunks of a pack's items."""

    chunks: tuple[Chunk, ...]

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, {"chunks": [chunk_fields(chunk) for chunk in self.chunks]})

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        header, _ = open_document(key, about, blob)
        return cls(chunks=tuple(header.chunks("chunks")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """How many items there are, once all are stored."""

    items: int

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, asdict(self))

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        header, _ = open_document(key, about, blob)
        return cls(items=header.whole("items"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Whose shared values a run refers to."""

    period: str  #: the name of its folder

    def sealed(self, key: bytes, about: str) -> bytes:
        """As it is stored."""
        return seal_document(key, about, asdict(self))

    @classmethod
    def read(cls, key: bytes, about: str, blob: Buffer) -> Self:
        """The inverse of `sealed`. Raises `UnknownVersion` or `Refused`."""
        header, _ = open_document(key, about, blob)
        return cls(period=header.name("period"))
