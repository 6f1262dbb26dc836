"""What do triggers cost the process, and the event loop, that they share with all others?"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from benchmarks.bed import cluster_on_aws, memory_mib
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target
from tests.testbed.bed import Bed
from tests.testbed.definitions import define
from tests.testbed.definitions import run as run_tasks

OURS, ECS, NONE = "StarburstRunTrigger", "TaskDoneTrigger", "no trigger"
MANY = 200
RUNS = 2  #: what all of them watch: of a run, each knows all that it would know of one of its own
STARTED_S, WATCHED_S = 20.0, 60.0
PROBE_S, LATE_S = 0.01, 0.05


def cases(quick: bool) -> list[Case]:
    """Ours, those of the Amazon provider, and an empty loop."""
    return [Case(name, MANY, 1 if quick else 2) for name in (OURS, ECS, NONE)]


def measure(contender: str, size: int) -> dict[str, float]:
    """Start so many; once each has looked, watch them for a minute, in which nothing happens to what they watch."""
    from airflow.triggers.base import BaseTrigger

    assert BaseTrigger  # what Airflow itself needs is no trigger's
    with triggers(contender) as (bed, made):
        return asyncio.run(_watched(bed, [made] * (size if contender != NONE else 0)))


@contextmanager
def triggers(contender: str) -> Iterator[tuple[Bed, Callable[[], Any]]]:
    """The test bed with what is to be watched, which outlasts it; how a trigger of it is made."""
    with cluster_on_aws(1) as (bed, cluster):
        if contender == ECS:
            from airflow.providers.amazon.aws.triggers.ecs import TaskDoneTrigger

            arns = run_tasks(bed, define(bed, "import time; time.sleep(900)"), count=RUNS)
            turns = iter(arns * MANY)
            yield (
                bed,
                lambda: TaskDoneTrigger(
                    cluster=bed.site["cluster"],
                    task_arn=next(turns),
                    waiter_delay=10,
                    waiter_max_attempts=1000,
                    aws_conn_id=None,
                    region=bed.site["region"],
                ),
            )
            return
        from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger

        os.environ["AIRFLOW_CONN_STARBURST_DEFAULT"] = json.dumps(
            {"conn_type": "starburst_ecs", "extra": dict(bed.site)}
        )
        runs = [cluster.start(time.sleep, [900.0]) for _ in range(RUNS)]
        names = iter([run.id for run in runs] * MANY)
        yield bed, lambda: StarburstRunTrigger(name="benchmark", by="benchmark", run=next(names))
        for run in runs:
            run.cancel()


async def _watched(bed: Bed, made: list[Callable[[], Any]]) -> dict[str, float]:
    before_mib, probe = memory_mib(), asyncio.create_task(_late())
    tasks = [asyncio.create_task(_first(make())) for make in made[:1]]
    await asyncio.sleep(STARTED_S)
    one_mib = memory_mib()
    tasks += [asyncio.create_task(_first(make())) for make in made[1:]]
    await asyncio.sleep(STARTED_S)
    bed.requests(reset=True)
    worked, on_loop = time.process_time(), time.thread_time()
    await asyncio.sleep(WATCHED_S)
    requests = sum(bed.requests().values()) * 60 / WATCHED_S
    figures = {
        "mib": memory_mib() - before_mib,
        "first_mib": one_mib - before_mib,
        "loop_percent": (time.thread_time() - on_loop) / WATCHED_S * 100,
        "cpu_percent": (time.process_time() - worked) / WATCHED_S * 100,
        **({"requests": requests / len(made)} if made else {}),
    }
    assert not [task for task in tasks if task.done()], "what they watch is over"
    for task in (*tasks, probe):
        task.cancel()
    *_, late_percent = await asyncio.gather(*tasks, probe)
    return {**figures, "late_percent": late_percent}


async def _late() -> float:
    """Until it is cancelled; in which share of that time the loop was late, in percent."""
    began, late_s = time.perf_counter(), 0.0
    with suppress(asyncio.CancelledError):
        while True:
            now = time.perf_counter()
            await asyncio.sleep(PROBE_S)
            late = time.perf_counter() - now - PROBE_S
            late_s += late if late > LATE_S else 0.0
    return late_s / (time.perf_counter() - began) * 100


async def _first(trigger: Any) -> Any:
    with suppress(asyncio.CancelledError):
        return await anext(trigger.run())


def above_none(name: str) -> Callable[[Record], Spread | None]:
    """Ours, less what an empty loop had in the same round."""

    def measured(record: Record) -> Spread | None:
        ours, none = (record.figures(contender, MANY, name) for contender in (OURS, NONE))
        pairs = [ours[turn] - none[turn] for turn in ours.keys() & none.keys()]
        return Spread.of(pairs) if pairs else None

    return measured


SCENARIO = Scenario(
    name="airflow_triggers",
    title="Airflow's triggers in one process",
    about=f"So many triggers on one event loop, as in a triggerer, for {WATCHED_S:g} s in which nothing happens to the "
    f"{RUNS} runs, or ECS tasks, that they watch on the test bed; all look every ten seconds. Memory is what the "
    "process grew by: with the first one, libraries and connections included, and with all. Late is the share of time, "
    f"from before their start, that the loop was over {LATE_S * 1000:.0f} ms late; on a busy machine an empty one is, "
    "too. The loop's CPU is that of its own thread. TaskDoneTrigger is the Amazon provider's, of a deferred "
    "EcsRunTaskOperator.",
    size_heading="triggers",
    cases=cases,
    measure=measure,
    columns=(
        Column("first_mib", "first, MiB", ".1f"),
        Column("mib", "all, MiB", ".1f"),
        Column("late_percent", "loop late, %", ".2f"),
        Column("loop_percent", "loop's CPU, %", ".2f"),
        Column("cpu_percent", "CPU, %", ".1f"),
        Column("requests", "requests a trigger and minute", ".1f"),
    ),
    targets=(
        Target("200 triggers: MiB", lambda r: r.spread(OURS, MANY, "mib"), 50),
        Target("200 triggers: loop late, %, above an empty one", above_none("late_percent"), 1),
        Target("200 triggers: loop's CPU, %, above an empty one", above_none("loop_percent"), 1),
    ),
)
