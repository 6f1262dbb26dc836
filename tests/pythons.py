"""The Pythons we support: which of them are on this machine, and the fast suites on those that developers do not use.

`python -m tests.pythons 3.12 3.13` runs everything that needs neither Prefect, the test bed nor containers, on each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")
NEED = "STARBURST_TESTS_NEED_PYTHONS"  #: a machine that lacks a Python fails, rather than say that it was not tested
HERE = Path(__file__).parent.parent
FAST = (
    "starburst_common",
    "worker/starburst_worker",
    "tests/contracts",
    "tests/test_cli.py",
    "tests/test_code.py",
    "tests/test_environment.py",
    "tests/test_executor.py",
    "tests/test_tally.py",
    "tests/test_options.py",
    "tests/test_packaging.py",
    "tests/test_public.py",
    "tests/test_reconcile.py",
    "tests/test_report.py",
    "tests/test_travel.py",
    "tests/test_wire.py",
)


def uv() -> str:
    """The `uv` that we depend on ourselves."""
    from uv import find_uv_bin

    return str(find_uv_bin())


def interpreter(python: str) -> Path | None:
    """Where a Python of that minor version is, or None. Nothing is downloaded."""
    # pyenv keeps on PATH a stand-in for each version, which fails for one that is there but not chosen
    kept = sorted(Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv").glob("versions/*/bin"))
    places = os.pathsep.join([*map(str, kept), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [uv(), "python", "find", "--no-project", "--no-python-downloads", "--system", python],
        env={**os.environ, "PATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def not_tested(pythons: Sequence[str]) -> int:
    """Say which Pythons there were none of; the exit code for that."""
    for python in pythons:
        print(f"not tested: {python} (no interpreter)")
    return 1 if pythons and os.environ.get(NEED) else 0


def fast_suites(python: str, interpreter: Path) -> bool:
    """Whether the fast suites pass on it, in an environment of its own, with warnings as errors."""
    run = [uv(), "run", "--python", str(interpreter), "--frozen", "--extra", "prefect", "--extra", "parquet"]
    bed = ["--ignore", "tests/contracts/test_aws.py", "-k", "not [aws"]
    tests = ["pytest", "--doctest-modules", "-n", "2", "--dist", "loadfile", *bed, *FAST]
    done = subprocess.run(
        [*run, "--group", "dev", *tests],
        cwd=HERE,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": f".venv-{python}"},
        check=False,
    )
    return done.returncode == 0


def main(pythons: Sequence[str]) -> int:
    """0 where the suites pass on every one of them that there is."""
    found = {python: interpreter(python) for python in pythons}
    failed = [python for python, place in found.items() if place and not fast_suites(python, place)]
    for python in found:
        if found[python]:
            print(f"{python}: {'failed' if python in failed else 'passed'}")
    lacking = not_tested([python for python, place in found.items() if not place])
    return 1 if failed else lacking


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or SUPPORTED[1:]))
