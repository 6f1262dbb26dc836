"""A local backend for every test that asks for one; one AWS, and one whose workers are containers, for all that do."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests.places import environment
from tests.prefect_server import PrefectServer, started_server
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine, NoContainers, lacking, must_run, running_engine

collect_ignore = ["airflow"] if find_spec("airflow") is None else []  # it has an environment of its own
# a busy machine is no fault
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts us in the background may have it ignored


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were skipped, a line a reason: those that need containers, on a machine that cannot have them."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number} not run: {reason.removeprefix('Skipped: ')}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prefect itself leaves sockets open: where an async flow's task gets a future, and where a block is saved."""
    for item in items:
        if _is_of_prefect(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True, scope="module")
def nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """What Prefect left open is found here, and not in the tests of another module."""
    yield
    if _is_of_prefect(request.path):
        gc.collect()


def _is_of_prefect(file: Path) -> bool:
    return file.name.startswith("test_prefect")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """The embedded backend in a folder of the test's own; `tests.leftovers.nothing_left` tells what stayed there."""
    opened = local_backend(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    """The test bed's server, started when the first test asks."""
    with Aws() as server:
        yield server


@pytest.fixture
def aws(aws_server: Aws) -> Iterator[Aws]:
    """The test bed, as after its start; this process and those it starts take it for AWS."""
    yield from fresh(aws_server)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server, started when the first test asks; what tests leave there is told apart by flow runs' ids.

    One each for the processes that run these tests: SQLite lets one write at a time, in no order, and where all of them
    write to one server, some wait for minutes.
    """
    folder = tmp_path_factory.getbasetemp()
    common = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with started_server(folder / "prefect-server", common / "prefect-new.db") as server:
        yield server


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A container engine with its registry; skips where there can be none and none must be."""
    if (why := lacking()) and not must_run():
        pytest.skip(why)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(running_engine())
        except NoContainers as error:
            if must_run():
                raise
            pytest.skip(str(error))
        yield opened


@pytest.fixture(scope="session")
def container_server(engine: Engine) -> Iterator[Aws]:
    """A second test bed, whose workers are containers."""
    with Aws(workers="docker") as server:
        yield server


@pytest.fixture
def container_aws(container_server: Aws) -> Iterator[Aws]:
    """The same, as after its start, and taken for AWS."""
    yield from fresh(container_server)


def fresh(server: Aws) -> Iterator[Aws]:
    """A bed as after its start, while this process and those it starts take it for AWS; reset again at the end."""
    server.reset()
    variables = {name: value for name, value in server.env.items() if name.startswith("AWS_")}
    with environment(variables):
        yield server
    server.reset()
