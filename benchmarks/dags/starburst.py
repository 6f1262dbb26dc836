"""One task, whatever the number of items."""

import os

from airflow.sdk import DAG

from airflow_provider_starburst import StarburstMapOperator


def noop(item: int) -> int:
    """The least a function can do."""
    return item


for name, items in (("warming", 1), ("measured", int(os.environ["BENCHMARK_ITEMS"]))):
    with DAG(name, schedule=None):
        StarburstMapOperator(task_id="mapped", python_callable=noop, items=range(items), workers=2, deferrable=True)
