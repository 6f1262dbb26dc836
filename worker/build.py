"""The lock file and this project's packages in; a folder that `docker build` makes the worker's image of, out."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent
_PYTHON = "3.11"  #: the oldest we support: what is installed for it runs on the later ones too
_FOR_PEOPLE = ("rich", "typer")  #: the command line's
_IN_SLOTS = ("cloudpickle",)
_SERVICES = {"ecs", "s3", "secretsmanager", "sqs", "sts"}  #: of botocore's 400, those the worker may speak to
_MAIN = '''\
"""The container's first process: a supervisor, with our packages before the base's."""

import sys

sys.path.insert(1, f"{sys.path[0]}/slots")

from starburst_worker.__main__ import main  # noqa: E402

main()
'''


def prepare(context: Path, *, platform: str) -> None:
    """Fill `context`: `supervisor/` with what only the supervisor imports, `slots/` with ours and what slots import."""
    shutil.rmtree(context, ignore_errors=True)
    pruned = [word for name in _FOR_PEOPLE for word in ("--prune", name)]
    locked = _uv("export", "--frozen", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header", *pruned)
    names = {requirement.split("==")[0] for requirement in locked.splitlines() if "==" in requirement}
    for folder, left_out in (("supervisor", set(_IN_SLOTS)), ("slots", names - set(_IN_SLOTS))):
        install(context / folder, locked, platform=platform, left_out=left_out)
    (context / "supervisor" / "__main__.py").write_text(_MAIN)
    for model in (context / "supervisor" / "botocore" / "data").iterdir():
        if model.is_dir() and model.name not in _SERVICES:
            shutil.rmtree(model)
    for package in ("starburst_common", "worker/starburst_worker"):
        target = context / "slots" / Path(package).name
        shutil.copytree(_PROJECT / package, target, ignore=shutil.ignore_patterns("__pycache__"))


def install(folder: Path, locked: str, *, platform: str, left_out: set[str]) -> None:
    """Put the locked wheels for another platform into a folder, without those left out."""
    blocks = locked.replace(" \\\n", " ").splitlines()
    wanted = "\n".join(line for line in blocks if line.split("==")[0] not in left_out)
    where = ["--target", str(folder), "--python-platform", platform, "--python-version", _PYTHON]
    _uv("pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *where, "--requirements", "-", stdin=wanted)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)


def _uv(*arguments: str, stdin: str = "") -> str:
    found = os.environ.get("UV") or shutil.which("uv")
    command = [*([found] if found else [sys.executable, "-m", "uv"]), *arguments]
    done = subprocess.run(command, cwd=_PROJECT, input=stdin, text=True, capture_output=True, timeout=300)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Do as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("context", type=Path, help="the folder to make; what is there goes")
    parser.add_argument("--platform", default=f"{os.uname().machine}-manylinux_2_28", help="as `uv pip install` has it")
    chosen = parser.parse_args()
    prepare(chosen.context.resolve(), platform=chosen.platform)


if __name__ == "__main__":
    main()
