"""One test bed for a session of tests, reset for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed.bed import Bed


@pytest.fixture(scope="session")
def started_bed() -> Iterator[Bed]:
    """A running bed."""
    with Bed() as bed:
        yield bed


@pytest.fixture
def bed(started_bed: Bed) -> Bed:
    """A bed with its site and nothing else."""
    started_bed.reset()
    return started_bed
