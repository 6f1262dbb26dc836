"""A short soak, so that the long one of `make soak` is known to run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testbed.bed import REPOSITORY


@pytest.mark.rest
def test_a_short_soak_holds() -> None:
    """Some rounds under random faults: every answer once and right, nothing left, and figures at the end."""
    said = soaked("--minutes", "0.3", "--seed", "1", within_s=400)
    assert "everything held" in said
    assert "answers checked" in said


@pytest.mark.rest
@pytest.mark.parametrize("place", ["local", "bed"])
def test_some_schedules_hold(place: str) -> None:
    """Foretold troubles, each schedule by itself: every answer once and right, nothing left."""
    said = soaked("--schedules", "0:3", "--on", place, "--at-once", "2", within_s=900)
    assert "broken: none" in said


def soaked(*words: str, within_s: float) -> str:
    """What a soak printed, which ended well."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
