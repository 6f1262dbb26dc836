"""Ids of runs, fleets and clusters: made, read, and told from what is none."""

from __future__ import annotations

import calendar
import re
import secrets
import time
from collections.abc import Iterable

from starburst_common.errors import BadInput, NotFound
from starburst_common.model import FleetId, RunId
from starburst_common.phrases import told

_ID = re.compile("[A-Za-z0-9-]{1,100}")


def run_id(given: object) -> RunId:
    """The id of a run that somebody named. Raises `BadInput` for what is no text, `NotFound` for what no run is called.

    >>> run_id("../x")
    Traceback (most recent call last):
    starburst_common.errors.NotFound: no run '../x': `starburst runs` lists those there are
    """
    if not isinstance(given, str):
        raise BadInput(f"run_id={told(given)}: give a run's id, as `run.id` gives it")
    if not _ID.fullmatch(given):
        raise NotFound(f"no run {told(given)}: `starburst runs` lists those there are")
    return RunId(given)


def ids(names: Iterable[str]) -> list[str]:
    """Those that runs, fleets and clusters may have: what else lies beside them is of somebody else's making.

    >>> ids(["run-1", "..", "\\x1b[2J"])
    ['run-1']
    """
    return [name for name in names if _ID.fullmatch(name)]


def held_for(keys: Iterable[str]) -> list[str]:
    """The runs and clusters that a fleet's markers name."""
    return ids(key.rpartition("/")[2] for key in keys)


def new_run_id() -> RunId:
    """A fresh id; ids sort by the time they were made."""
    return RunId(f"run-{_stamp()}")


def made_at(name: str) -> float:
    """When an id was made, by the clock of whoever made it. Raises `ValueError` for what is no id.

    >>> made_at("run-20270101-000000-0a1b2c3d")
    1798761600.0
    """
    return float(calendar.timegm(time.strptime("-".join(name.split("-")[1:3]), "%Y%m%d-%H%M%S")))


def new_fleet_id() -> FleetId:
    """A fresh id; ids sort by the time they were made."""
    return FleetId(f"fleet-{_stamp()}")


def new_holder() -> str:
    """A name for a cluster, by which it holds a fleet that others may hold too."""
    return f"cluster-{_stamp()}"


def _stamp() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
