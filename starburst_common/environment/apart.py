"""What is installed in; out what is there beside a program that has this environment for itself, as Airflow has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from starburst_common.environment.freeze import TOOLS, Package, edges_of, freeze, installed, requested
from starburst_common.environment.lines import OURS
from starburst_common.environment.needs import reach


class Beside(NamedTuple):
    """What is installed, apart from a host."""

    pins: list[str]  #: exact requirements, by name
    hosts: int  #: packages that are the host's own, or there for its sake alone


def beside(prefix: str, packages: Mapping[str, Package] | None = None) -> Beside:
    """What is installed but for packages whose names begin so, what only they need, and what needs them itself.

    What was asked for by name counts, whoever else needs it. starburst, and the tools that make environments, do not.
    Raises `CannotBuild` as `freeze`.
    """
    here = dict(installed() if packages is None else packages)
    edges = edges_of(here)
    hosts = {name for name in here if name.startswith(prefix)}
    needs = {name: {each for each, _ in reach([(name, "")], edges)} for name in here}
    plugins = {name for name in here if needs[name] & hosts}
    never = plugins | {OURS, *TOOLS}
    theirs = {each for name in (*hosts, OURS) for each in needs.get(name, ())}
    starts = (set(here) - theirs | requested(here)) & set(here) - never
    kept = {each for name in starts for each in needs[name]} & set(here) - {OURS}
    frozen = freeze({name: here[name] for name in kept})
    return Beside(list(frozen.pins.values()), len(here) - len(kept))
