"""What does a mapped Prefect task cost with our task runner, and with Prefect's own?"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.contenders import WORKERS
from benchmarks.scenario import Case, Column, Scenario, Target

NAMES = ("StarburstTaskRunner", "ThreadPoolTaskRunner", "DaskTaskRunner")
DASK_TASKS = 200


def cases(quick: bool) -> list[Case]:
    """1,000 tasks for threads and starburst; 200 for all three."""
    if quick:
        return [Case(name, 100, 1) for name in NAMES]
    return [*(Case(name, DASK_TASKS, 3) for name in NAMES), *(Case(name, 1_000, 3) for name in NAMES[:2])]


def task_runner(contender: str) -> Any:
    """The contender's task runner with two worker processes; threads as Prefect configures them."""
    if contender == "StarburstTaskRunner":
        from prefect_starburst import StarburstTaskRunner

        return StarburstTaskRunner(workers=WORKERS, backend="local")
    if contender == "DaskTaskRunner":
        from prefect_dask.task_runners import DaskTaskRunner

        options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs=options)
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner()


def measure(contender: str, size: int) -> dict[str, float]:
    """One flow on a temporary server that is already up; starting and stopping the task runner counts."""
    os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    from prefect import flow, task
    from prefect.testing.utilities import prefect_test_harness

    @task
    def trivial(item: int) -> int:
        return item

    @flow(task_runner=task_runner(contender))
    def mapped(items: int) -> list[int]:
        results: list[int] = trivial.map(list(range(items))).result()
        return results

    with prefect_test_harness(server_startup_timeout=120):
        started = time.perf_counter()
        assert mapped(size) == list(range(size))
        flow_s = time.perf_counter() - started
    return {"flow_s": flow_s, "ms_per_task": flow_s / size * 1000}


SCENARIO = Scenario(
    name="prefect_map",
    title="Mapped Prefect tasks",
    about="One flow maps a task that returns its argument, on a temporary local Prefect server that is up before the "
    "clock starts. The flow's time holds starting and stopping its task runner. StarburstTaskRunner and DaskTaskRunner "
    "have two worker processes; ThreadPoolTaskRunner is as Prefect configures it.",
    size_heading="tasks",
    cases=cases,
    measure=measure,
    columns=(Column("flow_s", "flow, s", ".1f"), Column("ms_per_task", "ms a task", ".1f")),
    targets=(
        Target(
            "1,000 tasks: times the flow time of threads",
            lambda r: r.ratio(1_000, "flow_s", "StarburstTaskRunner", "ThreadPoolTaskRunner"),
            1.2,
        ),
    ),
    not_run=f"DaskTaskRunner has {DASK_TASKS} tasks only, beside the others at the same size; nothing is scaled up.",
)
