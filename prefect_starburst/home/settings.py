"""A runner's arguments in, its options complete out: argument, its variable, what holds of any map, default."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from starburst_common import BadInput
from starburst_common.spi import OPTIONS, SETTINGS, YES_NO, Row, one_of, whole, with_outside

PREFIX = "PREFECT_STARBURST_"
#: What a lost worker does to the task run whose call it had.
ON_LOST = ("crash", "retry")
_BACKENDS = ("auto", "aws", "local")

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
    **{
        name: OPTIONS[name]
        for name in (
            *(
                "tags",
                "budget",
                "deadline",
                "max_hourly_cost",
                "alert_at",
                "spot",
                "image",
                "storage",
                "env",
                "task_role",
                "aws_tags",
            ),
            *("keep_warm", "capacity", "gpus"),
        )
    },
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
    "batch": "a task run is one call: map over lists of items",
    "failures_to": "a task run that fails is Prefect's to run again, and its parameters are kept there",
    "results_to": "a task run's value is its own: write within the task, or map with starburst_map within a flow",
    "return_exceptions": "give it to a future, as in future.result(raise_on_failure=False)",
    "ordered": "each task run has a future of its own: take them as you like, or with prefect.futures.as_completed",
    "tolerate": "a task run that fails stops no other: the flow decides from their states",
    "progress": "a flow run shows its progress as an artifact, in Prefect's UI",
}
_IN_A_TASK = "in a task that the flow calls, starburst_map takes it"
#: Those that a burst does not take, and why; and why it takes no rows that workers read where they lie.
NOT_OF_BURSTS = {
    "ordered": "a burst's results are always in the order of the items",
    "results_to": f"a burst's results are values, which the flow run's next attempt takes: {_IN_A_TASK}",
    "failures_to": f"what failed in a burst is run by the flow run's next attempt: {_IN_A_TASK}",
}
NO_ROWS = f"which of them are answered, the flow run's next attempt could tell only by reading all: {_IN_A_TASK}"


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
