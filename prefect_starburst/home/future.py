"""A task run's id and the future of its state in, Prefect's future out; and the futures that a call depends on."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture, PrefectFuture

from prefect_starburst.home.loop import EngineLoop
from prefect_starburst.internals import StopVisiting, quote, visit_collection

R = TypeVar("R")
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})  #: types in whose values no future can be


class StarburstFuture(PrefectConcurrentFuture[R]):
    """Prefect's future of a task run that starburst runs. It is never left unsettled, and never cancelled."""

    def __init__(self, task_run_id: UUID, state: concurrent.futures.Future[Any], loop: EngineLoop) -> None:
        super().__init__(task_run_id, state)
        self._loop = loop

    @property
    def state(self) -> State[Any]:
        """The run's final state, or what Prefect's API says before there is one."""
        if self._final_state is None and self.wrapped_future.done() and not self.wrapped_future.exception():
            self.wait()
        return super().state

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the run to end, at most `timeout` seconds."""
        self._refuse_deadlock()
        super().wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """The run's value; its exception is raised, or returned where `raise_on_failure` is false."""
        self._refuse_deadlock()
        return super().result(timeout, raise_on_failure)

    def _refuse_deadlock(self) -> None:
        if not self.wrapped_future.done() and self._loop.is_current_thread():
            raise RuntimeError(
                f"Waiting for task run {self.task_run_id} in a cache key or name function would never end: it runs on "
                "the thread that would end the wait. Pass the future as a parameter or in `wait_for` instead."
            )


def upstream_of(parameters: dict[str, Any], wait_for: Iterable[Any] | None) -> list[PrefectFuture[Any]]:
    """The futures a call must wait for, each once, wherever they are nested; those inside `quote` are left alone."""
    found: dict[int, PrefectFuture[Any]] = {}

    def visit(value: Any) -> None:
        if isinstance(value, PrefectFuture):
            found[id(value)] = value
        elif isinstance(value, quote):
            raise StopVisiting

    values = [value for value in (*parameters.values(), *(wait_for or ())) if type(value) not in _PLAIN]
    if values:
        visit_collection(values, visit_fn=visit, return_data=False, max_depth=-1)
    return list(found.values())
