"""Earlier runs of a burst in; for each item now its answer there, or the run that owes it and its number, out."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any, NamedTuple

from prefect import get_run_logger

from prefect_starburst.home.identity import name_of_item
from starburst_common import Failure, FailureKind, Run, RunState, StarburstError, attach
from starburst_common.spi import Backend, exception_of, newest_of, stored_items

MISSING: Any = object()  #: in place of a value


class Lacking(NamedTuple):
    """An item of a run that is over: it has no answer there, or it failed."""

    run: Run
    number: int


class Answered:
    """What runs were given and have answered, by the names of the items: equal ones are each given out once."""

    def __init__(self) -> None:
        self._values: dict[bytes, deque[Any]] = defaultdict(deque)
        self._lacking: dict[bytes, deque[Lacking]] = defaultdict(deque)

    def read(self, run: Run, backend: Backend, *, keep: bool) -> None:
        """Wait for a run's end. With `keep`, failures of one that went on to its end are answers, as exceptions."""
        names: dict[int, bytes] = {}
        values: dict[int, Any] = {}
        failed: dict[int, Failure] = {}
        try:
            named = ((index, name_of_item(item)) for index, item in stored_items(backend, run.id))
            names = {index: name for index, name in named if name is not None}
            for index, value in run.whole(ordered=False):
                if isinstance(value, Failure):
                    failed[index] = value
                else:
                    values[index] = value
            run.wait()
        except StarburstError as error:  # how a run ends that was stopped, or whose process died
            get_run_logger().info("%s", error)
        except Exception:
            get_run_logger().warning("run %s cannot be read: its items are run again", run.id, exc_info=True)
        if keep and attach(newest_of(backend, run.id), backend=backend).status().state is RunState.FAILED:
            had = (each for each in failed.values() if each.kind is not FailureKind.CANCELLED)
            values |= {each.index: exception_of(each, run.id) for each in had}
        over = run.status().state.over
        for index, name in names.items():
            if index in values:
                self._values[name].append(values[index])
            elif over:
                self._lacking[name].append(Lacking(run, index))

    def take(self, item: Any) -> tuple[Any, Lacking | None]:
        """The answer to an equal item, or `MISSING` and who owes it, or `MISSING` and None."""
        name = name_of_item(item)
        if name is not None and (values := self._values.get(name)):
            return values.popleft(), None
        if name is not None and (lacking := self._lacking.get(name)):
            return MISSING, lacking.popleft()
        return MISSING, None
