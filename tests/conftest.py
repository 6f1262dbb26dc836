"""A local backend for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from starburst_common.local import local_backend
from starburst_common.ports import Backend


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """The embedded backend in a folder of the test's own; `tests.leftovers.nothing_left` tells what stayed there."""
    opened = local_backend(tmp_path / "home")
    yield opened
    opened.close()
