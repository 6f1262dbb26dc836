"""A run that a task of one's own begins and leaves, and a sensor that waits for it."""

from __future__ import annotations

import math

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_starburst import StarburstHook, StarburstRunSensor


def root(number: int) -> float:
    """Runs on a worker."""
    return math.sqrt(number)


with DAG("starburst_detached", schedule=None, tags=["example", "starburst"]) as dag:

    @task
    def begun() -> str:
        """The run goes on whatever becomes of this task; its id is all that is needed later."""
        return StarburstHook().start(root, range(10), workers=2, progress=False).id

    ended = StarburstRunSensor(task_id="ended", run_id=begun(), poke_interval=1)

    @task
    def total(roots) -> float:
        """The sensor returns the run's results."""
        return round(sum(roots), 3)

    total(ended.output)
