"""DAGs for a whole Airflow: their items tell each call in a file, and wait or fail as files in that folder say."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_starburst import StarburstMapOperator


def works(item: int, folder: str) -> int:
    """Runs on a worker: `failing` there says how many of the first items fail; `held` has the others wait."""
    here = Path(folder)
    with (here / "calls").open("a") as calls:
        calls.write(f"{item}\n")
    if (failing := here / "failing").exists() and item < int(failing.read_text()):
        raise ValueError(f"item {item}")
    while item >= 2 and (here / "held").exists():
        time.sleep(0.05)
    return item * 10


FOLDER = "{{ dag_run.conf['folder'] }}"
THERE: dict[str, Any] = {
    "starburst_conn_id": "{{ dag_run.conf.get('at', 'starburst_default') }}",
    "op_kwargs": {"folder": FOLDER},
    "workers": 2,
    "poll_interval": 1.0,
}
SIX: dict[str, Any] = {"items": list(range(6)), "options": {"chunk_size": 1}}


def dag_of(name: str) -> DAG:
    """One that is begun by hand; Airflow itself fails a task whose event a busy scheduler has too early."""
    return DAG(name, schedule=None, default_args={"retries": 1, "retry_delay": timedelta(0)})


def fan_out(**options: Any) -> StarburstMapOperator:
    """The task that all of them have."""
    return StarburstMapOperator(task_id="scores", python_callable=works, **{**THERE, **options})


@task
def shown(score: int) -> str:
    """A mapped task for each result."""
    return f"{score} points"


with dag_of("whole"):

    @task
    def total(scores: Any) -> int:
        """All of them at once."""
        return sum(scores)

    scores = fan_out(items=[1, 2], deferrable=True)
    total(scores.output)
    shown.expand(score=scores.output)

for name, options in {
    "deferred": {"deferrable": True},
    "waiting": {"deferrable": False},
    "timed": {"deferrable": True, "execution_timeout": timedelta(seconds=8)},
    "resumed": {"deferrable": True, "on_clear": "resume", "fail_on_partial_error": False},
}.items():
    with dag_of(name):
        fan_out(**SIX, **options)

with dag_of("ten_thousand"):
    fan_out(items=list(range(10_000)), deferrable=True)

with dag_of("wide"):
    many = fan_out(items=list(range(1500)), deferrable=True, on_clear="resume")
    shown.override(max_active_tis_per_dagrun=1).expand(score=many.output)

with dag_of("mapped"):
    StarburstMapOperator.partial(task_id="scores", python_callable=works, deferrable=True, **THERE).expand(
        items=[[1, 2], [3], [4, 5, 6]]
    )

    @task.starburst_map(deferrable=True, **{name: value for name, value in THERE.items() if name != "op_kwargs"})
    def scored(item: int, folder: str) -> int:
        """By decorator."""
        return works(item, folder)

    scored.partial(folder=FOLDER).expand(item=[[1, 2], [3]])
