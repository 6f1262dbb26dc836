"""What does a mapped Prefect task cost with our task runner, and with Prefect's own?"""

from __future__ import annotations

import gc
import os
import runpy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from benchmarks.contenders import WORKERS
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target

THREADS, OURS = "ThreadPoolTaskRunner", "StarburstTaskRunner"
NAMES = (OURS, THREADS, "ProcessPoolTaskRunner", "DaskTaskRunner")


def cases(quick: bool) -> list[Case]:
    """All at all sizes; the others, which take minutes for 1,000 tasks, there and beyond once."""
    if quick:
        return [Case(name, 100, 1) for name in NAMES]
    return [
        *(Case(name, 100, 15) for name in NAMES[:2]),
        *(Case(name, 100, 3) for name in NAMES[2:]),
        *(Case(name, 1_000, 4) for name in NAMES[:2]),
        *(Case(name, 1_000, 1) for name in NAMES[2:]),
        *(Case(name, 5_000, 2) for name in NAMES[:2]),
        *(Case(name, 5_000, 1) for name in NAMES[2:]),
    ]


def task_runner(contender: str) -> Any:
    """The contender's task runner with two worker processes; threads as Prefect configures them."""
    if contender == "StarburstTaskRunner":
        from prefect_starburst import StarburstTaskRunner

        return StarburstTaskRunner(workers=WORKERS, backend="local")
    if contender == "DaskTaskRunner":
        from prefect_dask.task_runners import DaskTaskRunner

        options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs=options)
    from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

    return ThreadPoolTaskRunner() if contender == THREADS else ProcessPoolTaskRunner(max_workers=WORKERS)


def measure(contender: str, size: int) -> dict[str, float]:
    """One flow on a temporary server that is already up; starting and stopping the task runner counts."""
    os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    script = runpy.run_path(str(Path(__file__).with_name("script.py")))
    mapped = script["mapped"].with_options(task_runner=task_runner(contender))
    threads, quiet = Most(threading.active_count), {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120), threads:
        gc.collect()  # what imports and the server's start have left is nobody's task run
        started, worked = time.perf_counter(), time.process_time()
        assert mapped(size) == list(range(size))
        flow_s, cpu_s = time.perf_counter() - started, time.process_time() - worked
        if contender == OURS:
            from prefect_starburst.home.artifacts import wait_until_told

            wait_until_told()  # while the server is up, as at the end of a script
    return {
        "flow_s": flow_s,
        "ms_per_task": flow_s / size * 1000,
        "cpu_ms_per_task": cpu_s / size * 1000,
        "threads": threads.value,
    }


class Most(threading.Thread):
    """The greatest value that is seen, ten times a second, while the context lasts."""

    def __init__(self, look: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._look, self._over, self.value = look, threading.Event(), 0

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.value = max(self.value, self._look())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def ratio(size: int, name: str, under: str) -> Callable[[Record], Spread | None]:
    """Ours over another's figure."""
    return lambda record: record.ratio(size, name, OURS, under)


SCENARIO = Scenario(
    name="prefect_map",
    title="Mapped Prefect tasks",
    about="A script's flow maps a task that returns its argument, on a temporary local Prefect server. The server is "
    "up, and the garbage of its start collected, before the clock starts. The flow's time holds starting and stopping "
    "its task runner; Prefect's heartbeat, which rounds it to whole seconds, is off. CPU and threads are of the flow's "
    "process. All but ThreadPoolTaskRunner, which is as Prefect configures it, have two worker processes.",
    size_heading="tasks",
    cases=cases,
    measure=measure,
    columns=(
        Column("flow_s", "flow, s", ".1f"),
        Column("ms_per_task", "ms a task", ".1f"),
        Column("cpu_ms_per_task", "flow's CPU, ms a task", ".1f"),
        Column("threads", "threads at most", ".0f"),
    ),
    targets=(
        *(
            Target(f"{size:,} tasks: times the flow time of threads", ratio(size, "flow_s", THREADS), 1.2)
            for size in (100, 1_000, 5_000)
        ),
        *(
            Target(f"{size:,} tasks: times the flow's CPU of threads", ratio(size, "cpu_ms_per_task", THREADS), 1.0)
            for size in (100, 1_000, 5_000)
        ),
        *(
            Target(f"{size:,} tasks: times the flow time of Dask", ratio(size, "flow_s", "DaskTaskRunner"), 1 / 3)
            for size in (100, 1_000, 5_000)
        ),
    ),
)
