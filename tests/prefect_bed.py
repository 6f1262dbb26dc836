"""A Prefect server of the tests' own, and two workers that all their flows share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack
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

from prefect_starburst import StarburstTaskRunner
from starburst_common import StarburstExecutor
from starburst_common.backends import open_backend
from starburst_common.ports import Backend
from tests.places import aws_text, environment, open_place
from tests.prefect_server import ephemeral_server, speaking_to, started_server
from tests.testbed.bed import Bed as Aws


class Shared(Executor):
    """An executor that outlives the runners that use it: workers start once for all tests."""

    def __init__(self, backend: Backend) -> None:
        self._executor = StarburstExecutor(workers=2, backend=backend)

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


@pytest.fixture(scope="module", autouse=True, params=["here", pytest.param("bed", marks=pytest.mark.bed)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of its own, and two workers, for the tests of a module that imports this.

    Here: the ephemeral server and this machine's workers. On the bed: a server that was started, and ECS tasks.
    """
    settings: dict[Any, Any] = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
        PREFECT_RUNNER_HEARTBEAT_FREQUENCY: None,  # its thread makes each flow a second longer
    }
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("STARBURST_HOME", str(tmp_path_factory.mktemp("starburst-home")))
        if request.param == "here":
            stack.enter_context(temporary_settings(settings))
            stack.enter_context(ephemeral_server())
            backend = open_backend("local")
        else:
            aws: Aws = request.getfixturevalue("aws_server")
            aws.reset()
            started = stack.enter_context(started_server(tmp_path_factory.mktemp("prefect")))
            stack.enter_context(speaking_to(started, settings))
            variables = {name: value for name, value in aws.env.items() if name.startswith("AWS_")}
            stack.enter_context(environment(variables))
            backend = open_place(aws_text(aws.site))
        shared.append(Shared(backend))
        yield
        shared.pop().close()
        backend.close()
        if request.param != "here":
            aws.until(lambda: not aws.leftovers()["tasks"], within_s=30)


#: For tests whose runners have workers of their own, on this machine.
here_only = pytest.mark.parametrize("server", ["here"], indirect=True)


def history(task_run_id: UUID) -> tuple[list[str], TaskRun]:
    """The states the API has for a run, oldest first, and the run; waits until the last has come, and no more."""
    before, deadline = 0, time.monotonic() + 90
    with get_client(sync_client=True) as client:
        while True:
            found = sorted(client.read_task_run_states(task_run_id), key=lambda state: state.timestamp)
            if found and found[-1].is_final() and len(found) == before:
                return [state.name or "" for state in found], client.read_task_run(task_run_id)
            assert time.monotonic() < deadline, f"no final state of {task_run_id} has reached the API: {found}"
            before = len(found)
            time.sleep(0.2)


def run(body: Callable[[], Any], runner: TaskRunner[Any] | None = None) -> Any:
    """What the body returns, run as a flow; not as the flow's result, since states in that decide about the flow."""
    kept: list[Any] = []
    flow(name="test", task_runner=runner or SharedRunner())(lambda: kept.append(body()))()
    return kept[0]
