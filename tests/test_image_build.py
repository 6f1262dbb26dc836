"""Who builds an image, and that it is built once: turns that survive their holder, and images looked up before."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starburst_common.config import ImageSettings, settings
from starburst_common.environment import Environment
from starburst_common.errors import BadInput
from starburst_common.image.build import Turn
from starburst_common.image.recipe import Recipe
from starburst_common.local import local_backend

FOLDER = "builds/env-1/turns/"
_spawn = multiprocessing.get_context("spawn")


def recipe(**changes: Any) -> Recipe:
    """A recipe, and what differs from it."""
    made: dict[str, Any] = {
        "environment": Environment.of("3.11", "a==1\nb==2\n"),
        "platforms": ("linux/amd64", "linux/arm64"),
        "base": "python:3.11-slim",
        "base_digest": "sha256:1",
        "worker": "1",
        **changes,
    }
    return Recipe(**made)


# --- fingerprints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"environment": Environment.of("3.12", "a==1\nb==2\n")},
        {"environment": Environment.of("3.11", "a==1\nb==3\n")},
        {"environment": Environment.of("3.11", "a==1\nb==2\nc==1\n")},
        {"environment": Environment.of("3.11", "a==1 --hash=sha256:1\nb==2\n")},
        {"platforms": ("linux/amd64",)},
        {"base_digest": "sha256:2"},
        {"worker": "2"},
        {"system_packages": ("libgomp1",)},
        {"build_steps": ("true",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_an_image_is_made_of_names_it(change: dict[str, Any]) -> None:
    """Each part of a recipe changes the fingerprint, and so the tag."""
    assert recipe(**change).tag != recipe().tag


def test_the_order_of_build_steps_matters_and_no_other() -> None:
    """Steps are carried out one after another; platforms and packages are sets."""
    assert recipe(build_steps=("a", "b")).tag != recipe(build_steps=("b", "a")).tag
    assert recipe(platforms=("linux/arm64", "linux/amd64")).tag == recipe().tag
    assert recipe(system_packages=("a", "b")).tag == recipe(system_packages=("b", "a")).tag


@given(
    lines=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), unique_by=lambda line: line[0], min_size=1),
    comment=st.text(st.characters(codec="ascii", exclude_categories=["C"])),
    order=st.randoms(use_true_random=False),
    folder=st.text(min_size=1),
)
def test_comments_order_and_folder_do_not_change_a_fingerprint(
    lines: list[tuple[str, int]], comment: str, order: Any, folder: str
) -> None:
    """What is only there for people, or differs from one machine to the next, is left out."""
    plain = [f"{name}=={version}" for name, version in lines]
    shuffled = order.sample([f"{line}  # {comment}" for line in plain], len(plain))
    one = Environment.of("3.11", "\n".join(plain))
    other = Environment.of("3.11", f"# {comment}\n\n" + "\n".join(shuffled) + "\n", source=folder, local=(folder,))
    assert recipe(environment=one).fingerprint == recipe(environment=other).fingerprint


def test_a_base_by_another_name_is_the_same_base() -> None:
    """Its digest says what it is; where it was pulled from does not."""
    assert recipe(base="mirror.example/python:3.11").tag == recipe().tag


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"bse": "x"}, "unknown setting 'bse'"),
        ({"platforms": "linux/amd64"}, "platforms='linux/amd64': give a list"),
        ({"platforms": ["windows/amd64"]}, "give some of linux/amd64, linux/arm64"),
        ({"keep_days": 0}, "give at least 1 day"),
        ({"keep_days": "30"}, "keep_days='30': give days"),
        ({"builder": "podman"}, "give one of auto, layer, docker, codebuild"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_settings_are_named(table: dict[str, Any], why: str) -> None:
    """Which, where, and what it should be."""
    with pytest.raises(BadInput, match=r"config\.toml") as error:
        ImageSettings.of(table, "config.toml")
    assert why in str(error.value)


def test_a_project_says_how_its_images_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table goes before the user's, setting by setting, from any of its folders."""
    config, below = tmp_path / "config.toml", tmp_path / "project" / "src"
    config.write_text('[image]\nkeep_days = 7\nbase = "mine"\n')
    below.mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.starburst.image]\nbase = "theirs"\n')
    monkeypatch.setenv("STARBURST_CONFIG", str(config))
    found = settings().image.in_project(below)
    assert (found.base, found.keep_days) == ("theirs", 7)
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.starburst.image]\nbuilder = "none"\n')
    with pytest.raises(BadInput, match=r"project/pyproject\.toml: \[tool\.starburst\.image\]: builder='none'"):
        settings().image.in_project(below)


# --- turns ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store that several processes share."""
    return tmp_path / "home"


def turn(home: Path, *, lost_s: float = 30.0) -> Turn:
    return Turn(local_backend(home).store, FOLDER, beat_s=0.1, lost_s=lost_s)


def _hold(home: Path, taken: Any) -> None:
    held = turn(home)
    assert held.take()
    with held.kept():
        taken.set()
        time.sleep(600)


def test_one_builds_and_the_others_wait_until_it_has(home: Path) -> None:
    """Of eight at once one has the turn; all others return when it has ended, and nothing is left."""
    at_once, most, lock, took = 0, 0, threading.Lock(), []

    def come() -> None:
        nonlocal at_once, most
        mine = turn(home)
        if mine.take():
            with mine.kept():
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                    took.append(1)
                time.sleep(0.5)
                with lock:
                    at_once -= 1

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and took
    assert list(local_backend(home).store.list("builds/")) == []


def test_a_builder_that_was_killed_is_followed_by_the_next(home: Path) -> None:
    """It says nothing any more: who waits takes the turn after `lost_s`, and not before."""
    taken = _spawn.Event()
    builder = _spawn.Process(target=_hold, args=(home, taken))
    builder.start()
    try:
        assert taken.wait(120)
        os.kill(builder.pid or 0, signal.SIGKILL)
        builder.join()
        began = time.monotonic()
        mine = turn(home, lost_s=1.0)
        assert mine.take()
        assert 1.0 <= time.monotonic() - began < 120.0
        with mine.kept():
            pass
        assert list(local_backend(home).store.list("builds/")) == []
    finally:
        builder.kill()
        builder.join()


def test_a_builder_that_takes_long_keeps_its_turn(home: Path) -> None:
    """As long as it says that it builds, nobody takes its turn, however little patience they have."""
    taken = _spawn.Event()
    builder = _spawn.Process(target=_hold, args=(home, taken))
    builder.start()
    try:
        assert taken.wait(120)
        waiting = threading.Thread(target=lambda: turn(home, lost_s=4.0).take(), daemon=True)
        waiting.start()
        waiting.join(5.0)
        assert waiting.is_alive()
        assert [*local_backend(home).store.list("builds/")] == [f"{FOLDER}000000"]
    finally:
        builder.kill()
        builder.join()
        waiting.join(10)
