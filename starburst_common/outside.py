"""Variables, a user's file and a project's in; what each says, and where it says so, out: trusted, known by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.rows import Row
from starburst_common.toml import toml
from starburst_common.trust import own_place, what_others_may

Sourced = dict[str, tuple[Any, str]]  #: values with where they come from, by name


def said(table: Mapping[str, Any], where: str) -> Sourced:
    """What a table says; None says nothing."""
    return {name: (value, where) for name, value in table.items() if value is not None}


def variables(names: Iterable[str], env: Mapping[str, str]) -> Sourced:
    """What `STARBURST_…` variables say; an empty one says nothing."""
    keys = {name: f"STARBURST_{name.upper()}" for name in names}
    return {name: (env[key], f"environment ({key})") for name, key in keys.items() if env.get(key)}


def first_said(known: Mapping[str, Row], *sources: Sourced) -> Sourced:
    """What the first of the sources says of each that any says something of. Raises `BadInput` for what is wrong."""
    found = {}
    for name, row in known.items():
        for value, where in islice((source[name] for source in sources if name in source), 1):
            read, wrong = row.read(value)
            if wrong:
                raise BadInput(f"{name}={told(value)} (from {where}){wrong}")
            found[name] = (read, where)
    return found


def written_settings(env: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    """The settings file, and what it says."""
    file = config_file()
    if not file.exists():
        return file, {}
    if not (named := bool(env.get("STARBURST_CONFIG"))):
        own_place(file, "name a file of your own in STARBURST_CONFIG")
    if why := what_others_may(file, whose=not named):
        raise BadInput(f"{file}: {why}, and settings say what is run: make it yours alone, or remove it")
    return file, toml(file)


def config_file() -> Path:
    """Where settings are kept: `$STARBURST_CONFIG`, else `starburst/config.toml` in the user's configuration folder."""
    if given := os.environ.get("STARBURST_CONFIG"):
        return Path(given)
    return user_config_path("starburst") / "config.toml"


def sites_folder() -> Path:
    """Where `starburst setup` keeps what it has made, a file a site: beside the settings file."""
    return config_file().parent / "sites"


class UnknownSite(BadInput):
    """A site was named whose settings are not here."""


def written_site(file: Path, written: dict[str, Any], env: Mapping[str, str]) -> tuple[Any, str]:
    """The table of the site to be used, taken out of what the settings file says, and where it is from; None for none.

    That is the one that `STARBURST_SITE` names; else that of the settings file; else the only one, or "main", of those
    that setup has made. Raises `BadInput` where it is not there, or several are and none is named.
    """
    own, name, folder = written.pop("site", None), env.get("STARBURST_SITE", ""), sites_folder()
    if own is not None and (not name or not isinstance(own, Mapping) or own.get("name") == name):
        return own, str(file)
    made = {each.stem: each for each in sorted(folder.glob("*.toml"))}
    chosen = name or ("main" if "main" in made else next(iter(made), ""))
    if not chosen:
        return None, ""
    if chosen not in made:
        known = f"known are {', '.join(made)}" if made else "there is none"
        raise UnknownSite(
            f"site {told(name)}, by --site or STARBURST_SITE: {known} in {folder}: `starburst setup --site {name}` "
            "makes it, or writes its settings here, where another machine has made it"
        )
    if not name and len(made) > 1 and chosen != "main":
        raise BadInput(f"several sites are in {folder}: choose one of {', '.join(made)} by --site or STARBURST_SITE")
    return _read_site(made[chosen]), str(made[chosen])


def halved_sites() -> list[str]:
    """Those that setup or teardown was asked for here, and that are not whole."""
    begun = {each.name.partition(".")[0] for each in sites_folder().glob("*.setup.json")}
    return sorted(begun - {each.stem for each in sites_folder().glob("*.toml")})


def _read_site(file: Path) -> dict[str, Any]:
    own_place(file, "name a settings file of your own in STARBURST_CONFIG")
    if why := what_others_may(file):
        raise BadInput(f"{file}: {why}, and it says where things are run: make it yours alone, or remove it")
    return toml(file)


def project_file(folder: Path) -> Path | None:
    """The file of the nearest project from a folder upwards."""
    places = (place / "pyproject.toml" for place in (folder, *folder.parents))
    return next((file for file in places if file.is_file()), None)


def of_project(file: Path, name: str) -> Mapping[str, Any]:
    """A table of ours in a project's file."""
    table: Mapping[str, Any] = toml(file)
    for part in ("tool", "starburst", name):
        below = table.get(part, {})
        if not isinstance(below, Mapping):
            raise BadInput(f"{file}: {part}={told(below)} is no table")
        table = below
    return table


def refuse_unknown_names(table: Any, known: Mapping[str, Row], source: str) -> None:
    """Raise `BadInput` for what is no table, or has a name that is none."""
    if not isinstance(table, Mapping):
        raise BadInput(f"{source}: {told(table)} is no table: give `name = value` lines below it")
    if unknown := [name for name in table if name not in known]:
        raise BadInput(f"{source}: unknown setting {told(unknown[0])}: known are {', '.join(known)}")
