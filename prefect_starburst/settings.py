"""A runner's arguments in, its options complete out: argument, its variable, what holds of any map, default."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starburst_common.backends import open_backend
from starburst_common.config import SETTINGS, with_outside
from starburst_common.errors import BadInput
from starburst_common.offered import OPTIONS
from starburst_common.ports import Backend
from starburst_common.rows import YES_NO, Row, one_of, whole

if TYPE_CHECKING:
    from prefect_starburst.site import StarburstSite

PREFIX = "PREFECT_STARBURST_"
#: What a lost worker does to the task run whose call it had.
ON_LOST = ("crash", "retry")
_BACKENDS = ("auto", "aws", "local")
#: Engines in flight at least, whatever the number of workers: more make fuller bursts of calls, so fewer messages.
LEAST_IN_FLIGHT = 1024

#: The options that can be set by variables of a runner's own.
RUNNER: dict[str, Row] = {
    **{name: OPTIONS[name] for name in ("workers", "cpu", "memory", "slots")},
    "backend": replace(
        SETTINGS["backend"],
        meaning="where to run; auto is AWS where a site is configured",
        rules=(one_of(_BACKENDS),),
        default="auto",
    ),
    "label": replace(OPTIONS["label"], meaning="shown in `starburst runs`; None is the flow run's name"),
    **{name: OPTIONS[name] for name in ("tags", "budget", "spot", "image")},
    "site": Row("a `StarburstSite` block, or the name of a saved one, in place of `backend`", default=None, kind=str),
    "max_in_flight": Row(
        "task runs under way at once; None is 1,024, or twice all slots if that is more",
        (whole(1, 10**9, "a whole number of task runs, at least 1"),),
        None,
        outside="a whole number of task runs",
        kind=int,
    ),
    "on_lost": Row(
        "what a task run becomes whose worker is lost time and again", (one_of(ON_LOST),), "crash", kind=str
    ),
    "resume": Row(
        "whether a flow run that is tried again takes what earlier attempts answered",
        (YES_NO,),
        True,
        outside="true or false",
        kind=bool,
    ),
}
#: Options of a map that a runner does not take, and where they belong in a flow.
ELSEWHERE = {
    "retries": "Prefect's engine retries: give it to the task, as in @task(retries=3)",
    "retry_delay": "Prefect's engine retries: give it to the task, as in @task(retry_delay_seconds=10)",
    "retry_on": "Prefect's engine retries: give it to the task, as in @task(retry_condition_fn=...)",
    "return_exceptions": "give it to a future, as in future.result(raise_on_failure=False)",
    "ordered": "each task run has a future of its own: take them as you like, or with prefect.futures.as_completed",
    "tolerate": "a task run that fails stops no other: the flow decides from their states",
    "progress": "a flow run shows its progress as an artifact, in Prefect's UI",
}


def resolve(given: dict[str, Any]) -> dict[str, Any]:
    """Every option: as given, else from its variable, else as any map has it. None in `given` means not given.

    Raises `BadInput` for variables that are unknown or do not parse, also where an argument is given in their place.
    """
    variables = {name.upper(): text for name, text in os.environ.items() if name.upper().startswith(PREFIX)}
    known = {PREFIX + name.upper(): name for name in RUNNER}
    wrong = [
        f"{variable} is no setting: known are {', '.join(known)}"
        for variable in sorted(variables)
        if variable not in known
    ]
    asked: dict[str, Any] = {}
    for variable, name in known.items():
        if text := variables.get(variable):
            asked[name], why = RUNNER[name].read(text)
            if why:
                wrong.append(f"{variable}={text!r}{why}")
    if wrong:
        raise BadInput("; ".join(wrong))
    asked.update((name, value) for name, value in given.items() if value is not None)
    of_maps = with_outside({name: value for name, value in asked.items() if name in OPTIONS}, but=ELSEWHERE)
    return {name: row.default for name, row in RUNNER.items()} | asked | of_maps


def check(**given: Any) -> None:
    """Raise `BadInput` for what a runner of its own was given wrongly; None is not given."""
    for name, value in given.items():
        if value is not None and (wrong := RUNNER[name].wrong(value)):
            raise BadInput(f"{name}={value!r}{wrong}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """What a runner was made with, None where it was not said: two runners with the same options are equal."""

    given: dict[str, Any]

    def resolved(self) -> ResolvedOptions:
        """With what the environment and the defaults say. Raises `BadInput`."""
        options = resolve(self.given)
        own = {name: options.pop(name) for name in ("max_in_flight", "on_lost", "site", "resume")}
        check(**{name: own[name] for name in ("max_in_flight", "on_lost", "resume")})
        if own["site"] is not None and self.given.get("backend") is not None:
            raise BadInput(f"site={own['site']!r} and backend={options['backend']!r}: give one, a site is on AWS")
        return ResolvedOptions(executor=options, **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOptions:
    """A runner's options, complete."""

    max_in_flight: int | None
    on_lost: str
    site: StarburstSite | str | None
    resume: bool
    executor: dict[str, Any]

    @property
    def engines(self) -> int:
        """How many engines may be in flight: as given, or enough to keep every slot busy twice over.

        >>> executor = {"workers": 100, "cpu": 8, "slots": None}
        >>> ResolvedOptions(max_in_flight=None, on_lost="crash", site=None, resume=True, executor=executor).engines
        1600
        """
        if self.max_in_flight is not None:
            return self.max_in_flight
        slots = self.executor.get("slots") or max(1, int(self.executor.get("cpu") or 1))
        return max(LEAST_IN_FLIGHT, 2 * slots * (self.executor.get("workers") or 0))

    def open_backend(self) -> Backend:
        """Where to run. Raises `BadInput`, and what the backend raises."""
        if self.site is None:
            return open_backend(self.executor["backend"])
        from prefect_starburst.site import StarburstSite  # boto3 comes with it

        site = StarburstSite.load(self.site) if isinstance(self.site, str) else self.site
        if not isinstance(site, StarburstSite):
            raise BadInput(f"site={site!r}: give a StarburstSite, or the name of one that is saved")
        return site.backend()
