"""What is used of Prefect beyond what it offers is in one place, and known to work with the releases named there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path

import prefect
import pytest
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS as LIMIT
from prefect.settings import temporary_settings

from prefect_starburst import internals

INTERNALS = Path(internals.__file__).parent
PACKAGE = INTERNALS.parent
NOT_OFFERED = (
    "prefect._internal",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect.logging.loggers",
    "prefect.main",
    "prefect.task_engine",
    "prefect.utilities",
)


@pytest.mark.contract
def test_this_is_a_release_that_is_named() -> None:
    """The suite runs with the oldest and the newest supported release; another one has not been tried."""
    assert prefect.__version__ in (internals.OLDEST, internals.NEWEST)


@pytest.mark.contract
def test_every_piece_has_its_reason() -> None:
    """What is handed out of Prefect's is what reasons are given for."""
    own = {"NEWEST", "OLDEST", "REASONS"}
    own |= {
        name
        for name, value in vars(internals).items()
        if getattr(value, "__module__", "").startswith(internals.__name__)
    }
    assert set(internals.__all__) - own == set(internals.REASONS)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.stem)
def test_no_other_module_reaches_inside(file: Path) -> None:
    """No import of what is not offered, outside of the place for it."""
    inside = [
        name
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.startswith(NOT_OFFERED)
    ]
    assert file.parent == INTERNALS or not inside, inside


@pytest.mark.parametrize(("release", "which"), [("3.1.0", "older"), ("99.0", "newer")])
@pytest.mark.contract
def test_an_unknown_release_is_told_with_what_to_pin(release: str, which: str) -> None:
    """The warning names the release, and those that were tried."""
    with pytest.warns(UserWarning, match=rf"{release} is {which} .* pin \"prefect>={internals.OLDEST},<="):
        internals.warn_of_unknown(release)


@pytest.mark.contract
def test_a_known_release_is_not_worth_a_word() -> None:
    """Neither end of what was tried warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        internals.warn_of_unknown(internals.OLDEST)
        internals.warn_of_unknown(internals.NEWEST)


def test_prefects_server_may_take_longer_to_start_unless_the_user_says_how_long(tmp_path: Path) -> None:
    """Importing the runner, after Prefect, is enough for its first start; whatever setting names a limit is kept."""
    asked = (
        f"import prefect; from prefect_starburst import StarburstTaskRunner; from prefect.settings import {LIMIT.name}"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", f"{asked}; print({LIMIT.name}.value())"],
        env={**variables, "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 2 * LIMIT.default()
    for said in (5, LIMIT.default(), 1000):
        with temporary_settings({LIMIT: said}):
            internals.wait_longer_for_the_server()
            assert LIMIT.value() == said
