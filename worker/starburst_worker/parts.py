"""A leased chunk's answers as they come in, part by part; what is to be cut off, and sent back."""

from __future__ import annotations

from dataclasses import dataclass, field

from starburst_common.model import Batch, Chunk, Failure, Span, spans_of, without
from starburst_common.runs.failures import Reason

_LOG_CHARS = 4 << 20  #: of all that the items of a chunk print, so many are kept with its answers
_LOG_FULL = "a chunk keeps 4 MiB of what its items print; the worker's log has it"


@dataclass(slots=True, kw_only=True)
class Part:
    """A chunk, or what is left of one, as its answers come in. It will have exactly one outcome."""

    chunk: Chunk
    seconds: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    logs: dict[int, str] = field(default_factory=dict)
    nbytes: int = 0  #: about what its answers take in memory
    memory_mib: float = 0.0  #: the most that its slot had taken by then; 0 where nobody knows
    log_bytes: int = 0  #: that its slot has printed meanwhile
    _logged: int = 0

    def add(self, batch: Batch) -> None:
        """Values that have come."""
        self.batches.append(batch)
        self.nbytes += batch.frame.nbytes

    def fail(self, failure: Failure) -> None:
        """An item that has none."""
        self.failures.append(failure)
        self.nbytes += len(failure.message) + len(failure.traceback) + len(failure.exception or b"")

    def log(self, index: int, text: str) -> None:
        """What an item printed, as far as there is room for it."""
        room = max(_LOG_CHARS - self._logged, 0)
        if len(text) > room:
            text = f"{text[:room]}\n… {len(text) - room} characters left out: {_LOG_FULL} …"
        self.logs[index] = self.logs.get(index, "") + text
        self._logged += len(text)
        self.nbytes += len(text)

    def open(self) -> tuple[Span, ...]:
        """Items without an answer."""
        failed = spans_of(sorted(failure.index for failure in self.failures))
        return without(self.chunk.span, [*(batch.span for batch in self.batches), *failed])


def pieces(chunk: Chunk, span: Span, *, size: int, deaths: int) -> list[Chunk]:
    """A span of a chunk cut into chunks of `size` items."""
    return [
        chunk.narrowed(Span(lo, min(lo + size, span.hi)), deaths=deaths) for lo in range(span.lo, span.hi, max(size, 1))
    ]


def refused(chunk: Chunk, why: Reason, worker: str) -> Part:
    """The whole chunk answered with one failure for each item."""
    return Part(chunk=chunk, failures=why.of_all([chunk.span], worker=worker))
