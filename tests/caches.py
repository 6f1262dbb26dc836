"""No test sees what this user has looked up or kept: the cache is another one, for each run of pytest.

A pytest plugin, named in `pyproject.toml`. What is costly to have anew, and the same for everybody, is linked there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_OURS, _MARK = "starburst", "STARBURST_TESTS_CACHE"
_SHARED = ("layers", "environments")  #: of our cache: by what they are made of


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected; whom this process starts goes by it, too."""
    if _MARK in os.environ:
        return
    theirs = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = Path(tempfile.mkdtemp(prefix="starburst-tests-cache-"))
    (made / _OURS).mkdir(mode=0o700)
    for name in ("uv", "starburst-tests"):  # what is made in it now is there for the next run
        (theirs / name).mkdir(parents=True, exist_ok=True)
    for entry in theirs.iterdir():
        if entry.name != _OURS:
            (made / entry.name).symlink_to(entry)
    for name in _SHARED:
        (theirs / _OURS / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (made / _OURS / name).symlink_to(theirs / _OURS / name)
    os.environ |= {"XDG_CACHE_HOME": str(made), _MARK: str(made)}
    config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))
