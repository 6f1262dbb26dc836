"""A fan-out by operator and by decorator, and what can be done with its results. Runs on this machine as it stands."""

from __future__ import annotations

import math

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_starburst import StarburstMapOperator


def score(customer: int, power: int = 2) -> float:
    """One item in, one value out; it runs on a worker."""
    return math.sqrt(customer) ** power


with DAG("starburst_map", schedule=None, tags=["example", "starburst"]) as dag:

    @task
    def customers() -> list[int]:
        """The items, from another task."""
        return list(range(20))

    items = customers()

    @task.starburst_map(workers=2)
    def doubled(customer: int, times: int = 2) -> int:
        """The decorated function takes one item, its call takes all of them."""
        return customer * times

    scores = StarburstMapOperator(
        task_id="scores",
        python_callable=score,
        items=items,
        op_kwargs={"power": 2},
        workers=2,
        deferrable=True,
        retries=2,
    )

    @task
    def total(scores, doubled) -> float:
        """Results are read from the store when they are used."""
        assert len(scores) == 20 and doubled[-1] == 57
        return sum(scores)

    @task
    def first_few(scores) -> list[float]:
        """What is small may go on as an ordinary XCom."""
        return scores[:3]

    @task
    def shown(score: float) -> str:
        """One mapped task for each."""
        return f"{score:.1f}"

    total(scores.output, doubled(items, times=3))
    shown.expand(score=first_few(scores.output))
