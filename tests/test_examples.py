"""The examples give exactly what a plain loop gives, at full size, and run as scripts."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from starburst_common import starburst_map

EXAMPLES = Path(__file__).parent.parent / "examples"
ON_TWO: dict[str, Any] = {"backend": "local", "workers": 2}


@pytest.fixture(autouse=True)
def as_a_script_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The examples' folder comes first on the path; runs are kept in a folder of the test's own."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("STARBURST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STARBURST_BACKEND", "local")


def test_the_portfolio_has_the_same_10_000_years() -> None:
    """Every simulated year is the same float, and the tail comes after the mean."""
    import monte_carlo_portfolio as example

    returns = starburst_map(example.simulate, example.SEEDS, **ON_TWO)
    assert returns == [example.simulate(seed) for seed in example.SEEDS]
    at_risk, beyond = example.tail_risk(returns)
    assert -np.mean(returns) < at_risk < beyond < 1


def test_the_bootstrap_draws_the_same_10_000_resamples() -> None:
    """Every coefficient of every resample is the same float."""
    import bootstrap_ci as example

    resample = partial(example.resample, *example.patients())
    estimates = starburst_map(resample, example.SEEDS, **ON_TWO)
    assert np.array_equal(estimates, [resample(seed) for seed in example.SEEDS])


def test_the_chunks_have_the_same_aggregates() -> None:
    """100 frames go out, the same 100 frames come back, and they add up to the whole table."""
    import data_processing as example

    frames = example.chunks()
    parts = starburst_map(example.summarise, frames, **ON_TWO)
    for part, frame in zip(parts, frames, strict=True):
        pd.testing.assert_frame_equal(part, example.summarise(frame), check_exact=True)
    whole = example.summarise(pd.concat(frames))
    pd.testing.assert_frame_equal(example.combine(parts), example.combine([whole]), check_exact=True)


def test_the_grid_search_finds_the_same_scores() -> None:
    """All 16 configurations have the same accuracy on every fold: in a loop, by map, and as a Prefect flow."""
    testing = pytest.importorskip("prefect.testing.utilities")
    import grid_search as example

    expected = [example.evaluate(configuration) for configuration in example.CONFIGURATIONS]
    assert example.search(**ON_TWO) == expected
    with testing.prefect_test_harness(server_startup_timeout=60):
        assert example.search_as_flow(**ON_TWO) == expected


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (["monte_carlo_portfolio.py"], "10,000 simulated years"),
        (["bootstrap_ci.py"], "10,000 resamples of 442 patients"),
        (["data_processing.py"], "1,797 images in 100 chunks"),
        (["grid_search.py", "--plain"], "Best: "),
    ],
    ids=lambda value: value[0].removesuffix(".py") if isinstance(value, list) else "",
)
def test_the_example_runs_as_a_script(script: list[str], says: str, tmp_path: Path) -> None:
    """From any folder, with its functions in `__main__`."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script[0], *script[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
