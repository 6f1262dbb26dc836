"""A script that says itself what it needs (PEP 723) in; a requirements file's text, exact and with hashes, out."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from starburst_common.environment import texts, uvlock
from starburst_common.environment.asked import Asked, Table, admit, offered, well_formed
from starburst_common.environment.lines import OURS, is_file, requirement
from starburst_common.environment.resolve import run_uv
from starburst_common.errors import BadInput
from starburst_common.phrases import one_line
from starburst_common.toml import toml

_BLOCK = re.compile(r"^# /// script[ \t]*\r?\n((?:#(?: .*)?\r?\n)*?)# ///[ \t]*\r?$", re.MULTILINE)


def block(path: Path) -> str | None:
    """The text of its TOML, if a file has it."""
    try:
        found = _BLOCK.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return None if found is None else re.sub(r"^# ?", "", found[1], flags=re.MULTILINE)


def running() -> Path | None:
    """The script that runs, if it says that it needs us too: then it says all that it needs."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(file).resolve() if isinstance(file, str) else None
    if path is None or path.suffix != ".py" or not is_file(path) or block(path) is None:
        return None
    with well_formed(path):
        names = {requirement(line).name for line in table(path).get("dependencies", [])}
    return path if OURS in names else None


def files(path: Path) -> list[Path]:
    """The script, and its lock where uv made one."""
    return [file for file in (path, _lock(path)) if is_file(file)]


def read(path: Path, python: str, asked: Asked) -> str:
    """From its lock, else resolved. Raises `BadInput` where it says nothing."""
    admit(path, table(path).get("requires-python", ""), python)
    offered(path, "group", asked.groups, [])
    offered(path, "extra", asked.extras, [])
    if is_file(_lock(path)):
        words = [
            "export",
            "--script",
            path.name,
            "--locked",
            "--no-annotate",
            "--no-header",
            "--python",
            sys.executable,
        ]
        lock = toml(_lock(path))
        direct = {each["name"] for each in lock.get("manifest", {}).get("requirements", [])} - {OURS}
        return uvlock.without_us(run_uv(words, folder=path.parent), lock, direct)
    return texts.resolved([path.name], path, python, asked)


def _lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def table(path: Path) -> Table:
    """What it says. Raises `BadInput`."""
    text = block(path)
    if text is None:
        raise BadInput(f"{path}: it does not say what it needs, between `# /// script` and `# ///`")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: what it says of its needs is no TOML: {one_line(str(error), 300)}") from None
