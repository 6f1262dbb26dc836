"""`python -m tests.wheels [--at-once N] [PYTHON[-EXTRA] ...]`: one line a cell, then a table of all."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.pythons import HERE, SUPPORTED, interpreter, not_tested, uv

EXTRAS = ("none", "docker", "parquet", "plot", "prefect", "airflow")
_PATIENCE_S = 1800  #: for one step of a cell
_OURS = Path(__file__).parent


class Failed(Exception):
    """A step of a cell did not do what it should; what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One environment: a Python, and an extra or none."""

    python: str
    extra: str

    @property
    def name(self) -> str:
        return f"{self.python}-{self.extra}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What became of a cell."""

    cell: Cell
    passed: bool
    seconds: float
    said: str

    @property
    def line(self) -> str:
        end = "passed" if self.passed else "FAILED"
        return f"{self.cell.python:<6} {self.cell.extra:<8} {end} {self.seconds:5.0f} s  {self.said.splitlines()[-1]}"


def tried(cell: Cell, place: Path, wheel: Path, folder: Path) -> Seen:
    """Make the environment, install the wheel into it, and live a user's first quarter of an hour there."""
    began = time.monotonic()
    folder.mkdir()
    environment, home = folder / "environment", folder / "home"
    home.mkdir()
    python = environment / "bin" / "python"
    named = str(wheel) if cell.extra == "none" else f"{wheel}[{cell.extra}]"
    try:
        carried_out([uv(), "venv", "--quiet", "--python", str(place), str(environment)], folder)
        carried_out([uv(), "pip", "install", "--quiet", "--python", str(python), named], folder)
        for file in _OURS / "work.py", _OURS / "trial.py", _OURS.parent / "kinds.py":
            shutil.copy(file, folder)
        said = carried_out([str(python), "trial.py", cell.extra], folder, HOME=str(home))
    except Failed as error:
        return Seen(cell=cell, passed=False, seconds=time.monotonic() - began, said=str(error))
    finally:
        shutil.rmtree(folder)  # an environment with Airflow is half a gigabyte
    return Seen(cell=cell, passed=True, seconds=time.monotonic() - began, said=said)


def carried_out(command: list[str], folder: Path, **variables: str) -> str:
    """What a command says, outside of the checkout and of any environment. Raises `Failed`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("STARBURST_", "PYTHON", "VIRTUAL"))}
    prefect = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**kept, **prefect, **variables},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{Path(command[0]).name} {command[1]}: not done after {_PATIENCE_S} s") from error
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} {command[1]}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """0 where every cell passed whose Python is on this machine."""
    parser = argparse.ArgumentParser(prog="python -m tests.wheels")
    parser.add_argument("cells", nargs="*", help="3.13-prefect; or 3.13, for all of its extras; all by default")
    parser.add_argument("--at-once", type=int, default=2, help="how many cells are under way at a time")
    asked = parser.parse_args(arguments)
    cells = [Cell(python=python, extra=extra) for python in SUPPORTED for extra in EXTRAS]
    if unknown := set(asked.cells) - {cell.name for cell in cells} - set(SUPPORTED):
        parser.error(f"no cell {', '.join(sorted(unknown))}: there are {', '.join(cell.name for cell in cells)}")
    if asked.cells:
        cells = [cell for cell in cells if {cell.name, cell.python} & set(asked.cells)]
    pythons = {python: interpreter(python) for python in dict.fromkeys(cell.python for cell in cells)}
    with tempfile.TemporaryDirectory(prefix="starburst-wheels-") as scratch:
        folder = Path(scratch)
        carried_out([uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(HERE)], folder)
        (wheel,) = folder.glob("*.whl")
        print(f"{wheel.name}: {len(cells)} cells")

        def one(cell: Cell, place: Path) -> Seen:
            seen = tried(cell, place, wheel, folder / cell.name)
            print(seen.line if seen.passed else f"{seen.line}\n{seen.said}", flush=True)
            return seen

        with ThreadPoolExecutor(asked.at_once) as pool:
            begun = [pool.submit(one, cell, place) for cell in cells if (place := pythons[cell.python])]
        every = [future.result() for future in begun]
    print("\n" + "\n".join(seen.line for seen in every))
    lacking = not_tested([python for python, place in pythons.items() if place is None])
    return lacking if all(seen.passed for seen in every) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
