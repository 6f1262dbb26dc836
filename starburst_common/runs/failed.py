"""What failed in a run, or has no answer, in; a file of these items out, a line of JSON each: `Rows` again."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from starburst_common.data.where import placed, put
from starburst_common.errors import BadInput, StarburstError
from starburst_common.model import RunId, RunStatus
from starburst_common.phrases import our_log
from starburst_common.pickling.raised import named
from starburst_common.runs.family import Family

_log = our_log()


def write_failed(family: Family, uri: str) -> int:
    """Write these items of a run and its retries; how many that are.

    Raises `BadInput` where some are not what a line of JSON can say, or cannot be read: the file has the others.
    """
    from starburst_common.runs.replay import stored_frames  # with the first that failed

    backend, run = family.first.backend, family.first.spec.run
    wanted = {failure.index for failure in family.failures()}
    wanted |= {index for span in family.unanswered() for index in range(span.lo, span.hi)}
    lines: list[str] = []
    unsaid: dict[int, str] = {}
    for index, frames in stored_frames(backend, run, wanted):
        try:
            item = frames[index]
        except Exception as error:  # of the user's own classes, or of what lies elsewhere
            unsaid[index] = named(error)
        else:
            if is_said(item):
                lines.append(json.dumps(item, ensure_ascii=False))
            else:
                unsaid[index] = f"a {type(item).__name__} is nothing that JSON says"
    put(placed(uri), "".join(f"{line}\n" for line in lines).encode(), backend.buckets)
    if unsaid:
        index, why = next(iter(unsaid.items()))
        raise BadInput(
            f"{len(unsaid):,} of {len(wanted):,} items are not in {uri}, as item {index}: {why}: "
            f"attach({run!r}).retry_failed() runs them as they are"
        )
    return len(lines)


class Saves(Protocol):
    """A run, as far as that is needed here."""

    @property
    def id(self) -> RunId: ...
    def status(self) -> RunStatus: ...
    def cancel(self) -> None: ...
    def save_failed(self, uri: str) -> int: ...


class SavingFailed:
    """While a run's answers are taken: what failed is saved then, where that is wanted, whatever the block raises.

    No generator: `contextlib` sets the traceback of what is raised, which a frozen exception refuses.
    """

    def __init__(self, run: Saves, uri: str) -> None:
        self._run, self._uri = run, uri

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._uri:
            return
        if isinstance(error, Exception):
            with suppress(StarburstError):
                self._run.cancel()
        if self._run.status().state.over:
            try:
                self._run.save_failed(self._uri)
            except StarburstError as trouble:  # the answers, or what was raised, matter more
                _log.warning("run %s: %s", self._run.id, trouble)


def is_said(item: Any) -> bool:
    """Whether JSON says it, but for tuples, which become lists.

    >>> is_said({"a": [1, 2.5, None, "x", (True,)]}), is_said({1: 2}), is_said({1}), is_said(float("nan"))
    (True, False, False, False)
    """
    if isinstance(item, dict):
        return all(type(key) is str and is_said(value) for key, value in item.items())
    if type(item) in (list, tuple):
        return all(map(is_said, item))
    return item is None or type(item) in (bool, int, str) or (type(item) is float and math.isfinite(item))
