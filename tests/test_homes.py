"""A home is one folder, whatever it was called and wherever the process and its workers are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starburst_common import BadInput, starburst_map
from starburst_common.backends import open_backend
from starburst_common.config import settings
from starburst_common.local import local_backend
from starburst_common.ports import Backend
from tests.leftovers import home_of, nothing_left


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with no settings of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STARBURST_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("STARBURST_HOME", raising=False)
    return tmp_path


def mapped(backend: Backend, home: Path) -> None:
    """Workers find the home, and nothing is made elsewhere or left in it."""
    assert home_of(backend) == home.resolve()
    assert starburst_map(abs, [-1, 2], workers=1, backend=backend, progress=False) == [1, 2]
    nothing_left(backend)
    backend.close()


@pytest.mark.parametrize("given", ["home", "./up/../home", "~/home"])
def test_a_home_stays_where_it_was_when_it_was_opened(here: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones lie in the working directory of that moment, which may then change, or be removed."""
    monkeypatch.setenv("STARBURST_HOME", given)
    for name in ("up", "elsewhere"):
        (here / name).mkdir()
    opened = open_backend("local")
    monkeypatch.chdir(here / "elsewhere")
    (here / "elsewhere").rmdir()
    mapped(opened, here / "home")
    monkeypatch.setenv("STARBURST_HOME", "gone")
    with pytest.raises(BadInput, match=r"home='gone' cannot be used: .*: set STARBURST_HOME"):
        open_backend("local")


def test_a_home_that_a_program_names_is_absolute_too(here: Path) -> None:
    """A link is followed, so that one folder has one name."""
    (here / "disk").mkdir()
    (here / "link").symlink_to(here / "disk")
    mapped(local_backend(Path("link")), here / "disk")


def test_a_home_in_the_settings_lies_beside_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run; an empty variable is none, and a number is no folder."""
    (here / "set").mkdir()
    file = here / "set" / "config.toml"
    monkeypatch.setenv("STARBURST_CONFIG", os.path.relpath(file))
    monkeypatch.setenv("STARBURST_HOME", "")
    file.write_text('home = "kept"')
    assert settings().home == here / "set" / "kept"
    file.write_text('home = "~/kept"')
    assert settings().home == here / "kept"
    file.write_text("home = 7")
    with pytest.raises(BadInput, match=r"home=7 \(from .*config.toml\): give a folder"):
        settings()
