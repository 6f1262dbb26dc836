"""What workers tell: a chunk's outcome, its summary, which can be read alone, and what running items print."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple, Self

from starburst_common.model import Batch, Buffer, Chunk, Failure, FailureKind, Outcome, Span, spans_of, without
from starburst_common.ports import TOLLS
from starburst_common.wire.documents import LENGTH, document, open_document, read_document, seal_document
from starburst_common.wire.fields import Fields, chunk_fields, malformed, parsed, span_of, whole
from starburst_common.wire.seals import HEAD_BYTES, nbytes_of, of_this_release, sealed_parts, unseal

_TOLD = 100  #: failures a summary tells in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a driver must know of an outcome, without its values: it rides in a notice, and begins the outcome."""

    span: Span
    worker: str
    seconds: float  #: slot time spent
    failed: int  #: without calls that were withdrawn
    withdrawn: int = 0
    first_failure: int | None
    alike: tuple[tuple[str, str], ...]  #: what makes failures the same to the circuit breaker, of the first of them
    rest: tuple[Chunk, ...]
    kinds: Mapping[str, int] = field(default_factory=dict)  #: how many failed with which kind
    attempts: int = 1  #: as of `Outcome`
    memory_mib: float = 0.0
    tolls: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Of an outcome."""
        failures = _failed(outcome.failures)
        return cls(
            span=outcome.span,
            worker=outcome.worker,
            seconds=round(outcome.seconds, 6),
            failed=len(failures),
            withdrawn=len(outcome.failures) - len(failures),
            first_failure=failures[0].index if failures else None,
            alike=tuple(failure.alike for failure in failures[:_TOLD]),
            rest=outcome.rest,
            kinds=Counter(str(failure.kind) for failure in failures),
            attempts=outcome.attempts,
            memory_mib=round(outcome.memory_mib, 1),
            tolls=outcome.tolls,
        )

    @property
    def answered(self) -> tuple[Span, ...]:
        """The items that the outcome answers itself."""
        return without(self.span, [chunk.span for chunk in self.rest])

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON."""
        names = [each.name for each in dataclass_fields(self) if each.name != "rest"]
        return {name: getattr(self, name) for name in names} | {"rest": [chunk_fields(chunk) for chunk in self.rest]}

    @classmethod
    def read(cls, fields: Fields, span: Span) -> Self:
        """The inverse of `fields`, of a chunk. Raises `Refused`."""
        alike = fields.many("alike")
        if not all(isinstance(each, list) and len(each) == 2 and {*map(type, each)} == {str} for each in alike):
            raise malformed(f"a summary of {span}", "'alike' does not hold pairs of text")
        if fields.span("span") != span:
            raise malformed(f"a summary of {span}", f"it is one of {fields.span('span')}")
        return cls(
            span=span,
            worker=fields.text("worker"),
            seconds=fields.number("seconds"),
            failed=fields.whole("failed"),
            withdrawn=fields.whole("withdrawn"),
            first_failure=None if fields["first_failure"] is None else fields.whole("first_failure", least=span.lo),
            alike=tuple((kind, error) for kind, error in alike),
            rest=tuple(fields.chunks("rest", span)),
            kinds=fields.counts("kinds", [*FailureKind]),
            attempts=fields.whole("attempts", least=1),
            memory_mib=fields.number("memory_mib"),
            tolls=fields.counts("tolls", TOLLS) if fields.given("tolls") else {},
        )


def _failed(failures: Iterable[Failure]) -> list[Failure]:
    """Those that count: that a call was withdrawn is no failure."""
    return [failure for failure in failures if failure.kind is not FailureKind.CANCELLED]


