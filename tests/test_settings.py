"""Options that are set outside of programs: what goes before what, where it came from, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster, StarburstExecutor
from starburst_common.config import OUTSIDE, settings, with_outside
from starburst_common.errors import BadInput
from starburst_common.offered import OPTIONS

VARIABLE, PROJECT, FILE = "environment (STARBURST_{})", "pyproject.toml: [tool.starburst.map]", "config.toml: [map]"


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what variables, the project's table and the user's say, in a folder below the project's."""
    for name in [name for name in os.environ if name.startswith("STARBURST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STARBURST_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    def said(*, project: str = "", file: str = "", **variables: str) -> None:
        (tmp_path / "pyproject.toml").write_text(f"[tool.starburst.map]\n{project}\n")
        (tmp_path / "config.toml").write_text(f"[map]\n{file}\n")
        for name, value in variables.items():
            monkeypatch.setenv(f"STARBURST_{name}", value)

    return said


@pytest.mark.parametrize(
    ("given", "outside", "value", "source"),
    [
        ({"workers": 2}, {"WORKERS": "3", "project": "workers = 4", "file": "workers = 5"}, 2, VARIABLE),
        ({"workers": None}, {"WORKERS": "3", "project": "workers = 4", "file": "workers = 5"}, 3, VARIABLE),
        ({}, {"WORKERS": "", "project": "workers = 4", "file": "workers = 5"}, 4, PROJECT),
        ({}, {"file": "workers = 5"}, 5, FILE),
        ({}, {"file": 'workers = "5"'}, 5, FILE),
        ({}, {"retries": "7"}, None, ""),  # a variable of another name
        ({}, {"CPU": "0.5"}, 0.5, VARIABLE),
        ({}, {"MEMORY": "4"}, "4", VARIABLE),
        ({}, {"file": "memory = 4"}, 4, FILE),
        ({}, {"SPOT": "True"}, True, VARIABLE),
        ({"spot": False}, {"SPOT": "true"}, False, VARIABLE),
        ({}, {"TOLERATE": "2%"}, "2%", VARIABLE),
        ({}, {"file": "tolerate = 3"}, 3, FILE),
        ({}, {"TAGS": '{"team": "risk"}'}, {"team": "risk"}, VARIABLE),
        ({}, {"file": 'tags = {team = "risk"}'}, {"team": "risk"}, FILE),
        ({}, {"PROGRESS": "no"}, False, VARIABLE),
    ],
    ids=str,
)
def test_an_argument_goes_before_a_variable_and_that_before_files(
    given: dict[str, Any], outside: dict[str, str], value: Any, source: str, say: Callable[..., None]
) -> None:
    """The project's file before the user's; None, and an empty variable, say nothing."""
    say(**outside)
    name = next(iter(given), None) or next((key.lower() for key in outside if key.isupper()), "")
    name = name or str(outside.get("file", "")).partition(" =")[0]
    asked = with_outside(given)
    assert asked.get(name) == value
    assert settings().sources.get(name, "").endswith(source.format(name.upper()))


@pytest.mark.parametrize(
    ("given", "outside", "says"),
    [
        ({}, {"WORKERS": "many"}, r"workers='many' \(from environment \(STARBURST_WORKERS\)\): give a whole number of"),
        ({}, {"WORKERS": "0"}, r"workers='0' \(from environment \(STARBURST_WORKERS\)\): give a whole number from 1"),
        ({}, {"RETRIES": "1.5"}, r"retries='1.5' \(from environment .*\): give a whole number from 0 to 100"),
        ({}, {"SPOT": "perhaps"}, r"spot='perhaps' \(from environment .*\): give true or false"),
        ({}, {"TIMEOUT": "nan"}, r"timeout='nan' \(from environment .*\): give seconds above 0"),
        ({}, {"TAGS": '{"team": 3}'}, r"tags=.* \(from environment .*\): give a JSON object of texts"),
        ({}, {"TAGS": "[" * 9999}, r"tags=.* \(from environment .*\): give a JSON object of texts"),
        ({}, {"file": "cpu = 3"}, r"cpu=3 is not a Fargate size: use one of .* \(cpu is from .*config.toml: \["),
        ({}, {"file": "budget = true"}, r"budget=True \(from .*config.toml: \[map\]\): give US dollars above 0"),
        ({}, {"file": "wrokers = 3"}, r"config.toml: \[map\]: unknown setting 'wrokers': known are workers, cpu"),
        ({}, {"file": 'initializer = "x"'}, r"config.toml: \[map\]: unknown setting 'initializer'"),
        ({}, {"file": "[[map]]"}, r"config.toml: (\[map\].* is no table|not TOML)"),
        ({}, {"project": "timeout = []"}, r"timeout=\[\] \(from .*pyproject.toml: \[tool.starburst.map\]\): give sec"),
        ({}, {"project": "files = 3"}, r"pyproject.toml: \[tool.starburst.map\]: unknown setting 'files'"),
        ({"cpu": 16}, {"MEMORY": "8GB"}, r"does not go with cpu=16: .* \(memory is from environment \(STARBURST_MEMO"),
    ],
    ids=str,
)
def test_what_is_wrong_outside_is_told_with_where_it_is(
    given: dict[str, Any], outside: dict[str, str], says: str, say: Callable[..., None]
) -> None:
    """When a cluster or an executor is made, so before anything is opened."""
    say(**outside)
    for maker in (Cluster, StarburstExecutor):
        with pytest.raises(BadInput, match=says):
            maker(**given)


def test_an_executor_takes_what_is_an_executors(say: Callable[..., None]) -> None:
    """What is about a map as a whole says nothing to it; calls of a cluster go before what is outside."""
    say(file='workers = 3\ntolerate = 1\ntimeout = 9\nlabel = "theirs"')
    assert not StarburstExecutor(backend="local")._options.return_exceptions
    cluster = Cluster(timeout=5)
    assert cluster._options.return_exceptions and cluster._options.timeout_s == 5
    assert (cluster._merged({"label": "mine"}).label, cluster._options.label) == ("mine", "theirs")


def test_what_another_may_write_sets_no_option(tmp_path: Path, say: Callable[..., None]) -> None:
    """A project's file is found by looking, and an image is what runs; one that says nothing of maps is let be."""
    say(project='image = "theirs"')
    (tmp_path / "pyproject.toml").chmod(0o666)
    with pytest.raises(BadInput, match=r"pyproject.toml: everybody may write it, and it says what is run"):
        Cluster()
    say(project="")
    assert Cluster()._options.workers is None
    (tmp_path / "pyproject.toml").write_text("not TOML")
    assert Cluster()._options.workers is None


def test_what_can_be_set_outside_is_what_text_can_say() -> None:
    """No functions, types or files, nor what one call's data are; each says what to give, and has a default."""
    assert set(OPTIONS) - set(OUTSIDE) == {
        *("retry_on", "seed", "initializer", "initargs", "files", "return_exceptions", "ordered"),
        *("batch", "results_to", "failures_to"),
    }
    assert json.dumps({name: row.default for name, row in OUTSIDE.items()})
