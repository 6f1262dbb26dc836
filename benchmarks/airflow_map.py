"""What does a mapped function cost Airflow, by ours, by a task an item, by a container an item, and by one task?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from benchmarks.airflow_stage import PARTS, Stage, airflow
from benchmarks.scenario import Case, Column, Record, Scenario, Spread, Target
from tests.testbed.bed import Bed
from tests.testbed.definitions import asked, define

OURS, EXPAND, ECS, ONE = "StarburstMapOperator", "@task, .expand", "EcsRunTaskOperator, .expand", "@task with threads"
#: Each one's file in `dags/`.
DAGS = {OURS: "starburst", EXPAND: "expand", ECS: "ecs", ONE: "one_task"}


def cases(quick: bool) -> list[Case]:
    """Ours at all sizes, the others where they are compared: they take minutes."""
    if quick:
        return [Case(OURS, 100, 1), Case(ONE, 100, 1)]
    ours = [Case(OURS, size, 1) for size in (100, 300, 1_000, 10_000)]
    return [*ours, Case(EXPAND, 300, 1), Case(ONE, 300, 1), Case(ECS, 100, 1)]


def measure(contender: str, size: int) -> dict[str, float]:
    """One run of its DAG in a whole Airflow, which has run the same DAG with one item before."""
    with Bed() as bed:
        task = asked(bed, define(bed, "pass"))
        said = {
            "cluster": task["cluster"],
            "task_definition": task["taskDefinition"],
            "network_configuration": task["networkConfiguration"],
        }
        variables = {**bed.env, "BENCHMARK_ITEMS": str(size), "BENCHMARK_ECS": json.dumps(said)}
        with airflow(DAGS[contender], variables) as stage:
            figures = stage.run("measured")
            if contender == OURS:
                figures["airflow_s"] = figures["took_s"] - _run_s(stage)
    return {**figures, "cpu_ms_per_item": figures["above_idle_s"] / size * 1000}


def _run_s(stage: Stage) -> float:
    """How long the run of starburst took that was measured, as its manifest in XCom tells."""
    ((told,),) = stage.query("SELECT value FROM xcom WHERE dag_id = 'measured' AND key = 'return_value'")
    found = re.search(r'[^_]seconds\\*": ([0-9.]+)', str(told))
    assert found, told
    return float(found[1])


def growth(name: str) -> Callable[[Record], Spread | None]:
    """Ours for 10,000 items over the same for 100."""

    def measured(record: Record) -> Spread | None:
        small, large = (record.figures(OURS, size, name) for size in (100, 10_000))
        ratios = [large[turn] / small[turn] for turn in small.keys() & large.keys()]
        return Spread.of(ratios) if ratios else None

    return measured


def times(size: int, name: str, peer: str) -> Callable[[Record], Spread | None]:
    """A peer's figure over ours."""
    return lambda record: record.ratio(size, name, over=peer, under=OURS)


SCENARIO = Scenario(
    name="airflow_map",
    title="A mapped function in Airflow",
    about="A DAG of one step calls a function that does nothing for each item. Airflow is whole: scheduler with the "
    "local executor (four tasks at once), triggerer, DAG processor and API server, each a process, on SQLite; "
    "containers are the test bed's. From the request for a DAG run to its end, after one of the same with a single "
    "item: seconds, and the CPU seconds of all of Airflow, its tasks' processes included (with the scheduler), but "
    "nothing that runs in containers; and how far that is above what the same Airflow takes in that time when it is "
    "idle. Ours defers, looks every ten seconds, and has two workers.",
    size_heading="items",
    cases=cases,
    measure=measure,
    columns=(
        Column("took_s", "DAG run, s", ".1f"),
        Column("airflow_s", "not of the run, s", ".1f"),
        Column("cpu_s", "Airflow's CPU, s", ".1f"),
        Column("above_idle_s", "above idle, s", ".1f"),
        Column("cpu_ms_per_item", "of that an item, ms", ".2f"),
        *(Column(part, part, ".1f") for part in PARTS),
        Column("lost", "task instances failed", ".0f"),
    ),
    targets=(
        Target("10,000 items over 100: Airflow's CPU", growth("above_idle_s"), 1.3),
        Target("10,000 items over 100: seconds that are not of the run", growth("airflow_s"), 1.3),
        Target("300 items: times less CPU than `.expand`", times(300, "above_idle_s", EXPAND), 20, at_least=True),
        Target(
            "100 items: times less CPU than `EcsRunTaskOperator`", times(100, "above_idle_s", ECS), 5, at_least=True
        ),
        Target("100 items: times faster than `EcsRunTaskOperator`", times(100, "took_s", ECS), 2, at_least=True),
    ),
)