def outcome_parts(key: bytes, about: str, outcome: Outcome) -> list[Buffer]:
    """An outcome as a sealed document, in parts that are not joined, as they may be large. `about` is the object's key.

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
    told = {**Summary.of(outcome).fields, "after": nbytes_of(body)}
    summary = seal_document(key, _summary_about(about), told)
    return sealed_parts(key, about, [LENGTH.pack(len(summary)), summary, *body])


def read_outcome(key: bytes, about: str, blob: Buffer) -> Outcome:
    """The inverse of `outcome_parts`; values stay pickled until `load`. Raises `Refused`."""
    whole = unseal(key, about, blob)
    summary, body = _read_summary(key, about, whole, len(whole))
    header, blobs = read_document(body, about)
    span = summary.span
    spans = [span_of(about, each, span) for each in header.many("batches")]
    frames, others = blobs[: len(spans)], blobs[len(spans) :]
    failures = [_failure(Fields(f"{about}: a failure", each), span, others) for each in header.many("failures")]
    pickled = sum(failure.exception is not None for failure in failures)
    if (
        len(frames) != len(spans)
        or not pickled <= len(others) <= pickled + 1
        or len(_failed(failures)) != summary.failed
        or len(failures) != summary.failed + summary.withdrawn
    ):
        raise malformed(about, "it does not hold what its header tells")
    failed = spans_of(sorted(failure.index for failure in failures))
    if left := without(span, [*spans, *failed, *(chunk.span for chunk in summary.rest)]):
        raise malformed(about, f"no word on the items {left[0]}")
    return Outcome(
        span=span,
        worker=summary.worker,
        seconds=summary.seconds,
        batches=tuple(Batch(span=span, frame=frame) for span, frame in zip(spans, frames, strict=True)),
        failures=tuple(failures),
        rest=summary.rest,
        logs=_logs(about, bytes(others[pickled])) if len(others) > pickled else {},
        attempts=summary.attempts,
        memory_mib=summary.memory_mib,
        tolls=dict(summary.tolls),
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
    logs = Fields(about, {"logs": parsed(about, blob)}).texts("logs")
    if not all(index.isdecimal() and len(index) < 20 for index in logs):
        raise malformed(about, "logs of what is no item")
    return {int(index): text for index, text in logs.items()}


SUMMARY_BYTES = 4 << 10  #: of an outcome hold its summary, unless that tells of many chunks, or many kinds of failure
_SUMMARY_AT = HEAD_BYTES + LENGTH.size


def summary_nbytes(start: Buffer) -> int:
    """So many of an outcome's bytes hold its summary, as the first of them say; all of what this release did not write.

    Nothing vouches for that yet, so it is no more than what to read next.
    """
    view = memoryview(start)
    if len(view) < _SUMMARY_AT or not of_this_release(view):
        return sys.maxsize
    return _SUMMARY_AT + int(LENGTH.unpack_from(view, HEAD_BYTES)[0])


def read_summary(key: bytes, about: str, start: Buffer, size: int) -> Summary:
    """The summary of an outcome of `size` bytes, of which so much is given as `summary_nbytes` says, or all there is.

    Of what comes after it, nothing but its length is looked at. Raises `UnknownVersion` or `Refused`.
    """
    view = memoryview(start)
    if len(view) < summary_nbytes(view):
        unseal(key, about, view)  # says what is wrong with it
        raise malformed(about, "it ends within its summary")
    return _read_summary(key, about, view[HEAD_BYTES:], size - HEAD_BYTES)[0]


def _read_summary(key: bytes, about: str, body: memoryview, size: int) -> tuple[Summary, memoryview]:
    """An outcome's summary, and what is given of that which comes after it; of `size` bytes together."""
    if len(body) < LENGTH.size:
        raise malformed(about, "it has no summary")
    at = LENGTH.size + int(LENGTH.unpack_from(body)[0])
    about = _summary_about(about)
    fields, _ = open_document(key, about, body[LENGTH.size : at])
    if size != at + (after := fields.whole("after")):
        raise malformed(about, f"{size - at} bytes come after it, and should be {after}")
    return Summary.read(fields, fields.span("span")), body[at:]


def _summary_about(about: str) -> str:
    return f"{about} summary"


class Printed(NamedTuple):
    """A piece of what an item prints."""

    item: int
    turn: int  #: of the turns that its worker has had at any item; a later one begins the item anew
    at: int  #: so many characters of that turn's text come before it
    text: str
    ended: bool  #: the item prints no more


def prints_bytes(key: bytes, about: str, prints: Iterable[Printed]) -> bytes:
    """What a worker's items printed lately, sealed."""
    return seal_document(key, about, {"prints": list(prints)})


def read_prints(key: bytes, about: str, blob: Buffer) -> list[Printed]:
    """The inverse of `prints_bytes`. Raises `Refused`."""
    header, _ = open_document(key, about, blob)
    return [read_printed(about, each) for each in header.many("prints")]


def read_printed(about: str, value: Any) -> Printed:
    """One piece. Raises `Refused`."""
    if not isinstance(value, list) or [*map(type, value)] != [int, int, int, str, bool]:
        raise malformed(about, f"{value!r:.80} is nothing that an item printed")
    for name, number in zip(Printed._fields, value[:3], strict=False):
        whole(about, name, number)
    return Printed(*value)
