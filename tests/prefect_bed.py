"""A Prefect server of the tests' own, and two workers that all their flows share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.settings import (
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    PREFECT_RUNNER_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.task_runners import TaskRunner
from prefect.testing.utilities import prefect_test_harness

import starburst_common
from prefect_starburst import StarburstTaskRunner


class Shared(Executor):
    """An executor that outlives the runners that use it: workers start once for all tests."""

    def __init__(self) -> None:
        self._executor = starburst_common.StarburstExecutor(workers=2, backend="local")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stays up."""

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


shared: list[Shared] = []


class SharedRunner(StarburstTaskRunner):
    """The runner under test, on the shared workers."""

    def _make_executor(self, options: dict[str, Any]) -> Executor:
        return shared[0]


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of its own, and two workers, for the tests of a module that imports this."""
    home = tmp_path_factory.mktemp("starburst-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STARBURST_HOME", str(home))
        with (
            temporary_settings(
                {
                    PREFECT_SERVER_ANALYTICS_ENABLED: False,
                    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
                    PREFECT_RUNNER_HEARTBEAT_FREQUENCY: None,  # its thread makes each flow a second longer
                }
            ),
            prefect_test_harness(server_startup_timeout=90),
        ):
            shared.append(Shared())
            yield
            shared.pop().close()


def history(task_run_id: UUID) -> tuple[list[str], TaskRun]:
    """The states the API has for a run, oldest first, and the run; waits until the last one has arrived."""
    with get_client(sync_client=True) as client:
        for _ in range(200):
            found = sorted(client.read_task_run_states(task_run_id), key=lambda state: state.timestamp)
            if found and found[-1].is_final():
                return [state.name or "" for state in found], client.read_task_run(task_run_id)
            time.sleep(0.1)
    raise AssertionError(f"no final state of {task_run_id} has reached the API: {found}")


def run(body: Callable[[], Any], runner: TaskRunner[Any] | None = None) -> Any:
    """What the body returns, run as a flow; not as the flow's result, since states in that decide about the flow."""
    kept: list[Any] = []
    flow(name="test", task_runner=runner or SharedRunner())(lambda: kept.append(body()))()
    return kept[0]
