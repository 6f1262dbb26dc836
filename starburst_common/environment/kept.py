"""An environment that was found, kept on disk for as long as all that decided it stays the same."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starburst_common.environment import Environment
from starburst_common.errors import BadInput
from starburst_common.phrases import our_log, without_credentials
from starburst_common.steps import told_while
from starburst_common.trust import owner_only

_log = our_log()
_VERSION = 3  #: of what is cached
_KEPT_S = 30 * 86400.0  #: unused answers are thrown away then


def running() -> str:
    """This interpreter's minor version."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def contents(files: list[Path]) -> list[str]:
    """What of files decides. Raises `BadInput` for one that cannot be read."""
    try:
        return [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    except OSError as error:
        raise BadInput(f"cannot read what the environment is made of: {error}") from None


def key_of(*parts: str) -> str:
    """The name of an answer, from all that decides it: these parts, the interpreter, uv and its settings."""
    settings = sorted(
        f"{name}={without_credentials(value)}"
        for name, value in os.environ.items()
        if name.startswith("UV_") and not name.endswith(("PASSWORD", "TOKEN", "USERNAME"))
    )
    everything = [_VERSION, running(), sys.prefix, sys.platform, version("uv"), settings, parts]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def cached(cache: Path, key: str, good_for_s: float | None, what: str, find: Callable[[], Environment]) -> Environment:
    """The answer of that name where it is there and not too old, else the one that is found now."""
    path = cache / f"{key}.json"
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if good_for_s is None or 0 <= time.time() - path.stat().st_mtime < good_for_s:
            kept = {**fields, "requirements": tuple(fields["requirements"]), "local": tuple(fields["local"])}
            if all(isinstance(each, str) for each in (*kept["requirements"], *kept["local"], fields["source"])):
                return Environment(**kept)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        path.unlink(missing_ok=True)
    with told_while(f"uv finds out which versions {what} needs"):
        found = find()
    _keep(path, json.dumps(asdict(found)))
    return found


def _keep(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=owner_only) as file:
            file.write(text)
        temporary.replace(path)
        for old in path.parent.iterdir():
            if old.stat().st_mtime < time.time() - _KEPT_S:
                old.unlink(missing_ok=True)
    except OSError as error:  # a cache that cannot be written costs time only
        _log.info("the environment was not kept: %s", error)
