"""A runner's arguments in, its options complete out: argument, `PREFECT_STARBURST_*` variable, default."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Json, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from starburst_common.errors import BadInput

PREFIX = "PREFECT_STARBURST_"

#: What to give where a variable's value does not parse.
_MEANING = {
    "workers": "a whole number of workers, such as 50",
    "cpu": "vCPU a worker, such as 1 or 0.5",
    "memory": 'a size, such as "8GB"',
    "slots": "a whole number of task runs that a worker does at once",
    "backend": "one of auto, aws, local",
    "label": "text",
    "tags": 'a JSON object of texts, such as {"team": "forecast"}',
    "budget": "US dollars, such as 25 or 2.50",
    "spot": "true or false",
    "image": "an image, such as REGISTRY/REPOSITORY:TAG",
    "site": "the name of a saved StarburstSite block",
    "max_in_flight": "a whole number of task runs",
    "on_lost": "one of crash, retry",
    "resume": "true or false",
}


class RunnerSettings(BaseSettings):
    """The options that can be set from outside, with their defaults. An empty variable counts as none."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, validate_default=False)

    workers: int | None = None  #: containers, or processes on this machine, at most
    cpu: float = 1  #: vCPU of a worker
    memory: str | None = None  #: of a worker, such as "8GB"; None is the least that goes with `cpu`
    slots: int | None = None  #: task runs that a worker does at once; None is one a vCPU
    backend: Literal["auto", "aws", "local"] = "auto"  #: where to run; auto is AWS where a site is configured
    label: str | None = None  #: shown in `starburst runs`; None is the flow run's name
    tags: Annotated[dict[str, str] | None, Json()] = None  #: shown with the run; as a variable, a JSON object
    budget: float | None = None  #: the most that a flow run may cost, in US dollars; recorded, not enforced yet
    spot: bool = False  #: on capacity that is cheaper and may be taken back
    image: str | None = None  #: in place of one made for your environment; it must hold the worker
    site: str | None = None  #: a `StarburstSite` block, or the name of a saved one, in place of `backend`
    max_in_flight: int | None = None  #: task runs under way at once; None is 1,024, or twice all slots if that is more
    on_lost: Literal["crash", "retry"] = "crash"  #: what a task run becomes whose worker is lost time and again
    resume: bool = True  #: whether a flow run that is tried again takes what earlier attempts answered


def resolve(given: dict[str, Any]) -> dict[str, Any]:
    """Every option: as given, else from its variable, else the default. None in `given` means not given.

    Raises `BadInput` for variables that are unknown or do not parse, also where an argument is given in their place.
    """
    variables = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    wrong = [
        f"{name} is no setting: known are {', '.join(PREFIX + known.upper() for known in _MEANING)}"
        for name in sorted(variables)
        if name.removeprefix(PREFIX).lower() not in _MEANING
    ]
    try:
        settings = RunnerSettings()
    except ValidationError as error:
        for option in dict.fromkeys(str(each["loc"][0]) for each in error.errors()):
            name = PREFIX + option.upper()
            wrong.append(f"{name}={variables[name]!r}: give {_MEANING[option]}")
    if wrong:
        raise BadInput("; ".join(wrong))
    found = {name: getattr(settings, name) for name in _MEANING}
    return {**found, **{name: value for name, value in given.items() if value is not None}}
