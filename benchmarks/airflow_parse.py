"""What does it cost to import the operator, where a DAG's file is parsed again and again?"""

from __future__ import annotations

import time
from importlib import import_module

from benchmarks.scenario import Case, Column, Scenario, Target

OURS, ECS = "StarburstMapOperator", "EcsRunTaskOperator"
MODULES = {
    OURS: "airflow_provider_starburst.operators.starburst",
    ECS: "airflow.providers.amazon.aws.operators.ecs",
}


def cases(quick: bool) -> list[Case]:
    """Ours and the Amazon provider's, each in fresh processes."""
    return [Case(name, 1, 1 if quick else 7) for name in (OURS, ECS)]


def measure(contender: str, size: int) -> dict[str, float]:
    """The import, in a process that has what every DAG's file imports."""
    from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator, conf, task

    assert all((DAG, BaseHook, BaseOperator, conf, task)), "they are loaded when they are first used"
    worked, began = time.process_time(), time.perf_counter()
    import_module(MODULES[contender])
    return {"import_cpu_s": time.process_time() - worked, "import_s": time.perf_counter() - began}


SCENARIO = Scenario(
    name="airflow_parse",
    title="Parsing an Airflow DAG's file",
    about="The import of an operator in a fresh process that has what every DAG's file imports, from compiled files.",
    size_heading="imports",
    cases=cases,
    measure=measure,
    columns=(Column("import_cpu_s", "CPU, s", ".3f"), Column("import_s", "took, s", ".3f")),
    targets=(Target("the operator, over Airflow itself: CPU, s", lambda r: r.spread(OURS, 1, "import_cpu_s"), 0.3),),
)
