"""A run as a process holds it in; what its items printed, with their index, out."""

from __future__ import annotations

from collections.abc import Iterator

from starburst_common.runs import remains
from starburst_common.runs.hold import Hold


def printed(held: Hold, item: int | None, *, follow: bool) -> Iterator[tuple[int, str]]:
    """See `Run.logs`."""
    numbers, at = held.numbers, item
    if numbers is not None and item is not None and (at := numbers.at(item)) is None:
        return
    if follow:
        from starburst_common.runs.live import live_prints

        prints = live_prints(held.backend, held.spec)
    else:
        outcomes = remains.stored_outcomes(held.backend, held.spec, at)
        prints = (each for outcome in outcomes for each in sorted(outcome.logs.items()))
    for index, text in prints:
        if at is None or index == at:
            yield index if numbers is None else numbers.of(index), text
