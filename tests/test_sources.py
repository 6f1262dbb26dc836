"""A traceback shows the user's own file, line and text, wherever the function was written and whatever ran it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
from helper import deeper
from starburst_common import starburst_map

def fails(item):
    where = f"above {item}"
    return deeper(
        where
    )

def main():
    for error in starburst_map(fails, [3], workers=1, backend="local", progress=False, return_exceptions=True):
        print(error.__cause__)

if __name__ == "__main__":
    main()
"""
HELPER = """\
def deeper(where):
    raise ValueError(where)  # in the helper
"""


@pytest.mark.parametrize("way", ["script", "-c", "stdin", "exec"])
def test_a_traceback_is_as_at_home(tmp_path: Path, way: str) -> None:
    """By its path, line and text, for a function that goes by value, and for a module that travels with it.

    Between the user's frames, and before them, there is none of ours.
    """
    (tmp_path / "helper.py").write_text(HELPER)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    within = f"exec(compile({PROGRAM!r}, 'made.py', 'exec'))"
    ways = {"script": [str(script)], "-c": ["-c", PROGRAM], "stdin": ["-"], "exec": ["-c", within]}
    with script.open() as given:
        done = subprocess.run(
            [sys.executable, *ways[way]],
            stdin=given,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "STARBURST_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path)},
            check=False,
        )
    name = {"script": str(script), "-c": "<string>", "stdin": "<stdin>", "exec": "made.py"}[way]
    text = "    return deeper(\n           ^^^^^^^\n" if way != "exec" else ""
    wanted = (
        f'Traceback (most recent call last):\n  File "{name}", line 6, in fails\n{text}'
        f'  File "{tmp_path}/helper.py", line 2, in deeper\n'
        "    raise ValueError(where)  # in the helper\n    ^^^^^^^^^^^^^^^^^^^^^^^\n"
        "ValueError: above 3"
    )
    assert done.stdout.strip() == wanted, done.stdout + done.stderr
