"""Argument, environment, file and default in; one frozen `Settings` out that remembers where each value came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starburst_common.errors import BadInput
from starburst_common.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to run and where to keep things.

    `backend` is "auto", "aws" or "local"; `home` holds the local store and queue; `keep_days` is how long ended runs
    are kept; `site` is where in AWS, if the file has a table of that name.
    """

    backend: str
    home: Path
    keep_days: float
    site: Site | None
    sources: dict[str, str]  #: setting to "argument", "environment", the file's path, or "default"


def config_file() -> Path:
    """Where settings are kept: `$STARBURST_CONFIG`, else `starburst/config.toml` in the user's configuration folder."""
    if given := os.environ.get("STARBURST_CONFIG"):
        return Path(given)
    from platformdirs import user_config_path

    return user_config_path("starburst") / "config.toml"


def settings(*, backend: str | None = None, home: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting once. Raises `BadInput` for one that is unknown or wrong, saying where it came from."""
    file = config_file()
    try:
        written = tomllib.loads(file.read_text()) if file.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file}: not TOML: {error}") from None
    from platformdirs import user_cache_path

    defaults: dict[str, Any] = {"backend": "auto", "home": user_cache_path("starburst"), "keep_days": 7}
    table = written.pop("site", None)
    if unknown := sorted(set(written) - set(defaults)):
        raise BadInput(f"{file}: unknown setting {unknown[0]!r}: known are {', '.join(sorted(defaults))}, [site]")
    site = Site.of(table, str(file)) if table is not None else None
    arguments = {"backend": backend, "home": home, "keep_days": None}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, default in defaults.items():
        variable = f"STARBURST_{name.upper()}"
        candidates = (
            (arguments[name], "argument"),
            (env.get(variable), f"environment ({variable})"),
            (written.get(name), str(file)),
            (default, "default"),
        )
        values[name], sources[name] = next((value, source) for value, source in candidates if value is not None)
    if values["backend"] not in ("auto", "aws", "local"):
        raise BadInput(f'backend={values["backend"]!r} (from {sources["backend"]}): use "auto", "aws" or "local"')
    if values["backend"] == "aws" and site is None:
        raise BadInput(f'backend="aws" (from {sources["backend"]}), but {file} has no [site] table: add one')
    try:
        keep_days = float(values["keep_days"])
    except ValueError:
        raise BadInput(f"keep_days={values['keep_days']!r} (from {sources['keep_days']}): give days") from None
    return Settings(
        backend=values["backend"],
        home=Path(values["home"]).expanduser(),
        keep_days=keep_days,
        site=site,
        sources=sources,
    )
