"""A local backend for every test that asks for one; one AWS for all that need it, as after its start for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests.places import environment
from tests.testbed.bed import Bed as Aws


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
    aws_server.reset()
    variables = {name: value for name, value in aws_server.env.items() if name.startswith("AWS_")}
    with environment(variables):
        yield aws_server
    aws_server.reset()
