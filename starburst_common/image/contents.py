"""The locked requirements and this project's installed packages in; the worker's files out, as they lie in an image.

By hand, `python -m starburst_common.image.contents` writes the requirements, `worker.txt`, from a checkout's lock file;
with `--check` it only says whether they are current.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from starburst_common.errors import CannotBuild
from starburst_common.image import wheels

_LOCKED = Path(__file__).with_name("worker.txt")
_PACKAGES = ("starburst_common", "starburst_worker", "prefect_starburst", "airflow_provider_starburst")
_NEEDED = _PACKAGES[:2]
_NOT_THERE = (
    "rich",
    "typer",
    "uv",
    "jinja2",
    "pathspec",
    "packaging",
    "pyyaml",
    "docker",
    "zlib-ng",
)  #: for people, and to build images
_IN_SLOTS = ("cloudpickle",)
_SERVICES = {"ecs", "s3", "secretsmanager", "sqs", "sts"}  #: of botocore's 400, those the worker may speak to
_MAIN = '''\
"""The container's first process: a supervisor, with our packages before the base's."""

import sys

sys.path.insert(1, f"{sys.path[0].rpartition('/')[0]}/slots")

from starburst_worker.__main__ import main  # noqa: E402

main()
'''


def digest() -> str:
    """SHA-256 over all that the worker's files are made from."""
    seen = hashlib.sha256()
    for name, folder in _folders().items():
        for file in _files(folder):
            seen.update(f"{name}/{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
            seen.update(file.read_bytes())
    return seen.hexdigest()


def supervisor_digest() -> str:
    """SHA-256 over what the supervisor's part alone is made from: fewer releases change it."""
    return hashlib.sha256(_LOCKED.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def prepare(folder: Path, *, platform: str, python: str) -> None:
    """Fill `folder`: `supervisor/` with what only the supervisor imports, `slots/` with ours and what slots import.

    `platform` is "linux/amd64" or "linux/arm64", `python` a minor version. Nothing is compiled. What there was in the
    two folders goes. Raises `CannotBuild`.
    """
    prepare_supervisor(folder / "supervisor", platform=platform, python=python)
    prepare_slots(folder / "slots", platform=platform, python=python)


def prepare_supervisor(folder: Path, *, platform: str, python: str) -> None:
    """The supervisor's part: a program, `python3 FOLDER`."""
    _install(folder, [line for line in _locked() if _name(line) not in _IN_SLOTS], platform, python)
    (folder / "__main__.py").write_text(_MAIN)
    data = folder / "botocore" / "data"
    for model in data.iterdir():
        if model.is_dir() and model.name not in _SERVICES:
            shutil.rmtree(model)
    # all services' endpoints take longer to read than anything else that a worker does before its first work
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: of for name, of in partition["services"].items() if name in _SERVICES}
    (data / "endpoints.json").unlink()  # it may be the same file as in uv's cache
    (data / "endpoints.json").write_text(json.dumps(endpoints))


def prepare_slots(folder: Path, *, platform: str, python: str) -> None:
    """The slots' part, which the supervisor imports too: the same for all platforms."""
    _install(folder, [line for line in _locked() if _name(line) in _IN_SLOTS], platform, python)
    for name, package in _folders().items():
        for file in _files(package):
            target = folder / name / file.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def exported(project: Path) -> str:
    """What `worker.txt` says of a checkout's lock file."""
    pruned = [word for name in _NOT_THERE for word in ("--prune", name)]
    how = ["--frozen", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header", *pruned]
    done = subprocess.run(
        [wheels.uv_program(), "export", *how], cwd=project, text=True, capture_output=True, timeout=300, check=False
    )
    if done.returncode:
        raise CannotBuild(f"the lock file of {project} cannot be exported:\n{done.stderr}")
    return done.stdout


def _install(folder: Path, lines: list[str], platform: str, python: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    wheels.install(folder, "".join(f"{line}\n" for line in lines), platform=platform, python=python)
    shutil.rmtree(folder / "bin", ignore_errors=True)


def _locked() -> list[str]:
    return _LOCKED.read_text().replace(" \\\n", " ").splitlines()


def _name(line: str) -> str:
    return line.partition("==")[0]


def _folders() -> dict[str, Path]:
    """Where the packages are that are installed here, by name."""
    specs = {name: find_spec(name) for name in _PACKAGES}
    folders = {name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin}
    if missing := [name for name in _NEEDED if name not in folders]:
        raise CannotBuild(f"{', '.join(missing)} is not installed: install starburst-ecs anew")
    return folders


def _files(package: Path) -> Iterator[Path]:
    files = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return iter(sorted(files))


def main(arguments: list[str]) -> None:
    """Write `worker.txt`, or only look whether it is what the lock file says."""
    said = exported(Path(__file__).resolve().parents[2])
    if arguments != ["--check"]:
        _LOCKED.write_text(said)
    elif _LOCKED.read_text() != said:
        sys.exit(f"{_LOCKED} is not what uv.lock says: run `python -m starburst_common.image.contents`")


if __name__ == "__main__":
    main(sys.argv[1:])
