"""The examples give exactly what a plain loop gives, at full size, and as scripts the same here and on AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from starburst_common import starburst_map
from tests.prefect_server import PATIENCE_S, PrefectServer
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import NEED, Engine, engine_now, must_run

EXAMPLES = Path(__file__).parent.parent / "examples"
LOCK = EXAMPLES.parent / "uv.lock"
SCRIPTS = (
    ["monte_carlo_portfolio.py"],
    ["bootstrap_ci.py"],
    ["data_processing.py"],
    ["grid_search.py", "--plain"],
)
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
    """All 16 configurations have the same accuracy on every fold."""
    import grid_search as example

    expected = [example.evaluate(configuration) for configuration in example.CONFIGURATIONS]
    assert example.search(**ON_TWO) == expected


def printed(folder: Path, script: str, *arguments: str, **env: str) -> str:
    """What an example prints, run as a script from a folder that is not its own."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(text: str) -> Iterator[list[str]]:
    """The words of each line, without times, prices and run ids."""
    for line in text.splitlines():
        if "│" in line:
            yield [cell.strip() for cell in line.split("│")[1:-2]]  # the last is how long it took
        elif line and line[0] not in "┏┡└" and not line.startswith(("Time:", "On AWS:", "Look next:")):
            yield line.split()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (SCRIPTS[0], "10,000 simulated years"),
        pytest.param(SCRIPTS[1], "10,000 resamples of 442 patients", marks=pytest.mark.rest),
        (SCRIPTS[2], "1,797 images in 100 chunks"),
        pytest.param(SCRIPTS[3], "Best: ", marks=pytest.mark.rest),
    ],
    ids=lambda value: value[0].removesuffix(".py") if isinstance(value, list) else "",
)
def test_the_example_prints_the_same_here_and_on_aws(script: list[str], says: str, tmp_path: Path, aws: Aws) -> None:
    """From any folder, with its functions in `__main__`; where settings name a site, that is where it runs."""
    here = printed(tmp_path, *script)
    assert says in here
    there = printed(tmp_path, *script, **aws.env, STARBURST_BACKEND="auto")
    assert [*figures(there)] == [*figures(here)]
    assert len(aws.tasks()) == 2


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("portfolio", SCRIPTS[0]),
        pytest.param("bootstrap", SCRIPTS[1], marks=pytest.mark.rest),
        pytest.param("digits", SCRIPTS[2], marks=pytest.mark.rest),
        pytest.param("forests", SCRIPTS[3], marks=pytest.mark.rest),
    ],
)
def test_an_example_prints_the_same_as_a_flow_here_and_on_aws(
    name: str, script: list[str], tmp_path: Path, aws: Aws, prefect_server: PrefectServer
) -> None:
    """Each as a Prefect flow, on this machine's workers and on ECS, prints what its script does."""
    prefect = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": prefect_server.api}
    prefect |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}
    plain = [*figures(printed(tmp_path, *script))]
    assert [*figures(printed(tmp_path, "as_flows.py", name, **prefect))] == plain
    there = printed(tmp_path, "as_flows.py", name, **prefect, **aws.env, STARBURST_BACKEND="auto")
    assert [*figures(there)] == plain
    assert len(aws.tasks()) in (1, 2)  # one, where its calls are so short that all of them are worth one message


@pytest.mark.rest
@pytest.mark.skipif(not must_run(), reason=f"an image with numpy takes a minute to make: set {NEED} for it")
@pytest.mark.parametrize("builder", ["layer", "docker"])
def test_the_examples_print_the_same_in_containers(
    builder: str, engine: Engine, container_aws: Aws, tmp_path: Path
) -> None:
    """What the project's own lock file names is found, becomes an image, and gives the same floats there."""
    config = tmp_path / "config.toml"
    image = {"base": engine.recipe().base, "builder": builder, "requirements": str(LOCK)}
    image |= {"groups": ["examples"], "extras": ["parquet"]}  # the frames hold text as pyarrow does
    lines = [f"{name} = {json.dumps(value)}" for name, value in image.items()]
    config.write_text("\n".join([container_aws.settings(image=False), "[image]", *lines]))
    there = {**container_aws.env, "STARBURST_CONFIG": str(config), "STARBURST_BACKEND": "auto"}
    there["DOCKER_HOST"] = engine_now() or ""
    for script, *arguments in SCRIPTS:
        assert [*figures(printed(tmp_path, script, *arguments, **there))] == [
            *figures(printed(tmp_path, script, *arguments))
        ]
    assert len(container_aws.tasks()) == 2 * len(SCRIPTS)
    (built,) = container_aws.boto("ecr").describe_images(repositoryName="starburst-bed")["imageDetails"]
    assert built["imageTags"][0].startswith("env-"), "the first run built it, and the others found it"
