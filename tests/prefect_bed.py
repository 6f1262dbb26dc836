"""Flows of tests: the server they speak to, and two workers that all of them share."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    PREFECT_RUNNER_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.task_runners import TaskRunner
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_starburst import StarburstTaskRunner
from prefect_starburst.home.artifacts import wait_until_told
from starburst_common import StarburstExecutor
from starburst_common.backends import open_backend
from starburst_common.ports import Backend
from tests.places import aws_text, environment, open_place
from tests.prefect_server import PATIENCE_S, PrefectServer, until
from tests.testbed.bed import Bed as Aws

_DRAINED_S = 30.0


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


@pytest.fixture(scope="module", autouse=True, params=["here"])
def server(
    request: pytest.FixtureRequest, prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Two workers, and the Prefect server, for the tests of a module that imports this.

    The workers are this machine's. Prefect's engines, states, retries, caches, hooks and futures are at home and the
    same wherever those are, so most tests run here only; a test that is `on_the_bed_too` asserts what has another way
    there: code, parameters and results go through a bucket and a queue, a task of its own holds the worker, and how
    that ends, what surrounds its functions and what they log is told from there.
    """
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("STARBURST_HOME", str(tmp_path_factory.mktemp("starburst-home")))
        stack.enter_context(speaking_to(prefect_server.api))
        if request.param == "here":
            backend = open_backend("local")
        else:
            aws: Aws = request.getfixturevalue("aws_server")
            aws.reset()
            variables = {name: value for name, value in aws.env.items() if name.startswith("AWS_")}
            stack.enter_context(environment(variables))
            backend = open_place(aws_text(aws.site))
        shared.append(Shared(backend))
        yield
        shared.pop().close()
        backend.close()
        if request.param != "here":
            aws.until(lambda: not aws.leftovers()["tasks"], within_s=PATIENCE_S)


#: For tests of what is done another way on AWS; why these, and no others, is told by the fixture.
on_the_bed_too = pytest.mark.parametrize("server", ["here", pytest.param("bed", marks=pytest.mark.bed)], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def home(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Prefect server, and a folder of starburst's own, for a module whose runners have workers of their own."""
    folder = tmp_path_factory.mktemp("starburst-home")
    with pytest.MonkeyPatch.context() as patch, speaking_to(prefect_server.api):
        patch.setenv("STARBURST_HOME", str(folder))
        yield folder


@contextmanager
def speaking_to(api: str) -> Iterator[None]:
    """This process's flows speak to a server; what tells it of events and logs ends with that, for the next server.

    As `prefect_test_harness` does for its own. One that was cut off by its server may never say that it is done.
    """
    settings: dict[Any, Any] = {
        PREFECT_API_URL: api,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
        PREFECT_CLIENT_MAX_RETRIES: 7,  # a server of a busy machine may have no turn at its database for minutes
        PREFECT_RUNNER_HEARTBEAT_FREQUENCY: None,  # its thread makes each flow a second longer
    }
    with temporary_settings(settings):
        with get_client(sync_client=True) as client:  # before, flows of others may have kept the server busy
            in_turn(lambda: client.create_flow_from_name("test"))
        yield
        run_coro_as_sync(_drain())


def in_turn(call: Callable[[], Any]) -> Any:
    """What a call to the server gives; made again while that has no turn at its database, as on a busy machine."""

    def made() -> Any:
        try:
            return call()
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 503:
                raise
            return None

    return until(made, "the server has a turn at its database")


async def _drain() -> None:
    await asyncio.to_thread(wait_until_told)
    for drained in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
        if inspect.isawaitable(drained):
            with suppress(TimeoutError):
                await asyncio.wait_for(drained, _DRAINED_S)


def history(task_run_id: UUID) -> tuple[list[str], TaskRun]:
    """The states the API has for a run, oldest first, and the run; waits until the last has come, and no more."""
    before, deadline = 0, time.monotonic() + PATIENCE_S
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
