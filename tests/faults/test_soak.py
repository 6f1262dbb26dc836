"""A short soak, so that the long one of `make soak` is known to run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testbed.bed import REPOSITORY


@pytest.mark.rest
def test_a_short_soak_holds() -> None:
    """Some rounds under random faults: every answer once and right, nothing left, and figures at the end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "0.3", "--seed", "1"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "everything held" in done.stdout
    assert "answers checked" in done.stdout


@pytest.mark.rest
@pytest.mark.parametrize("place", ["local", "bed"])
def test_some_schedules_hold(place: str) -> None:
    """Foretold troubles, each schedule by itself: every answer once and right, nothing left."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--schedules", "0:3", "--on", place, "--at-once", "2"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "broken: none" in done.stdout
