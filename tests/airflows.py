"""Releases of Airflow between the oldest and the newest that we test: the provider's tests on each.

`python -m tests.airflows 3.1.8` runs them there, in an environment that is resolved now: beside the release, only
what it does not go with any more is held back.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.pythons import uv

HERE = Path(__file__).parent.parent
BETWEEN = {
    "3.0.6": ("pydantic<2.12", "fastapi<0.117", "starlette<0.48", "cadwyn<6"),
    "3.1.8": ("pydantic<2.13", "fastapi<0.130", "starlette<0.50"),
    "3.2.2": ("pydantic<2.14", "fastapi==0.136.3", "starlette==1.10.0", "cadwyn==7.0.0", "svcs<26"),
}
#: `airflow dags test` knows no outlets in 3.0, and takes minutes for each example in 3.2.
LEFT_OUT = "tests/airflow/test_examples.py"


def tested(release: str) -> bool:
    """Whether all of them pass there."""
    python = HERE / f".venv-airflow-{release}" / "bin" / "python"
    made = [uv(), "venv", "--quiet", "--clear", "--python", "3.11", str(python.parents[1])]
    wanted = ["--group", "test", "--editable", ".", f"apache-airflow=={release}", *BETWEEN[release]]
    filled = [uv(), "pip", "install", "--quiet", "--python", str(python), *wanted]
    tests = [
        "tests/airflow",
        "--deselect",
        LEFT_OUT,
        "-m",
        "not rest",
        "-W",
        "default",
    ]  # others' warnings are not ours
    commands = [made, filled, [str(python), "-m", "pytest", "-n", "2", "--dist", "loadfile", *tests]]
    return all(subprocess.run(command, cwd=HERE, check=False).returncode == 0 for command in commands)


def main(asked: Sequence[str]) -> int:
    """Each that was asked for, else all; nought if they pass."""
    return sum(not tested(release) for release in asked or BETWEEN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
