"""What the wheel holds, and what a user's type checker makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from email import message_from_string
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

import starburst_common
from tests.pythons import HERE, uv

PACKAGES = ("starburst_common", "prefect_starburst", "airflow_provider_starburst", "starburst_worker")
#: What a user might write, with what mypy says to each line that asks.
USERS = """
from concurrent.futures import Future

import starburst_worker
from prefect_starburst import burst
from starburst_common import Cluster, Run, StarburstExecutor, attach, list_runs, starburst_map


def double(x: int) -> int:
    return 2 * x


reveal_type(starburst_map(double, range(3), workers=2))  # list[Any]
reveal_type(burst(double, range(3)))  # list[Any]
with Cluster(workers=2) as cluster:
    reveal_type(cluster)  # starburst_common.cluster.Cluster
    run: Run = cluster.start(double, range(3))
    future: Future[int] = cluster.submit(double, 1)
reveal_type(attach(run.id))  # starburst_common.runs.run.Run
reveal_type(list_runs())  # list[starburst_common.runs.run.Run]
reveal_type(run.status().state)  # starburst_common.model.RunState
reveal_type(StarburstExecutor(max_workers=2).run_id)  # str | None
"""
WRONG = """
from prefect_starburst import brust
from starburst_common import Cluster, attach, starburst_mapp

attach(3)
Cluster(workers="2")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(HERE)], check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """A Python that has the wheel alone, outside of the checkout."""
    folder = wheel.parent / "environment"
    python = folder / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(folder)], check=True, cwd=wheel.parent)
    install = [uv(), "pip", "install", "--quiet", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run(install, check=True, cwd=wheel.parent)
    return python


def test_the_wheel_holds_the_packages_their_types_and_the_licence(wheel: Path) -> None:
    """All files of the four packages are in it, `py.typed` in each, and nothing beside them but what describes it."""
    files = set(ZipFile(wheel).namelist())
    described = {name for name in files if name.startswith(f"starburst_ecs-{starburst_common.__version__}.dist-info/")}
    assert {name.partition("/")[0] for name in files - described} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    for package in PACKAGES:
        folder = HERE / "worker" if package == "starburst_worker" else HERE
        sources = {str(file.relative_to(folder)) for file in (folder / package).rglob("*") if file.is_file()}
        assert {name for name in sources if "__pycache__" not in name} == {
            name for name in files if name.startswith(f"{package}/")
        }
    (licence,) = (name for name in described if name.endswith("/LICENSE"))
    assert ZipFile(wheel).read(licence) == (HERE / "LICENSE").read_bytes()
    assert b"Apache License" in ZipFile(wheel).read(licence)


def test_the_version_is_written_down_once(wheel: Path) -> None:
    """In `starburst_common`; the wheel, what is installed and the shell take it from there."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert "version" not in project and project["dynamic"] == ["version"]
    about = ZipFile(wheel).read(f"starburst_ecs-{starburst_common.__version__}.dist-info/METADATA").decode()
    assert message_from_string(about)["Version"] == starburst_common.__version__ == version("starburst-ecs")


def test_a_users_type_checker_sees_our_types(environment: Path, tmp_path: Path) -> None:
    """Strict mypy finds nothing wrong in a right use, knows what comes back, and finds misspelt names."""
    (tmp_path / "mine.py").write_text(USERS)
    (tmp_path / "wrong.py").write_text(WRONG)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment), "--cache-dir", "cache"]
    done = subprocess.run([*mypy, "mine.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    asked = {
        number: line.partition("  # ")[2] for number, line in enumerate(USERS.splitlines(), 1) if "reveal_type" in line
    }
    wrong = {
        2: 'Module "prefect_starburst" has no attribute "brust"',
        3: 'Module "starburst_common" has no attribute "starburst_mapp"',
        5: 'Argument 1 to "attach" has incompatible type "int"; expected "str"',
        6: 'Argument "workers" to "Cluster" has incompatible type "str"; expected "int | None"',
    }
    said = done.stdout.replace("builtins.", "").splitlines()
    revealed = [f'mine.py:{number}: note: Revealed type is "{kind}"' for number, kind in asked.items()]
    assert [line for line in said if line.startswith("mine.py")] == revealed, done.stdout + done.stderr
    errors = [line for line in said if line.startswith("wrong.py")]
    assert len(errors) == len(wrong), done.stdout
    for line, (number, text) in zip(errors, wrong.items(), strict=True):
        assert line.startswith(f"wrong.py:{number}: error: {text}")


def test_every_environment_of_the_makefile_is_locked() -> None:
    """Also those that only rare targets use: extras and groups that are said to conflict go into none together."""
    makefile = (HERE / "Makefile").read_text()
    chosen = r"((?:--(?:no-default-groups|(?:extra|group) [\w-]+) ?)+)"
    wanted = {each.strip() for each in re.findall(rf"\$\(UV\) run --frozen {chosen}", makefile)}
    (usual,) = re.findall(rf"^RUN := \$\(UV\) run --frozen {chosen}", makefile, re.M)
    wanted |= {f"{usual.strip()} {groups.strip()}" for groups in re.findall(rf"\$\(RUN\) {chosen}", makefile)}
    assert len(wanted) == 7
    for each in sorted(wanted):
        done = subprocess.run(
            [uv(), "export", "--frozen", "--quiet", "--no-hashes", *each.split()],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, f"{each}: {done.stderr}"
        assert len(done.stdout.splitlines()) > 50
