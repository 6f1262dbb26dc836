"""Messages in; the same in the fewest calls that SQS takes out. Pure.

Limits are those of the Amazon SQS Developer Guide, "Message quotas", read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BATCH = 10
_BYTES = 1 << 20  #: of all messages of a call together


def batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    """Bodies in the fewest calls that SQS takes, in their order: ten a call, and a mebibyte of all together.

    >>> [len(batch) for batch in batches(["x"] * 12)], [len(batch) for batch in batches(["x" * 600_000] * 3)]
    ([10, 2], [1, 1, 1])
    """
    batch: list[str] = []
    nbytes = 0
    for body in bodies:
        size = len(body.encode())
        if batch and (len(batch) == BATCH or nbytes + size > _BYTES):
            yield batch
            batch, nbytes = [], 0
        batch.append(body)
        nbytes += size
    if batch:
        yield batch
