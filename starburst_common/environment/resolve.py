"""Requirements in, exact ones with hashes out: by uv, with the index settings of the folder they were found in."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import environ
from pathlib import Path

import uv
from packaging.utils import canonicalize_name

from starburst_common.environment.lines import OURS
from starburst_common.environment.pipconfig import from_pip
from starburst_common.errors import BadInput, CannotBuild, StarburstError, Unavailable
from starburst_common.phrases import shortened, without_credentials

_ATTEMPTS, _ATTEMPTS_S = 12, 60.0  # constraints are dropped step by step so often, for so long; then all at once
_MOST_S = 600.0  # for an answer, however often uv is asked for it
_MOST = 3000  # characters of what uv says: of both ends, for the cause comes last
_AT_ONCE = 8  # packages asked for one by one
_LEFT_TO_US = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
_UNREACHABLE = re.compile(
    r"error sending request|dns error|timed out|connection (?:refused|reset)|network connectivity"
    r"|\(5\d\d |\(429 |offline|network was disabled"
    r"|could not resolve host|couldn't connect to|failed to connect to|network is unreachable",  # as git says it
    re.IGNORECASE,
)


class Unsatisfiable(BadInput):
    """No choice of versions meets all requirements."""


class TookTooLong(CannotBuild):
    """uv has no answer in the time that there is."""


def deadline(part: float = 1.0) -> float:
    """When the time for an answer that begins now is over, or a part of it; of the monotonic clock."""
    return time.monotonic() + part * _MOST_S


def run_uv(
    arguments: Sequence[str], *, folder: Path, settings: Mapping[str, str] | None = None, until: float | None = None
) -> str:
    """What uv prints, by a `deadline`.

    Raises `Unsatisfiable` where no versions fit, `Unavailable` where an index or a git host cannot be reached,
    `TookTooLong`, `BadInput` otherwise.
    """
    left_s = max(0.0, (deadline() if until is None else until) - time.monotonic())
    variables = {**environ, **(settings or {}), **_LEFT_TO_US}
    words = [uv.find_uv_bin(), "--quiet", *arguments]
    try:
        done = subprocess.run(
            words, cwd=folder, env=variables, capture_output=True, text=True, errors="replace", timeout=left_s
        )
    except subprocess.TimeoutExpired:
        raise TookTooLong(
            f"uv has no answer in the {_MOST_S:.0f} s that it has ({folder}): the versions asked for "
            "may have to be built to know what they need. Lock them once (`uv lock`, `uv pip compile`), or give image=…"
        ) from None
    if done.returncode:
        lines = without_credentials(done.stderr.strip()).splitlines()
        said = "\n".join(line for line in lines if not line.startswith("warning: ")).removeprefix("error: ")
        raise _error(shortened(said, _MOST))
    return done.stdout


def compile_text(
    text: str,
    *,
    folder: Path,
    python: str,
    constraints: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    until: float | None = None,
) -> str:
    """The exact requirements, with hashes, of a requirements file's text whose paths are relative to `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "requirements.txt")
        source.write_text(text)
        return compile_files(
            [str(source)], folder=folder, python=python, constraints=constraints, options=options, until=until
        )


def compile_files(
    sources: Sequence[str],
    *,
    folder: Path,
    python: str,
    constraints: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    until: float | None = None,
) -> str:
    """The exact requirements, with hashes, of files; `constraints` are versions by name. Raises as `run_uv`."""
    with tempfile.TemporaryDirectory() as temporary:
        bounds, without = Path(temporary, "constraints.txt"), Path(temporary, "excludes.txt")
        bounds.write_text("".join(f"{name}=={version}\n" for name, version in (constraints or {}).items()))
        without.write_text(f"{OURS}\n")
        words = ["--universal", "--generate-hashes", "--no-annotate", "--no-header"]
        words += ["--python", sys.executable, "--python-version", python]
        words += ["--constraints", str(bounds), "--excludes", str(without)]
        return run_uv(["pip", "compile", *words, *options, *sources], folder=folder, settings=from_pip(), until=until)


def compile_near(
    sources: Sequence[str], *, folder: Path, python: str, near: Mapping[str, str], options: Sequence[str] = ()
) -> str:
    """As `compile_files`, with as many of the versions in `near` as go together with the requirements."""
    left, began, until = dict(near), time.monotonic(), deadline()
    for _ in range(_ATTEMPTS):
        try:
            return compile_files(sources, folder=folder, python=python, constraints=left, options=options, until=until)
        except Unsatisfiable as error:
            culprits = blamed(str(error), left)
            if not culprits or time.monotonic() > began + _ATTEMPTS_S:
                break
            left = {name: version for name, version in left.items() if name not in culprits}
    return compile_files(sources, folder=folder, python=python, options=options, until=until)


def pin(pins: Iterable[str], *, folder: Path, python: str, options: Sequence[str], until: float) -> str:
    """Hashes for requirements that are exact and complete. Raises `CannotBuild` that names all that cannot be had."""
    wanted = list(pins)

    def pinned(text: str) -> str:
        return compile_text(text, folder=folder, python=python, options=["--no-deps", *options], until=until)

    def alone(line: str) -> bool:
        try:
            return bool(pinned(line))
        except TookTooLong:
            raise
        except (Unsatisfiable, CannotBuild):
            return False

    try:
        return pinned("\n".join(wanted))
    except TookTooLong:
        raise
    except (Unsatisfiable, CannotBuild):  # uv names the first only
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            missing = [line for line, there in zip(wanted, pool.map(alone, wanted), strict=True) if not there]
        if not missing:
            raise
    raise CannotBuild(
        f"not to be had from the package indexes known to uv: {', '.join(sorted(missing))}. "
        "If they are on an index of yours, name it in pyproject.toml under [[tool.uv.index]] or in UV_INDEX "
        "(of several, the first that has a package gives it: `index_strategy` in the settings' [image] is for another "
        "rule); "
        "else publish them, install them editable so that they travel with your code, "
        "list what your function needs in a requirements.txt, or give image=…"
    )


def blamed(message: str, names: Iterable[str]) -> set[str]:
    """The packages that uv's message speaks of.

    >>> sorted(blamed("Because there is no version of b-c==2 and you require a>=1 …", ["a", "b", "b-c"]))
    ['a', 'b-c']
    """
    words = {canonicalize_name(word.strip("._-")) for word in re.split(r"[^a-z0-9._-]+", message.lower())}
    return {name for name in names if name in words}


def _error(message: str) -> StarburstError:
    line = " ".join(message.split())  # uv breaks its lines as a terminal would
    if _UNREACHABLE.search(line):
        return Unavailable(f"an index or a repository cannot be reached: {message}")
    if "No solution found" in line:
        return Unsatisfiable(message)
    if re.search(r"\b40[13] ", line):
        return CannotBuild(
            f"an index refused us; give uv its credentials (`uv auth login`, ~/.netrc or UV_INDEX_…): {message}"
        )
    return BadInput(f"uv: {message}")
