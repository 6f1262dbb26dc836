"""JSON in, values as they should be out, or `Refused`: so that nobody else need look.

What is ours may still be wrong: written by a peer with a fault, or of another release.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Collection
from typing import Any

from starburst_common.errors import Refused
from starburst_common.model import Chunk, PackRef, Span

_MOST = 2**62
_LARGEST = 1e15  #: in seconds, longer than there is life
LAST_MOMENT = 253_402_300_799.0  #: of the year 9999, after which no date is
_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)


def malformed(about: str, what: str) -> Refused:
    """What nobody forged, but nobody of this release writes either."""
    return Refused(f"{about}: malformed ({what:.200}): written by another starburst release, or by one with a fault")


def parsed(about: str, text: str | bytes) -> Any:
    """What is written as JSON. Raises `Refused`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(about, f"no JSON: {error}") from error


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
        return key_of(self._about, name, self[name], most=1)

    def key(self, name: str) -> str:
        """An object's key."""
        return key_of(self._about, name, self[name])

    def flag(self, name: str) -> bool:
        """Yes or no."""
        return bool(self._kind(name, bool, "true or false"))

    def whole(self, name: str, *, least: int = 0) -> int:
        """A whole number."""
        return whole(self._about, name, self[name], least)

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

    def counts(self, name: str, known: Collection[str]) -> dict[str, int]:
        """Whole numbers by text, of the texts that are known."""
        value = self.fields(name)
        if unknown := {*value.raw}.difference(known):
            raise malformed(self._about, f"{name!r} has {sorted(unknown)[0]!r:.40}, which is none")
        return {text: value.whole(text) for text in value.raw}

    def fields(self, name: str) -> Fields:
        """An object within this one."""
        return Fields(f"{self._about}: {name}", self[name])

    def span(self, name: str, within: Span | None = None) -> Span:
        """Consecutive items, at least one."""
        return span_of(f"{self._about}: {name}", self[name], within)

    def spans(self, name: str) -> list[Span]:
        """Consecutive items, several times."""
        return [span_of(f"{self._about}: {name}", value) for value in self.many(name)]

    def chunks(self, name: str, within: Span | None = None) -> list[Chunk]:
        """Chunks, of a span's items."""
        chunks = [read_chunk(fields, f"{self._about}: {name}") for fields in self.many(name)]
        for chunk in chunks:
            span_of(f"{self._about}: {name}", [*chunk.span], within)
        return chunks

    @property
    def raw(self) -> dict[str, Any]:
        """As it came, unchecked."""
        return dict(self._value)

    def given(self, name: str) -> bool:
        """Whether there is something other than null."""
        return self._value.get(name) is not None


def whole(about: str, name: str, value: Any, least: int = 0) -> int:
    """A whole number. Raises `Refused`."""
    if type(value) is not int or not least <= value < _MOST:
        raise malformed(about, f"{name!r} is {value!r:.40}, not a whole number from {least}")
    return value


def key_of(about: str, name: str, value: Any, most: int = 20) -> str:
    """An object's key, of so many parts. Raises `Refused`."""
    parts = value.split("/") if isinstance(value, str) else []
    if not 1 <= len(parts) <= most or not all(map(_NAME.fullmatch, parts)):
        raise malformed(about, f"{name!r} is {value!r:.40}, not a name")
    return str(value)


def span_of(about: str, value: Any, within: Span | None = None) -> Span:
    """Consecutive items, at least one. Raises `Refused`."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise malformed(about, f"{value!r:.40} is no span")
    span = Span(whole(about, "lo", value[0]), whole(about, "hi", value[1]))
    if span.lo >= span.hi or (within is not None and not within.lo <= span.lo < span.hi <= within.hi):
        raise malformed(about, f"{value!r:.80} is no span" + (f" within {within}" if within is not None else ""))
    return span


def chunk_fields(chunk: Chunk) -> list[Any]:
    """A chunk as JSON."""
    return [*chunk.span, chunk.function, *chunk.ref, chunk.deaths]


def read_chunk(fields: Any, about: str = "a chunk") -> Chunk:
    """The inverse of `chunk_fields`. Raises `Refused`."""
    if not isinstance(fields, list | tuple) or len(fields) != 7:
        raise malformed(about, f"{fields!r:.80} is no chunk")
    lo, hi, function, key, offset, length, deaths = fields
    ref = PackRef(key_of(about, "pack", key), whole(about, "offset", offset), whole(about, "length", length))
    return Chunk(
        span=span_of(about, [lo, hi]),
        function=key_of(about, "function", function),
        ref=ref,
        deaths=whole(about, "deaths", deaths),
    )


def from_base64(about: str, text: str) -> bytes:
    """Bytes out of text. Raises `Refused`."""
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise malformed(about, f"no base64: {error}") from error
