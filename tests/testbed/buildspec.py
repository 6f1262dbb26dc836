"""The text of a buildspec in; its phases' commands and its variables out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
_KNOWN = {"version", "run-as", "env", "phases", "artifacts", "cache", "reports", "proxy", "batch"}


class BadBuildspec(Exception):
    """CodeBuild's status code for it, and its message."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Commands of one phase; those under `finally` run whether or not the others succeeded."""

    commands: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Buildspec:
    """What of a buildspec (version 0.2) the test bed follows."""

    variables: dict[str, str]
    phases: dict[str, Phase]


def read_buildspec(text: str) -> Buildspec:
    """Read YAML, which JSON is too. Raises `BadBuildspec` also for what the bed does not follow.

    >>> read_buildspec('version: 0.2\\nphases: {build: {commands: [make]}}').phases["build"].commands
    ('make',)
    """
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadBuildspec("YAML_FILE_ERROR", f"YAML file could not be read: {error}") from None
    if not isinstance(read, dict):
        raise BadBuildspec("YAML_FILE_ERROR", "YAML file is not a mapping")
    if unknown := sorted(set(read) - _KNOWN):
        raise BadBuildspec("YAML_FILE_ERROR", f"Unknown key: {unknown[0]}")
    if str(read.get("version")) != "0.2":  # 0.1 has a shell for each command
        raise BadBuildspec("YAML_FILE_ERROR", f"version must be 0.2 here, found {read.get('version')}")
    phases = read.get("phases")
    if not isinstance(phases, dict) or not phases or not set(phases) <= set(PHASES):
        raise BadBuildspec("YAML_FILE_ERROR", f"phases must be some of {', '.join(PHASES)}, found {phases}")
    variables = (read.get("env") or {}).get("variables") or {}
    return Buildspec(
        {str(name): str(value) for name, value in variables.items()},
        {name: _phase(name, each or {}) for name, each in phases.items()},
    )


def _phase(name: str, read: dict[str, Any]) -> Phase:
    if unknown := sorted(set(read) - {"commands", "finally", "runtime-versions"}):
        raise BadBuildspec("YAML_FILE_ERROR", f"the test bed does not follow {unknown[0]} of the phase {name}")
    lists = [read.get(key) or [] for key in ("commands", "finally")]
    for commands in lists:
        if not isinstance(commands, list) or not all(isinstance(each, str) for each in commands):
            # a colon within a command that is not quoted makes a mapping of it
            raise BadBuildspec("YAML_FILE_ERROR", f"Expected Commands[0] to be of string type in the phase {name}")
    return Phase(tuple(lists[0]), tuple(lists[1]))
