"""The small documents of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from starburst_common.model import Buffer
from starburst_common.wire.documents import document, read_document
from starburst_common.wire.fields import Fields, malformed, whole
from starburst_common.wire.seals import seal, unseal


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
        whole(about, name, number)
    return Printed(*value)
